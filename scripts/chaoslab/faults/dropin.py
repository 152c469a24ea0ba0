"""What befalls the drop-in worker of an arq application: the same as befalls ours."""

from __future__ import annotations

from chaoslab.arq_client import ArqClient
from chaoslab.catalog import fault
from chaoslab.faults.server import restart_under_load
from chaoslab.faults.workers import kill_while_running, stop_past_the_lease
from chaoslab.lab import Lab


@fault(
    "arq-sigkill-mid-job", "drop-in", "SIGKILL of `twolane arq` in the middle of its jobs",
    "they start again on another worker within the lease + 1 s", recovery=2.0,
)  # fmt: skip
async def arq_sigkill_mid_job(lab: Lab) -> None:
    async with ArqClient(lab) as client:
        await kill_while_running(lab, client.enqueue, "arq")


@fault(
    "arq-sigstop-past-the-lease", "drop-in",
    "SIGSTOP of `twolane arq` past the lease, then SIGCONT",
    "its results are refused, the jobs ran elsewhere, its own tasks are cancelled", recovery=2.0,
)  # fmt: skip
async def arq_sigstop_past_the_lease(lab: Lab) -> None:
    async with ArqClient(lab) as client:
        await stop_past_the_lease(lab, client.enqueue, "arq")
        await lab.settle()


@fault(
    "arq-restart", "drop-in", "restart of 1 s under load, of two `twolane arq`",
    "they go on by themselves, without a tight loop", fsync="everysec", recovery=3.0,
)  # fmt: skip
async def arq_restart(lab: Lab) -> None:
    async with ArqClient(lab) as client:
        await restart_under_load(lab, 1.0, client.enqueue, "arq")
        await lab.settle()
