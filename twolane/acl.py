"""What each role may do on the broker, as users of Valkey's and Redis's access control lists.

``python -m twolane.acl ROLE=PASSWORDFILE...`` prints the lines of an ACL file, with the passwords'
SHA-256 alone; ``default=FILE`` adds the default user, who may do everything. The compose file makes
its ACL file in this way.

A worker runs what is in the queues, so whoever may write there commands the workers: the roles
keep a stolen password from doing more than its owner's work. None of them can administer the
server, list its keys or delete what is not theirs.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

Role = Literal["producer", "worker", "dashboard"]

# What lists keys has no key that a pattern could forbid; a client that tracks all keys is told the
# names of those that others change.
_NEVER: Final = "-@dangerous -@admin -@scripting -scan -randomkey -dbsize -client|tracking"
_TALK: Final = "+@connection +@transaction +time"

RULES: Final[dict[Role, str]] = {
    # Enqueues, follows, cancels, and retries or drops dead letters. It reads leases and heartbeats,
    # and cannot write them: no job is taken from a worker, no worker is made up. The
    # laboratory says which server it measured, and how busy that was.
    "producer": (
        f"-@all +@read +@write {_TALK} {_NEVER} +eval +evalsha +publish "
        "+info "
        "~arq:queue* ~arq:job:* ~arq:result:* ~arq:retry:* ~arq:abort "
        "~twolane:runs ~twolane:run:* ~twolane:dead ~twolane:dead:* ~twolane:counters:* "
        "~twolane:none %R~arq:in-progress:* %R~twolane:worker:* %R~twolane:workers "
        "resetchannels &twolane:wake:*"
    ),
    # Claims and settles; its jobs may enqueue, in our way and in arq's.
    "worker": (
        f"-@all +@read +@write +@pubsub {_TALK} {_NEVER} +eval +evalsha "
        "~arq:queue* ~arq:job:* ~arq:result:* ~arq:retry:* ~arq:in-progress:* ~arq:abort "
        "~twolane:runs ~twolane:run:* ~twolane:dead ~twolane:dead:* ~twolane:counters:* "
        "~twolane:worker:* ~twolane:workers ~twolane:workers:* ~twolane:none "
        "resetchannels &twolane:wake:*"
    ),
    # Looks at heartbeats, counters, runs and outcomes; changes nothing, and sees no payload that
    # has not run.
    "dashboard": (
        f"-@all +@read {_TALK} {_NEVER} "
        "%R~twolane:* %R~arq:queue* %R~arq:result:* %R~arq:abort resetchannels"
    ),
}


def user(name: str, rules: str, password: str) -> str:
    """A line of an ACL file; the password's digest stands in it, not the password."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    return f"user {name} reset on #{digest} {rules}"


def file(passwords: Mapping[str, str]) -> str:
    """An ACL file of roles by name, and of ``default`` where that is given.

    Without it the default user is off: nobody gets in without a name.

    Raises:
        KeyError: there is no such role.
    """
    lines = [
        user("default", "~* &* +@all", passwords["default"])
        if "default" in passwords
        else "user default reset off"
    ]
    rules = {str(role): text for role, text in RULES.items()}
    lines += [user(one, rules[one], passwords[one]) for one in passwords if one != "default"]
    return "".join(f"{line}\n" for line in lines)


def main(arguments: list[str]) -> str | None:
    """Print the file; what is wrong with the arguments, if anything is."""
    usage = (
        f"usage: python -m twolane.acl ROLE=PASSWORDFILE...  (roles: {', '.join(RULES)}, default)"
    )
    passwords: dict[str, str] = {}
    for one in arguments:
        role, _, path = one.partition("=")
        if role not in (*RULES, "default") or not path:
            return usage
        try:
            passwords[role] = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            return f"{path}: {error.strerror}"
        if not passwords[role]:
            return f"{path} is empty"
    if not passwords:
        return usage
    print(file(passwords), end="")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
