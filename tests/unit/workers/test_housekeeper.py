from collections.abc import Sequence

import pytest

from claude_pool.config import PoolConfig
from claude_pool.errors import Unreachable
from claude_pool.models.pool import PoolStatus
from claude_pool.models.task import TaskState
from claude_pool.store.base import Doorbell, Lost, Tended
from workers.housekeeper import ClockBrake, Housekeeper

LEASE_MS = 2_000


def bell(task_id: str) -> Doorbell:
    return Doorbell(task_id=task_id, queue="tasks", priority=2)


class House:
    def __init__(self) -> None:
        self.now = 1_000_000
        self.lost: list[list[Lost]] = []
        self.due_bells: list[list[Doorbell]] = []
        self.unrung_bells: list[list[Doorbell]] = []
        self.asked_empty: list[tuple[bool, int]] = []
        self.reaped = 0
        self.forgotten = 0
        self.reminders: list[int] = []

    def now_ms(self) -> int:
        return self.now

    def reap(self, *, slack_ms: int, limit: int = 100) -> list[Lost]:
        self.reaped += 1
        return self.lost.pop(0) if self.lost else []

    def due(self, *, limit: int = 500) -> list[Doorbell]:
        return self.due_bells.pop(0) if self.due_bells else []

    def remind(self, *, pause_ms: int, limit: int = 500) -> list[str]:
        self.reminders.append(pause_ms)
        return []

    def unrung(self, *, queue_empty: bool = False, limit: int = 500) -> list[Doorbell]:
        self.asked_empty.append((queue_empty, limit))
        return self.unrung_bells.pop(0) if self.unrung_bells else []

    def forget(self, *, older_than_ms: int, limit: int = 500) -> int:
        self.forgotten += 1
        return 0

    def lead(self, holder: str, *, ttl_ms: int) -> bool:
        return True


class Graphs:
    def __init__(self) -> None:
        self.tended: list[Tended] = []

    def tend(self, *, limit: int = 100) -> Tended:
        return self.tended.pop(0) if self.tended else Tended()


class Bells:
    def __init__(self) -> None:
        self.rung: list[str] = []
        self.depth = 0
        self.away = False

    def ring(self, bells: Sequence[Doorbell]) -> None:
        if self.away:
            raise Unreachable
        self.rung += [one.task_id for one in bells]

    def waiting(self, queue: str) -> int:
        return self.depth

    def close(self) -> None:
        pass


class World:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.house = House()
        self.graph = Graphs()
        self.bells = Bells()
        self.own_ms = 500_000

        self.pending = 0

        class Status:
            def status(_pool) -> PoolStatus:  # noqa: N805 - the world is `self` here
                return PoolStatus(pool="p", pending=self.pending)

        class Store:
            house = self.house
            graph = self.graph
            pool = Status()

        config = PoolConfig(lease_s=LEASE_MS / 1000)
        self.keeper = Housekeeper(config, Store(), self.bells)  # type: ignore[arg-type]
        monkeypatch.setattr("workers.housekeeper._own_ms", lambda: self.own_ms)

    def later(self, store_ms: int, own_ms: int | None = None) -> None:
        self.house.now += store_ms
        self.own_ms += store_ms if own_ms is None else own_ms


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_chains_over_their_time_are_tended_until_none_is_left_and_what_follows_is_rung(world: World) -> None:
    world.graph.tended = [Tended(ids=("f-1",), bells=(bell("t-1"),)), Tended(ids=("c-1",)), Tended()]
    world.keeper.round()
    assert world.graph.tended == []
    assert world.bells.rung == ["t-1"]


def test_nothing_counts_as_lost_in_the_first_lease_of_a_new_housekeeper(world: World) -> None:
    world.keeper.round()
    world.later(LEASE_MS - 1)
    world.keeper.round()
    assert world.house.reaped == 0
    world.later(1)
    world.keeper.round()
    assert world.house.reaped == 1


def test_lost_tasks_that_wait_again_are_rung_and_others_are_not(world: World) -> None:
    world.keeper.round()
    world.later(LEASE_MS)
    world.house.lost = [
        [
            Lost(task_id="t-a", run_id="r", state=TaskState.PENDING, bell=bell("t-a")),
            Lost(task_id="t-b", run_id="r", state=TaskState.FAILED),
        ]
    ]
    world.keeper.round()
    assert world.bells.rung == ["t-a"]


@pytest.mark.parametrize(("store_ms", "own_ms"), [(3_600_000, 2_000), (-1_800_000, 2_000), (2_000, 3_600_000)])
def test_a_clock_that_jumped_stops_reaping_for_one_lease(world: World, store_ms: int, own_ms: int) -> None:
    world.keeper.round()
    world.later(LEASE_MS)
    world.keeper.round()
    before = world.house.reaped
    world.later(store_ms, own_ms)
    world.keeper.round()
    assert world.house.reaped == before
    world.later(LEASE_MS)
    world.keeper.round()
    assert world.house.reaped == before + 1


def test_due_and_unrung_tasks_are_rung_in_batches_until_none_is_left(world: World) -> None:
    world.house.due_bells = [[bell("t-a"), bell("t-b")], [bell("t-c")]]
    world.house.unrung_bells = [[bell("t-d")]]
    world.keeper.round()
    assert world.bells.rung == ["t-a", "t-b", "t-c", "t-d"]


@pytest.mark.parametrize(
    ("depth", "pending", "asked"),
    [
        (0, 0, [(True, 500)]),
        (0, 9, [(True, 500)]),
        (7, 9, [(False, 2)]),
        (7, 9_000, [(False, 500)]),
        (7, 7, []),
        (7, 3, []),
    ],
)
def test_no_more_doorbells_ring_again_than_can_be_lost(
    world: World, depth: int, pending: int, asked: list[tuple[bool, int]]
) -> None:
    """A long queue makes doorbells old; ringing them again would only make it longer."""
    world.bells.depth, world.pending = depth, pending
    world.keeper.round()
    assert world.house.asked_empty == asked


def test_an_outage_ends_the_round_and_is_followed_by_a_lease_without_reaping(world: World) -> None:
    world.keeper.round()
    world.later(LEASE_MS)
    world.house.due_bells = [[bell("t-a")]]
    world.bells.away = True
    world.keeper._stop.set()
    world.keeper._try()
    world.bells.away = False
    before = world.house.reaped
    world.later(LEASE_MS - 1)
    world.keeper._try()
    assert world.house.reaped == before
    world.later(1)
    world.keeper._try()
    assert world.house.reaped == before + 1


def test_old_records_are_forgotten_now_and_then_and_not_every_round(world: World) -> None:
    world.keeper.round()
    world.keeper.round()
    assert world.house.forgotten == 1


def test_the_brake_starts_held() -> None:
    assert not ClockBrake(1000).may_reap(0, 0)
