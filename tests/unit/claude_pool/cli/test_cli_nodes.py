"""up, worker, scale, drain, down: what they ask of the pool, without a node of flesh and blood."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from claude_pool import embedded
from claude_pool.cli import nodes
from claude_pool.errors import PoolError
from claude_pool.models.pool import DrainSummary, NodeIdentity
from claude_pool.pool import Pool

Cli = Callable[..., Any]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The worker program's double: its arguments."""
    called: list[Any] = []
    monkeypatch.setattr(
        nodes, "load_program", lambda name: SimpleNamespace(main=lambda argv: called.append((name, argv)))
    )
    return called


@pytest.fixture
def drains(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the pool was asked to drain."""
    asked: list[dict[str, Any]] = []

    def drain(_pool: Pool, **how: Any) -> DrainSummary:
        asked.append(how)
        return DrainSummary(finished=("t-1",), duration_ms=5)

    monkeypatch.setattr(Pool, "drain", drain)
    return asked


def test_up_in_the_foreground_is_the_worker_program(cli: Cli, program: list[Any]) -> None:
    assert cli("up", "--slots", "3", "--node", "build-2").code == 0
    assert program == [("workers.main", ["--slots", "3", "--node", "build-2"])]


def test_worker_passes_further_arguments_on(cli: Cli, program: list[Any]) -> None:
    assert cli("worker", "--slots", "3", "--accept-reset").code == 0
    assert program == [("workers.main", ["--slots", "3", "--accept-reset"])]


def test_a_worker_that_refuses_its_arguments_is_wrong_usage(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def main(_argv: Any) -> int:
        raise SystemExit(2)

    monkeypatch.setattr(nodes, "load_program", lambda _name: SimpleNamespace(main=main))
    answer = cli("worker", "--frobnicate", "--json")
    assert answer.code == 2
    assert answer.document == {"node": "left", "exit_code": 2}


def test_up_in_the_background_finds_a_node_that_is_there(cli: Cli, pool: Pool, slot: Any) -> None:
    answer = cli("up", "--detach", "--json")
    assert answer.code == 0
    document = answer.document
    assert (document["pool"], document["node"], document["slots"], document["started"]) == (
        "default", "host-a", 1, False,
    )  # fmt: skip
    assert "was up already with 1 slot" in cli("up", "--detach").out


def test_up_in_the_background_says_why_it_failed(cli: Cli, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_given: Any, **_how: Any) -> None:
        raise PoolError("Node host-a ended while it started.", hint="Its log: x")

    monkeypatch.setattr(nodes, "ensure_node", fails)
    answer = cli("up", "-d", "--json")
    assert answer.code == 1
    assert "ended while it started" in answer.document["error"]["message"]


def test_scale_orders_slots(cli: Cli, pool: Pool, slot: Any) -> None:
    assert cli("scale", "4", "--json").document["slots"] == 4
    assert cli("scale", "--by", "-1", "--json").document["slots"] == 3
    assert cli("scale").code == 2
    assert cli("scale", "4", "--by", "1").code == 2


def test_scale_without_a_node_is_refused(cli: Cli, pool: Pool) -> None:
    answer = cli("scale", "4")
    assert answer.code == 4
    assert "claude-pool up" in answer.err


def test_drain_names_its_nodes(cli: Cli, pool: Pool, slot: Any, drains: list[dict[str, Any]]) -> None:
    document = cli("drain", "--timeout", "5", "--json").document
    assert (document["finished"], document["timed_out"]) == (["t-1"], False)
    assert drains == [{"nodes": {"host-a"}, "deadline_s": 5.0, "now": False}]
    unknown = cli("drain", "elsewhere")
    assert unknown.code == 2
    assert "host-a" in unknown.err


def test_a_drain_that_fails_ends_like_any_other_error(
    cli: Cli, pool: Pool, slot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_given: Any, **_how: Any) -> None:
        raise PoolError("no")

    monkeypatch.setattr(Pool, "drain", fails)
    assert cli("drain").code == 1


def test_down_drains_this_hosts_nodes_and_stops_the_private_redis(
    cli: Cli, pool: Pool, drains: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def register(name: str, host: str) -> NodeIdentity:
        node = NodeIdentity(node=name, incarnation=name, host=host, pid=1, version="0", protocol=1, slots=0)
        pool.store.slots.register_node(node, lease_ms=60_000)
        return node

    register("here", socket.gethostname())
    there = register("there", "elsewhere")
    stopped: list[Any] = []
    monkeypatch.setattr(embedded, "running", lambda _config: True)
    monkeypatch.setattr(embedded, "stop", lambda config: stopped.append(config) or True)
    document = cli("down", "--now", "--json").document
    assert drains == [{"nodes": {"here"}, "deadline_s": None, "now": True}]
    assert (document["nodes"], document["redis_stopped"]) == (["here"], False)
    assert document["others"] == ["here", "there"]  # the double of drain lets nobody leave
    for node in (there, pool.nodes()[0].identity, pool.nodes()[-1].identity):
        pool.store.slots.leave_node(node)
    assert cli("down", "--json").document["redis_stopped"] is True
    assert len(stopped) == 1


def test_down_starts_nothing_in_order_to_stop_it(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "running", lambda _config: None)
    monkeypatch.setattr(Pool, "open", lambda **_settings: pytest.fail("opened"))
    assert cli("down", "--json").document == {"nodes": [], "redis_stopped": False}
