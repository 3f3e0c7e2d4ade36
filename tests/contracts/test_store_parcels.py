"""What travels between nodes: kept whole, replaced, bounded, and never in the way."""

from __future__ import annotations

import os

from claude_pool.models.parcel import Parcel
from claude_pool.store.parcels import RedisParcels
from claude_pool.store.redis import RedisStore


def test_a_parcel_comes_back_byte_for_byte_and_a_new_one_replaces_it(store: RedisStore) -> None:
    data = bytes(range(256)) * 100 + os.urandom(1000)
    assert store.parcels.get("branch:pool/t-1") is None
    assert store.parcels.facts("branch:pool/t-1") is None
    assert store.parcels.put("branch:pool/t-1", Parcel(facts={"tip": "ä"}, data=data))
    assert store.parcels.get("branch:pool/t-1") == Parcel(facts={"tip": "ä"}, data=data)
    assert store.parcels.put("branch:pool/t-1", Parcel(facts={"tip": "b"}))
    assert store.parcels.facts("branch:pool/t-1") == {"tip": "b"}
    assert store.parcels.get("branch:pool/t-1") == Parcel(facts={"tip": "b"}, data=b"")


def test_the_oldest_go_when_all_together_are_too_much(store: RedisStore) -> None:
    config = store.parcels._config.model_copy(update={"parcel_total_bytes": 4_000})  # type: ignore[attr-defined]
    parcels = RedisParcels(store.client, config)
    for number in range(5):
        assert parcels.put(f"session:{number}", Parcel(data=b"x" * 900))  # 1,200 bytes each on the wire
    kept = [number for number in range(5) if parcels.get(f"session:{number}")]
    assert kept == [2, 3, 4]
    assert not parcels.put("session:large", Parcel(data=b"x" * 9_000))
    assert parcels.put("session:4", Parcel(data=b"x" * 2_900))
    assert [number for number in range(5) if parcels.get(f"session:{number}")] == [4]


def test_a_parcel_expires_and_makes_room(store: RedisStore) -> None:
    config = store.parcels._config.model_copy(update={"branch_days": 1 / 86_400_000})  # type: ignore[attr-defined]
    brief = RedisParcels(store.client, config)
    assert brief.put("session:1", Parcel(data=b"x"))
    deadline = store.house.now_ms() + 5_000
    while brief.facts("session:1") is not None:
        assert store.house.now_ms() < deadline
    assert brief.put("session:2", Parcel(data=b"y"))
