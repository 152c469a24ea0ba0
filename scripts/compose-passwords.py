"""Writes the passwords of the compose file's servers, once; runs as its service ``passwords``.

VALKEY_PASSWORD and POSTGRES_PASSWORD set those of the servers' owners; where one is empty, it is
made at random and kept. Each role of Valkey's gets a random one. A service finds in its own folder
what it needs, and nothing else; Valkey's has the ACL file, with digests alone.
"""

import re
import secrets
import sys
from pathlib import Path

from twolane import acl

WANTED = Path("/run/wanted-passwords")
FOLDER = Path("/run/passwords")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(text, encoding="ascii")
    # The servers and workers run as users of their own; each folder is one volume, theirs alone.
    new.chmod(0o444)
    new.replace(path)


def kept(path: Path) -> str:
    """The password there; made at random where there is none."""
    if not path.exists():
        write(path, secrets.token_urlsafe(24))
    return path.read_text(encoding="ascii")


lines = WANTED.read_text(encoding="utf-8").splitlines()
wanted = dict(line.partition("=")[::2] for line in lines)
if len(lines) > 2:
    sys.exit("a password in .env holds a line break: use letters, digits, '-' and '_' only")
made = []
for name in ("valkey", "postgres"):
    variable = f"{name.upper()}_PASSWORD"
    password = wanted[variable]
    if not re.fullmatch(r"[A-Za-z0-9_-]*", password):
        sys.exit(f"{variable} in .env: use letters, digits, '-' and '_' only")
    path = FOLDER / name / name
    if password:
        write(path, password)
    elif not path.exists():
        made.append(name)
    kept(path)

passwords = {"default": kept(FOLDER / "valkey/valkey")}
for role in acl.RULES:
    passwords[role] = kept(FOLDER / role / "valkey")
write(FOLDER / "valkey/users.acl", acl.file(passwords))
# Its query jobs use the database.
write(FOLDER / "worker/postgres", kept(FOLDER / "postgres/postgres"))
if made:
    print(
        f"no password set for {' and '.join(made)}: made at random and kept in the volumes "
        "'passwords-…'. To set your own: cp .env.example .env, then edit it"
    )
