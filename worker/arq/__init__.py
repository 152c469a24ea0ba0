"""Runs an existing arq application: :class:`Worker` takes the place of ``arq.worker.Worker``."""

from worker.arq.runner import Worker, create_worker, run_worker

__all__ = ["Worker", "create_worker", "run_worker"]
