"""Finds what a conversion dropped of its input: fields that the type asked for does not have.

``msgspec.convert`` passes over them unless a Struct forbids it; in arguments they are misspellings.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, cast

import msgspec

Pair = tuple[Any, object]


def unknown_field(value: Any, converted: Any) -> str | None:
    """What is wrong, if a mapping within ``value`` has a field that its type has not.

    ``converted`` is what ``msgspec.convert`` made of ``value``. What has changed beyond recognition
    (sets, dictionaries and lists of another length) is not looked into.
    """
    pairs: list[Pair] = [(value, converted)]
    while pairs:  # no recursion: how deep the input is nested is not ours to choose
        given, made = pairs.pop()
        if given is made or not isinstance(given, dict | list | tuple | Mapping):
            continue
        if isinstance(given, Mapping):
            known = _fields_of(cast(Hashable, type(made)))  # mypy has it that types are not
            if known is None and isinstance(made, dict):
                if len(made) < len(given) and made.keys() <= given.keys():  # a TypedDict
                    return f"it has no field {_first(given, made)!r}"
                pairs += _zipped(given.values(), made.values(), len(given) == len(made))
            elif known is not None:
                if not given.keys() <= known.keys():
                    names = ", ".join(known) or "none"
                    unknown = _first(given, known)
                    return f"{type(made).__name__} has no field {unknown!r}; it has: {names}"
                pairs += _attributes(given, made, known)
        elif isinstance(made, list | tuple):
            pairs += _zipped(given, made, len(given) == len(made))
    return None


def _first(given: Mapping[Any, Any], known: Mapping[Any, Any]) -> Any:
    return next(name for name in given if name not in known)


def _zipped(given: Any, made: Any, fits: bool) -> Iterator[Pair]:
    return zip(given, made, strict=True) if fits else iter(())


def _attributes(given: Mapping[str, Any], made: Any, known: Mapping[str, str]) -> Iterator[Pair]:
    # What a hook of the class may have put there does not tell what was asked for.
    if hasattr(made, "__post_init__") or hasattr(made, "__attrs_post_init__"):
        return
    for name, value in given.items():
        if attribute := known[name]:
            yield value, getattr(made, attribute)


@functools.lru_cache(maxsize=256)
def _fields_of(kind: type) -> dict[str, str] | None:
    """The attribute of each field, by the field's name in the input; ``None`` if it has none.

    A tagged Struct's tag stands in the input alone: its attribute is the empty text.
    """
    if issubclass(kind, dict):
        return None
    try:
        info = msgspec.inspect.type_info(kind)
    except (TypeError, RecursionError):
        return None
    if not isinstance(info, msgspec.inspect.StructType | msgspec.inspect.DataclassType):
        return None
    known = {one.encode_name: one.name for one in info.fields}
    tag = getattr(info, "tag_field", None)
    return known if tag is None else {**known, tag: ""}
