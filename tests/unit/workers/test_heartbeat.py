import threading
import time
from collections.abc import Callable

import pytest

from claude_pool.errors import SlotTaken, Unreachable
from claude_pool.models.pool import SlotIdentity
from claude_pool.models.run import StopCause
from claude_pool.store.base import Beat
from workers.heartbeat import Heart

SLOT = SlotIdentity(slot_id="slot-0@here", node="here", number=0, incarnation="i-1", pid=1)


class Slots:
    """The part of the store that a heart talks to."""

    def __init__(self) -> None:
        self.answer: Beat | Exception = Beat()
        self.beats: list[dict[str, object]] = []
        self.registered = 0
        self.rung = threading.Event()
        self.on_register: Exception | None = None

    def beat(self, slot: SlotIdentity, **told: object) -> Beat:
        self.beats.append(told)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def register_slot(self, slot: SlotIdentity, *, lease_ms: int) -> None:
        self.registered += 1
        if self.on_register is not None:
            raise self.on_register

    def await_orders(self, name: str, *, seen: str, block_ms: int) -> str:
        self.rung.wait(block_ms / 1000)
        self.rung.clear()
        return seen


class Pulse:
    def __init__(self) -> None:
        self.deadlines: list[float | None] = []

    def renew(self, deadline: float | None) -> None:
        self.deadlines.append(deadline)


class Controls:
    def __init__(self) -> None:
        self.causes: list[StopCause] = []

    def stop(self, cause: StopCause) -> None:
        self.causes.append(cause)


class World:
    def __init__(self) -> None:
        self.slots = Slots()
        self.pulse = Pulse()
        self.controls = Controls()
        self.left: list[bool] = []
        self.lost: list[str] = []
        self.heart = Heart(
            self.slots,  # type: ignore[arg-type]
            SLOT,
            self.pulse,
            lease_s=60,
            beat_s=10,
            on_leave=lambda: self.left.append(True),
            on_lost=self.lost.append,
        )

    def carrying(self, then: Callable[[], None]) -> None:
        with self.heart.carrying("t-0123456789", "run-1", self.controls, until_s=7.0):
            then()


@pytest.fixture
def world() -> World:
    return World()


def test_a_beat_with_a_task_renews_the_guards_deadline(world: World) -> None:
    world.carrying(world.heart.beat)
    first, second = world.pulse.deadlines
    assert first == 7.0
    assert second is not None
    assert second > time.clock_gettime(time.CLOCK_BOOTTIME)


def test_an_idle_beat_names_no_task_and_renews_nothing(world: World) -> None:
    world.heart.beat()
    assert world.slots.beats[0]["task_id"] is None
    assert world.pulse.deadlines == []


def test_the_guard_hears_nothing_when_the_store_does_not_answer(world: World) -> None:
    world.slots.answer = Unreachable()
    world.carrying(world.heart.beat)
    assert world.pulse.deadlines == [7.0]
    assert world.controls.causes == []


def test_a_cancel_stops_the_run_that_is_carried(world: World) -> None:
    world.slots.answer = Beat(cancel="enough")
    world.carrying(world.heart.beat)
    assert world.controls.causes == [StopCause.CANCELLED]


def test_a_fenced_run_is_stopped_and_its_lease_is_not_renewed(world: World) -> None:
    world.slots.answer = Beat(fenced=True)
    world.carrying(world.heart.beat)
    assert world.controls.causes == [StopCause.FENCED]
    assert world.pulse.deadlines == [7.0]


def test_an_idle_slot_whose_registration_ran_out_registers_again(world: World) -> None:
    world.slots.answer = Beat(fenced=True)
    world.heart.beat()
    assert world.slots.registered == 1
    assert world.lost == []


def test_a_slot_whose_name_was_taken_is_told_to_go(world: World) -> None:
    world.slots.answer = Beat(fenced=True)
    world.slots.on_register = SlotTaken()
    world.heart.beat()
    assert len(world.lost) == 1


def test_being_asked_to_leave_is_passed_on_once(world: World) -> None:
    world.slots.answer = Beat(leaving=True)
    world.heart.beat()
    world.heart.beat()
    assert world.left == [True]


def test_progress_travels_with_the_next_beat_of_the_same_run(world: World) -> None:
    def act() -> None:
        world.heart.progress("reading README.md")
        world.heart.beat()

    world.carrying(act)
    world.heart.beat()
    assert [beat["progress"] for beat in world.slots.beats] == ["reading README.md", ""]


def test_a_ring_brings_the_next_beat_at_once(world: World) -> None:
    again = threading.Event()

    def noticed(slot: SlotIdentity, **told: object) -> Beat:
        if world.slots.beats:
            again.set()
        world.slots.beats.append(told)
        return Beat()

    world.slots.beat = noticed  # type: ignore[method-assign]
    world.heart.start()
    world.slots.rung.set()
    assert again.wait(5)
    world.heart.close()
    world.slots.rung.set()
