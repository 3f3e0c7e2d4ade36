"""The Celery side of a slot, without a worker: what the two tasks do, and how it is told to stop."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from celery.exceptions import Ignore
from celery.worker import WorkController, state
from celery.worker.consumer import Consumer

from claude_pool.broker import make_app
from claude_pool.keys import TASK_NAME
from claude_pool.store.base import Doorbell
from workers.app import CANARY_NAME, Ear


class Slot:
    """What the ear serves."""

    def __init__(self) -> None:
        self.answers = True
        self.answered: list[str] = []
        self.canaries = 0

        self.link: Doorbell | None = None

    def answer(self, task_id: str, link: Doorbell | None) -> bool:
        self.answered.append(task_id)
        self.link = link
        return self.answers

    def canary(self) -> None:
        self.canaries += 1


@pytest.fixture
def slot() -> Slot:
    return Slot()


@pytest.fixture
def app() -> Any:
    return make_app("p", "redis://127.0.0.1:1")


@pytest.fixture
def ear(app: Any, slot: Slot) -> Iterator[Ear]:
    before = state.should_stop
    yield Ear(app, name="slot-0@n1", queues=["slot.slot-0@n1", "tasks"], answer=slot.answer, on_canary=slot.canary,
              on_ready=lambda: None)  # fmt: skip
    state.should_stop = before


def test_a_bell_hands_its_id_to_the_slot(app: Any, ear: Ear, slot: Slot) -> None:
    app.tasks[TASK_NAME]("t-1")
    assert slot.answered == ["t-1"]


def test_a_bell_after_which_nothing_may_follow_is_ignored_so_that_no_link_rings(app: Any, ear: Ear, slot: Slot) -> None:
    slot.answers = False
    with pytest.raises(Ignore):
        app.tasks[TASK_NAME]("t-1")
    assert slot.answered == ["t-1"]


def test_an_error_inside_is_left_to_celery_and_rings_nothing_either(app: Any, slot: Slot) -> None:
    def broken(task_id: str, _link: Doorbell | None) -> bool:
        raise RuntimeError(task_id)

    Ear(app, name="s", queues=["q"], answer=broken, on_canary=slot.canary, on_ready=lambda: None)
    with pytest.raises(RuntimeError):
        app.tasks[TASK_NAME]("t-1")


def test_the_next_link_of_a_chain_is_told_to_the_slot_and_a_broken_one_is_none(app: Any, ear: Ear, slot: Slot) -> None:
    first, second = (
        dict(app.signature(TASK_NAME, args=(id_,), immutable=True, task_id=id_, queue="tasks", priority=2))
        for id_ in ("t-2", "t-3")
    )
    run = app.tasks[TASK_NAME]
    for chain, link in (
        ([second, first], Doorbell(task_id="t-2", queue="tasks", priority=2)),
        ([{"options": {}}], None),
        (["?"], None),
        (None, None),
    ):
        run.push_request(chain=chain, args=("t-1",))
        try:
            run.run("t-1")
        finally:
            run.pop_request()
        assert slot.link == link


def test_only_the_two_wire_names_are_heard_and_both_acknowledge_late(app: Any, ear: Ear) -> None:
    ours = {name: task for name, task in app.tasks.items() if not name.startswith("celery.")}
    assert ours.keys() == {TASK_NAME, CANARY_NAME}
    assert all(task.acks_late and task.ignore_result for task in ours.values())


def test_the_canary_reaches_the_slots_own_queue_and_comes_back(
    app: Any, ear: Ear, slot: Slot, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(app, "send_task", lambda name, **how: sent.append((name, how)))
    ear.canary()
    [(name, how)] = sent
    assert (name, how["queue"]) == (CANARY_NAME, "slot.slot-0@n1")
    app.tasks[name]()
    assert slot.canaries == 1


def test_stopping_takes_no_more_bells_and_makes_the_consumer_look_up(
    app: Any, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(app, "send_task", lambda name, **_how: sent.append(name))
    ear.stop()
    assert state.should_stop == 0
    assert sent == [CANARY_NAME]


def test_stopping_works_while_redis_is_away(app: Any, ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_a: Any, **_k: Any) -> None:
        raise OSError("gone")

    monkeypatch.setattr(app, "send_task", away)
    ear.stop()
    assert state.should_stop == 0


def test_what_celery_loads_by_name_is_there_before_slots_are_forked() -> None:
    steps = [*WorkController.Blueprint.default_steps, *Consumer.Blueprint.default_steps]
    named = {step.partition(":")[0] for step in steps}
    assert named | {"celery.concurrency.thread", "kombu.transport.redis"} <= set(sys.modules)


def test_a_server_that_is_away_is_looked_for_every_second_however_long_it_was(
    app: Any, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    connection = app.connection_for_read()
    monkeypatch.setattr(connection, "_ensure_connection", lambda *_args, **pace: asked.update(pace))
    assert connection.ensure_connection(None, None, callback=None) is connection
    assert (asked["interval_max"], asked["callback"]) == (1.0, None)
