"""The commands ``dead list``, ``dead retry`` and ``dead drop``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from twolane.commandline import (
    broker_option,
    counted,
    json_option,
    option,
    plain,
    print_json,
    say,
)
from twolane.errors import UsageError

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from twolane.dead import DeadLetter

C = TypeVar("C", bound=Callable[..., Any])
SHORT: Final = 200  # letters of a message that a window gets; --traceback has them all


def choosing(command: C) -> C:
    """The ways to name dead letters: ids, a run, or all."""
    for add in (
        json_option,
        broker_option,
        option("--all", "everything", is_flag=True, help="All of them."),
        option("--run", default=None, metavar="NAME", help="Those of one run."),
        click.argument("ids", nargs=-1, metavar="[ID]..."),
    ):
        command = add(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def dead() -> None:
    """List, retry or drop dead letters: jobs that failed for good.

    \b
    twolane dead list
    twolane dead retry --run primes-k3f9x
    twolane dead drop primes-k3f9x-0000007
    """


@dead.command("list")
@option("--limit", type=click.IntRange(1), default=50, help="How many, the latest first.")
@option("--traceback", is_flag=True, help="With the tracebacks.")
@option("--run", default=None, metavar="NAME", help="Those of one run.")
@broker_option
@json_option
def list_(limit: int, traceback: bool, run: str | None, broker: str | None, as_json: bool) -> None:
    """The dead letters, the latest first.

    \b
    twolane dead list --limit 5 --traceback
    twolane dead list --run primes-k3f9x --json
    """
    import msgspec

    from producer.cli import tables
    from producer.cli.session import with_broker

    async def work(client: Redis) -> tuple[int, list[DeadLetter]]:
        from twolane import dead as letters

        found = await letters.ids(client, run)
        return len(found), [one async for one in letters.letters(client, found[:limit])]

    total, found = with_broker(broker, work)
    if as_json:
        print_json([msgspec.to_builtins(one) for one in found])
        return
    if not found:
        say("no dead letters")
        return
    out = tables.console()
    rows = [
        (
            one.id, one.function, tables.ago(one.died_ms), one.tries, one.error,
            _line(one.message, out.is_terminal),
        )
        for one in found
    ]  # fmt: skip
    out.print(tables.table(("id", "job", "died", "tries", "error", "message"), rows))
    if traceback:
        for one in found:
            out.print(f"\n{tables.plain(one.id)}:", style="bold")
            for line in one.traceback.splitlines():
                out.print("  " + tables.plain(line), soft_wrap=True)
    if total > len(found):
        say(f"{total - len(found):,} more: --limit {total}")


@dead.command()
@choosing
def retry(
    ids: tuple[str, ...], run: str | None, everything: bool, broker: str | None, as_json: bool
) -> int:
    """Put dead letters back into their queues, with all their tries.

    \b
    twolane dead retry --all
    twolane dead retry primes-k3f9x-0000007
    """
    from producer.cli.session import with_broker
    from twolane.store import Store

    async def work(client: Redis) -> tuple[int, list[str]]:
        wanted = await _chosen(client, ids, run, everything)
        refused = await Store(client).revive(wanted)
        return len(wanted) - len(refused), refused

    retried, refused = with_broker(broker, work)
    if as_json:
        print_json({"retried": retried, "refused": refused})
    else:
        click.echo(f"{counted(retried, 'job')} put back")
        for one in refused:
            say(
                f"not put back: {plain(one)} (no such dead letter, its payload is gone, "
                "or a job of that id waits already)"
            )
    return 1 if refused else 0


@dead.command()
@choosing
def drop(
    ids: tuple[str, ...], run: str | None, everything: bool, broker: str | None, as_json: bool
) -> int:
    """Delete dead letters, with their payloads, for good.

    \b
    twolane dead drop --run primes-k3f9x
    """
    from producer.cli.session import with_broker
    from twolane import dead as letters

    async def work(client: Redis) -> tuple[int, list[str]]:
        wanted = await _chosen(client, ids, run, everything)
        missing = await letters.drop(client, wanted)
        # Nobody named those of --run and --all: that another command was quicker is no failure.
        return len(wanted) - len(missing), missing if ids else []

    dropped, missing = with_broker(broker, work)
    if as_json:
        print_json({"dropped": dropped, "missing": missing})
    else:
        click.echo(f"{counted(dropped, 'dead letter')} dropped")
        for one in missing:
            say(f"not dropped: {plain(one)} (no such dead letter)")
    return 1 if missing else 0


async def _chosen(
    client: Redis, ids: tuple[str, ...], run: str | None, everything: bool
) -> list[str]:
    from twolane import dead as letters

    if (bool(ids), run is not None, everything).count(True) != 1:
        raise UsageError("say which: ids, or --run NAME, or --all")
    return list(dict.fromkeys(ids)) if ids else await letters.ids(client, run)


def _line(message: str, is_short: bool) -> str:
    text = " ".join(message.split())
    return text if len(text) <= SHORT or not is_short else text[: SHORT - 1] + "…"
