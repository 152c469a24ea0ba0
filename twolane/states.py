"""The states of a job and what moves it from one to the next: the table that all else follows.

``docs/state-machine.md`` is written from it (``python -m twolane.states``), and
``tests/twolane/test_states.py`` holds each row against the scripts on a real server.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple


class State(Enum):
    """Where a job is, told by the keys that it has in the broker.

    A job that nobody knows (any more) is UNKNOWN: it was never enqueued, or its result has expired.
    """

    UNKNOWN = "unknown"
    SCHEDULED = "scheduled"
    WAITING = "waiting"
    RUNNING = "running"
    ABORTING = "aborting"
    DONE = "done"
    CANCELLED = "cancelled"
    DEAD = "dead"
    ASTRAY = "astray"


MEANING: Final[dict[State, str]] = {
    State.UNKNOWN: "no key of it",
    State.SCHEDULED: "payload, and a place in the queue that is due later",
    State.WAITING: "payload, and a place in the queue that is due",
    State.RUNNING: "payload, a lease with the fence of its attempt, a place that is due at its end",
    State.ABORTING: "as running; its abort was asked for",
    State.DONE: "result",
    State.CANCELLED: "result, which says so",
    State.DEAD: "result, and a dead letter with the payload",
    State.ASTRAY: "payload alone: somebody deleted its place, or the whole queue",
}


class Transition(NamedTuple):
    """One row: in ``state``, ``event`` runs ``script`` (empty for time alone); then it is ``next``.

    ``note`` says what else happens, or on what it depends.
    """

    state: State
    event: str
    script: str
    next: State
    note: str = ""


S = State
# What an attempt is told of a job that is no longer its own.
FENCED: Final = (
    ("acknowledge", "refused and counted"),
    ("renew", "refused"),
    ("retry", "refused and counted"),
    ("release", "refused and counted"),
)
PLACE_DELETED: Final = "its place is deleted"
TABLE: Final[tuple[Transition, ...]] = (
    Transition(S.UNKNOWN, "enqueue", "enqueue", S.WAITING),
    Transition(S.UNKNOWN, "enqueue for later", "enqueue", S.SCHEDULED),
    *(
        Transition(state, "enqueue", "enqueue", state, "refused: the id is known")
        for state in (S.SCHEDULED, S.WAITING, S.RUNNING, S.DONE)
    ),
    Transition(
        S.DEAD,
        "enqueue",
        "enqueue",
        S.DEAD,
        "refused while its result is kept; then a new life begins beside the dead letter",
    ),
    Transition(S.SCHEDULED, "its time comes", "", S.WAITING),
    Transition(S.SCHEDULED, "claim", "claim", S.SCHEDULED, "passed over"),
    Transition(S.WAITING, "claim", "claim", S.RUNNING, "a try is counted, a new fence is set"),
    Transition(
        S.WAITING,
        "claim, its abort asked for",
        "claim",
        S.ABORTING,
        "its worker cancels it unstarted",
    ),
    Transition(S.RUNNING, "claim", "claim", S.RUNNING, "passed over"),
    Transition(S.RUNNING, "renew", "renew", S.RUNNING, "the lease is extended"),
    Transition(S.RUNNING, "lease ends", "", S.WAITING, "its attempt is fenced from now on"),
    Transition(S.RUNNING, "retry at once", "retry", S.WAITING),
    Transition(S.RUNNING, "retry later", "retry", S.SCHEDULED),
    Transition(S.RUNNING, "release", "release", S.WAITING, "the try is given back"),
    Transition(S.RUNNING, "acknowledge done", "acknowledge", S.DONE),
    Transition(S.RUNNING, "acknowledge done, keep nothing", "acknowledge", S.UNKNOWN),
    Transition(S.RUNNING, "acknowledge failed", "acknowledge", S.DEAD),
    Transition(S.RUNNING, "cancel", "cancel", S.ABORTING, "put to its worker"),
    Transition(S.SCHEDULED, "cancel", "cancel", S.CANCELLED),
    Transition(S.WAITING, "cancel", "cancel", S.CANCELLED),
    Transition(S.DONE, "cancel", "cancel", S.DONE, "passed over"),
    Transition(S.UNKNOWN, "cancel", "cancel", S.UNKNOWN, "passed over"),
    Transition(S.ABORTING, "renew", "renew", S.ABORTING, "the lease is extended"),
    Transition(S.ABORTING, "acknowledge cancelled", "acknowledge", S.CANCELLED),
    Transition(S.ABORTING, "acknowledge done", "acknowledge", S.DONE, "it ended first"),
    Transition(S.ABORTING, "acknowledge done, keep nothing", "acknowledge", S.UNKNOWN),
    Transition(S.ABORTING, "acknowledge failed", "acknowledge", S.DEAD, "it ended first"),
    Transition(
        S.ABORTING, "retry later", "retry", S.WAITING, "at once, to be cancelled at its next claim"
    ),
    Transition(S.ABORTING, "release", "release", S.WAITING, "to be cancelled at its next claim"),
    Transition(S.ABORTING, "lease ends", "", S.WAITING, "to be cancelled at its next claim"),
    Transition(S.DONE, "result expires", "", S.UNKNOWN),
    Transition(S.CANCELLED, "result expires", "", S.UNKNOWN),
    Transition(S.DEAD, "result expires", "", S.DEAD, "a dead letter stays until a person acts"),
    Transition(S.DEAD, "dead retry", "revive", S.WAITING, "with a fresh set of tries"),
    Transition(S.DEAD, "dead drop", "", S.DONE, "its result stays for as long as it is kept"),
    Transition(S.SCHEDULED, PLACE_DELETED, "", S.ASTRAY, "no event of ours"),
    Transition(S.WAITING, PLACE_DELETED, "", S.ASTRAY, "no event of ours"),
    Transition(S.ASTRAY, "enqueue", "enqueue", S.WAITING, "refused: the id is known; placed again"),
    Transition(S.ASTRAY, "enqueue for later", "enqueue", S.SCHEDULED, "likewise"),
    Transition(S.ASTRAY, "claim", "claim", S.ASTRAY, "not seen"),
    Transition(S.ASTRAY, "cancel", "cancel", S.ASTRAY, "passed over"),
    *(
        Transition(state, f"fenced {script}", script, state, note)
        for state in (S.WAITING, S.RUNNING, S.DONE)
        for script, note in FENCED
    ),
)


def drawing() -> str:
    """The transitions that change a state, as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> unknown"]
    for one in TABLE:
        if one.state is not one.next:
            lines.append(f"    {one.state.value} --> {one.next.value}: {one.event}")
    return "\n".join(lines)


def markdown() -> str:
    """The states, the drawing and the table as they stand in docs/state-machine.md."""
    states = "\n".join(f"| {one.value} | {MEANING[one]} |" for one in State)
    rows = "\n".join(
        f"| {one.state.value} | {one.event} | {f'`{one.script}.lua`' if one.script else 'none'} | "
        f"{one.next.value} | {one.note} |"
        for one in TABLE
    )
    return (
        f"| state | its keys |\n|---|---|\n{states}\n\n"
        f"```mermaid\n{drawing()}\n```\n\n"
        f"| state | event | script | next state | what else |\n|---|---|---|---|---|\n{rows}\n"
    )


if __name__ == "__main__":
    print(markdown(), end="")
