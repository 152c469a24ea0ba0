"""Sizes a fleet for an arrival rate: slots by Little's law and by the wait of M/M/c and M/G/c.

Arrivals are Poisson, ``rate`` jobs a second; a job runs for ``mean_run`` seconds on one of
``servers`` alike slots that share one queue, first come first served. ``scv`` is the squared
coefficient of variation of the run time, variance / mean²: 1 for exponential run times (M/M/c, the
formulas are exact), 0 for constant ones. The wait is the time in the queue, without the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

# Where a search ends: a second or so of looking, and more than anyone's fleet. Arbitrary.
MOST_SERVERS: Final = 2_000_000
UTILISATION: Final = 0.8  # slots busy on average, unless told otherwise: a rule of thumb


@dataclass(frozen=True)
class Wait:
    """How long jobs wait: ``chance`` is of waiting at all, ``mean`` is in seconds, over all jobs.

    A job that waits is taken to wait exponentially long, which is exact for M/M/c and the usual
    approximation for M/G/c (W. Whitt, "Approximations for the GI/G/m queue", Production and
    Operations Management 2, 1993). An overloaded system has chance 1 and an infinite mean.
    """

    chance: float
    mean: float

    def quantile(self, share: float) -> float:
        """The seconds within which ``share`` of the jobs start: t = −ln((1−p)/C) · E[W | W > 0].

        For M/M/c, E[W | W > 0] = 1/(cμ−λ). The answer is 0 when that share does not wait at all.

        Raises:
            ValueError: ``share`` is not in [0, 1).
        """
        if not 0 <= share < 1:
            raise ValueError(f"a quantile is at least 0 and below 1, got {share}")
        if self.mean == math.inf:
            return math.inf
        if 1 - share >= self.chance:
            return 0.0
        return math.log(self.chance / (1 - share)) * self.mean / self.chance

    def exceeds(self, seconds: float) -> float:
        """The share of jobs that wait longer than ``seconds``."""
        if self.chance == 0:
            return 0.0
        return self.chance * math.exp(-max(seconds, 0.0) * self.chance / self.mean)


@dataclass(frozen=True)
class Size:
    """How many workers an arrival rate needs, and what their slots are expected to do.

    ``slots`` is what the workers have together, ``for_utilisation`` and ``for_wait`` what each of
    the two demands asks for alone; ``utilisation`` and ``wait`` are predicted for ``slots``.
    """

    workers: int
    slots: int
    for_utilisation: int
    for_wait: int
    utilisation: float
    wait: Wait


def size(
    rate: float,
    mean_run: float,
    scv: float,
    slo_seconds: float,
    *,
    quantile: float = 0.95,
    slots_per_worker: int = 1,
    utilisation: float = UTILISATION,
) -> Size:
    """The workers for which ``quantile`` of the jobs start within ``slo_seconds``, with reserve.

    Raises:
        ValueError: an argument is out of its range.
    """
    for_utilisation = slots_for(rate, mean_run, utilisation)
    for_wait = smallest_servers(rate, mean_run, scv, slo_seconds, quantile)
    workers = workers_for(max(for_utilisation, for_wait), slots_per_worker)
    slots = workers * slots_per_worker
    return Size(
        workers=workers,
        slots=slots,
        for_utilisation=for_utilisation,
        for_wait=for_wait,
        utilisation=rate * mean_run / slots,
        wait=wait(slots, rate, mean_run, scv),
    )


def slots_for(rate: float, mean_run: float, utilisation: float = UTILISATION) -> int:
    """Slots that are busy for ``utilisation`` of the time: rate × mean run / utilisation, up.

    By L = λW (J. D. C. Little, "A proof for the queuing formula L = λW", Operations Research 9,
    1961) rate × mean run slots are busy on average, whatever the arrivals and run times are like.

    Raises:
        ValueError: ``utilisation`` is not in (0, 1], or rate or mean run is not a positive number.
    """
    load = offered_load(rate, mean_run)
    if not 0 < utilisation <= 1:
        raise ValueError(f"utilisation must be above 0 and at most 1, got {utilisation}")
    return max(1, _rounded_up(load / utilisation))


def workers_for(slots: int, slots_per_worker: int) -> int:
    """Workers that have ``slots`` together.

    Raises:
        ValueError: one of them is below 1.
    """
    if slots < 1 or slots_per_worker < 1:
        raise ValueError(f"slots must be 1 or more, got {slots} and {slots_per_worker} a worker")
    return -(-slots // slots_per_worker)


def smallest_servers(
    rate: float, mean_run: float, scv: float, slo_seconds: float, quantile: float = 0.95
) -> int:
    """The fewest servers with which ``quantile`` of the jobs wait ``slo_seconds`` or less.

    With 0 seconds, that share of the jobs is to find a free server.

    Raises:
        ValueError: an argument is out of its range, or more than two million servers are needed.
    """
    load = offered_load(rate, mean_run)
    if not 0 <= slo_seconds < math.inf:
        raise ValueError(f"the longest wait must be 0 seconds or more, got {slo_seconds}")
    if load < MOST_SERVERS:
        losses = islice(_losses(load), 1, MOST_SERVERS + 1)
        for servers, loss in enumerate(losses, start=1):
            if servers <= load:
                continue
            if _wait(servers, load, mean_run, scv, loss).quantile(quantile) <= slo_seconds:
                return servers
    raise ValueError(
        f"{rate:g} jobs a second of {mean_run:g} s need more than {MOST_SERVERS:,} servers: "
        "check the units of the rate and of the run time"
    )


def wait(servers: int, rate: float, mean_run: float, scv: float = 1.0) -> Wait:
    """The wait in M/M/c (``scv`` = 1, exact) or in M/G/c (approximate).

    A job waits with the probability of Erlang's C, which depends little on the distribution of run
    times. The mean for ``scv`` up to 1 is Kimura's interpolation between M/D/c and M/M/c, with
    Cosmetatos' M/D/c as bounded by Whitt (T. Kimura, "A two-moment approximation for the mean
    waiting time in the GI/G/s queue", Management Science 32, 1986; G. P. Cosmetatos, "Approximate
    explicit formulae for the average queueing time in the processes (M/D/r) and (D/M/r)", INFOR 13,
    1975; Whitt, 1993). Above 1 it is Allen and Cunneen's, M/M/c's × (1 + scv) / 2 (A. O. Allen,
    *Probability, Statistics, and Queueing Theory*, 1990). With one server both are exact.

    Raises:
        ValueError: an argument is out of its range. An overload is none: it waits forever.
    """
    load = offered_load(rate, mean_run)
    return _wait(servers, load, mean_run, scv, erlang_b(servers, load))


def erlang_c(servers: int, load: float) -> float:
    """The probability of waiting in M/M/c at ``load`` erlangs; 1 from ``load`` = ``servers`` on.

    C = B / (1 − ρ(1 − B)), B being Erlang's loss probability (R. B. Cooper, *Introduction to
    Queueing Theory*, 1981).

    Raises:
        ValueError: there is no server, or the load is not a number of 0 or more.
    """
    return _delayed(servers, load, erlang_b(servers, load))


def erlang_b(servers: int, load: float) -> float:
    """The probability of loss in M/M/c/c, by B(n) = aB(n−1) / (n + aB(n−1)), B(0) = 1.

    The recursion neither overflows nor cancels (Cooper, 1981); it takes one step a server.

    Raises:
        ValueError: there is no server, or the load is not a number of 0 or more.
    """
    if servers < 1:
        raise ValueError(f"servers must be 1 or more, got {servers}")
    if not 0 <= load < math.inf:
        raise ValueError(f"the load must be 0 erlangs or more, got {load}")
    return next(islice(_losses(load), servers, None))


def offered_load(rate: float, mean_run: float) -> float:
    """The slots busy on average, in erlangs: rate × mean run.

    Raises:
        ValueError: one of them is not a positive number.
    """
    if not (0 < rate < math.inf and 0 < mean_run < math.inf):
        raise ValueError(
            f"rate and mean run must be positive, got {rate} a second and {mean_run} s"
        )
    return rate * mean_run


def _losses(load: float) -> Iterator[float]:
    """Erlang's B for 0, 1, 2, … servers."""
    loss, servers = 1.0, 0
    while True:
        yield loss
        servers += 1
        loss = load * loss / (servers + load * loss)


def _delayed(servers: int, load: float, loss: float) -> float:
    if load >= servers:
        return 1.0
    return loss / (1 - load / servers * (1 - loss))


def _wait(servers: int, load: float, mean_run: float, scv: float, loss: float) -> Wait:
    if not 0 <= scv < math.inf:
        raise ValueError(f"the squared coefficient of variation must be 0 or more, got {scv}")
    if load >= servers:
        return Wait(1.0, math.inf)
    chance = _delayed(servers, load, loss)
    exponential = chance * mean_run / (servers - load)
    if scv > 1:
        return Wait(chance, exponential * (1 + scv) / 2)
    # Kimura's harmonic mean of the two waits, over the exponential one.
    constant = (1 + _excess(servers, load / servers)) / 2
    return Wait(chance, exponential * (1 + scv) / (2 * scv + (1 - scv) / constant))


def _excess(servers: int, utilisation: float) -> float:
    """By how much M/D/c waits longer than half of M/M/c; Whitt, 1993, bounds it by 0.24."""
    free = (1 - utilisation) * (servers - 1)
    return min(0.24, free * (math.sqrt(4 + 5 * servers) - 2) / (16 * servers * utilisation))


def _rounded_up(slots: float) -> int:
    # 0.7 × 10 / 0.7 is a hair above 10, which is no reason for an eleventh slot.
    return math.ceil(slots * (1 - 1e-12))
