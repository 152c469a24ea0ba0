"""The command ``cancel``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from twolane.commandline import broker_option, counted, json_option, print_json
from twolane.errors import UnknownRun

if TYPE_CHECKING:
    from redis.asyncio import Redis


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("targets", nargs=-1, required=True, metavar="RUN|JOB-ID...")
@broker_option
@json_option
def cancel(targets: tuple[str, ...], broker: str | None, as_json: bool) -> None:
    """Cancel a run, or single jobs.

    What waits never starts; what runs is stopped by its worker within about a second.

    \b
    twolane cancel primes-k3f9x
    twolane cancel primes-k3f9x-0000007
    """
    from producer.cli.session import with_broker

    async def work(client: Redis) -> tuple[int, int]:
        from producer.cancel import cancel_jobs, cancel_run

        settled = asked = 0
        for target in targets:
            try:
                done, running = await cancel_run(client, target)
            except UnknownRun:
                done, running = await cancel_jobs(client, [target])
                if not done + running:
                    raise UnknownRun(
                        f"{target!r} is no run, and no job of that id waits or runs; "
                        "`twolane runs` lists the runs"
                    ) from None
            settled, asked = settled + done, asked + running
        return settled, asked

    settled, asked = with_broker(broker, work)
    if as_json:
        print_json({"cancelled": settled, "stopping": asked})
    else:
        click.echo(
            f"{counted(settled, 'waiting job')} cancelled, "
            f"{counted(asked, 'running job')} being stopped"
        )
