"""Writes the passwords of the compose file's servers, once; runs as its service ``passwords``.

VALKEY_PASSWORD and POSTGRES_PASSWORD set them; where one is empty, it is made at random and kept.
"""

import re
import secrets
import sys
from pathlib import Path

WANTED = Path("/run/wanted-passwords")
FOLDER = Path("/run/passwords")

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
    path = FOLDER / name
    if not password and path.exists():
        continue
    if not password:
        made.append(name)
    new = path.with_suffix(".new")
    new.write_text(password or secrets.token_urlsafe(24), encoding="ascii")
    # The servers and workers run as users of their own; the volume is theirs alone.
    new.chmod(0o444)
    new.replace(path)
if made:
    print(
        f"no password set for {' and '.join(made)}: made at random and kept in the volume "
        "'passwords'. To set your own: cp .env.example .env, then edit it"
    )
