"""Doorbells over Celery's own transport, with a server in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

import fakeredis
import pytest
import redis
from celery import Celery
from kombu import pools
from kombu.transport.redis import Channel

from claude_pool.broker import PRIORITIES, BackgroundBroker, CeleryBroker, LateBroker, broker_url, make_app
from claude_pool.errors import Unreachable
from claude_pool.keys import QUEUE, TASK_NAME
from claude_pool.store.base import Doorbell

ANYWHERE = "redis://127.0.0.1:1/0"


@dataclass
class Bench:
    """One pool's broker, and its server seen from outside."""

    app: Celery
    server: fakeredis.FakeServer
    broker: CeleryBroker

    @property
    def raw(self) -> Any:
        return fakeredis.FakeRedis(server=self.server, decode_responses=True)

    def lists(self) -> dict[str, list[dict[str, Any]]]:
        """Every list of messages by key, the one that is heard first at the end."""
        names = [name for name in self.raw.scan_iter() if self.raw.type(name) == "list"]
        return {name: [json.loads(text) for text in self.raw.lrange(name, 0, -1)] for name in names}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    server = fakeredis.FakeServer()
    pool = fakeredis.FakeRedis(server=server).connection_pool
    monkeypatch.setattr(Channel, "_get_pool", lambda *_a, **_k: pool)
    app = make_app("p", ANYWHERE)
    app.conf.broker_transport_options |= {"max_retries": 0}  # Kombu would pause for 2 and 4 s
    broker = CeleryBroker(app)
    yield Bench(app, server, broker)
    broker.close()
    pools.reset()  # Kombu keeps connections for whoever asks for the same address
    pool.disconnect()


def bell(task_id: str, priority: int = 2, queue: str = QUEUE) -> Doorbell:
    return Doorbell(task_id=task_id, queue=queue, priority=priority)


def comparable(message: dict[str, Any]) -> dict[str, Any]:
    """Without what is random in every message."""
    properties = {
        name: value for name, value in message["properties"].items() if name not in {"delivery_tag", "reply_to"}
    }
    return {**message, "properties": properties}


def test_a_bell_is_exactly_the_message_that_celery_would_send(bench: Bench) -> None:
    bench.app.send_task(
        TASK_NAME, args=("t-1",), task_id="t-1", queue=QUEUE, priority=3, ignore_result=True, retry=False
    )
    [(name, [theirs])] = bench.lists().items()
    bench.raw.flushall()
    bench.broker.ring([bell("t-1", 3)])
    [(key, [ours])] = bench.lists().items()
    assert key == name
    assert comparable(ours) == comparable(theirs)
    assert ours["properties"].keys() - theirs["properties"].keys() == set()


def test_a_bell_carries_an_id_and_nothing_else(bench: Bench) -> None:
    bench.broker.ring([bell("t-1")])
    [[message]] = bench.lists().values()
    assert message["headers"]["id"] == "t-1"
    assert message["headers"]["task"] == TASK_NAME


def test_no_two_bells_share_a_delivery_tag(bench: Bench) -> None:
    bench.broker.ring([bell(f"t-{number}") for number in range(50)])
    [messages] = bench.lists().values()
    assert len({message["properties"]["delivery_tag"] for message in messages}) == 50


def test_bells_of_one_priority_are_heard_in_the_order_of_ringing(bench: Bench) -> None:
    bench.broker.ring([bell("t-1"), bell("t-2")])
    bench.broker.ring([bell("t-3")])
    [messages] = bench.lists().values()
    assert [message["headers"]["id"] for message in reversed(messages)] == ["t-1", "t-2", "t-3"]


def test_each_priority_has_a_list_and_the_most_urgent_is_heard_first(bench: Bench) -> None:
    bench.broker.ring([bell(f"t-{priority}", priority) for priority in reversed(range(PRIORITIES))])
    assert len(bench.lists()) == PRIORITIES
    with bench.app.connection_for_read() as connection, connection.SimpleQueue(QUEUE) as queue:
        heard = [queue.get_nowait() for _ in range(PRIORITIES)]
        assert [message.headers["id"] for message in heard] == [f"t-{priority}" for priority in range(PRIORITIES)]
        for message in heard:
            message.ack()


def test_waiting_counts_one_queue_with_all_its_priorities(bench: Bench) -> None:
    assert bench.broker.waiting(QUEUE) == 0
    bench.broker.ring([bell("t-1", 0), bell("t-2", 4), bell("t-3", 2, "node.n1")])
    assert bench.broker.waiting(QUEUE) == 2
    assert bench.broker.waiting("node.n1") == 1


def test_thousands_of_bells_take_one_push_per_thousand(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: list[int] = []
    push = redis.Redis.lpush

    def count(self: Any, name: str, *values: str) -> Any:
        pushed.append(len(values))
        return push(self, name, *values)

    monkeypatch.setattr(redis.Redis, "lpush", count)
    bench.broker.ring([bell(f"t-{number}") for number in range(2_500)])
    assert pushed == [1_000, 1_000, 500]


def test_all_keys_of_the_broker_are_below_the_pools_name(bench: Bench) -> None:
    bench.broker.ring([bell("t-1")])
    assert all(name.startswith("p:mq:") for name in bench.raw.scan_iter())


def test_no_bells_are_no_message(bench: Bench) -> None:
    bench.broker.ring([])
    assert bench.lists() == {}


def test_a_server_that_went_away_is_unreachable_whatever_is_asked(bench: Bench) -> None:
    bench.broker.ring([bell("t-1")])
    bench.server.connected = False
    with pytest.raises(Unreachable, match="can't be reached to ring"):
        bench.broker.ring([bell("t-2")])
    with pytest.raises(Unreachable, match="can't be reached to count"):
        bench.broker.waiting(QUEUE)
    bench.server.connected = True
    bench.broker.ring([bell("t-3")])
    assert bench.broker.waiting(QUEUE) == 2


def test_a_server_that_takes_no_more_is_unreachable(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_words: Any) -> None:
        raise redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'")

    monkeypatch.setattr(redis.Redis, "lpush", full)
    with pytest.raises(Unreachable, match="not allowed when used memory"):
        bench.broker.ring([bell("t-1")])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("unix:///run/r.sock", "redis+socket:///run/r.sock"),
        ("redis://host:6379/3", "redis://host:6379/3"),
        ("rediss://host", "rediss://host"),
    ],
)
def test_the_same_server_in_kombus_spelling(ours: str, theirs: str) -> None:
    assert broker_url(ours) == theirs


class Double:
    def __init__(self) -> None:
        self.rung: list[Doorbell] = []
        self.closed = 0

    def ring(self, bells: Any) -> None:
        self.rung += bells

    def waiting(self, queue: str) -> int:
        return len(self.rung)

    def close(self) -> None:
        self.closed += 1


def test_a_late_broker_is_made_once_and_by_the_first_bell() -> None:
    made: list[Double] = []

    def make() -> Double:
        made.append(Double())
        return made[-1]

    late = LateBroker(make)
    late.close()
    assert made == []
    late.ring([bell("t-1")])
    assert late.waiting(QUEUE) == 1
    late.close()
    assert [(double.rung, double.closed) for double in made] == [([bell("t-1")], 1)]


class Slow:
    """A broker whose bells ring when they may."""

    def __init__(self, error: Exception | None = None) -> None:
        self.may_ring = Event()
        self.rung: list[Doorbell] = []
        self.closed = False
        self.error = error

    def ring(self, bells: Sequence[Doorbell]) -> None:
        assert self.may_ring.wait(10)
        self.rung += bells
        if self.error:
            raise self.error

    def waiting(self, queue: str) -> int:
        return len(self.rung)

    def close(self) -> None:
        self.closed = True


def test_a_background_broker_rings_in_order_and_all_of_it_before_it_closes() -> None:
    slow = Slow()
    broker = BackgroundBroker(slow)
    bells = [Doorbell(task_id=f"t-{number}", queue="q", priority=2) for number in range(20)]
    for bell in bells:
        broker.ring([bell])
    assert broker.waiting("q") == 0, "nobody waited for the bells"
    slow.may_ring.set()
    broker.close()
    assert slow.rung == bells
    assert slow.closed


@pytest.mark.parametrize("error", [Unreachable(), RuntimeError("?")])
def test_a_bell_that_does_not_ring_in_the_background_is_logged_and_the_next_one_rings(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    slow = Slow(error)
    slow.may_ring.set()
    broker = BackgroundBroker(slow)
    for number in range(2):
        broker.ring([Doorbell(task_id=f"t-{number}", queue="q", priority=2)])
    broker.close()
    assert len(slow.rung) == 2
    assert "did not ring" in caplog.text
