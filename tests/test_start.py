"""The package and its command line start without torch; the Auto classes know the models anyway."""

import subprocess
import sys
from pathlib import Path

import pytest

import panovlm

HEAVY = ("torch", "transformers", "cv2", "numpy")
STARTS = {
    "import": "import panovlm",
    "help": "from panovlm.commands.app import app; app(['--help'], standalone_mode=False)",
    "help of a command": "from panovlm.commands.app import app; "
    "app(['train', '--help'], standalone_mode=False)",
    "stages": "from panovlm.commands.app import app; app(['stages'], standalone_mode=False)",
}
LOADS = {
    "the package first": "import panovlm; from transformers import AutoModelForImageTextToText",
    "transformers first": "from transformers import AutoModelForImageTextToText; import panovlm",
    "a library class first": "import panovlm; from transformers import PreTrainedModel; "
    "from transformers import AutoModelForImageTextToText",
    "a class of ours first": "from panovlm.model.image_processing import PanoVLMImageProcessor; "
    "from transformers import AutoModelForImageTextToText",
    "another model first": "import panovlm; from transformers import LlamaForCausalLM; "
    "from transformers import AutoModelForImageTextToText",
    "a part of our model first": "from panovlm.model.resampler import Resampler; "
    "from transformers import AutoModelForImageTextToText",
    "a pipeline first": "import panovlm; from transformers import pipeline; "
    "from transformers import AutoModelForImageTextToText",
}


def run(code: str, *arguments: str) -> str:
    """Run code in a process of its own and return what it prints."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("start", STARTS)
def test_no_heavy_library_is_loaded_to_start(start: str) -> None:
    loaded = f"\nimport sys\nprint('loaded:', [name for name in {HEAVY} if name in sys.modules])"
    assert run(STARTS[start] + loaded).endswith("loaded: []\n")


@pytest.mark.parametrize("order", LOADS)
def test_the_auto_classes_load_a_model_whatever_is_imported_first(
    order: str, saved_model: Path
) -> None:
    code = (
        "\nimport sys\nfrom transformers import AutoImageProcessor, AutoModel, AutoProcessor"
        "\nfor kind in (AutoModelForImageTextToText, AutoModel, AutoProcessor, AutoImageProcessor):"
        "\n    print(type(kind.from_pretrained(sys.argv[1])).__name__)"
    )
    assert run(LOADS[order] + code, str(saved_model)).split() == [
        "PanoVLMForConditionalGeneration",
        "PanoVLMModel",
        "PanoVLMProcessor",
        "PanoVLMImageProcessor",
    ]


def test_every_public_name_is_there_and_is_listed() -> None:
    assert set(panovlm.__all__) <= set(dir(panovlm))
    for name in panovlm.__all__:
        assert getattr(panovlm, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'cut_vews'"):
        _ = panovlm.cut_vews
