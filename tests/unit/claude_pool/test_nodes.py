"""Starting a node in the background; that a real one comes up is shown in tests/integration/test_cli_pool.py."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_pool import nodes, processes
from claude_pool.config import PoolConfig, load
from claude_pool.errors import Conflict, PoolError
from claude_pool.models.pool import NodeIdentity, NodeMode, SlotIdentity
from claude_pool.models.task import Submitter
from claude_pool.pool import Pool
from claude_pool.store import fake_store


class Silent:
    def ring(self, bells: Any) -> None: ...
    def waiting(self, queue: str) -> int:
        return 0

    def close(self) -> None: ...


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    config = load(env={}, cwd=tmp_path, home=tmp_path / "home", node="host-a", slots=2)[0]
    store = fake_store(config)
    store.pool.prepare(epoch=None)
    pool = Pool(config, store, Silent(), submitter=Submitter())
    yield pool
    pool.hub.close()
    store.close()


def register(pool: Pool, slots: int) -> None:
    node = NodeIdentity(node="host-a", incarnation="i", host="h", pid=1, version="0", protocol=1, slots=slots)
    pool.store.slots.register_node(node, lease_ms=60_000)
    for number in range(slots):
        slot = SlotIdentity(slot_id=f"slot-{number}@host-a", node="host-a", number=number, incarnation="i", pid=1)
        pool.store.slots.register_slot(slot, lease_ms=60_000)


NOBODY = 2**31 - 1
"""A pid that no system gives away."""


def test_a_node_that_is_there_is_not_started_again(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    register(pool, 2)
    monkeypatch.setattr(processes, "spawn_detached", lambda *_a, **_k: pytest.fail("started"))
    node, started = nodes.ensure_node(pool)
    assert (node.identity.node, started) == ("host-a", False)


def test_a_node_that_is_leaving_is_waited_for_and_started_anew(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    register(pool, 2)
    pool.store.slots.order_node("host-a", mode=NodeMode.DRAIN)
    with pytest.raises(Conflict, match="still leaving"):
        nodes.ensure_node(pool, wait_s=0.01)

    def spawn(*_argv: Any, **_how: Any) -> int:
        assert nodes.find_node(pool, "host-a") is None
        register(pool, 2)
        return os.getpid()

    monkeypatch.setattr(processes, "spawn_detached", spawn)
    leaving = threading.Timer(0.2, lambda: pool.store.slots.leave_node(pool.nodes()[0].identity))
    leaving.start()
    try:
        assert nodes.ensure_node(pool)[1]
    finally:
        leaving.join()


def test_a_node_is_started_with_the_pools_settings(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    spawned: dict[str, Any] = {}

    def spawn(argv: Any, **how: Any) -> int:
        spawned.update(how, argv=argv)
        register(pool, 2)
        return os.getpid()

    monkeypatch.setattr(processes, "spawn_detached", spawn)
    _node, started = nodes.ensure_node(pool, idle_exit=True, env={"PATH": "/bin"})
    assert started
    assert spawned["argv"][1:] == ["--slots", "2", "--node", "host-a", "--name", "default", "--idle-exit"]
    assert Path(spawned["argv"][0]).name == "claude-pool-worker"
    assert spawned["env"] == {"PATH": "/bin", **nodes.as_environment(pool.config)}
    assert spawned["log"] == pool.config.node_dir / "logs" / "node.log"


def test_a_node_that_ends_while_it_starts_is_told_with_its_last_words(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spawn(*_argv: Any, log: Path, **_how: Any) -> int:
        log.parent.mkdir(parents=True)
        log.write_text("the dog ate it\n")
        return NOBODY

    monkeypatch.setattr(processes, "spawn_detached", spawn)
    with pytest.raises(PoolError, match="ended while it started") as caught:
        nodes.ensure_node(pool)
    assert "the dog ate it" in caught.value.message
    assert "node.log" in caught.value.hint


def test_a_node_that_takes_too_long_is_an_error(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "spawn_detached", lambda *_a, **_k: os.getpid())
    with pytest.raises(PoolError, match="did not have 2 slots"):
        nodes.ensure_node(pool, wait_s=0.01)


def test_our_scripts_are_found_and_others_are_not() -> None:
    assert os.access(nodes.script("claude-pool-worker"), os.X_OK)
    with pytest.raises(PoolError, match="nowhere-to-be-found"):
        nodes.script("nowhere-to-be-found")


def test_settings_survive_the_way_through_the_environment(tmp_path: Path) -> None:
    config = load(
        env={}, cwd=tmp_path, home=tmp_path, slots=5, budget_usd=1.5, allow_bypass=True, model="haiku", node="n"
    )[0]
    again: PoolConfig = load(env=nodes.as_environment(config), cwd=tmp_path)[0]
    assert again == config
