"""Errors: what is recorded of an exception, whatever it is."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.twolane.wire.samples import Unprintable, raised, stable, texts
from twolane import wire
from twolane.errors import JobTimeout, RemoteError
from twolane.wire import ErrorRecord, dumps, dumps_error, error_record, loads


class PrintsANumber(Exception):
    def __str__(self) -> str:
        return 3


class ExitsWhenPrinted(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


class UnreadableNotes(Exception):
    @property
    def __notes__(self) -> list[str]:
        raise ValueError("no notes for you")


def test_an_exception_arrives_as_its_type_message_and_traceback() -> None:
    back = loads(dumps(raised(KeyError("missing"))))

    assert isinstance(back, RemoteError)
    assert (back.type, back.message) == ("KeyError", "'missing'")
    assert "in raised" in back.traceback
    assert back.traceback.endswith("KeyError: 'missing'\n")


def test_a_cancellation_arrives_as_one() -> None:
    back = loads(dumps(asyncio.CancelledError("by hand")))

    assert isinstance(back, asyncio.CancelledError)
    assert str(back) == "by hand"


def test_an_error_within_a_value_arrives_in_its_place() -> None:
    back = loads(dumps({"r": [1, ValueError("x")]}))

    assert back["r"][0] == 1
    assert str(back["r"][1]) == "ValueError: x"


def test_an_error_of_ours_that_was_never_raised_has_no_traceback() -> None:
    assert error_record(JobTimeout("after 5 s")) == ErrorRecord("JobTimeout", "after 5 s", "")


def test_a_remote_error_is_passed_on_unchanged() -> None:
    error = raised(RemoteError("ValueError", "x", "the first traceback"))

    assert error_record(error) == ErrorRecord("ValueError", "x", "the first traceback")


@settings(stable)
@given(texts, texts, texts)
def test_a_recorded_error_is_encoded_like_the_exception(
    kind: str, message: str, trace: str
) -> None:
    back = loads(dumps_error(ErrorRecord("Of" + kind, message, trace)))

    assert isinstance(back, RemoteError)
    assert (back.type, back.message, back.traceback) == ("Of" + kind, message, trace)


@settings(stable)
@given(st.text(st.characters(exclude_categories=()), max_size=50))
@example("a\ud800b")
def test_any_message_can_be_encoded(message: str) -> None:
    back = loads(dumps(ValueError(message)))

    assert back.message == message.encode("utf-8", "replace").decode()


@pytest.mark.parametrize("make", [Unprintable, PrintsANumber, ExitsWhenPrinted])
def test_an_error_that_cannot_print_itself_is_recorded(make: type[Exception]) -> None:
    record = error_record(raised(make()))

    assert record.type == make.__name__
    assert record.message.startswith("<its __str__ raised ")
    assert "in raised" in record.traceback


@pytest.mark.parametrize(
    "error",
    [
        UnreadableNotes("x"),
        SyntaxError("x", ("file.py", 1, "not a number", "text")),
        SyntaxError("x", ("file.py", 1, 1, 3)),
    ],
    ids=["notes", "offset", "text"],
)
def test_an_error_whose_traceback_cannot_be_printed_is_recorded(error: Exception) -> None:
    # The traceback module trusts these attributes; a job's own exception may hold anything.
    record = error_record(raised(error))

    assert record.type == type(error).__name__
    assert record.message.startswith("x")


def test_a_remote_error_that_a_job_made_up_itself_is_cut_and_cleaned() -> None:
    made_up = RemoteError("Of\ud800Mine", "\ud800" + "x" * 100_000, "y" * 100_000)

    data = dumps_error(error_record(made_up))

    assert len(data) < 30_000
    assert isinstance(loads(data), RemoteError)


def test_a_long_message_is_cut_in_the_middle() -> None:
    record = error_record(ValueError("head" + "x" * 1_000_000 + "tail"))

    assert len(record.message) < wire.MAX_MESSAGE_CHARS + 100
    assert record.message.startswith("headxxx")
    assert record.message.endswith("xxxtail")
    assert "996008 characters left out" in record.message


def test_the_traceback_of_a_deep_recursion_is_cut() -> None:
    def there() -> None:
        back_again()

    def back_again() -> None:
        there()

    with pytest.raises(RecursionError) as caught:
        there()
    record = error_record(caught.value)

    assert record.type == "RecursionError"
    assert 0 < len(record.traceback) < wire.MAX_TRACEBACK_CHARS + 100


@pytest.mark.parametrize("link", ["__cause__", "__context__"])
def test_the_traceback_of_a_long_chain_of_errors_is_cut(link: str) -> None:
    error = raised(ValueError("first"))
    for number in range(1_000):
        later = raised(ValueError("x" * 100 + f" number {number}"))
        setattr(later, link, error)
        error = later

    record = error_record(error)

    assert len(record.traceback) < wire.MAX_TRACEBACK_CHARS + 100
    assert record.traceback.rstrip().endswith("x number 999")


def test_an_exception_group_is_recorded_with_its_members() -> None:
    record = error_record(
        raised(ExceptionGroup("several", [raised(ValueError("one")), KeyError("two")]))
    )

    assert record.message == "several (2 sub-exceptions)"
    assert "ValueError: one" in record.traceback
    assert "KeyError: 'two'" in record.traceback
