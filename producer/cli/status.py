"""The command ``status``: queues, workers and dead letters now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from twolane.commandline import broker_option, counted, json_option, print_json, say
from twolane.keys import LANES

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from producer.cli.fitting import Fitted


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@broker_option
@json_option
def status(broker: str | None, as_json: bool) -> None:
    """Queues, workers and dead letters now.

    \b
    twolane status
    twolane status --json
    """
    from producer.cli.session import with_broker

    found = with_broker(broker, _look)
    if as_json:
        print_json(found)
    else:
        _show(found)


async def _look(client: Redis) -> dict[str, Any]:
    import msgspec

    from twolane import dead, fleet, queues

    beats = await fleet.workers(client)
    lanes = []
    for lane in LANES:
        mine = [beat for beat in beats if beat.lane == lane]
        queue = await queues.look(client, lane)
        lanes.append(
            {
                "lane": lane,
                "workers": len(mine),
                "slots": sum(beat.slots for beat in mine),
                "running": sum(beat.busy for beat in mine),
                **msgspec.to_builtins(queue),
            }
        )
    return {
        "lanes": lanes,
        "workers": [msgspec.to_builtins(beat) for beat in beats],
        "dead_letters": await dead.count(client),
    }


def _show(found: dict[str, Any]) -> None:
    from producer.cli import tables

    out = tables.console()
    columns = (
        "lane", "workers", "slots", "running", "waiting", "oldest", "later", "enqueued", "done",
        "failed", "cancelled", "retried", "fenced",
    )  # fmt: skip
    rows = [
        (
            lane["lane"], lane["workers"], lane["slots"], lane["running"], f"{lane['waiting']:,}",
            tables.seconds(lane["oldest_seconds"]), f"{lane['later']:,}",
            *(f"{lane['counters'].get(name, 0):,}" for name in columns[7:]),
        )
        for lane in found["lanes"]
    ]  # fmt: skip
    out.print(tables.table(columns, rows, right=1))
    if found["workers"]:
        out.print()
        out.print(_workers(found["workers"]))
    for lane in found["lanes"]:
        if lane["waiting"] and not lane["workers"]:
            say(
                f"{counted(lane['waiting'], lane['lane'] + ' job')} to run, and no worker serves "
                f"the lane; start one: twolane worker {lane['lane']}"
            )
    for beat in found["workers"]:
        if beat.get("blocked_by"):
            say(f"the event loop of worker {beat['worker']} is held by {beat['blocked_by']}")
    if found["dead_letters"]:
        say(f"{counted(found['dead_letters'], 'dead letter')}: twolane dead list")


def _workers(beats: list[dict[str, Any]]) -> Fitted:
    from producer.cli import tables

    columns = ("worker", "slots", "running", "done", "failed", "CPU", "memory", "loop lag")
    rows = [
        (
            beat["worker"],
            beat.get("slots", 0),
            beat.get("busy", 0),
            f"{beat.get('done', 0):,}",
            f"{beat.get('failed', 0):,}",
            f"{beat.get('cpu_share', 0.0):.0%}",
            tables.size(beat.get("memory_bytes", 0)),
            tables.seconds(beat.get("loop_lag_ms", 0.0) / 1000),
        )
        for beat in beats
    ]
    return tables.table(columns, rows, right=1)
