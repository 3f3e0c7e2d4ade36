"""Signals that come between a fork and the child's own handlers, shown in one process."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from workers import signals


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    numbers = (signals.LEAVE, signals.CHECKPOINT, signal.SIGINT)
    handlers = {number: signal.getsignal(number) for number in numbers}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_a_signal_that_is_held_reaches_the_handler_that_is_set_later() -> None:
    heard: list[str] = []
    signal.signal(signals.LEAVE, lambda *_: heard.append("the parent's"))
    signals.hold()
    signal.raise_signal(signals.LEAVE)
    assert heard == []
    signals.answer({signals.LEAVE: lambda: heard.append("the child's")})
    assert heard == ["the child's"]


def test_in_the_parent_what_was_held_reaches_its_own_handler() -> None:
    heard: list[str] = []
    signal.signal(signals.CHECKPOINT, lambda *_: heard.append("the parent's"))
    signals.hold()
    signal.raise_signal(signals.CHECKPOINT)
    signals.release()
    assert heard == ["the parent's"]


def test_the_terminals_interrupt_is_for_the_supervisor_alone() -> None:
    signals.answer({})
    signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_two_signals_have_two_meanings() -> None:
    heard: list[str] = []
    signals.answer(
        {signals.LEAVE: lambda: heard.append("leave"), signals.CHECKPOINT: lambda: heard.append("checkpoint")}
    )
    signal.raise_signal(signals.CHECKPOINT)
    signal.raise_signal(signals.LEAVE)
    assert heard == ["checkpoint", "leave"]
