"""The verbs for single tasks, and what every desk does with options and bells."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.desks import base
from claude_pool.desks.tasks import _later
from claude_pool.errors import Conflict, InvalidRequest, KeyReused, NotFound, PoolDrained, Unreachable
from claude_pool.models.events import LogEntry
from claude_pool.models.options import TaskOptions
from claude_pool.models.task import TaskState
from claude_pool.pool import Pool
from claude_pool.store import Store
from claude_pool.testing.hands import Hand

UNKNOWN = "t-0000000000"
PATIENCE_S = 20


def flaky(method: Any, failures: int) -> Any:
    """The method, unreachable for the first so many calls."""
    left = [failures]

    def call(*given: Any, **how: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise Unreachable
        return method(*given, **how)

    return call


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses that were made instead of being waited for."""
    pauses: list[float] = []
    monkeypatch.setattr(base.time, "sleep", pauses.append)
    return pauses


# -- options


def test_the_pools_defaults_fill_the_gaps_and_only_the_gaps(pool: Pool) -> None:
    filled, chosen = pool.request("Hi."), pool.request("Hi.", model="opus", max_budget_usd=0.5)
    assert (filled.options.model, filled.options.max_budget_usd) == ("haiku", 2.0)
    assert (chosen.options.model, chosen.options.max_budget_usd) == ("opus", 0.5)


def test_loose_fields_come_before_those_of_a_record(pool: Pool) -> None:
    options = TaskOptions(model="opus", priority=1, tags=("a",))
    merged = pool.request("Hi.", options, priority=4).options
    assert (merged.model, merged.priority, merged.tags) == ("opus", 4, ("a",))


def test_what_is_none_in_the_settings_stays_for_the_cli_to_decide(pool: Pool) -> None:
    assert pool.request("Hi.").options.permission_mode is None


def test_the_settings_repository_and_target_become_the_tasks(store: Store, bells: Any, tmp_path: Path) -> None:
    pool = Pool(PoolConfig(name="p", home=tmp_path, repo=tmp_path, target="main"), store, bells)
    options = pool.request("Hi.").options
    assert (options.repo, options.base_ref) == (str(tmp_path), "main")
    assert pool.request("Hi.", base_ref="topic").options.base_ref == "topic"


@pytest.mark.parametrize(
    ("prompt", "fields", "told"),
    [
        ("Hi.", {"frobnicate": 1}, "there is no field 'frobnicate'"),
        ("Hi.", {"priority": 9}, "priority"),
        ("  ", {}, "must not be empty"),
        ("Hi.", {"idempotency_key": ""}, "idempotency_key"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_by_name(
    pool: Pool, bells: Any, prompt: str, fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidRequest, match=told):
        pool.submit(prompt, **fields)
    assert bells.calls == 0
    assert pool.status().pending == 0


# -- submit


def test_a_submitted_task_is_stored_rung_and_known_by_its_submitter(pool: Pool, bells: Any) -> None:
    submitted = pool.submit("Say hello.", priority=1, title="greeting")
    task = pool.get(submitted.task_id)
    assert (task.state, task.title, task.submitter.name) == (TaskState.PENDING, "greeting", "ada")
    assert [(bell.task_id, bell.queue, bell.priority) for bell in bells.rung] == [(task.id, task.queue, 1)]


def test_a_repeated_key_gives_the_same_task_and_rings_once(pool: Pool, bells: Any) -> None:
    one, two = pool.submit("Hi.", idempotency_key="k"), pool.submit("Hi.", idempotency_key="k")
    assert (one.task_id, one.created, two.created) == (two.task_id, True, False)
    assert len(bells.rung) == 1
    with pytest.raises(KeyReused):
        pool.submit("Something else.", idempotency_key="k")


def test_many_tasks_are_answered_in_order_and_rung_together(pool: Pool, bells: Any) -> None:
    answers = pool.submit_many([pool.request(f"Number {n}.", priority=n) for n in range(5)])
    assert [bell.task_id for bell in bells.rung] == [answer.task_id for answer in answers]
    assert [bell.priority for bell in bells.rung] == [0, 1, 2, 3, 4]
    assert bells.calls == 1


def test_nothing_submitted_rings_nothing(pool: Pool, bells: Any) -> None:
    assert pool.submit_many([]) == []
    assert bells.calls == 0


def test_a_bell_that_does_not_ring_loses_no_task(pool: Pool, bells: Any) -> None:
    bells.away = True
    task_id = pool.submit("Hi.").task_id
    assert pool.get(task_id).state is TaskState.PENDING


def test_a_drained_pool_takes_nothing(pool: Pool, store: Store, bells: Any) -> None:
    store.pool.set_accepting(accepting=False)
    with pytest.raises(PoolDrained):
        pool.submit("Hi.")
    assert bells.calls == 0


# -- looking


def test_the_result_so_far_of_a_task_that_runs_says_what_is_known(pool: Pool, hand: Hand) -> None:
    task_id = pool.submit("Hi.").task_id
    claim = hand.run(task_id)
    result = pool.result(task_id)
    assert (result.state, result.partial, result.run_id) == (TaskState.RUNNING, True, claim.run_id)


def test_a_result_carries_the_tasks_state_and_whole_cost(pool: Pool, hand: Hand) -> None:
    task_id = pool.submit("Hi.").task_id
    hand.finish(hand.run(task_id), "completed", output="Hello.", cost_usd=0.25)
    result = pool.result(task_id)
    assert (result.state, result.output, result.cost_usd, result.partial) == ("completed", "Hello.", 0.25, False)


@pytest.mark.parametrize("verb", ["get", "detail", "result", "cancel", "stream"])
def test_a_task_that_does_not_exist_is_not_found(pool: Pool, verb: str) -> None:
    with pytest.raises(NotFound):
        getattr(pool, verb)(UNKNOWN)


def test_lists_are_newest_first_by_state_tag_and_page(pool: Pool) -> None:
    ids = [pool.submit(f"{n}", tags=["odd"] if n % 2 else []).task_id for n in range(5)]
    assert [task.id for task in pool.list().tasks] == ids[::-1]
    assert [task.id for task in pool.list(tags=["odd"], states=["pending"]).tasks] == [ids[3], ids[1]]
    first = pool.list(limit=3)
    assert first.next is not None
    assert [task.id for task in pool.list(limit=3, after=first.next).tasks] == ids[1::-1]
    assert pool.list(submitter="bob").tasks == ()


def test_a_state_that_does_not_exist_is_refused_with_those_that_do(pool: Pool) -> None:
    with pytest.raises(InvalidRequest, match="pending_review"):
        pool.list(states=["finished"])


# -- waiting


def test_a_wait_for_what_is_settled_answers_at_once_and_again(pool: Pool, hand: Hand) -> None:
    task_id = pool.submit("Hi.").task_id
    hand.finish(hand.run(task_id), "completed")
    one, two = pool.wait([task_id]), pool.wait([task_id])
    assert [task.id for task in one.finished] == [task.id for task in two.finished] == [task_id]
    assert one.running == ()


def test_a_wait_is_woken_by_the_end_of_the_task(pool: Pool, hand: Hand) -> None:
    task_id = pool.submit("Hi.").task_id
    claim = hand.run(task_id)
    finish = threading.Thread(target=hand.finish, args=(claim, "completed"))
    with pool.hub.listening([task_id], lambda _event: None):
        finish.start()
        waited = pool.wait([task_id], timeout_s=PATIENCE_S)
        finish.join()
    assert ([task.id for task in waited.finished], waited.timed_out) == ([task_id], False)


def test_any_is_content_with_the_first_and_all_is_not(pool: Pool, hand: Hand) -> None:
    ids = [pool.submit(f"{n}").task_id for n in range(2)]
    hand.finish(hand.run(ids[0]), "completed")
    some = pool.wait(ids, until="any", timeout_s=PATIENCE_S)
    assert ([task.id for task in some.finished], some.running, some.timed_out) == ([ids[0]], (ids[1],), False)
    assert pool.wait(ids, timeout_s=0.01).timed_out


def test_a_cursor_leaves_out_what_was_seen_before(pool: Pool, hand: Hand) -> None:
    ids = [pool.submit(f"{n}").task_id for n in range(2)]
    hand.finish(hand.run(ids[0]), "completed")
    cursor = pool.wait(ids, until="any").cursor
    hand.finish(hand.run(ids[1]), "failed")
    assert [task.id for task in pool.wait(ids, after=cursor).finished] == [ids[1]]


def test_a_cursors_parts_are_numbers_and_not_letters() -> None:
    assert _later("10-0", "9-5")
    assert _later("9-10", "9-9")
    assert not _later("9-5", "9-5")
    assert _later("1-0", "")


def test_what_waits_for_a_person_is_settled(pool: Pool, hand: Hand) -> None:
    held, reviewed = (pool.submit(f"{n}").task_id for n in range(2))
    pool.hold(held)
    hand.finish(hand.run(reviewed), "pending_review")
    assert {task.state for task in pool.wait([held, reviewed]).finished} == {"parked", "pending_review"}


def test_waiting_for_an_unknown_task_is_an_error_and_not_an_eternity(pool: Pool) -> None:
    with pytest.raises(NotFound, match=UNKNOWN):
        pool.wait([pool.submit("Hi.").task_id, UNKNOWN])


def test_a_wait_outlives_an_outage_and_a_look_does_not(
    pool: Pool, store: Store, hurried: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = pool.submit("Hi.").task_id
    pool.cancel(task_id)
    monkeypatch.setattr(store.tasks, "get_many", flaky(store.tasks.get_many, 7))
    assert pool.wait([task_id]).running == ()
    assert len(hurried) == 7
    assert hurried == sorted(hurried)
    monkeypatch.setattr(store.tasks, "get_many", flaky(store.tasks.get_many, 1))
    with pytest.raises(Unreachable):
        pool.look([task_id])


def test_a_run_is_submit_wait_and_result_and_stops_waiting_in_time(pool: Pool, hand: Hand) -> None:
    result = pool.run("Hi.", wait_s=0.01)
    assert (result.state, result.partial) == (TaskState.PENDING, True)
    assert pool.get(result.task_id).state is TaskState.PENDING


# -- following


def test_a_log_is_read_to_its_end_and_from_any_line_on(pool: Pool, hand: Hand) -> None:
    task_id = pool.submit("Hi.").task_id
    claim = hand.run(task_id)
    pool.store.logs.append(task_id, [LogEntry(run_id=claim.run_id, kind="text", text=f"{n}") for n in range(3)])
    hand.finish(claim, "completed")
    lines = list(pool.stream(task_id))
    assert [line.text for line in lines] == ["0", "1", "2"]
    assert [line.text for line in pool.stream(task_id, after=lines[0].id)] == ["1", "2"]


def test_without_following_a_log_ends_with_what_there_is(pool: Pool, hand: Hand) -> None:
    task_id = pool.submit("Hi.").task_id
    claim = hand.run(task_id)
    pool.store.logs.append(task_id, [LogEntry(run_id=claim.run_id, kind="text", text="so far")])
    assert [line.text for line in pool.stream(task_id, follow=False)] == ["so far"]


# -- ending and holding


def test_a_cancel_ends_what_waits_and_asks_what_runs(pool: Pool, hand: Hand) -> None:
    waiting, running = (pool.submit(f"{n}").task_id for n in range(2))
    hand.run(running)
    assert pool.cancel(waiting).state is TaskState.CANCELLED
    asked = pool.cancel(running, reason="changed my mind")
    assert (asked.state, asked.cancel_requested) == (TaskState.RUNNING, "changed my mind")
    assert pool.cancel(waiting).state is TaskState.CANCELLED


def test_everything_that_is_not_final_can_be_cancelled_at_once_or_by_tag(pool: Pool, hand: Hand) -> None:
    ids = [pool.submit(f"{n}", tags=["mine"] if n else []).task_id for n in range(4)]
    pool.hold(ids[1])
    hand.finish(hand.run(ids[2]), "completed")
    assert {task.id for task in pool.cancel_all(tags=["mine"])} == {ids[1], ids[3]}
    assert [task.id for task in pool.cancel_all()] == [ids[0]]
    assert pool.cancel_all() == []


def test_chains_and_fan_outs_are_cancelled_as_a_whole_when_all_of_them_is_meant(pool: Pool, hand: Hand) -> None:
    chain = pool.submit_chain([{"name": "a", "prompt": "x"}, {"name": "b", "prompt": "y"}], tags=["mine"])
    fan = pool.fan_out(["1", "2"], gather="{branches}")
    nested = pool.fan_out_chains({"n": [{"name": "a", "prompt": "x"}]}, tags=["mine"])
    alone = pool.submit("z", tags=["mine"]).task_id
    assert {task.id for task in pool.cancel_all(tags=["mine"])} == {chain.chain_id, nested.fan_out_id, alone}
    assert pool.get(fan.fan_out_id).state is TaskState.RUNNING
    claim = hand.run(fan.task_ids[0])
    assert [task.id for task in pool.cancel_all()] == [fan.fan_out_id]
    assert pool.chain_result(chain.chain_id).state is TaskState.CANCELLED
    assert [one.state for one in pool.fan_out_result(fan.fan_out_id).results] == ["running", "skipped"]
    hand.finish(claim, "completed")
    assert pool.get(fan.fan_out_id).state is TaskState.CANCELLED
    assert pool.cancel_all() == []


def test_a_tag_of_one_step_cancels_that_step_and_no_chain(pool: Pool) -> None:
    steps = [{"name": "a", "prompt": "x", "options": {"tags": ("mine",)}}, {"name": "b", "prompt": "y"}]
    chain = pool.submit_chain(steps)
    assert [task.id for task in pool.cancel_all(tags=["mine"])] == [chain.step_ids[0]]


def test_what_comes_back_to_a_state_that_was_looked_at_is_cancelled_all_the_same(
    pool: Pool, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = pool.submit("x").task_id
    claim = hand.claim(task_id)
    looked, look = list[str](), pool.list

    def released_between(*, states: list[str], **more: object) -> object:
        looked.append(states[0])
        if looked == ["blocked", "pending", "claimed"]:
            hand.store.tasks.release(task_id, claim.run_id, reason="leaving")
        return look(states=states, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(pool, "list", released_between)
    submitted = pool.submit("y").task_id
    assert {task.id for task in pool.cancel_all()} == {task_id, submitted}


def test_a_held_task_is_not_rung_until_it_is_woken(pool: Pool, bells: Any) -> None:
    task_id = pool.submit("Hi.").task_id
    assert pool.hold(task_id).parked_for == "hold"
    with pytest.raises(Conflict):
        pool.hold(task_id)
    bells.rung.clear()
    assert pool.wake(task_id)
    assert [bell.task_id for bell in bells.rung] == [task_id]
    assert pool.wake(task_id) is False
    assert len(bells.rung) == 1
