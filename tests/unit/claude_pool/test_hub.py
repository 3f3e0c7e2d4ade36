import threading
from collections.abc import Iterator
from queue import Empty, Queue

import pytest

from claude_pool.errors import Unreachable
from claude_pool.hub import Hub
from claude_pool.models.events import TaskEvent

WAIT_S = 5.0


def event(number: int, subject: str) -> TaskEvent:
    return TaskEvent(id=f"{number}-0", at_ms=number, verb="claim", subject=subject)


class Stream:
    """A stream of events that a test feeds by hand."""

    def __init__(self) -> None:
        self.fed: Queue[TaskEvent | Exception] = Queue()
        self.readers = 0
        self.head_error: Exception | None = None

    def head(self) -> str:
        if self.head_error is not None:
            raise self.head_error
        self.readers += 1
        return "0-0"

    def read(self, after: str, *, block_ms: int | None = None, limit: int = 1000) -> tuple[list[TaskEvent], str]:
        try:
            item = self.fed.get(timeout=0.05)
        except Empty:
            return [], after
        if isinstance(item, Exception):
            raise item
        return [item], item.id


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def hub(stream: Stream) -> Iterator[Hub]:
    hub = Hub(stream)
    yield hub
    hub.close()


def test_a_waiter_hears_only_of_what_it_asked_for(hub: Hub, stream: Stream) -> None:
    heard: Queue[TaskEvent | None] = Queue()
    with hub.listening(["t-a"], heard.put):
        stream.fed.put(event(1, "t-b"))
        stream.fed.put(event(2, "t-a"))
        first = heard.get(timeout=WAIT_S)
    assert first is not None
    assert first.id == "2-0"


def test_any_number_of_waiters_share_one_reader(hub: Hub, stream: Stream) -> None:
    heard: list[Queue[TaskEvent | None]] = [Queue() for _ in range(50)]
    waiters = [hub.listening(None, one.put) for one in heard]
    for waiter in waiters:
        waiter.__enter__()
    stream.fed.put(event(1, "t-a"))
    assert all(one.get(timeout=WAIT_S) for one in heard)
    assert stream.readers == 1
    for waiter in waiters:
        waiter.__exit__(None, None, None)


def test_an_outage_tells_every_waiter_to_look_again_and_the_stream_goes_on(hub: Hub, stream: Stream) -> None:
    heard: Queue[TaskEvent | None] = Queue()
    with hub.listening(["t-a"], heard.put):
        stream.fed.put(Unreachable())
        assert heard.get(timeout=WAIT_S) is None
        stream.fed.put(event(1, "t-a"))
        assert heard.get(timeout=WAIT_S) == event(1, "t-a")


def test_a_store_that_is_away_from_the_start_is_an_error_of_the_caller(hub: Hub, stream: Stream) -> None:
    stream.head_error = Unreachable()
    with pytest.raises(Unreachable), hub.listening(["t-a"], print):
        pytest.fail("must not listen")
    stream.head_error = None
    with hub.listening(["t-a"], print):
        assert stream.readers == 1


def test_the_reader_leaves_with_the_last_waiter_and_comes_back_with_the_next(hub: Hub, stream: Stream) -> None:
    with hub.inbox(["t-a"]):
        first = next(thread for thread in threading.enumerate() if thread.name == "hub")
    first.join(WAIT_S)
    assert not first.is_alive()
    with hub.inbox(["t-a"]) as inbox:
        stream.fed.put(event(1, "t-a"))
        assert inbox.take(WAIT_S)


def test_an_inbox_without_news_runs_out_of_time(hub: Hub) -> None:
    with hub.inbox(["t-a"]) as inbox:
        assert not inbox.take(0.01)
