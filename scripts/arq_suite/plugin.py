"""A pytest plugin (``-p arq_suite.plugin``) for arq's tests: a Valkey for them, and whose worker.

Two variables tell it what to do: ``ARQ_SUITE_BROKER``, a ``redis://`` URL, stands in for the
container that arq's conftest starts; with ``ARQ_SUITE_WORKER=twolane``, our worker takes the place
of arq's in every module, and our command the place of arq's. Nothing else is changed.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any, Self
from urllib.parse import urlsplit


class Container:
    """What arq's conftest asks of testcontainers' ``RedisContainer``."""

    port = 6379

    def __init__(self, image: str) -> None:
        self._address = urlsplit(os.environ["ARQ_SUITE_BROKER"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def get_container_host_ip(self) -> str:
        return str(self._address.hostname)

    def get_exposed_port(self, port: int) -> int:
        return int(self._address.port or port)


def _stand_in_for_testcontainers() -> None:
    package, module = ModuleType("testcontainers"), ModuleType("testcontainers.redis")
    vars(module)["RedisContainer"] = Container
    sys.modules |= {package.__name__: package, module.__name__: module}


def _put_ours_in_place() -> None:
    import arq
    import arq.cli
    import arq.worker

    from worker.arq import Worker, create_worker, run_worker
    from worker.arq.cli import arq as command

    ours: dict[str, Any] = {
        "Worker": Worker,
        "create_worker": create_worker,
        "run_worker": run_worker,
    }
    for module in (arq, arq.worker, arq.cli):
        for name, one in ours.items():
            if name in vars(module):
                setattr(module, name, one)
    arq.cli.cli = command


_stand_in_for_testcontainers()
if os.environ.get("ARQ_SUITE_WORKER") == "twolane":
    _put_ours_in_place()
