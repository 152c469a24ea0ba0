"""The job that waits for a disk.

What it may read is the worker's decision, not the producer's: files below the directories that the
worker was started with (``--files-root``), and nothing without one.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from twolane.errors import UsageError
from twolane.registry import job

MAX_BYTES: Final = 64 * 1024 * 1024
# Bytes of one read: large enough that calls cost nothing, small enough to count in about 2 ms.
CHUNK_BYTES: Final = 256 * 1024

FilePath = Annotated[
    str, msgspec.Meta(min_length=1, description="an absolute path below one of the worker's roots")
]


class PathRefused(UsageError):
    """The path is not below a root, or what is there is no regular file of allowed size."""


class PathMissing(UsageError):
    """The path is below a root, and nothing readable is there."""


# A client library that blocks belongs on the IO lane too: in a thread, off the event loop.
@job(lane="io", timeout=60)
def read_file(ctx: dict[str, Any], path: FilePath) -> dict[str, str | int]:
    """Read a file: its resolved ``path``, its ``bytes``, ``lines`` and ``words``, its ``sha256``.

    Lines are newline characters and words what stands between ASCII white space, as wc(1) counts
    in the C locale. At most 64 MiB. A relative path starts at the worker's directory.

    Raises:
        PathRefused, PathMissing: see :func:`check_path`; also no regular file, or too large.
    """
    root, resolved = _locate(path, ctx.get("files_roots") or ())
    digest = hashlib.sha256()
    size = lines = words = 0
    within_word = False
    with _opened(root, resolved) as file:
        while chunk := os.read(file, CHUNK_BYTES):
            size += len(chunk)
            if size > MAX_BYTES:  # it grew since it was opened
                raise _too_large(resolved, size)
            digest.update(chunk)
            lines += chunk.count(b"\n")
            # A word over the border of two chunks was counted with the first.
            words += len(chunk.split()) - (within_word and not chunk[:1].isspace())
            within_word = not chunk[-1:].isspace()
    return {
        "path": str(resolved),
        "bytes": size,
        "lines": lines,
        "words": words,
        "sha256": digest.hexdigest(),
    }


def check_path(path: str | Path, roots: Iterable[Path]) -> Path:
    """Resolve ``path``, links included, and make sure that it lies below one of ``roots``.

    Raises:
        PathRefused: it lies elsewhere (whether or not anything is there), or there are no roots.
        PathMissing: nothing is there, or it cannot be reached.
    """
    return _locate(path, roots)[1]


def _locate(path: str | Path, roots: Iterable[Path]) -> tuple[Path, Path]:
    homes = [Path(os.path.realpath(root)) for root in roots]
    if not homes:
        raise PathRefused(
            f"{path}: this worker reads no files; start it with --files-root DIRECTORY"
        )
    if "\0" in str(path):
        raise PathRefused(f"{str(path)!r}: a path holds no NUL character")
    resolved = Path(os.path.realpath(path))
    root = next((home for home in homes if resolved.is_relative_to(home)), None)
    if root is None:
        raise PathRefused(
            f"{path}: outside {', '.join(map(str, homes))}; "
            "give a file below, or another --files-root to the workers"
        )
    try:
        os.path.realpath(path, strict=True)
    except OSError as error:
        raise PathMissing(f"{path}: {error.strerror} (looked for {resolved})") from None
    return root, resolved


@contextmanager
def _opened(root: Path, resolved: Path) -> Iterator[int]:
    """The descriptor of a regular file below ``root``, opened step by step along no link.

    So a directory that is swapped for a link after the check leads nowhere. O_NONBLOCK, as opening
    a FIFO would otherwise wait for its writer.
    """
    directory = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    *between, name = resolved.relative_to(root).parts or (".",)
    file = -1
    try:
        file = os.open(root, directory)
        for part in between:
            parent, file = file, os.open(part, directory, dir_fd=file)
            os.close(parent)
        parent = file
        file = os.open(
            name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent
        )
        os.close(parent)
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise PathRefused(f"{resolved}: not a regular file; give one")
        if found.st_size > MAX_BYTES:
            raise _too_large(resolved, found.st_size)
        yield file
    except OSError as error:
        raise PathMissing(f"{resolved}: {error.strerror}") from None
    finally:
        if file >= 0:
            os.close(file)


def _too_large(path: Path, size: int) -> PathRefused:
    return PathRefused(f"{path}: {size} bytes; a job reads at most {MAX_BYTES}")
