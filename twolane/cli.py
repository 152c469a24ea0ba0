"""The door: every command by its name, its module imported only when it is called."""

from __future__ import annotations

import difflib
import importlib
import sys
from typing import Final

import click

from twolane import __version__
from twolane.commandline import one_line_errors

# name -> (where it is, what help says of it; a test holds the two together)
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "demo": ("producer.cli.demo:demo", "Everything in one command on this machine."),
    "compare": (
        "producer.cli.compare:compare",
        "The same work one at a time, in threads, on asyncio, in processes, by workers.",
    ),
    "scale": (
        "producer.cli.scale:scale",
        "Measure how the throughput grows with the workers, and say how many are worth it.",
    ),
    "size": ("producer.cli.size:size", "How many workers an arrival rate needs."),
    "load": (
        "producer.cli.load:load",
        "Send jobs at a rate, whatever becomes of them, and measure how long they take.",
    ),
    "up": ("producer.cli.up:up", "A broker and one worker a lane, until Ctrl-C."),
    "worker": ("worker.cli:worker", "Run jobs: the IO lane or the CPU lane."),
    "arq": ("worker.arq.cli:arq", "Run an arq application's jobs, in the place of `arq`."),
    "enqueue": ("producer.cli.enqueue:enqueue", "Make jobs; each call makes a run."),
    "runs": ("producer.cli.runs:runs", "List, show, compare and collect runs."),
    "watch": ("producer.cli.watch:watch", "The fleet now, once a second."),
    "status": ("producer.cli.status:status", "Queues, workers and dead letters now."),
    "cancel": ("producer.cli.cancel:cancel", "Cancel a run, or single jobs."),
    "dead": (
        "producer.cli.dead:dead",
        "List, retry or drop dead letters: jobs that failed for good.",
    ),
    "jobs": ("producer.cli.jobs:jobs", "The jobs that can be enqueued, with their arguments."),
    "target": ("producer.cli.target:target", "A web service of chosen latency to fetch from."),
}


class Door(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        near = difflib.get_close_matches(name, COMMANDS)
        if near and name not in COMMANDS and not ctx.resilient_parsing:
            those = " or ".join(f"'{one}'" for one in near)
            raise click.UsageError(f"No such command {name!r}. Did you mean {those}?", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=Door, name="twolane", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="twolane")
def cli() -> None:
    """A distributed job runner: `async def` waits, `def` computes.

    \b
    twolane demo                                   see it work, on this machine
    twolane up                                     a broker and workers, until Ctrl-C
    twolane compare                                which kind of concurrency a job wants
    twolane scale --lane cpu                       how many workers are worth having
    twolane enqueue primes --below 10_000_000 --wait
    twolane enqueue job my_job key=value --jobs my.module
    """


main = one_line_errors(cli)

if __name__ == "__main__":
    sys.exit(main())
