"""Checks a job's arguments against its function's signature and annotations.

The producer checks before it enqueues; the worker converts what arrived (MessagePack has no tuples
and no dataclasses) to what the annotations ask for.
"""

from __future__ import annotations

import functools
import inspect
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from twolane import wire
from twolane.errors import BadArguments, NotEncodable
from twolane.fields import unknown_field
from twolane.registry import Job

# Types that arrive from the wire as they left: nothing to convert on the worker.
PLAIN: Final = frozenset({int, float, str, bool, bytes, list, dict, Any, None, type(None)})
BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
MAX_SHOWN: Final = 80


class Signature:
    """What one job's function accepts, ``ctx`` left out."""

    def __init__(self, job: Job) -> None:
        self.job = job
        signature = inspect.signature(job.function)
        parameters = list(signature.parameters.values())
        if job.wants_ctx:
            parameters = parameters[1:]
        self.signature = signature.replace(parameters=parameters)
        self.types = {p.name: kind for p in parameters if (kind := _type_of(p, job)) is not ...}
        self.must_convert = any(not _is_plain(kind) for kind in self.types.values())
        # For `_fits_plainly`: what may be given by name, where nothing else may be given at all.
        self._names = {p.name: self.types.get(p.name) for p in parameters if p.kind in BY_NAME}
        self._required = {p.name for p in parameters if p.default is p.empty}
        self._is_by_name = len(self._names) == len(self.signature.parameters)

    def check(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], *, from_text: bool = False
    ) -> tuple[list[Any], dict[str, Any]]:
        """Bind and check arguments; returns them as the payload carries them.

        With ``from_text`` a value that is text, from a command line, is read as its parameter's
        type asks for.

        Raises:
            BadArguments: one is missing, unknown or of another type, or has a field that its
                type has not; the message names it.
            NotEncodable: one has no form on the wire.
        """
        if not args and self._fits_plainly(kwargs):
            return [], dict(kwargs)
        bound = self._bind(args, kwargs)
        self._convert_all(bound, from_text, known_fields=True)
        return self._as_keywords(bound)

    def _fits_plainly(self, kwargs: Mapping[str, Any]) -> bool:
        """Whether nothing is to be converted, and nothing can be wrong: for bulk, 5 µs a call."""
        if not self._is_by_name or not self._required <= kwargs.keys():
            return False
        names = self._names
        for name, value in kwargs.items():
            kind = type(value)
            if names.get(name) is not kind:
                return False
            if kind is int:
                if not -(2**63) <= value < 2**64:
                    return False
            elif kind is str:
                if not value.isascii():  # others may hold what has no form in UTF-8
                    return False
            elif kind is not float and kind is not bool:
                return False
        return True

    def receive(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """What to call the function with, of what arrived.

        Raises:
            BadArguments: what arrived does not fit the signature.
        """
        if not self.must_convert:
            return args, kwargs
        bound = self._bind(args, kwargs)
        # A field more than it knows may be of a producer that is newer.
        self._convert_all(bound, from_text=False, known_fields=False)
        return bound.args, bound.kwargs

    def check_fit(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Tell arguments that do not fit from a TypeError of the job's own, after one was raised.

        Raises:
            BadArguments: the signature does not take them.
        """
        self._bind(args, kwargs)

    def __str__(self) -> str:
        """The call as help and errors show it: ``count_primes(low: int, high: int, …)``."""
        parts = []
        for parameter in self.signature.parameters.values():
            kind = self.types.get(parameter.name)
            part = str(parameter.replace(annotation=parameter.empty, default=parameter.empty))
            part += f": {type_name(kind)}" if kind is not None else ""
            if parameter.default is not parameter.empty:
                part += f" = {shown(parameter.default)}"
            parts.append(part)
        return f"{self.job.name}({', '.join(parts)})"

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        try:
            return self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise BadArguments(f"job {self.job.name!r}: {error}; it takes {self}") from None

    def _convert_all(
        self, bound: inspect.BoundArguments, from_text: bool, known_fields: bool
    ) -> None:
        convert = functools.partial(self._convert, from_text=from_text, known_fields=known_fields)
        for name, value in bound.arguments.items():
            kind = self.types.get(name, Any)
            parameter = self.signature.parameters[name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                bound.arguments[name] = tuple(convert(name, one, kind) for one in value)
            elif parameter.kind is parameter.VAR_KEYWORD:
                bound.arguments[name] = {key: convert(key, one, kind) for key, one in value.items()}
            else:
                bound.arguments[name] = convert(name, value, kind)

    def _convert(
        self, name: str, value: Any, kind: Any, from_text: bool, known_fields: bool
    ) -> Any:
        if from_text and isinstance(value, str):
            value = _read(value, kind)
        try:
            converted = msgspec.convert(value, kind, strict=not from_text, builtin_types=(bytes,))
        except msgspec.ValidationError as error:
            raise self._unfit(name, value, kind, str(error)) from None
        except (TypeError, RecursionError):
            return value  # an annotation that msgspec does not know: nothing to check against
        if known_fields and (fault := unknown_field(value, converted)):
            raise self._unfit(name, value, kind, fault)
        return converted

    def _unfit(self, name: str, value: Any, kind: Any, fault: str) -> BadArguments:
        return BadArguments(
            f"job {self.job.name!r}: parameter {name!r}: got {shown(value)}: {fault} "
            f"(it is declared as {type_name(kind)})"
        )

    def _as_keywords(self, bound: inspect.BoundArguments) -> tuple[list[Any], dict[str, Any]]:
        """By name where the signature allows it: readable in a payload, and safe to reorder."""
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        spread = any(
            self.signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
            for name in bound.arguments
        )
        for name, value in bound.arguments.items():
            parameter = self.signature.parameters[name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                args += value
            elif parameter.kind is parameter.VAR_KEYWORD:
                kwargs.update(value)
            elif parameter.kind is parameter.POSITIONAL_ONLY or (
                spread and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            ):
                args.append(value)
            else:
                kwargs[name] = value
        for name, value in bound.arguments.items():
            try:
                wire.dumps(value)
            except NotEncodable as error:
                raise NotEncodable(f"job {self.job.name!r}: parameter {name!r}: {error}") from None
        return args, kwargs


def _type_of(parameter: inspect.Parameter, job: Job) -> Any:
    """What a parameter's annotation stands for; Ellipsis where there is nothing to check against.

    Each is resolved by itself: one that names what only a type checker imports takes no check
    away from the others.
    """
    if parameter.annotation is parameter.empty:
        return ...
    alone = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    names = getattr(job.function, "__globals__", {})
    try:
        return typing.get_type_hints(alone, names, include_extras=True)[parameter.name]
    except Exception:  # an annotation is any expression, and raises anything
        return ...


def _is_plain(kind: Any) -> bool:
    try:
        return kind in PLAIN
    except TypeError:
        return False


def _read(text: str, kind: Any) -> Any:
    """A value from a command line: text where text is asked for, else JSON where it is JSON."""
    if _wants_text(kind):
        return text
    if kind is bytes:
        return text.encode()
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return int(text)  # 10_000_000, which JSON does not know
    except ValueError:
        return text


def _wants_text(kind: Any) -> bool:
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is typing.Literal:
        return all(isinstance(one, str) for one in typing.get_args(kind))
    return kind is str


def type_name(kind: Any) -> str:
    """A type as a person writes it: ``int``, ``'sieve' or 'trial'``, ``date | None``."""
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(repr(one) for one in typing.get_args(kind))
    if kind is type(None):
        return "None"
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)


def shown(value: Any) -> str:
    """A value as an error shows it: its repr, cut where it is long."""
    try:
        text = repr(value)
    except Exception as error:  # a value's own __repr__ may raise anything
        text = f"<a {type(value).__name__} whose __repr__ raised {type(error).__name__}>"
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
