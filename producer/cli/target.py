"""``twolane target``: run a web service of known latency."""

from __future__ import annotations

import asyncio
import ipaddress

import click

from twolane.commandline import option, say
from twolane.quantities import DURATION, SIZE, Number


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@option("--host", default="127.0.0.1", help="Address to listen on.")
@option("--port", default=8080, type=click.IntRange(0, 65535), help="0: any free port.")
@option("--latency", default="50ms", type=DURATION, metavar="TIME",
        help="Wait before each answer.")  # fmt: skip
@option(
    "--p99",
    default=None,
    type=DURATION,
    metavar="TIME",
    help="Spread the latency (log-normal): --latency is the median, 1 answer in 100 takes longer "
    "than this.",
)
@option(
    "--error-rate",
    default=0.0,
    type=Number(0, 1),
    help="Share of requests that are answered with 500.",
)
@option(
    "--capacity",
    default=None,
    type=click.IntRange(1),
    help="Requests that it serves at once; the others wait. Default: all.",
)
@option("--body-size", default="1kB", type=SIZE, help="Bytes of an answer.")
@option("--seed", default=None, type=int, help="Draw the same latencies and errors again.")
@click.option("--with-parent", is_flag=True, hidden=True)
def target(
    host: str,
    port: int,
    latency: float,
    p99: float | None,
    error_rate: float,
    body_size: int,
    seed: int | None,
    capacity: int | None,
    with_parent: bool,
) -> None:
    """A web service of chosen latency to fetch from.

    \b
    twolane target --latency 50ms
    twolane target --port 0 --latency 50ms --p99 200ms --error-rate 0.01
    twolane target --capacity 100                  as a service that has so many connections

    Any path answers 200 after the latency; /stats counts the requests, /healthz answers at once.
    It ends at once with Ctrl-C or SIGTERM.
    """
    # Loaded here, so that the other commands do not wait for it.
    from producer import target as service

    try:
        made = service.Target(latency, p99, error_rate, body_size, seed, capacity)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--p99") from None
    if not _is_loopback(host):
        say(
            f"Warning: listening on {host}: other machines may reach this service, "
            "which asks nobody who they are"
        )
    try:
        import uvloop

        loop_factory = uvloop.new_event_loop
    except ImportError:
        loop_factory = None
    try:
        listening = service.listen(host, port)
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {host} port {port}: {error.strerror or error}; "
            "choose another with --host or --port (0: any free port)"
        ) from None
    with listening as bound, asyncio.Runner(loop_factory=loop_factory) as run:
        run.run(
            service.serve(made, bound, lambda url: click.echo(f"listening on {url}"), with_parent)
        )
