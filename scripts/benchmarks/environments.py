"""Makes each peer a virtual environment of its own, with pinned versions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
LOCKS: Final = Path(__file__).with_name("peers")
ENVIRONMENTS: Final = ROOT / ".venv-bench"
RECORD: Final = "requirements.txt"  # in an environment: what it was made from


class EnvironmentFailed(Exception):
    """A peer could not be installed."""


def python_of(name: str | None) -> Path:
    """The Python of a peer's environment; without a name, of this project's."""
    return Path(sys.executable) if name is None else ENVIRONMENTS / name / "bin" / "python"


def wanted(name: str) -> str:
    return f"# Python {sys.version}\n{(LOCKS / f'{name}.txt').read_text()}"


def is_ready(name: str) -> bool:
    record = ENVIRONMENTS / name / RECORD
    return python_of(name).exists() and record.exists() and record.read_text() == wanted(name)


def make(name: str) -> None:
    """Make the environment anew with the Python that runs this.

    Raises:
        EnvironmentFailed: with the end of what pip said.
    """
    home = ENVIRONMENTS / name
    # The base, so that no environment depends on another one.
    base = getattr(sys, "_base_executable", sys.executable)
    pip = [str(python_of(name)), "-m", "pip", "--no-input", "--disable-pip-version-check"]
    lock = str(LOCKS / f"{name}.txt")
    for command in (
        [base, "-m", "venv", "--clear", str(home)],
        [*pip, "install", "-qq", "--require-hashes", "--prefer-binary", "--requirement", lock],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise EnvironmentFailed(f"cannot install {name}:\n{done.stderr[-2000:]}")
    (home / RECORD).write_text(wanted(name))
