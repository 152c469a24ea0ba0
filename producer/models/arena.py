"""Carries out one order in a process of its own: ``python -m producer.models.arena``.

The order comes on standard input, the measurement goes to standard output as JSON; what jobs print
goes to standard error.
"""

from __future__ import annotations

import os
import sys

import msgspec

from producer.models.call import described
from producer.models.work import Measurement


def main() -> None:
    order = sys.stdin.buffer.read()
    answer = os.dup(1)
    os.dup2(2, 1)
    try:
        from producer.models.ways import measure

        measured = measure(order)
    except Exception as error:  # a module of the user's may raise anything when it is loaded
        measured = Measurement(error=described(error))
    # Before the answer: whoever waits for that looks for them next, and this process is gone.
    sys.stdout.flush()
    sys.stderr.flush()
    with os.fdopen(answer, "wb") as stream:
        stream.write(msgspec.json.encode(measured))
    # A thread that a job has left behind must not keep the measurement waiting.
    os._exit(0)


if __name__ == "__main__":
    main()
