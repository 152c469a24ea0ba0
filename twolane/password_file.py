"""Passwords that are kept in files, as orchestrators hand them over."""

from __future__ import annotations

from pathlib import Path


def read(variable: str, file: str, error: type[Exception]) -> str:
    """The password in a file that an environment variable names; raises ``error`` without it."""
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as failure:
        # The type alone, and no cause: what a decoder quotes may be of the password.
        raise error(f"{variable}: cannot read {file}: {type(failure).__name__}") from None
