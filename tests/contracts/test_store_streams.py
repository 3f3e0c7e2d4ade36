from __future__ import annotations

import threading

import pytest

from claude_pool.errors import InvalidRequest, PoolError
from claude_pool.models.events import LogEntry, TaskEvent
from claude_pool.store.redis import RedisStore
from claude_pool.store.streams import LINE_CHARS
from claude_pool.testing.hands import Hand

PATIENCE_S = 10


def line(text: str = "x", **more: object) -> LogEntry:
    return LogEntry.model_validate({"run_id": "r", "kind": "text", "text": text, **more})


# -- events


def test_an_event_says_what_happened_to_whom(store: RedisStore, hand: Hand) -> None:
    cursor = store.events.head()
    claim = hand.claim(hand.submit())
    (submitted, claimed), _ = store.events.read(cursor)
    assert (submitted.verb, submitted.subject, submitted.state) == ("submit", claim.task.id, "pending")
    assert (claimed.verb, claimed.was, claimed.state) == ("claim", "pending", "claimed")
    assert (claimed.run_id, claimed.slot) == (claim.run_id, hand.identity.slot_id)
    assert claimed.at_ms >= submitted.at_ms > 1_500_000_000_000


def test_a_cursor_reads_each_event_once_and_consumes_none(store: RedisStore, hand: Hand) -> None:
    start = store.events.head()
    for _ in range(7):
        hand.submit()
    seen: list[TaskEvent] = []
    cursor = start
    while True:
        events, cursor = store.events.read(cursor, limit=2)
        if not events:
            break
        seen += events
    assert len({event.id for event in seen}) == 7
    assert cursor == store.events.head()
    assert store.events.read(start)[0] == seen


def test_an_empty_stream_has_a_head_to_read_from(store: RedisStore) -> None:
    cursor = store.events.head()
    assert store.events.read(cursor) == ([], cursor)
    assert store.events.read(cursor, block_ms=1) == ([], cursor)
    Hand(store)
    assert len(store.events.read(cursor)[0]) == 1


@pytest.mark.parametrize("cursor", ["$", ">", "+", "now", "-1", "1-x"])
def test_what_is_no_cursor_is_refused(store: RedisStore, cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="no cursor"):
        store.events.read(cursor)


@pytest.mark.redis
def test_who_waits_for_events_is_woken_by_the_next_one(real_store: RedisStore) -> None:
    cursor = real_store.events.head()
    woken: list[TaskEvent] = []
    waiter = threading.Thread(target=lambda: woken.extend(real_store.events.read(cursor, block_ms=60_000)[0]))
    waiter.start()
    Hand(real_store)
    waiter.join(PATIENCE_S)
    assert not waiter.is_alive()
    assert woken[0].verb == "join"


def test_an_event_of_a_newer_version_fails_loudly(store: RedisStore) -> None:
    store.client.append_stream("events", entries=[{"verb": "x", "subject": "t", "colour": "blue"}], most=10)
    with pytest.raises(PoolError, match="colour"):
        store.events.read("0-0")


# -- logs


def test_lines_come_back_in_order_with_everything(store: RedisStore) -> None:
    lines = [line("a", data={"cost_usd": 0.5}), line("b", kind="tool", tool="Bash", at_ms=5), line("é\u2028\x00")]
    store.logs.append("t-1", lines)
    found = store.logs.read("t-1")
    assert [entry.evolve(id="", at_ms=0) for entry in found] == [entry.evolve(at_ms=0) for entry in lines]
    assert found[1].at_ms == 5
    assert found[0].at_ms > 5
    assert store.logs.read("t-1", after=found[1].id) == found[2:]
    assert store.logs.read("t-1", limit=1) == found[:1]


def test_nothing_to_say_is_nothing_written(store: RedisStore) -> None:
    store.logs.append("t-1", [])
    assert store.logs.read("t-1") == []
    assert store.logs.read("t-1", block_ms=1) == []


def test_a_huge_line_is_cut(store: RedisStore) -> None:
    store.logs.append("t-1", [line("x" * 1_000_000, data={"big": "y" * 1_000_000})])
    (entry,) = store.logs.read("t-1")
    assert len(entry.text) == LINE_CHARS
    assert entry.data == {}


def test_a_log_keeps_about_the_newest_lines(store: RedisStore) -> None:
    most = store.logs._config.log_lines
    for start in range(0, 3 * most, 500):
        store.logs.append("t-1", [line(str(start + number)) for number in range(500)])
    found = store.logs.read("t-1", limit=10 * most)
    assert most <= len(found) < 2 * most
    assert found[-1].text == str(3 * most - 1)


def test_a_record_knows_its_last_event(store: RedisStore, hand: Hand) -> None:
    claim = hand.run(hand.submit())
    assert store.tasks.get(claim.task.id).event_id == store.events.head()
    store.tasks.cancel(claim.task.id, reason="x")
    assert store.tasks.get(claim.task.id).event_id == store.events.head()
    hand.finish(claim, "completed")
    assert store.tasks.get(claim.task.id).event_id == store.events.head()
