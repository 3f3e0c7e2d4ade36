"""What a slot's process is told, when it is deaf, and with which status it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.errors import SlotTaken, StoreReset, Unreachable
from workers import slot_process as module
from workers.slot_process import Birth, Ground, SlotExit, _Canary, _found, _leave, _Told, live


def test_what_was_said_before_anybody_listened_is_remembered() -> None:
    told, heard = _Told(), list[bool]()
    told.leave()
    assert (told.leaving, told.checkpointing) == (True, False)
    told.act = lambda: heard.append(told.checkpointing)
    told.checkpoint()
    assert (told.leaving, heard) == (True, [True])


class Enough(BaseException):
    """Ends the song, which has no end of its own."""


class Cage:
    """A canary whose bell is heard or not, and what came of it."""

    def __init__(self) -> None:
        self.rung = 0
        self.deaf = False
        self.on_ring: Callable[[], None] = lambda: None
        self.canary = _Canary(self.ring, self._deaf)

    def ring(self) -> None:
        self.rung += 1
        if self.rung > 5:
            raise Enough
        self.on_ring()

    def _deaf(self) -> None:
        self.deaf = True
        raise Enough

    def sing(self) -> None:
        """Until it is found deaf, or five times."""
        with pytest.raises(Enough):
            self.canary._sing_on()


@pytest.fixture
def cage(monkeypatch: pytest.MonkeyPatch) -> Cage:
    monkeypatch.setattr(module, "_CANARY_EVERY_S", 0.001)
    return Cage()


def test_a_bell_that_an_idle_slot_does_not_hear_means_that_it_is_deaf(cage: Cage) -> None:
    cage.sing()
    assert (cage.deaf, cage.rung) == (True, 1)


def test_a_bell_that_is_heard_is_followed_by_the_next_one(cage: Cage) -> None:
    cage.on_ring = cage.canary.heard
    cage.sing()
    assert (cage.deaf, cage.rung) == (False, 6)


def test_what_was_heard_once_does_not_count_for_the_next_bell(cage: Cage) -> None:
    cage.on_ring = lambda: cage.canary.heard() if cage.rung < 3 else None
    cage.sing()
    assert (cage.deaf, cage.rung) == (True, 3)


def test_a_slot_at_work_is_excused_from_hearing(cage: Cage) -> None:
    with cage.canary.excused():
        cage.sing()
    assert not cage.deaf


def test_a_bell_that_can_not_be_rung_says_nothing_about_hearing(cage: Cage) -> None:
    def away() -> None:
        raise OSError("gone")

    cage.on_ring = away
    cage.sing()
    assert not cage.deaf


@pytest.fixture
def birth(settings: PoolConfig, monkeypatch: pytest.MonkeyPatch) -> Birth:
    monkeypatch.setattr(module.os, "setsid", lambda: None)
    monkeypatch.setattr(module.signals, "answer", lambda _handlers: None)
    return Birth(Ground(settings, "redis://127.0.0.1:1", "e", {}), 3, lifeline=-1)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SlotTaken(), SlotExit.TAKEN),
        (Unreachable(), SlotExit.BROKEN),
        (StoreReset(), SlotExit.BROKEN),
        (RuntimeError("a bug"), SlotExit.BROKEN),
    ],
)
def test_how_a_slot_ended_is_told_by_its_status(
    birth: Birth, monkeypatch: pytest.MonkeyPatch, error: Exception, status: SlotExit
) -> None:
    def seat(*_given: Any) -> None:
        raise error

    monkeypatch.setattr(module, "_Seat", seat)
    assert live(birth) == status


def test_what_a_slot_had_opened_is_given_back_when_it_breaks(birth: Birth, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    def seat(_birth: Birth, _told: Any, stack: Any) -> None:
        stack.callback(closed.append, "store")
        raise RuntimeError("a bug")

    monkeypatch.setattr(module, "_Seat", seat)
    live(birth)
    assert closed == ["store"]


def test_each_life_of_a_slot_is_another_incarnation_of_the_same_name(birth: Birth) -> None:
    one, two = birth.identity(), birth.identity()
    assert one.slot_id == two.slot_id == "slot-3@n1"
    assert one.incarnation != two.incarnation


def test_leaving_without_a_store_is_no_error(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_given: Any) -> None:
        raise Unreachable

    monkeypatch.setattr(bench.store.slots, "leave", away)
    _leave(bench.store, bench.hand.identity)


def test_the_binary_is_looked_for_until_it_is_found_and_then_remembered(
    settings: PoolConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[PoolConfig] = []

    def look(config: PoolConfig) -> str:
        calls.append(config)
        if len(calls) < 2:
            raise Unreachable
        return "found"

    monkeypatch.setattr(module, "find_claude", look)
    find = _found(settings)
    with pytest.raises(Unreachable):
        find()
    assert [find(), find()] == ["found", "found"]
    assert len(calls) == 2
