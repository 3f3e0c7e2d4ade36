from __future__ import annotations

import pytest

from claude_pool.errors import NotFound
from claude_pool.keys import QUEUE
from claude_pool.models.options import TaskOptions
from claude_pool.models.task import Submitter, TaskRequest, TaskState
from claude_pool.store import tasks as module
from claude_pool.store.base import Page, TaskFilter
from claude_pool.store.redis import RedisStore
from claude_pool.testing.hands import Hand


def put(store: RedisStore, *prompts: str, tags: tuple[str, ...] = (), submitter: str = "") -> list[str]:
    options, who = TaskOptions(tags=tags), Submitter(name=submitter)
    requests = [TaskRequest(prompt=prompt, options=options, submitter=who) for prompt in prompts]
    return [answer.task_id for answer in store.tasks.submit(requests, queue=QUEUE)]


def ids(page: Page) -> list[str]:
    return [task.id for task in page.tasks]


def pages(store: RedisStore, wanted: TaskFilter) -> list[str]:
    found: list[str] = []
    after = None
    while True:
        page = store.tasks.list(wanted.evolve(after=after))
        assert len(page.tasks) <= wanted.limit
        found += ids(page)
        if page.next is None:
            return found
        after = page.next


def test_the_newest_task_comes_first_even_within_one_call(store: RedisStore) -> None:
    made = put(store, *"abcdefgh")
    assert ids(store.tasks.list(TaskFilter())) == made[::-1]


@pytest.mark.parametrize("states", [(), (TaskState.PENDING,)])
@pytest.mark.parametrize("small", [0, 2000])
def test_pages_together_are_the_whole_list_once(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch, states: tuple[TaskState, ...], small: int
) -> None:
    monkeypatch.setattr(module, "SMALL_STATES", small)
    monkeypatch.setattr(module, "CHUNK", 3)
    made = put(store, *(str(number) for number in range(20)))
    for limit in (1, 3, 7, 20, 50):
        assert pages(store, TaskFilter(limit=limit, states=states)) == made[::-1]


@pytest.mark.parametrize("small", [0, 2000])
def test_a_page_goes_on_where_the_one_before_ended_though_that_task_has_moved(
    store: RedisStore, hand: Hand, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    monkeypatch.setattr(module, "SMALL_STATES", small)
    made = put(store, *"abcd")
    wanted = TaskFilter(limit=2, states=(TaskState.PENDING,))
    first = store.tasks.list(wanted)
    hand.claim(first.tasks[-1].id)
    assert ids(store.tasks.list(wanted.evolve(after=first.next))) == made[1::-1]


@pytest.mark.parametrize("small", [0, 2000])
def test_states_are_any_of_them(store: RedisStore, hand: Hand, monkeypatch: pytest.MonkeyPatch, small: int) -> None:
    monkeypatch.setattr(module, "SMALL_STATES", small)
    pending, done, running, cancelled = put(store, *"abcd")
    hand.finish(hand.run(done), "completed")
    hand.run(running)
    store.tasks.cancel(cancelled, reason="no")
    wanted = TaskFilter(states=(TaskState.COMPLETED, TaskState.PENDING))
    assert ids(store.tasks.list(wanted)) == [done, pending]


def test_tags_are_all_of_them(store: RedisStore) -> None:
    both, _one = put(store, "a", tags=("x", "y"))[0], put(store, "b", tags=("x",))
    put(store, "c")
    assert ids(store.tasks.list(TaskFilter(tags=("x", "y")))) == [both]
    assert ids(store.tasks.list(TaskFilter(tags=("y", "x"), states=(TaskState.PENDING,)))) == [both]
    assert ids(store.tasks.list(TaskFilter(tags=("nobody",)))) == []


def test_a_submitter_sees_its_own(store: RedisStore) -> None:
    mine = put(store, "a", submitter="me")
    put(store, "b", submitter="you")
    assert ids(store.tasks.list(TaskFilter(submitter="me"))) == mine


def test_a_page_after_a_task_that_is_gone_says_so(store: RedisStore) -> None:
    put(store, "a")
    for states in ((), (TaskState.PENDING,)):
        with pytest.raises(NotFound, match="t-0000000000"):
            store.tasks.list(TaskFilter(after="t-0000000000", states=states))


def test_many_are_read_without_those_that_do_not_exist(store: RedisStore) -> None:
    made = put(store, *"abc")
    assert list(store.tasks.get_many([*made, "t-0000000000"])) == made
    assert store.tasks.get_many([]) == {}
