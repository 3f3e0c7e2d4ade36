"""The shared context: set, replaced, remembered, bounded, forgotten."""

from __future__ import annotations

import pytest

from claude_pool.errors import Refused
from claude_pool.models.context import (
    MAX_ENTRIES,
    MAX_HISTORY,
    MAX_HISTORY_BYTES,
    MAX_TOTAL_BYTES,
    MAX_VALUE_BYTES,
    ContextEntry,
)
from claude_pool.store.redis import RedisStore


def put(store: RedisStore, key: str, value: str, namespace: str = "") -> ContextEntry:
    return store.context.put(ContextEntry(key=key, value=value, namespace=namespace, by="ada"))


def test_a_value_comes_back_as_it_was_set_with_who_and_when(store: RedisStore) -> None:
    before_ms = store.house.now_ms()
    entry = put(store, "style", 'Tabs:\t"ä" \\ 漢字\n')
    assert store.context.get("style") == entry
    assert (entry.by, entry.value) == ("ada", 'Tabs:\t"ä" \\ 漢字\n')
    assert before_ms <= entry.set_ms <= store.house.now_ms()
    assert store.context.get("style", "backend") is None


def test_one_key_in_two_namespaces_is_two_values(store: RedisStore) -> None:
    put(store, "a", "all")
    put(store, "a", "some", "x")
    assert store.context.delete("a", "x")
    assert [entry.value for entry in store.context.entries()] == ["all"]


def test_the_order_is_everybodys_first_then_by_namespace_and_key_however_they_came(store: RedisStore) -> None:
    for key, namespace in (("b", "x"), ("z", ""), ("a", "y"), ("a", "x"), ("c", "")):
        put(store, key, "1", namespace)
    put(store, "z", "2")
    order = [(entry.namespace, entry.key) for entry in store.context.entries()]
    assert order == [("", "c"), ("", "z"), ("x", "a"), ("x", "b"), ("y", "a")]


def test_the_last_values_are_kept_the_latest_first_and_go_with_the_key(store: RedisStore) -> None:
    for number in range(MAX_HISTORY + 3):
        put(store, "a", f"value {number}")
    last = MAX_HISTORY + 1
    assert [one.value for one in store.context.history("a")] == [f"value {last - n}" for n in range(MAX_HISTORY)]
    assert store.context.delete("a")
    assert not store.context.delete("a")
    assert store.context.history("a") == []
    put(store, "a", "new")
    assert store.context.history("a") == []


def test_large_values_leave_a_short_history(store: RedisStore) -> None:
    for number in range(6):
        put(store, "a", f"{number}" * MAX_VALUE_BYTES)
    kept = store.context.history("a")
    assert [one.value[0] for one in kept] == ["4"]
    assert sum(len(one.value) for one in kept) <= MAX_HISTORY_BYTES


def test_all_together_are_bounded_and_a_refused_one_changes_nothing(store: RedisStore) -> None:
    fits = MAX_TOTAL_BYTES // MAX_VALUE_BYTES - 1
    for number in range(fits):
        put(store, f"k{number}", "x" * MAX_VALUE_BYTES)
    put(store, "small", "before")
    with pytest.raises(Refused, match="at most 262,144"):
        put(store, "small", "x" * MAX_VALUE_BYTES)
    assert store.context.get("small", "") is not None
    assert [one.value for one in store.context.entries() if one.key == "small"] == ["before"]
    store.context.delete("k0")
    put(store, "small", "x" * MAX_VALUE_BYTES)


def test_the_number_of_keys_is_bounded_but_old_ones_can_still_be_set(store: RedisStore) -> None:
    for number in range(MAX_ENTRIES):
        put(store, f"k{number}", "x")
    with pytest.raises(Refused, match="200 keys"):
        put(store, "one-more", "x")
    assert put(store, "k0", "y").value == "y"
