"""Writes the passwords of the compose file's servers, once; runs as its service ``passwords``.

VALKEY_PASSWORD and POSTGRES_PASSWORD set them; where one is empty, it is made at random and kept.
"""

import os
import re
import secrets
import sys
from pathlib import Path

FOLDER = Path("/run/passwords")
made = []
for name in ("valkey", "postgres"):
    variable = f"{name.upper()}_PASSWORD"
    wanted = os.environ.get(variable, "")
    if not re.fullmatch(r"[A-Za-z0-9_-]*", wanted):
        sys.exit(f"{variable} in .env: use letters, digits, '-' and '_' only")
    path = FOLDER / name
    if not wanted and path.exists():
        continue
    if not wanted:
        made.append(name)
    path.write_text(wanted or secrets.token_urlsafe(24), encoding="ascii")
    # The servers and workers run as users of their own; the volume is theirs alone.
    path.chmod(0o444)
if made:
    print(
        f"no password set for {' and '.join(made)}: made at random and kept in the volume "
        "'passwords'. To set your own: cp .env.example .env, then edit it"
    )
