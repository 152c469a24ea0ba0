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
LIVE: Final = (S.SCHEDULED, S.WAITING, S.RUNNING, S.ABORTING)
HELD: Final = (S.RUNNING, S.ABORTING)
# What an attempt is told of a job that is no longer its own.
FENCED: Final = (
    ("acknowledge", "acknowledge", "refused and counted"),
    ("renew", "renew", "refused"),
    ("retry", "retry", "refused and counted"),
    ("release", "release", "refused and counted"),
    ("drop-in's end", "arq_settle", "refused"),
)
PLACE_DELETED: Final = "its place is deleted"
CHANGES: Final[tuple[Transition, ...]] = (
    Transition(S.UNKNOWN, "enqueue", "enqueue", S.WAITING),
    Transition(S.UNKNOWN, "enqueue for later", "enqueue", S.SCHEDULED),
    Transition(S.SCHEDULED, "its time comes", "", S.WAITING),
    Transition(S.WAITING, "claim", "claim", S.RUNNING, "a try is counted, a new fence is set"),
    Transition(
        S.WAITING,
        "claim, its payload gone",
        "claim",
        S.RUNNING,
        "its worker acknowledges it as failed (ExpiredPayload)",
    ),
    Transition(
        S.WAITING,
        "claim, its abort asked for",
        "claim",
        S.ABORTING,
        "its worker cancels it unstarted",
    ),
    Transition(S.RUNNING, "lease ends", "", S.WAITING, "its attempt is fenced from now on"),
    Transition(S.RUNNING, "retry at once", "retry", S.WAITING),
    Transition(S.RUNNING, "retry later", "retry", S.SCHEDULED),
    Transition(S.RUNNING, "release", "release", S.WAITING, "the try is given back"),
    Transition(S.RUNNING, "acknowledge done", "acknowledge", S.DONE),
    Transition(S.RUNNING, "acknowledge done, keep nothing", "acknowledge", S.UNKNOWN),
    Transition(S.RUNNING, "acknowledge failed", "acknowledge", S.DEAD),
    Transition(
        S.RUNNING,
        "acknowledge cancelled",
        "acknowledge",
        S.CANCELLED,
        "where what asked for it was deleted meanwhile",
    ),
    Transition(S.RUNNING, "cancel", "cancel", S.ABORTING, "put to its worker"),
    Transition(S.SCHEDULED, "cancel", "cancel", S.CANCELLED),
    Transition(S.WAITING, "cancel", "cancel", S.CANCELLED),
    Transition(S.ABORTING, "acknowledge cancelled", "acknowledge", S.CANCELLED),
    Transition(S.ABORTING, "acknowledge done", "acknowledge", S.DONE, "it ended first"),
    Transition(S.ABORTING, "acknowledge done, keep nothing", "acknowledge", S.UNKNOWN),
    Transition(S.ABORTING, "acknowledge failed", "acknowledge", S.DEAD, "it ended first"),
    *(
        Transition(S.ABORTING, event, script, S.WAITING, f"{note}to be cancelled at its next claim")
        for event, script, note in (
            ("retry at once", "retry", ""),
            ("retry later", "retry", "at once, "),
            ("release", "release", ""),
            ("lease ends", "", ""),
        )
    ),
    *(
        Transition(state, f"drop-in: {event}", "arq_settle", following, note)
        for state in HELD
        for event, following, note in (
            ("finish", S.DONE, "no dead letter, whatever its end was: arq has none"),
            ("finish, keep nothing", S.UNKNOWN, ""),
            ("retry at once", S.WAITING, ""),
            ("retry later", S.SCHEDULED, ""),
            ("release", S.WAITING, "the try is given back"),
        )
    ),
    Transition(S.DONE, "result expires", "", S.UNKNOWN),
    Transition(S.CANCELLED, "result expires", "", S.UNKNOWN),
    Transition(S.DEAD, "dead retry", "revive", S.WAITING, "with a fresh set of tries"),
    Transition(S.DEAD, "dead drop", "", S.DONE, "its result stays for as long as it is kept"),
    Transition(S.SCHEDULED, PLACE_DELETED, "", S.ASTRAY, "no event of ours"),
    Transition(S.WAITING, PLACE_DELETED, "", S.ASTRAY, "no event of ours"),
    Transition(S.ASTRAY, "enqueue", "enqueue", S.WAITING, "refused: the id is known; placed again"),
    Transition(S.ASTRAY, "enqueue for later", "enqueue", S.SCHEDULED, "likewise"),
)


def _stays(state: State, event: str, script: str, note: str) -> Transition:
    return Transition(state, event, script, state, note)


NO_CHANGES: Final[tuple[Transition, ...]] = (
    *(
        _stays(state, "enqueue", "enqueue", "refused: the id is known")
        for state in (*LIVE, S.DONE, S.CANCELLED)
    ),
    _stays(
        S.DEAD,
        "enqueue",
        "enqueue",
        "refused while its result is kept; then a new life begins beside the dead letter",
    ),
    _stays(S.SCHEDULED, "claim", "claim", "passed over: not due"),
    *(_stays(state, "claim", "claim", "passed over: held") for state in HELD),
    *(
        _stays(state, "claim", "claim", "not there to be taken")
        for state in (S.UNKNOWN, S.DONE, S.CANCELLED, S.DEAD, S.ASTRAY)
    ),
    *(_stays(state, "renew", "renew", "the lease is extended") for state in HELD),
    *(
        _stays(state, "renew, its place deleted", "renew", "it has its place again")
        for state in HELD
    ),
    _stays(S.ABORTING, "cancel", "cancel", "put to its worker again"),
    *(
        _stays(state, "cancel", "cancel", "passed over")
        for state in (S.UNKNOWN, S.DONE, S.CANCELLED, S.DEAD, S.ASTRAY)
    ),
    *(
        _stays(state, "dead retry", "revive", "refused: it is no dead letter")
        for state in State
        if state is not S.DEAD
    ),
    _stays(S.DEAD, "dead retry, its payload gone", "revive", "refused: there is nothing to run"),
    _stays(S.DEAD, "result expires", "", "a dead letter stays until a person acts"),
    *(
        _stays(state, f"fenced {name}", script, note)
        for name, script, note in FENCED
        for state in State
    ),
)
TABLE: Final = CHANGES + NO_CHANGES


def drawing() -> str:
    """What changes a state, as a Mermaid state diagram; the drop-in's scripts do as ours."""
    lines = ["stateDiagram-v2", "    [*] --> unknown"]
    lines += [
        f"    {one.state.value} --> {one.next.value}: {one.event}"
        for one in CHANGES
        if one.script != "arq_settle"
    ]
    return "\n".join(lines)


def _name(script: str) -> str:
    return f"`{script}.lua`" if script else "none"


def markdown() -> str:
    """The states, the drawing and the tables as they stand in docs/state-machine.md."""
    meanings = "\n".join(f"| {one.value} | {MEANING[one]} |" for one in State)
    changes = "\n".join(
        f"| {one.state.value} | {one.event} | {_name(one.script)} | {one.next.value} | {one.note} |"
        for one in CHANGES
    )
    alike: dict[tuple[str, str, str], list[str]] = {}
    for one in NO_CHANGES:
        alike.setdefault((one.event, one.script, one.note), []).append(one.state.value)
    rest = "\n".join(
        f"| {event} | {_name(script)} | "
        f"{'all' if len(found) == len(State) else ', '.join(found)} | {note} |"
        for (event, script, note), found in alike.items()
    )
    return (
        f"| state | its keys |\n|---|---|\n{meanings}\n\n"
        f"```mermaid\n{drawing()}\n```\n\n"
        f"| state | event | script | next state | what else |\n|---|---|---|---|---|\n{changes}\n\n"
        "What changes no state:\n\n"
        f"| event | script | in | what comes of it |\n|---|---|---|---|\n{rest}\n"
    )


if __name__ == "__main__":
    print(markdown(), end="")
