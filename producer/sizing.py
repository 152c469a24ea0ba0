"""How many workers an arrival rate needs, said with its reasons, and how a load bears it out."""

from __future__ import annotations

import msgspec

from producer import queueing
from producer.open_load import Loaded
from producer.queueing import Size, Wait
from twolane.commandline import counted
from twolane.keys import Lane

# Slots start a job some milliseconds after it comes: enqueuing, waking, claiming. A wait shorter
# than this is the system's own, which no number of workers shortens. Arbitrary.
OWN_SECONDS = 0.010


class Service(msgspec.Struct):
    """How long a job runs: mean, squared coefficient of variation, and where that is from."""

    mean_run: float
    scv: float
    jobs: int
    source: str


def measured(loaded: Loaded, rate: float) -> Service:
    """The run times of a load, which are those of its jobs that succeeded."""
    source = f"measured at {rate:.3g}/s"
    if loaded.failed:
        source += f"; {counted(loaded.failed, 'job')} failed, whose times are left out"
    return Service(loaded.run_mean, loaded.scv, loaded.jobs - loaded.failed, source)


class Answer(msgspec.Struct):
    """``size`` and what fewer workers would do; waits in seconds, the quantile being the goal's."""

    rate: float
    slo_seconds: float
    quantile: float
    slots_per_worker: int
    workers: int
    slots: int
    for_utilisation: int
    for_wait: int
    target_utilisation: float
    utilisation: float
    chance: float
    wait_mean: float
    wait_quantile: float
    fewer_utilisation: float | None
    fewer_wait_quantile: float | None


def answer(
    rate: float,
    service: Service,
    slo_seconds: float,
    quantile: float,
    slots_per_worker: int,
    utilisation: float,
) -> Answer:
    """Size for a rate and a goal.

    Raises:
        ValueError: a number is out of its range.
    """
    size: Size = queueing.size(
        rate, service.mean_run, service.scv, slo_seconds,
        quantile=quantile, slots_per_worker=slots_per_worker, utilisation=utilisation,
    )  # fmt: skip
    fewer_slots = (size.workers - 1) * slots_per_worker
    fewer = predicted(rate, service, fewer_slots) if fewer_slots else None
    return Answer(
        rate=rate,
        slo_seconds=slo_seconds,
        quantile=quantile,
        slots_per_worker=slots_per_worker,
        workers=size.workers,
        slots=size.slots,
        for_utilisation=size.for_utilisation,
        for_wait=size.for_wait,
        target_utilisation=utilisation,
        utilisation=size.utilisation,
        chance=size.wait.chance,
        wait_mean=size.wait.mean,
        wait_quantile=size.wait.quantile(quantile),
        fewer_utilisation=rate * service.mean_run / fewer_slots if fewer_slots else None,
        fewer_wait_quantile=fewer.quantile(quantile) if fewer else None,
    )


def predicted(rate: float, service: Service, slots: int) -> Wait:
    """The wait of that rate on so many slots."""
    return queueing.wait(slots, rate, service.mean_run, service.scv)


def tell(one: Answer, service: Service, lane: Lane) -> list[str]:
    """The answer in sentences."""
    from producer.cli.tables import seconds

    load = one.rate * service.mean_run
    each = f"{one.slots_per_worker} slot{'s' if one.slots_per_worker != 1 else ''}"
    if one.for_wait == one.for_utilisation:
        decides = "both decide"
    else:
        decides = f"the {'wait' if one.for_wait > one.for_utilisation else 'reserve'} decides"
    keep = "slot keeps" if one.for_utilisation == 1 else "slots keep"
    said = [
        f"{one.workers} {lane} worker{'s' if one.workers != 1 else ''} of {each} each: "
        f"{one.rate:g} jobs/s of {seconds(service.mean_run)} keep {load:.1f} slots busy on average "
        f"(Little's law), {one.utilisation:.0%} of {one.slots}.",
        f"{one.for_utilisation} {keep} the average at {one.target_utilisation:.0%} or less, "
        f"{one.for_wait} have {one.quantile:.0%} of the jobs start within "
        f"{seconds(one.slo_seconds)}: {decides}.",
        f"Predicted for {one.slots} slots: {one.chance:.1%} of the jobs wait at all, "
        f"{one.quantile:.0%} start {_within(one.wait_quantile)} "
        f"({'M/M/c' if service.scv == 1 else 'M/G/c'}), besides the milliseconds that any job "
        "takes from queue to worker.",
    ]
    if one.fewer_utilisation is None:
        said.append("There is no smaller fleet than one worker.")
    elif one.fewer_wait_quantile is not None and one.fewer_utilisation < 1:
        said.append(
            f"With one worker less the slots would be {one.fewer_utilisation:.0%} busy, and "
            f"{one.quantile:.0%} would start {_within(one.fewer_wait_quantile)}."
        )
    else:
        said.append("With one worker less the queue would grow without end.")
    return said


def _within(wait: float) -> str:
    from producer.cli.tables import seconds

    return f"within {seconds(wait)}" if wait else "at once"


class Check(msgspec.Struct):
    """A prediction beside a measurement; waits in seconds. ``error`` is of the prediction."""

    predicted_p95: float
    measured_p95: float
    predicted_mean: float
    measured_mean: float
    error: float | None


def check(loaded: Loaded) -> Check:
    """What queueing theory says of a load that was measured, from its own run times."""
    wait = queueing.wait(max(1, loaded.slots), loaded.sent_rate, loaded.run_mean, loaded.scv)
    p95 = wait.quantile(0.95)
    error = None
    if p95 not in (0.0, float("inf")) and loaded.wait.p95 > 0:
        error = p95 / loaded.wait.p95 - 1
    return Check(p95, loaded.wait.p95, wait.mean, loaded.wait_mean, error)


def tell_load(loaded: Loaded, found: Check) -> list[str]:
    """What was seen of a load, in sentences."""
    from producer.cli.tables import seconds

    utilisation = loaded.sent_rate * loaded.run_mean / max(1, loaded.slots)
    said = [
        f"Of {loaded.sent_rate:,.1f} jobs/s sent, {loaded.completed_rate:,.1f} a second were done; "
        f"{_busy(loaded, utilisation)}."
    ]
    if loaded.unfinished or utilisation >= 1:
        left = ""
        if loaded.unfinished:
            verb = "was" if loaded.unfinished == 1 else "were"
            left = (
                f", and {counted(loaded.unfinished, 'job')} {verb} left, "
                "which the waits shown are without"
            )
        said.append(f"That is more than these workers can do: the queue grew{left}.")
    elif found.predicted_p95 < OWN_SECONDS:
        said.append(
            f"Queueing theory predicts next to no waiting (p95 {seconds(found.predicted_p95)}); "
            f"the {seconds(found.measured_p95)} measured are the way from queue to worker."
        )
    else:
        error = f", {found.error:+.0%}" if found.error is not None else ""
        said.append(
            f"Queueing theory (M/G/c, with the run times measured) predicts a p95 wait of "
            f"{seconds(found.predicted_p95)}; measured were {seconds(found.measured_p95)}{error}."
        )
    if loaded.late.p99 > OWN_SECONDS:
        said.append(
            f"The sender was late by {seconds(loaded.late.p99)} for 1 job in 100, which is counted "
            "into their waits: it had too little of the CPU for that rate."
        )
    if loaded.failed:
        said.append(f"{loaded.failed:,} of {loaded.jobs:,} jobs failed.")
    return said


def _busy(loaded: Loaded, utilisation: float) -> str:
    if utilisation <= 1:
        verb = "was" if loaded.slots == 1 else "were"
        return f"{counted(loaded.slots, 'slot')} {verb} {utilisation:.0%} busy by Little's law"
    needed, verb = loaded.sent_rate * loaded.run_mean, "is" if loaded.slots == 1 else "are"
    return f"by Little's law that takes {needed:,.1f} slots, and there {verb} {loaded.slots:,}"
