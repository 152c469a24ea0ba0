"""Lets what instruments arq's worker instrument ours.

Error trackers and tracers (Sentry's SDK, wherever it finds arq) put their own functions in the
place of ``arq.worker.Worker.run_job`` and of ``arq.worker.create_worker`` when they start, and call
the ones that they found. So ours must be what they find: from the import of this module on, the
``run_job`` of arq's class runs our workers' attempts too. What wrapped it before that is not called
for them.
"""

from __future__ import annotations

from typing import Any, TypeVar

import arq.worker

W = TypeVar("W", bound=arq.worker.Worker)
_run_job, _create_worker = arq.worker.Worker.run_job, arq.worker.create_worker


async def run_job(self: arq.worker.Worker, job_id: str, score: int) -> None:
    run_claimed = getattr(self, "run_claimed", None)
    if run_claimed is None:
        await _run_job(self, job_id, score)
    else:
        await run_claimed(job_id)


# No type checker expects methods and classes to be replaced; here and below that is the purpose.
arq.worker.Worker.run_job = run_job  # type: ignore[method-assign]


def create_worker(ours: type[W], settings: Any, options: dict[str, Any]) -> W:
    """What ``arq.worker.create_worker`` is by now, making a worker of our class."""
    theirs = arq.worker.Worker
    # Where ours already stands in arq's place, so may the function that called this one.
    create = _create_worker if theirs is ours else arq.worker.create_worker
    arq.worker.Worker = ours  # type: ignore[misc]
    try:
        worker = create(settings, **options)
    finally:
        arq.worker.Worker = theirs  # type: ignore[misc]
    assert isinstance(worker, ours)
    return worker
