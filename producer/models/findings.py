"""Says in plain English what a comparison showed, from its numbers alone."""

from __future__ import annotations

from producer.cli.tables import seconds
from producer.models.rounds import Compared, Way
from producer.models.work import (
    ASYNCIO,
    FREE_THREADS,
    INTERPRETERS,
    ONE,
    PROCESSES,
    THREADS,
    WORKERS,
)
from producer.ratios import Ratio
from producer.story import COMPUTES_ABOVE, WAITS_BELOW
from twolane.commandline import counted

# A speed-up that is smaller is not worth a change of the code, however sure it is; arbitrary.
WORTHWHILE = 1.15
# Of the cores that may be used: what a way that fills them reaches; arbitrary.
FILLS = 0.7
BLOCKING_SECONDS = 0.1
# Why a way has no figures where a comparison was cut off.
CUT_OFF = "it was cut off before"


def title(one: Compared) -> str:
    """The finding in a line, as a chart's title has it."""
    sped = [way for way in one.ways if way.speedup is not None and not way.missing]
    if not sped:
        return f"{one.job}: nothing to compare"
    best = max(sped, key=lambda way: way.speedup.value if way.speedup else 0)
    assert best.speedup is not None
    if not gains(best.speedup):
        return f"{one.job}: no way is faster than one at a time"
    # None of them is called better than another one for what may be noise.
    at_least = best.speedup.value if best.speedup.low is None else best.speedup.low
    names = [way.model for way in sped if way.speedup and way.speedup.value >= at_least]
    return f"{one.job} is fastest with {' or '.join(names)}: {times(best.speedup)}"


def tell(one: Compared) -> list[str]:
    """What was seen of one piece of work."""
    base = one.way(ONE)
    if base is None and any(way.missing == CUT_OFF for way in one.ways if way.model == ONE):
        return [f"{one.job} was not measured one at a time yet: there is nothing to compare with."]
    if base is None:
        return [f"{one.job} could not be run one at a time, so there is nothing to compare with."]
    said = [_nature(one, base), _on_asyncio(one), _in_threads(one), *_in_processes(one)]
    said.append(_through_workers(one))
    for way in one.ways:
        if way.failed:
            said.append(
                f"{counted(way.failed, 'job')} failed in {way.model} ({way.error}): "
                "its figures are of what failed, too."
            )
    return [text for text in said if text]


def gains(speedup: Ratio) -> bool:
    return not speedup.is_noise and speedup.value >= WORTHWHILE


def loses(speedup: Ratio) -> bool:
    return not speedup.is_noise and speedup.value <= 1 / WORTHWHILE


def is_unclear(speedup: Ratio) -> bool:
    """Whether a gain may hide in the noise."""
    return speedup.is_noise and not 1 / WORTHWHILE < speedup.value < WORTHWHILE


def verdict(speedup: Ratio) -> str:
    """What there was instead of a gain, over one at a time."""
    if is_unclear(speedup):
        why = "its rounds differed too much"
        if speedup.low is None:
            why = "one round does not show how far rounds differ"
        return f"not to be told from one at a time ({times(speedup)}): {why}"
    word = "slower than one at a time" if loses(speedup) else "no faster than one at a time"
    return f"{word} ({times(speedup)})"


def times(speedup: Ratio) -> str:
    """``3.6×``, or ``~1.0×`` where it is within the noise."""
    mark = "~" if speedup.is_noise else ""
    value = speedup.value
    return f"{mark}{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}×"


def _nature(one: Compared, base: Way) -> str:
    share = min(base.cores, 1.0)
    took = f"{counted(one.count, 'call')} of {one.job} one at a time took {seconds(base.wall)}"
    if share < WAITS_BELOW:
        return f"{took}, with a core busy for {share:.0%} of it: it waits."
    if share > COMPUTES_ABOVE:
        return f"{took}, with a core busy for {share:.0%} of it: it computes."
    return f"{took}, with a core busy for {share:.0%} of it: some waiting, some computing."


def _on_asyncio(one: Compared) -> str:
    way = one.way(ASYNCIO)
    if way is None or way.speedup is None:
        return ""
    if gains(way.speedup):
        said = f"On asyncio, one thread ran it {times(way.speedup)} as fast"
    else:
        said = f"On asyncio it was {verdict(way.speedup)}"
    held = way.longest_block
    if held is None or held < BLOCKING_SECONDS:
        return f"{said}."
    block = f"held the event loop for {seconds(held)} without a break"
    if not one.is_coroutine:
        return f"{said}, and the plain calls {block}: all else on that loop would have stood still."
    return f"{said}, and {block}: all else on that loop would have stood still."


def _in_threads(one: Compared) -> str:
    said = []
    for model, why in ((THREADS, "threads take turns at the interpreter lock"), (FREE_THREADS, "")):
        way = one.way(model)
        if way is None or way.speedup is None:
            continue
        name = f"{model[0].upper()}{model[1:]} ({way.width})"
        if gains(way.speedup):
            note = (
                "; with no interpreter lock they compute at once" if model == FREE_THREADS else ""
            )
            said.append(
                f"{name} ran it {times(way.speedup)} as fast{note if _computes(one) else ''}."
            )
        else:
            blamed = why and _computes(one) and one.usable_cores > 1
            note = f": {why}" if blamed and not is_unclear(way.speedup) else ""
            said.append(f"{name} were {verdict(way.speedup)}{note}.")
    return " ".join(said)


def _in_processes(one: Compared) -> list[str]:
    return [
        _in_pool(one, model)
        for model in (PROCESSES, INTERPRETERS)
        if (way := one.way(model)) is not None and way.speedup is not None
    ]


def _in_pool(one: Compared, model: str) -> str:
    way = one.way(model)
    assert way is not None
    assert way.speedup is not None
    cores, name = one.usable_cores, f"{model[0].upper()}{model[1:]}"
    one_core = "this process may use one core only"
    if not gains(way.speedup):
        word = verdict(way.speedup)
        if is_unclear(way.speedup):
            return f"{name} ({way.width}) were {word}."
        if cores == 1 and _computes(one):
            return f"{name} were {word}: {one_core}, so there is nothing to share out."
        if not _computes(one):
            return f"{name} ({way.width}) were {word}."
        return (
            f"{name} ({way.width}) were {word} on {cores} cores: each call is too short for what "
            "it costs to hand it over, or the cores were busy with something else."
        )
    gained = f"{name} ({way.width}) ran it {times(way.speedup)} as fast"
    if not _computes(one):
        return f"{gained}: as many calls wait at once as there are {model}, and no more."
    if cores > 1 and way.speedup.value >= FILLS * cores:
        return f"{gained} on {counted(cores, 'core')}: computing goes as far as the cores go."
    if cores > 1:
        return (
            f"{gained}, though there are {cores} cores: {way.cores:.1f} of them were busy with it."
        )
    return f"{gained} although {one_core}."


def _through_workers(one: Compared) -> str:
    way = one.way(WORKERS)
    if way is None or way.speedup is None:
        return ""
    place = f"on the {one.lane.upper()} lane"
    if gains(way.speedup):
        return (
            f"Through a twolane worker {place} it was {times(way.speedup)} as fast, "
            "queue and results included."
        )
    return f"Through a twolane worker {place} it was {verdict(way.speedup)}."


def _computes(one: Compared) -> bool:
    base = one.way(ONE)
    return base is not None and base.cores > COMPUTES_ABOVE
