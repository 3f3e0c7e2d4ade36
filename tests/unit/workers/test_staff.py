import signal
from collections.abc import Collection

import pytest

from workers.signals import CHECKPOINT
from workers.slot_process import SlotExit
from workers.staff import GIVE_UP_AFTER, PAUSES_S, QUICK_DEATH_S, Staff


class Os:
    """Processes that exist only here."""

    def __init__(self) -> None:
        self.forked: list[int] = []
        self.signals: list[tuple[int, int]] = []
        self.dead: list[tuple[int, int]] = []
        self.mourned: list[tuple[int, int]] = []
        self.all_begin = False

    def fork_slot(self, number: int) -> int:
        self.forked.append(number)
        return 1000 + len(self.forked)

    def began(self, number: int) -> bool:
        return self.all_begin

    def signal(self, pid: int, number: int) -> None:
        self.signals.append((pid, number))

    def mourn(self, number: int, pid: int) -> None:
        self.mourned.append((number, pid))

    def buried(self) -> list[tuple[int, int]]:
        dead, self.dead = self.dead, []
        return dead


class World:
    def __init__(self) -> None:
        self.os = Os()
        self.now = 100.0
        self.staff = Staff(self.os, now=lambda: self.now)

    def want(self, target: int, busy: Collection[int] = ()) -> None:
        self.staff.want(target, busy=lambda: busy)
        self.staff.look()

    def dies(self, pid: int, status: int, *, after_s: float = 0.0) -> None:
        self.now += after_s
        self.os.dead.append((pid, status))
        self.staff.look()


@pytest.fixture
def world() -> World:
    return World()


def test_as_many_slots_start_as_are_wanted(world: World) -> None:
    world.want(3)
    assert world.os.forked == [0, 1, 2]
    assert world.staff.alive == 3


def test_a_slot_that_lived_long_is_replaced_at_once(world: World) -> None:
    world.want(1)
    world.dies(1001, -signal.SIGKILL, after_s=QUICK_DEATH_S + 1)
    assert world.os.forked == [0, 0]


def test_a_slot_that_dies_young_is_tried_again_after_growing_pauses_and_then_given_up(world: World) -> None:
    world.want(1)
    for death in range(1, GIVE_UP_AFTER):
        world.dies(1000 + death, 1)
        assert world.staff.alive == 0
        world.now += PAUSES_S[min(death, len(PAUSES_S) - 1)]
        world.staff.look()
        assert world.staff.alive == 1
    world.dies(1000 + GIVE_UP_AFTER, 1)
    world.now += 10_000
    world.staff.look()
    assert world.staff.alive == 0
    assert list(world.staff.errored) == [0]
    assert "ended with 1" in world.staff.errored[0]


def test_a_slot_that_is_killed_again_and_again_is_replaced_at_once_and_never_given_up(world: World) -> None:
    """Each had started; that somebody kills it is no reason to go without it."""
    world.os.all_begin = True
    world.want(1)
    for number in range(3 * GIVE_UP_AFTER):
        world.dies(1001 + number, -signal.SIGKILL)
        assert world.staff.alive == 1
    assert world.staff.errored == {}


def test_a_slot_that_is_killed_before_it_has_begun_is_given_up(world: World) -> None:
    world.want(1)
    for death in range(1, GIVE_UP_AFTER + 1):
        world.dies(1000 + death, -signal.SIGKILL)
        world.now += 11
        world.staff.look()
    assert "signal 9" in world.staff.errored[0]


def test_a_new_number_of_slots_gives_errored_ones_another_chance(world: World) -> None:
    world.want(1)
    for death in range(1, GIVE_UP_AFTER + 1):
        world.dies(1000 + death, SlotExit.BROKEN)
        world.now += 100
        world.staff.look()
    assert world.staff.errored
    world.want(2)
    assert world.staff.alive == 2
    assert not world.staff.errored


def test_a_taken_name_is_waited_for_without_ever_giving_up(world: World) -> None:
    world.want(1)
    for _ in range(GIVE_UP_AFTER * 3):
        world.dies(1000 + len(world.os.forked), SlotExit.TAKEN)
        world.now += 5
        world.staff.look()
    assert world.staff.alive == 1
    assert not world.staff.errored


def test_scaling_down_sends_idle_slots_first(world: World) -> None:
    world.want(4)
    world.want(2, busy={2, 3})
    assert {pid for pid, _ in world.os.signals} == {1001, 1002}
    assert {number for _, number in world.os.signals} == {signal.SIGTERM}


def test_scaling_down_below_the_busy_ones_lets_them_leave_after_their_task(world: World) -> None:
    world.want(3)
    world.want(1, busy={0, 1, 2})
    assert len(world.os.signals) == 2
    assert world.staff.alive == 3
    for pid, _ in list(world.os.signals):
        world.dies(pid, SlotExit.LEFT)
    assert world.staff.alive == 1
    assert len(world.os.forked) == 3


def test_scaling_up_again_while_slots_leave_starts_new_ones_under_free_numbers(world: World) -> None:
    world.want(2)
    world.want(0)
    world.want(2)
    assert world.os.forked == [0, 1, 2, 3]


def test_everybody_is_asked_to_leave_once(world: World) -> None:
    world.want(2)
    world.staff.dismiss_all()
    world.staff.dismiss_all()
    assert world.os.signals == [(1001, signal.SIGTERM), (1002, signal.SIGTERM)]


def test_a_checkpoint_reaches_slots_that_were_already_asked_to_leave(world: World) -> None:
    world.want(1)
    world.staff.dismiss_all()
    world.staff.checkpoint_all()
    world.staff.checkpoint_all()
    assert world.os.signals == [(1001, signal.SIGTERM), (1001, CHECKPOINT)]


def test_a_slot_that_waits_for_its_next_start_is_simply_forgotten_when_all_leave(world: World) -> None:
    world.want(1)
    world.dies(1001, 1)
    world.staff.dismiss_all()
    world.now += 100
    world.staff.look()
    assert world.staff.alive == 0
    assert world.os.forked == [0]


@pytest.mark.parametrize(
    ("status", "mourned"), [(-9, True), (SlotExit.DEAF, True), (0, False), (SlotExit.TAKEN, False)]
)
def test_only_a_slot_that_did_not_leave_properly_is_cleared_up_after(world: World, status: int, mourned: bool) -> None:
    world.want(1)
    world.dies(1001, status)
    assert world.os.mourned == ([(0, 1001)] if mourned else [])
