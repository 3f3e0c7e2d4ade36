"""The node's phases, with children that exist only here and a pool that speaks between two looks."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from claude_pool.config import PoolConfig
from claude_pool.errors import SlotTaken, Unreachable
from claude_pool.models.pool import NodeIdentity, NodeMode, slot_id
from claude_pool.models.task import TaskState
from claude_pool.models.verdict import Verdict
from claude_pool.store import Store, fake_store
from claude_pool.testing.hands import Hand
from workers import supervisor as module
from workers.journal import Entry, Journal
from workers.memory import Memory
from workers.signals import CHECKPOINT, LEAVE
from workers.slot_process import Ground
from workers.supervisor import Supervisor, bury


class Children:
    """Processes that exist only here; they leave when they are told to, unless they are stubborn."""

    def __init__(self) -> None:
        self.pids: dict[int, int] = {}
        self.told: list[tuple[int, int]] = []
        self.dead: list[tuple[int, int]] = []
        self.mourned: list[int] = []
        self.housekeeper: list[bool] = []
        self.stubborn: set[int] = set()
        self.ended = 0

    def fork_slot(self, number: int) -> int:
        self.pids[number] = 1000 + len(self.pids)
        return self.pids[number]

    def signal(self, pid: int, number: int) -> None:
        self.told.append((pid, number))
        if number not in self.stubborn:
            self.dead.append((pid, 0 if number != signal.SIGKILL else -9))

    def buried(self) -> list[tuple[int, int]]:
        dead, self.dead = self.dead, []
        return dead

    def began(self, number: int) -> bool:
        return False

    def mourn(self, number: int, pid: int) -> None:
        self.mourned.append(number)

    def keep_housekeeper(self, *, wanted: bool) -> None:
        self.housekeeper.append(wanted)

    def end(self) -> None:
        self.ended += 1


class Node:
    """One supervisor; `script` is what happens at each of its looks, one after another."""

    def __init__(self, config: PoolConfig, store: Store, children: Children) -> None:
        self.config = config
        self.store = store
        self.children = children
        self.script: list[Callable[[], object]] = []
        self.looks = 0
        self.may_leave = False
        self.revived = 0
        self.identity = NodeIdentity(
            node="n1", incarnation="i1", host="h", pid=1, version="0", protocol=1, slots=2, min_slots=0, max_slots=8
        )
        ground = Ground(config, "redis://127.0.0.1:1", store.pool.prepare(epoch=None), {})
        self.supervisor = Supervisor(
            ground, self.identity, may_leave=lambda: self.may_leave, revive=self._revive, own_fds=[]
        )

    def _revive(self) -> None:
        self.revived += 1
        raise Unreachable

    def look(self, name: str, *, seen: str, block_ms: int) -> str:
        """Stands for the wait for orders: the next thing happens."""
        self.looks += 1
        assert self.looks < 200, "the node does not leave"
        if self.script:
            self.script.pop(0)()
        return str(self.looks)

    def order(self, **orders: Any) -> Callable[[], object]:
        return lambda: self.store.slots.order_node("n1", **orders)

    def interrupt(self) -> None:
        signal.raise_signal(signal.SIGTERM)

    def supervise(self, *script: Callable[[], object]) -> None:
        self.script = list(script)
        self.supervisor.supervise()


@pytest.fixture
def node(settings: PoolConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    store, children = fake_store(settings), Children()
    settings.node_dir.mkdir(parents=True)
    monkeypatch.setattr(module, "open_store", lambda _url, _config: store)
    monkeypatch.setattr(module, "Children", lambda *_given: children)
    monkeypatch.setattr(module, "gc", mock.Mock())  # this process's heap is nobody's to share
    monkeypatch.setattr(module.time, "sleep", lambda _s: None)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    made = Node(settings, store, children)
    monkeypatch.setattr(store.slots, "await_orders", made.look)
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)


def test_at_every_beat_a_node_remembers_how_much_has_happened_in_the_store(node: Node) -> None:
    memory = Memory(node.config)
    counts: list[int] = []

    def look() -> None:
        epoch, _, count = (memory.recall() or "").partition("@")
        assert node.store.pool.prepare(epoch=f"{epoch}@{count}")
        counts.append(int(count))

    node.supervise(lambda: None, look, Hand(node.store).submit, lambda: None, look, node.order(mode=NodeMode.DRAIN))
    assert counts[1] > counts[0]


def test_a_node_has_its_slots_and_a_housekeeper_until_it_drains(node: Node) -> None:
    node.supervise(lambda: None, node.order(mode=NodeMode.DRAIN))
    assert node.children.pids.keys() == {0, 1}
    assert [number for _, number in node.children.told] == [LEAVE, LEAVE]
    assert node.children.housekeeper[0] is True
    assert node.children.housekeeper[-1] is False
    assert node.children.ended == 1
    assert node.store.slots.nodes() == []


def test_more_or_fewer_slots_come_and_go_as_ordered(node: Node) -> None:
    seen: list[int] = []

    def look() -> None:
        seen.append(node.supervisor._staff.alive)

    node.supervise(
        look, node.order(slots=4), look, look, node.order(slots=1), look, look, node.order(mode=NodeMode.STOP)
    )
    assert seen == [2, 4, 4, 1, 1]


def test_a_stop_checkpoints_everybody_at_once(node: Node) -> None:
    node.children.stubborn = {LEAVE}
    node.supervise(node.order(mode=NodeMode.STOP))
    assert sorted(node.children.told) == sorted(
        (pid, number) for pid in node.children.pids.values() for number in (LEAVE, CHECKPOINT)
    )


def test_a_drain_whose_time_is_over_checkpoints_what_still_runs(node: Node) -> None:
    node.children.stubborn = {LEAVE}
    node.supervise(lambda: node.store.slots.order_node("n1", mode=NodeMode.DRAIN, deadline_ms=1))
    assert {number for _, number in node.children.told} == {LEAVE, CHECKPOINT}


def test_a_first_signal_drains_and_a_second_one_checkpoints(node: Node) -> None:
    node.children.stubborn = {LEAVE}
    drained: list[int] = []
    node.supervise(
        node.interrupt, lambda: None, lambda: drained.extend(n for _, n in node.children.told), node.interrupt
    )
    assert set(drained) == {LEAVE}
    assert {number for _, number in node.children.told} == {LEAVE, CHECKPOINT}


def test_a_node_that_drains_obeys_a_stop_and_no_other_order(node: Node) -> None:
    node.children.stubborn = {LEAVE}
    node.supervise(
        node.interrupt,
        lambda: None,
        node.order(mode=NodeMode.RUN, slots=4),
        lambda: None,
        node.order(mode=NodeMode.STOP),
    )
    assert len(node.children.pids) == 2


def test_a_node_with_nothing_to_do_and_nobody_there_leaves(node: Node) -> None:
    def idle() -> None:
        node.may_leave = True

    node.supervise(lambda: None, idle)
    assert node.looks < 10


def test_a_node_whose_name_was_taken_over_checkpoints_and_leaves_the_name_alone(node: Node) -> None:
    node.children.stubborn = {LEAVE}

    def take_over() -> None:
        node.store.slots.register_node(node.identity.evolve(incarnation="i2"), lease_ms=60_000)

    node.supervise(take_over)
    assert CHECKPOINT in {number for _, number in node.children.told}
    assert [one.identity.incarnation for one in node.store.slots.nodes()] == ["i2"]


def test_a_store_that_is_away_is_brought_back_and_the_slots_stay(node: Node) -> None:
    def away() -> None:
        raise Unreachable

    alive: list[int] = []
    node.supervise(*[away] * 5, lambda: alive.append(node.supervisor._staff.alive), node.order(mode=NodeMode.STOP))
    assert node.revived == 5
    assert alive == [2]


def test_a_slot_that_dies_is_mourned_and_the_others_stay(node: Node) -> None:
    alive: list[int] = []

    def kill() -> None:
        node.children.dead.append((node.children.pids[0], -9))

    node.supervise(kill, lambda: alive.append(node.supervisor._staff.alive), node.order(mode=NodeMode.STOP))
    assert node.children.mourned == [0]
    assert alive == [1]


def test_who_does_not_leave_is_killed_in_the_end(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LAST_WAIT_S", 0.0)
    node.children.stubborn = {LEAVE, CHECKPOINT}

    def broken() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError):
        node.supervise(broken)
    assert [number for _, number in node.children.told].count(signal.SIGKILL) == 2
    assert node.children.ended == 1


def test_a_name_that_another_host_has_is_refused_before_anything_is_started(node: Node) -> None:
    node.store.slots.register_node(node.identity.evolve(incarnation="i2", host="other"), lease_ms=60_000)
    with pytest.raises(SlotTaken):
        node.supervise()
    assert node.children.pids == {}


@pytest.fixture
def swept(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    calls: list[tuple[str, str]] = []
    monkeypatch.setattr(module, "sweep", lambda pool, node: calls.append((pool, node)) or [])
    return calls


def test_the_dead_ones_result_is_delivered_before_its_run_counts_as_lost(
    node: Node, settings: PoolConfig, swept: list[tuple[str, str]]
) -> None:
    hand = Hand(node.store)
    claim = hand.run(hand.submit())
    verdict = Verdict(to=TaskState.COMPLETED, cost_usd=0.5)
    Journal(settings.node_dir / "journal").write(Entry(task_id=claim.task.id, run_id=claim.run_id, verdict=verdict))
    bury(settings, node.store, slot_id(0, "n1"), hand.identity.pid)
    assert hand.state(claim.task.id) is TaskState.COMPLETED
    assert swept == [("p", "n1")]
    assert node.store.slots.slots() == []


def test_without_a_result_the_dead_ones_run_is_lost_at_once(
    node: Node, settings: PoolConfig, swept: list[tuple[str, str]]
) -> None:
    hand = Hand(node.store)
    claim = hand.run(hand.submit())
    bury(settings, node.store, slot_id(0, "n1"), hand.identity.pid)
    assert hand.reaped(claim.task.id).run_id == claim.run_id


def test_when_the_store_is_away_nothing_is_declared(
    node: Node, settings: PoolConfig, swept: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_given: Any) -> None:
        raise Unreachable

    hand = Hand(node.store)
    claim = hand.run(hand.submit())
    monkeypatch.setattr(node.store.slots, "bury", away)
    bury(settings, node.store, slot_id(0, "n1"), hand.identity.pid)
    assert hand.state(claim.task.id) is TaskState.RUNNING
    assert swept == [("p", "n1")]
