"""Transcripts between nodes: sent after a run, fetched where they are missing or older."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_pool.config import PoolConfig
from claude_pool.models.parcel import Parcel
from claude_pool.store import fake_store
from claude_pool.store.redis import RedisStore
from workers.sessions import CARRIED, Sessions

SID = "0b9d1b3e-0000-4000-8000-000000000001"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisStore]:
    store = fake_store(PoolConfig(home=tmp_path))
    yield store
    store.close()


def node(
    tmp_path: Path, name: str, store: RedisStore, *, url: str | None = "redis://x:1/0", most: int = 1 << 20
) -> Sessions:
    config = PoolConfig(home=tmp_path / name, node=name, redis_url=url, parcel_bytes=most)
    return Sessions(config, tmp_path / name / "projects", store.parcels)


def talk(tmp_path: Path, name: str, text: str, folder: str = "-some-dir") -> Path:
    path = tmp_path / name / "projects" / folder / f"{SID}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_conversation_can_be_continued_on_another_node_and_back(tmp_path: Path, store: RedisStore) -> None:
    a, b = node(tmp_path, "a", store), node(tmp_path, "b", store)
    first = talk(tmp_path, "a", "one\n")
    a.send(SID)
    assert b.fetch(SID)
    carried = tmp_path / "b" / "projects" / CARRIED / f"{SID}.jsonl"
    assert carried.read_text() == "one\n"
    assert carried.stat().st_mode & 0o077 == 0
    carried.write_text("one\ntwo\n")
    b.send(SID)
    assert a.fetch(SID)
    assert first.read_text() == "one\ntwo\n"
    assert not list((tmp_path / "a").rglob("*.fetched"))


def test_what_is_here_already_is_not_fetched(tmp_path: Path, store: RedisStore) -> None:
    a, b = node(tmp_path, "a", store), node(tmp_path, "b", store)
    talk(tmp_path, "a", "one\n")
    a.send(SID)
    assert not a.fetch(SID), "it was sent from here"
    longer = talk(tmp_path, "b", "one\ntwo\nthree\n")
    assert not b.fetch(SID)
    assert longer.read_text() == "one\ntwo\nthree\n"
    assert not b.fetch("0b9d1b3e-0000-4000-8000-000000000002")
    assert not b.fetch(None)


def test_a_pool_on_one_machine_sends_and_fetches_nothing(tmp_path: Path, store: RedisStore) -> None:
    alone = node(tmp_path, "a", store, url=None)
    talk(tmp_path, "a", "one\n")
    alone.send(SID)
    assert store.parcels.facts(f"session:{SID}") is None
    assert not alone.fetch(SID)


def test_what_is_too_large_or_broken_costs_nothing(tmp_path: Path, store: RedisStore) -> None:
    a, b = node(tmp_path, "a", store, most=1 << 10), node(tmp_path, "b", store)
    talk(tmp_path, "a", "".join(f"{number * 7919 % 100003}\n" for number in range(5000)))
    a.send(SID)
    assert store.parcels.facts(f"session:{SID}") is None
    a.send(None)
    for facts, data in (({"node": "c", "bytes": "9"}, b"no zlib"), ({"node": "c", "bytes": "x"}, zlib.compress(b"y"))):
        store.parcels.put(f"session:{SID}", Parcel(facts=facts, data=data))
        talk(tmp_path, "b", "")
        assert not b.fetch(SID)
