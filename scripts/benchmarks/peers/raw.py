"""The least that a queue on this server can be: LPUSH and BRPOP over plain sockets, no library.

It guarantees nothing. What it takes is what the machine takes: a timer, three wake-ups of idle
processes, and the loopback interface.
"""

from __future__ import annotations

import signal
import socket
import sys
from urllib.parse import urlsplit

from benchmarks import jobs
from benchmarks.plan import Kind, Plan

PACKAGES = ()
LIST = b"raw"


def settings(plan: Plan) -> str:
    return "one blocking socket a side, a message of three words, one job at a time"


def _connected(plan: Plan) -> socket.socket:
    where = urlsplit(plan.broker)
    made = socket.create_connection((where.hostname, where.port))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _packed(*words: bytes) -> bytes:
    parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
    return b"*%d\r\n" % len(words) + b"".join(parts)


def serve(plan: Plan) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    wire, ask = _connected(plan), _packed(b"BRPOP", LIST, b"0")
    while True:
        wire.sendall(ask)
        # *2, the list's name, the message: it fits one read, as every message here.
        kind, index, amount = wire.recv(4096).split(b"\r\n")[4].decode().split()
        if kind == "wait":
            jobs.blocking_wait(int(index), float(amount))
        else:
            jobs.mark(int(index))


class Producer:
    def __init__(self, plan: Plan) -> None:
        self._wire = _connected(plan)

    def enqueue(self, kind: Kind, indices: range, amount: float) -> None:
        for index in indices:
            self._wire.sendall(_packed(b"LPUSH", LIST, f"{kind} {index} {amount}".encode()))
            self._wire.recv(4096)

    def close(self) -> None:
        self._wire.close()
