"""``read_file`` reads regular files below its roots, and nothing else."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from twolane.errors import UsageError
from twolane.jobs import files
from twolane.jobs.files import PathMissing, PathRefused, check_path, read_file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    (made / "poem.txt").write_bytes(b"one two\nthree\n  four")
    (tmp_path / "secret.txt").write_text("secret")
    return made


@pytest.fixture
def ctx(root: Path) -> dict[str, Any]:
    return {"files_roots": (root,)}


def test_a_file_is_counted_as_wc_counts(ctx: dict[str, Any], root: Path) -> None:
    answer = read_file(ctx, str(root / "poem.txt"))

    assert answer == {
        "path": str((root / "poem.txt").resolve()),
        "bytes": 20,
        "lines": 2,
        "words": 4,
        "sha256": hashlib.sha256(b"one two\nthree\n  four").hexdigest(),
    }


@pytest.mark.parametrize("chunk", range(1, 9))
def test_a_word_across_chunks_is_one_word(
    ctx: dict[str, Any], root: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", chunk)

    assert read_file(ctx, str(root / "poem.txt"))["words"] == 4


def test_an_empty_file_has_nothing(ctx: dict[str, Any], root: Path) -> None:
    (root / "empty").touch()

    answer = read_file(ctx, str(root / "empty"))

    assert (answer["bytes"], answer["lines"], answer["words"]) == (0, 0, 0)


def test_a_link_within_the_root_is_followed(ctx: dict[str, Any], root: Path) -> None:
    (root / "link").symlink_to("poem.txt")

    assert read_file(ctx, str(root / "link"))["path"] == str((root / "poem.txt").resolve())


def test_a_second_root_counts_too(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()

    assert read_file({"files_roots": (other, root)}, str(root / "poem.txt"))["bytes"] == 20


@pytest.mark.parametrize("ctx", [{}, {"files_roots": ()}, {"files_roots": None}])
def test_without_a_root_nothing_is_read(ctx: dict[str, Any], root: Path) -> None:
    with pytest.raises(PathRefused, match="--files-root"):
        read_file(ctx, str(root / "poem.txt"))


def test_a_path_outside_is_refused_with_the_roots(
    ctx: dict[str, Any], root: Path, tmp_path: Path
) -> None:
    with pytest.raises(PathRefused, match=r"secret\.txt: outside .*root; .*--files-root"):
        read_file(ctx, str(tmp_path / "secret.txt"))


def test_dots_do_not_lead_out(ctx: dict[str, Any], root: Path) -> None:
    with pytest.raises(PathRefused, match="outside"):
        read_file(ctx, f"{root}/../secret.txt")


def test_a_neighbour_whose_name_starts_like_the_root_is_outside(
    ctx: dict[str, Any], root: Path
) -> None:
    neighbour = root.with_name("root-of-others")
    neighbour.mkdir()
    (neighbour / "file").touch()

    with pytest.raises(PathRefused, match="outside"):
        read_file(ctx, str(neighbour / "file"))


def test_a_link_does_not_lead_out(ctx: dict[str, Any], root: Path, tmp_path: Path) -> None:
    (root / "link").symlink_to(tmp_path / "secret.txt")

    with pytest.raises(PathRefused, match="outside"):
        read_file(ctx, str(root / "link"))


def test_a_linked_directory_does_not_lead_out(
    ctx: dict[str, Any], root: Path, tmp_path: Path
) -> None:
    (root / "up").symlink_to(tmp_path, target_is_directory=True)

    with pytest.raises(PathRefused, match="outside"):
        read_file(ctx, str(root / "up" / "secret.txt"))


@pytest.mark.parametrize("swapped", ["file", "directory"])
def test_a_link_put_there_after_the_check_is_not_followed(
    root: Path, tmp_path: Path, swapped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "secret.txt").touch()
    checked = files._locate(root / "sub" / "secret.txt", [root])

    def swap(*_: object) -> tuple[Path, Path]:
        (root / "sub" / "secret.txt").unlink()
        if swapped == "file":
            (root / "sub" / "secret.txt").symlink_to(tmp_path / "secret.txt")
        else:
            (root / "sub").rmdir()
            (root / "sub").symlink_to(tmp_path, target_is_directory=True)
        return checked

    monkeypatch.setattr(files, "_locate", swap)

    with pytest.raises(PathMissing):
        read_file({}, str(root / "sub" / "secret.txt"))


def test_whether_a_file_outside_exists_is_not_told(ctx: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(PathRefused, match="outside"):
        read_file(ctx, str(tmp_path / "nothing-here"))


def test_a_missing_file_is_named(ctx: dict[str, Any], root: Path) -> None:
    with pytest.raises(PathMissing, match=r"nothing-here: No such file"):
        read_file(ctx, str(root / "nothing-here"))


def test_a_link_to_itself_ends(ctx: dict[str, Any], root: Path) -> None:
    (root / "loop").symlink_to("loop")

    with pytest.raises(PathMissing, match="loop"):
        read_file(ctx, str(root / "loop"))


def test_a_fifo_is_refused_without_waiting_for_a_writer(ctx: dict[str, Any], root: Path) -> None:
    os.mkfifo(root / "fifo")

    with pytest.raises(PathRefused, match="not a regular file"):
        read_file(ctx, str(root / "fifo"))


@pytest.mark.parametrize("name", ["", "sub"])
def test_a_directory_is_refused(ctx: dict[str, Any], root: Path, name: str) -> None:
    (root / "sub").mkdir()

    with pytest.raises(PathRefused, match="not a regular file"):
        read_file(ctx, str(root / name))


def test_a_device_is_refused() -> None:
    with pytest.raises(PathRefused, match="not a regular file"):
        read_file({"files_roots": (Path("/dev"),)}, "/dev/null")


def test_a_socket_is_refused(
    ctx: dict[str, Any], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)  # as a socket's path may be no longer than about 100 bytes
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")

        with pytest.raises(UsageError, match="socket"):
            read_file(ctx, "socket")


def test_a_nul_character_is_refused(ctx: dict[str, Any], root: Path) -> None:
    with pytest.raises(PathRefused, match="NUL"):
        read_file(ctx, f"{root}/poem.txt\0.png")


def test_a_file_over_the_limit_is_refused_unread(ctx: dict[str, Any], root: Path) -> None:
    with (root / "large").open("wb") as file:
        file.truncate(files.MAX_BYTES + 1)

    with pytest.raises(PathRefused, match=f"{files.MAX_BYTES + 1} bytes"):
        read_file(ctx, str(root / "large"))


def test_no_descriptor_is_left_open(ctx: dict[str, Any], root: Path) -> None:
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "file").touch()
    before = os.open(root, os.O_RDONLY)
    os.close(before)

    read_file(ctx, str(root / "a" / "b" / "file"))
    with pytest.raises(PathRefused):
        read_file(ctx, str(root / "a" / "b"))

    after = os.open(root, os.O_RDONLY)
    os.close(after)
    assert after == before  # the lowest free number is still the same


def test_the_check_alone_answers_with_the_resolved_path(root: Path) -> None:
    (root / "link").symlink_to("poem.txt")

    assert check_path(root / "link", [root]) == (root / "poem.txt").resolve()
