"""Which Python functions are jobs, read from the modules that define them.

``@job`` only marks a function; it stays the plain function that it was, to be called and tested as
such. A :class:`Registry` collects the marked functions of the modules it is given. There is no
global list.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar, overload

from twolane.errors import JobDefinitionError, UnknownJob
from twolane.keys import LANES, QUEUES, Lane

SHIPPED_JOBS = "twolane.jobs"
MARK = "__twolane_job__"

F = TypeVar("F", bound=Callable[..., Any])
Hook = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class Backoff:
    """The wait before try ``n + 1``: ``base * factor**(n - 1)`` seconds, at most ``ceiling``.

    The wait is then drawn evenly from its upper half ("equal jitter", Brooker, *Exponential
    Backoff and Jitter*, 2015), so that jobs that failed together do not come back together.
    """

    base: float = 1.0
    factor: float = 2.0
    ceiling: float = 300.0

    def seconds(self, failed_try: int, draw: float) -> float:
        """The wait after try ``failed_try`` (1 for the first); ``draw`` is from [0, 1)."""
        try:
            wait = min(self.ceiling, self.base * self.factor ** (failed_try - 1))
        except OverflowError:  # of a high try: beyond any ceiling
            wait = self.ceiling if self.base else 0.0
        return wait * (0.5 + draw / 2)


@dataclass(frozen=True)
class Job:
    """A function and how it is to be run.

    ``timeout`` and ``keep_result`` are seconds; ``None`` for ``keep_result`` keeps it forever, 0
    keeps nothing. ``retries`` counts the tries after the first that a *failing* job gets.
    """

    name: str
    function: Callable[..., Any]
    lane: Lane
    timeout: float = 300.0
    retries: int = 0
    backoff: Backoff = Backoff()
    keep_result: float | None = 3600.0

    @property
    def queue(self) -> str:
        return QUEUES[self.lane]

    @property
    def is_coroutine(self) -> bool:
        return inspect.iscoroutinefunction(self.function)

    @property
    def wants_ctx(self) -> bool:
        """Whether the first parameter is named ``ctx`` and gets arq's context dictionary."""
        return next(iter(inspect.signature(self.function).parameters), None) == "ctx"

    @property
    def module(self) -> str:
        return self.function.__module__

    @property
    def where(self) -> str:
        return f"{self.module}.{self.function.__qualname__}"


@overload
def job(function: F, /) -> F: ...
@overload
def job(
    *,
    name: str | None = None,
    lane: Lane | None = None,
    timeout: float = 300.0,
    retries: int = 0,
    backoff: Backoff | float = ...,
    keep_result: float | None = 3600.0,
) -> Callable[[F], F]: ...


def job(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    lane: Lane | None = None,
    timeout: float = 300.0,
    retries: int = 0,
    backoff: Backoff | float = Backoff(),
    keep_result: float | None = 3600.0,
) -> Any:
    """Mark a function as a job: ``async def`` goes to the IO lane, ``def`` to the CPU lane.

    Args:
        name: what producers call it; by default the function's own name.
        lane: ``"io"`` on a plain function runs it in a thread of the IO worker, for client
            libraries that block; a coroutine function cannot go to ``"cpu"``.
        timeout: seconds one attempt may take, more than 0. Default 300.
        retries: how many more tries a failing job gets. Default 0.
        backoff: a :class:`Backoff`, or its base in seconds. Default 1 s, doubled each time.
        keep_result: seconds to keep the result for; 0 keeps none, ``None`` keeps it for good.

    Raises:
        JobDefinitionError: an option is out of its range, or contradicts the function.
    """

    def mark(function: F) -> F:
        setattr(
            function, MARK, _describe(function, name, lane, timeout, retries, backoff, keep_result)
        )
        return function

    return mark if function is None else mark(function)


def _describe(
    function: Callable[..., Any],
    name: str | None,
    lane: Lane | None,
    timeout: float,
    retries: int,
    backoff: Backoff | float,
    keep_result: float | None,
) -> Job:
    where = f"@job on {getattr(function, '__qualname__', function)!r}"
    waits = inspect.iscoroutinefunction(function)
    if not inspect.isfunction(function):
        raise JobDefinitionError(f"{where}: a job is a function, not {type(function).__name__}")
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise JobDefinitionError(f"{where}: a job returns its result; it cannot be a generator")
    if lane is not None and lane not in LANES:
        raise JobDefinitionError(f"{where}: lane={lane!r}; the lanes are 'io' and 'cpu'")
    if lane == "cpu" and waits:
        raise JobDefinitionError(
            f"{where}: lane='cpu' on a coroutine function; `async def` waits, `def` computes: "
            "make it a plain `def`"
        )
    if not (_is_number(timeout) and timeout > 0):
        raise JobDefinitionError(f"{where}: timeout={timeout!r}; it must be more than 0 seconds")
    if not (isinstance(retries, int) and retries >= 0):
        raise JobDefinitionError(f"{where}: retries={retries!r}; it must be 0 or more")
    if keep_result is not None and not (_is_number(keep_result) and 0 <= keep_result < math.inf):
        raise JobDefinitionError(
            f"{where}: keep_result={keep_result!r}; it must be 0 or more, or None"
        )
    if not isinstance(backoff, Backoff):
        backoff = Backoff(base=backoff)
    numbers = (backoff.base, backoff.factor, backoff.ceiling)
    if not all(
        _is_number(one) and one >= least for one, least in zip(numbers, (0, 1, 0), strict=True)
    ):
        raise JobDefinitionError(f"{where}: backoff={backoff!r}; base and ceiling ≥ 0, factor ≥ 1")
    made = Job(
        name=name or function.__name__,
        function=function,
        lane=lane or ("io" if waits else "cpu"),
        timeout=float(timeout),
        retries=int(retries),
        backoff=backoff,
        keep_result=None if keep_result is None else float(keep_result),
    )
    if made.lane == "cpu" and made.wants_ctx:
        raise JobDefinitionError(
            f"{where}: first parameter 'ctx' on a CPU job; it runs in a process of its own and "
            "gets no context: pass what it needs as arguments"
        )
    return made


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not math.isnan(value)


class Registry:
    """The jobs of some modules, by name.

    A module may also define ``on_startup(ctx)`` and ``on_shutdown(ctx)``, plain or async: an IO
    worker calls them once each with the context dictionary that its jobs get.
    """

    def __init__(self, jobs: Iterable[Job] = ()) -> None:
        self._jobs: dict[str, Job] = {}
        self.modules: tuple[str, ...] = ()
        self.startup_hooks: list[Hook] = []
        self.shutdown_hooks: list[Hook] = []
        for one in jobs:
            self.add(one)

    @classmethod
    def load(cls, modules: Iterable[str]) -> Registry:
        """Import each module by its dotted name and collect the jobs that it holds.

        Raises:
            JobDefinitionError: a name is a path, relative or empty; a module cannot be imported,
                holds no job, or two different functions go by one name.
        """
        registry = cls()
        registry.modules = tuple(dict.fromkeys(modules))
        for name in registry.modules:
            _check_name(name)
            try:
                module = importlib.import_module(name)
            except Exception as error:  # a module's own code may raise anything
                raise JobDefinitionError(
                    f"--jobs {name}: cannot be imported: {type(error).__name__}: {error}"
                ) from error
            registry._collect(module)
        return registry

    def _collect(self, module: ModuleType) -> None:
        found = [mark for value in vars(module).values() if (mark := _mark_of(value))]
        if not found:
            raise JobDefinitionError(
                f"--jobs {module.__name__}: it holds no job; mark a function with @job "
                "(from twolane import job)"
            )
        for one in found:
            self.add(one)
        # A hook may live in the module of the jobs or in the package that gathers them.
        for name in dict.fromkeys([module.__name__, *(one.module for one in found)]):
            home = importlib.import_module(name)
            for hook, hooks in (
                (getattr(home, "on_startup", None), self.startup_hooks),
                (getattr(home, "on_shutdown", None), self.shutdown_hooks),
            ):
                if callable(hook) and hook not in hooks:
                    hooks.append(hook)

    def add(self, one: Job) -> None:
        other = self._jobs.setdefault(one.name, one)
        if other.function is not one.function:
            raise JobDefinitionError(
                f"two jobs are named {one.name!r}: {other.where} and {one.where}; "
                "give one a name of its own: @job(name=…)"
            )

    def __getitem__(self, name: str) -> Job:
        try:
            return self._jobs[name]
        except KeyError:
            known = ", ".join(sorted(self._jobs)) or "none"
            raise UnknownJob(
                f"unknown job {name!r}; known: {known}. "
                "Name the module that defines it with --jobs my.module (or TWOLANE_JOBS)"
            ) from None

    def get(self, name: str) -> Job | None:
        return self._jobs.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._jobs

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def __len__(self) -> int:
        return len(self._jobs)

    def of_lane(self, lane: Lane) -> list[Job]:
        return [one for one in self if one.lane == lane]


def _check_name(name: str) -> None:
    """Tell what the import system would answer with a riddle."""
    if not name.strip():
        raise JobDefinitionError(f"--jobs {name!r}: it is empty; give a module's name: --jobs mine")
    if name.endswith(".py") or "/" in name:
        parts = [one for one in name.removesuffix("/__init__.py").split("/") if one.strip(".")]
        module = (parts[-1] if parts else "").removesuffix(".py") or "mine"
        raise JobDefinitionError(
            f"--jobs {name}: this is a path; give the module's name: --jobs {module}, "
            "from the folder that holds it"
        )
    if name.startswith("."):
        raise JobDefinitionError(
            f"--jobs {name}: a relative name; give the module's whole name: --jobs package.mine"
        )


def _mark_of(value: object) -> Job | None:
    mark = vars(value).get(MARK) if inspect.isfunction(value) else None
    return mark if isinstance(mark, Job) else None
