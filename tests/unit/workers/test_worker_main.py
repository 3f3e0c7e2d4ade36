"""Before the first slot: alone under its name, the store it knows, nothing left over; and when an idle node leaves."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.errors import PoolError, SlotTaken, StoreReset, Unreachable
from claude_pool.models.task import TaskState
from claude_pool.models.verdict import Verdict
from claude_pool.store import Store, fake_store
from claude_pool.testing.hands import Hand
from workers import main as module
from workers.journal import Entry, Journal
from workers.main import COORDINATOR_LOCK, _Idleness, main, parse, run_node


class Supervisor:
    """Notes that it would have run."""

    made: list[Supervisor]

    def __init__(self, ground: Any, identity: Any, **how: Any) -> None:
        self.ground, self.identity, self.how = ground, identity, how
        self.made.append(self)

    def supervise(self) -> None: ...


@pytest.fixture
def settings(settings: PoolConfig) -> PoolConfig:
    return settings.model_copy(update={"redis_url": "redis://127.0.0.1:1", "slots": 3, "max_slots": 2, "min_slots": 9})


@pytest.fixture
def store(settings: PoolConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    store = fake_store(settings)
    monkeypatch.setattr(module, "open_store", lambda _url, _config: store)
    monkeypatch.setattr(module, "sweep", lambda _pool, _node: [])
    monkeypatch.setattr(Supervisor, "made", [], raising=False)
    monkeypatch.setattr(module, "Supervisor", Supervisor)
    yield store
    store.close()


def test_a_node_runs_with_its_identity_and_the_stores_epoch(settings: PoolConfig, store: Store) -> None:
    run_node(settings)
    [supervisor] = Supervisor.made
    assert supervisor.ground.epoch == (settings.node_dir / "epoch").read_text().strip()
    assert (supervisor.identity.node, supervisor.identity.pid, supervisor.identity.slots) == ("n1", os.getpid(), 3)
    assert (supervisor.identity.min_slots, supervisor.identity.max_slots) == (3, 3)


def test_two_nodes_of_one_name_on_one_host_are_one_too_many(settings: PoolConfig, store: Store) -> None:
    settings.node_dir.mkdir(parents=True)
    with (settings.node_dir / "node.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SlotTaken, match="running on this host already") as caught:
            run_node(settings)
    assert "--node" in caught.value.hint
    assert Supervisor.made == []
    run_node(settings)
    assert len(Supervisor.made) == 1


def test_a_node_does_not_work_on_a_store_that_was_reset_unless_it_is_told_to(
    settings: PoolConfig, store: Store
) -> None:
    run_node(settings)
    (settings.node_dir / "epoch").write_text("another\n")
    with pytest.raises(StoreReset) as caught:
        run_node(settings)
    assert "--accept-reset" in caught.value.hint
    assert (settings.node_dir / "epoch").read_text() == "another\n"
    run_node(settings, accept_reset=True)
    first, second = Supervisor.made
    assert (settings.node_dir / "epoch").read_text().strip() == first.ground.epoch == second.ground.epoch


def test_results_of_an_earlier_life_are_delivered_before_anything_else(settings: PoolConfig, store: Store) -> None:
    store.pool.prepare(epoch=None)
    hand = Hand(store, node="other")
    claim = hand.run(hand.submit())
    verdict = Verdict(to=TaskState.COMPLETED)
    Journal(settings.node_dir / "journal").write(Entry(task_id=claim.task.id, run_id=claim.run_id, verdict=verdict))
    run_node(settings)
    assert hand.state(claim.task.id) is TaskState.COMPLETED


def test_slots_of_this_node_whose_processes_are_gone_are_buried_and_no_others(
    settings: PoolConfig, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.pool.prepare(epoch=None)
    gone, alive, other = Hand(store, 0), Hand(store, 1), Hand(store, 0, node="other")
    for hand, pid in ((gone, 2**31 - 1), (alive, os.getpid()), (other, 2**31 - 1)):
        store.slots.leave(hand.identity)
        hand.identity = hand.identity.evolve(pid=pid)
        store.slots.register_slot(hand.identity, lease_ms=60_000)
    buried: list[str] = []
    monkeypatch.setattr(module, "bury", lambda _config, _store, slot, _pid: buried.append(slot))
    run_node(settings)
    assert buried == [gone.identity.slot_id]


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def idle(settings: PoolConfig, store: Store, clock: Clock) -> _Idleness:
    store.pool.prepare(epoch=None)
    settings.node_dir.mkdir(parents=True)
    return _Idleness(settings.model_copy(update={"idle_exit_s": 60}), store)


def test_a_node_leaves_when_it_had_nothing_to_do_for_long(idle: _Idleness, clock: Clock) -> None:
    assert not idle()
    clock.now += 60
    assert not idle()
    clock.now += 1
    assert idle()


@pytest.mark.parametrize("state", ["pending", "claimed", "running"])
def test_work_begins_the_time_anew(idle: _Idleness, clock: Clock, store: Store, state: str) -> None:
    hand = Hand(store)
    task_id = hand.submit()
    if state != "pending":
        claim = hand.claim(task_id)
        if state == "running":
            hand.start(claim)
    clock.now += 600
    assert not idle()
    store.tasks.cancel(task_id, reason="enough")
    if state != "pending":
        hand.finish(claim, "cancelled")
    clock.now += 60
    assert not idle()
    clock.now += 1
    assert idle()


def test_a_coordinator_keeps_the_node(idle: _Idleness, clock: Clock, settings: PoolConfig) -> None:
    with (settings.node_dir / COORDINATOR_LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        clock.now += 600
        assert not idle()
    clock.now += 61
    assert idle()


def test_asking_does_not_shut_a_coordinator_out(idle: _Idleness, settings: PoolConfig) -> None:
    idle()
    with (settings.node_dir / COORDINATOR_LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_what_can_not_begin_is_told_and_ends_with_the_errors_code(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def away(*_a: Any, **_k: Any) -> None:
        raise Unreachable("Gone.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "run_node", away)
    monkeypatch.setattr(module, "set_up_logging", lambda **_how: None)
    with caplog.at_level(logging.ERROR):
        assert main(["--slots", "1"]) == Unreachable.exit_code
        assert main(["--slots", "-1"]) == 2
    assert "Gone." in caplog.text
    assert "slots = -1" in caplog.text


def test_the_command_line_comes_before_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[PoolConfig, bool, bool]] = []

    def run(config: PoolConfig, *, idle_exit: bool, accept_reset: bool) -> None:
        seen.append((config, idle_exit, accept_reset))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLAUDE_POOL_SLOTS", "7")
    monkeypatch.setattr(module, "run_node", run)
    monkeypatch.setattr(module, "set_up_logging", lambda **_how: None)
    assert main(["--node", "n2", "--name", "q", "--idle-exit"]) == 0
    assert main(["--slots", "1", "--accept-reset"]) == 0
    assert [(c.slots, c.node == "n2", idle, reset) for c, idle, reset in seen] == [
        (7, True, True, False),
        (1, False, False, True),
    ]


def test_an_unknown_flag_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--frobnicate"])
    assert caught.value.code == PoolError.exit_code + 1
    assert "--frobnicate" in capsys.readouterr().err
