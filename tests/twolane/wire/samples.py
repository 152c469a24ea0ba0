"""Values, payloads and exceptions that the tests of the wire share."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

stable = settings(derandomize=True, deadline=None, database=None)
texts = st.text(max_size=30)


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | texts
    | st.binary(max_size=30)
)


values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
PAYLOAD: dict[str, Any] = {"t": None, "f": "work", "a": [1, "two"], "k": {"three": 3.0}, "et": 1}


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


def raised(error: BaseException) -> BaseException:
    with contextlib.suppress(type(error)):
        raise error
    return error
