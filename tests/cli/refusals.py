"""Files that a command is given, and what it leaves behind when it refuses them."""

from __future__ import annotations

from pathlib import Path

GOOD = '{"job": "query", "args": {"rows": 1}}\n'


def assert_refused(ended: tuple[int, str, str], code: int, *words: str) -> None:
    assert ended[1] == ""
    assert ended[0] == code
    assert ended[2].startswith("Error: ")
    assert ended[2].count("\n") == 1, "one line"
    for word in words:
        assert word in ended[2]
    assert "Traceback" not in ended[2]


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)
