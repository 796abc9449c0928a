"""A pip that copies wheels made by the tests."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class FakePip:
    """Stands in for `subprocess.run`: copies one wheel into the folder that pip is given."""

    wheel: Path
    commands: list[list[str]] = field(default_factory=list)

    def __call__(self, command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        shutil.copy(self.wheel, command[command.index("--dest") + 1])
        return subprocess.CompletedProcess(command, 0, "", "")


Serve = Callable[[str, Path], FakePip]
