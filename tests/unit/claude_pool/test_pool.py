"""Opening a pool and giving everything back, whatever goes wrong on the way."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from claude_pool import pool as module
from claude_pool.config import PoolConfig
from claude_pool.errors import InvalidSettings, Refused, Unreachable
from claude_pool.models.task import Submitter
from claude_pool.pool import Pool, default_submitter
from claude_pool.store import Store, fake_store


class Ground:
    """What opening a pool takes, and in which order it was given back."""

    def __init__(self, config: PoolConfig) -> None:
        self.given_back: list[str] = []
        self.store = fake_store(config)
        self.asked: list[PoolConfig] = []
        self.rung: list[Any] = []

    @contextmanager
    def connection(self, config: PoolConfig) -> Iterator[str]:
        self.asked.append(config)
        try:
            yield "redis://127.0.0.1:1"
        finally:
            self.given_back.append("connection")

    def open_store(self, url: str, config: PoolConfig) -> Store:
        return self.store

    def ring(self, bells: Any) -> None:
        self.rung += bells

    def waiting(self, queue: str) -> int:
        return len(self.rung)

    def close(self) -> None:
        self.given_back.append("broker")


@pytest.fixture
def config(tmp_path: Path) -> PoolConfig:
    return PoolConfig(name="p", home=tmp_path)


@pytest.fixture
def ground(config: PoolConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Ground]:
    monkeypatch.chdir(tmp_path)
    ground = Ground(config)
    close = ground.store.close
    object.__setattr__(ground.store, "close", lambda: ground.given_back.append("store"))
    monkeypatch.setattr(module, "connection", ground.connection)
    monkeypatch.setattr(module, "open_store", ground.open_store)
    monkeypatch.setattr(module, "CeleryBroker", lambda _app: ground)
    yield ground
    close()


def test_everything_is_given_back_once_and_the_server_last(ground: Ground, config: PoolConfig) -> None:
    with Pool.open(config) as pool:
        pool.submit("Hi.")
        assert ground.given_back == []
    assert ground.given_back == ["broker", "store", "connection"]
    pool.close()
    assert len(ground.given_back) == 3


def test_somebody_who_only_looks_never_makes_a_broker(ground: Ground, config: PoolConfig) -> None:
    with Pool.open(config) as pool:
        assert pool.status().pending == 0
    assert ground.given_back == ["store", "connection"]


def test_the_reader_of_events_ends_with_the_pool(ground: Ground, config: PoolConfig) -> None:
    with Pool.open(config) as pool, pool.hub.listening(None, lambda _event: None):
        reader = pool.hub._thread
    assert reader is not None
    reader.join(20)
    assert not reader.is_alive()


def test_an_error_inside_gives_everything_back_and_goes_on(ground: Ground, config: PoolConfig) -> None:
    with pytest.raises(ZeroDivisionError), Pool.open(config):
        _ = 1 / 0
    assert ground.given_back == ["store", "connection"]


@pytest.mark.parametrize("error", [Unreachable, Refused])
def test_a_store_that_can_not_be_used_leaves_nothing_open(
    ground: Ground, config: PoolConfig, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def refuse(**_how: Any) -> str:
        raise error

    monkeypatch.setattr(ground.store.pool, "prepare", refuse)
    with pytest.raises(error):
        Pool.open(config)
    assert ground.given_back == ["store", "connection"]


def test_a_server_that_can_not_be_had_is_unreachable(config: PoolConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_config: PoolConfig) -> Any:
        raise Unreachable("No usable redis-server.")

    monkeypatch.setattr(module, "connection", away)
    with pytest.raises(Unreachable, match="No usable"):
        Pool.open(config)


def test_the_settings_budget_becomes_the_pools_limit_and_none_leaves_it_alone(
    ground: Ground, config: PoolConfig
) -> None:
    with Pool.open(config.model_copy(update={"budget_usd": 3.5})) as pool:
        assert pool.status().budget_usd == 3.5
    with Pool.open(config) as pool:
        assert pool.status().budget_usd == 3.5


def test_loose_settings_come_before_variables(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_POOL_MODEL", "opus")
    monkeypatch.setenv("CLAUDE_POOL_SLOTS", "7")
    with Pool.open(model="haiku") as pool:
        assert (pool.config.model, pool.config.slots) == ("haiku", 7)


def test_a_setting_that_does_not_exist_opens_nothing(ground: Ground) -> None:
    with pytest.raises(InvalidSettings, match="frobnicate"):
        Pool.open(frobnicate=1)
    assert ground.asked == []


def test_a_task_knows_who_asked(ground: Ground, config: PoolConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    with Pool.open(config) as pool:
        assert pool.get(pool.submit("Hi.").task_id).submitter == Submitter(name="ada", kind="python")
    with Pool.open(config, submitter=Submitter(name="bob", kind="cli")) as pool:
        assert pool.get(pool.submit("Hi.").task_id).submitter.name == "bob"


def test_a_user_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise OSError("no username set in the environment")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert default_submitter().name == f"uid {os.getuid()}"
