from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_pool.errors import PoolError
from claude_pool.models.options import TaskOptions
from claude_pool.models.task import ErrorCode, Submitter, TaskError, TaskRequest, TaskResult, TaskState
from claude_pool.models.verdict import BreakerMove, Verdict
from claude_pool.store import codec

RECORD = {"state": "pending", "title": "x", "options": "{}", "created_ms": "1", "since_ms": "2", "queue": "tasks"}


def values(**changes: str) -> list[str | None]:
    found = {**RECORD, **changes}
    return [found.get(name) for name in codec.RECORD]


def request(**changes: Any) -> TaskRequest:
    return TaskRequest(**{"prompt": "x", **changes})


# -- the hash of a request


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers() | st.text("xyz"), max_size=6))
def test_a_request_has_one_hash_whatever_the_order_of_its_names(schema: dict[str, Any]) -> None:
    turned = dict(reversed(schema.items()))
    first, second = (codec.request_hash(request(options=TaskOptions(json_schema=one))) for one in (schema, turned))
    assert first == second


def test_what_changes_the_work_changes_the_hash() -> None:
    different = [
        request(),
        request(prompt="y"),
        request(options=TaskOptions(model="haiku")),
        request(options=TaskOptions(tags=("a",))),
    ]
    assert len({codec.request_hash(one) for one in different}) == len(different)


def test_who_asks_and_how_it_is_called_do_not_change_the_hash() -> None:
    same = [
        request(),
        request(title="t"),
        request(submitter=Submitter(name="n")),
        request(options=TaskOptions(priority=2)),
    ]
    assert len({codec.request_hash(one) for one in same}) == 1


# -- records


@pytest.mark.parametrize(
    ("prompt", "title"),
    [
        ("  Say\n\thello ", "Say hello"),
        ("x" * 500, "x" * 79 + "…"),
        ("\x1b[31mred\x07", "[31mred"),
        ("é" * 80, "é" * 80),
    ],
)
def test_a_title_is_one_clean_line(prompt: str, title: str) -> None:
    assert codec.pairs(codec.new_fields(request(prompt=prompt), queue="q"))["title"] == title


def test_a_title_of_ones_own_is_kept() -> None:
    assert codec.pairs(codec.new_fields(request(title="mine"), queue="q"))["title"] == "mine"


def test_a_task_comes_back_from_strings() -> None:
    task = codec.task_of(
        "t-1", values(runs="3", crashes="1", cost="1250000", reserved="5", until_ms="9", parked_for="hold")
    )
    assert (task.counters.runs, task.counters.crashes, task.cost_usd, task.reserved_usd) == (3, 1, 1.25, 0.000005)
    assert (task.until_ms, task.parked_for) == (9, "hold")


@pytest.mark.parametrize(
    "damage",
    [
        {"state": "asleep"},
        {"options": '{"colour": "blue"}'},
        {"options": "not json"},
        {"error": '{"code": "lost"}'},
        {"created_ms": "yesterday"},
        {"runs": "many"},
        {"cost": "1.5"},
    ],
)
def test_a_record_that_is_not_ours_fails_loudly(damage: dict[str, str]) -> None:
    with pytest.raises(PoolError, match="record of t-1"):
        codec.task_of("t-1", values(**damage))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cost": "1"}', '{"cost": "1", "colour": "blue"}', "nonsense"])
def test_a_run_that_is_not_ours_fails_loudly(text: str) -> None:
    with pytest.raises(PoolError, match="run's record"):
        codec.run_of(text)


# -- results


def test_a_final_task_always_has_a_result_that_says_what_the_record_says() -> None:
    error = TaskError(code=ErrorCode.LOST, message="gone")
    task = codec.task_of("t-1", values(state="failed", cost="500000", run_id="r", error=error.model_dump_json()))
    result = codec.result_of(task, None, estimated=True)
    assert result is not None
    assert (result.state, result.cost_usd, result.cost_estimated, result.error) == ("failed", 0.5, True, error)
    assert result.run_id == "r"


def test_a_waiting_task_without_a_run_has_no_result() -> None:
    assert codec.result_of(codec.task_of("t-1", values()), None, estimated=False) is None


def test_the_record_overrules_what_a_run_believed() -> None:
    written = TaskResult(task_id="t-other", state=TaskState.COMPLETED, output="x", cost_usd=9)
    task = codec.task_of("t-1", values(state="cancelled", cost="250000"))
    result = codec.result_of(task, written.model_dump_json(), estimated=False)
    assert result is not None
    assert (result.task_id, result.state, result.cost_usd, result.output) == ("t-1", "cancelled", 0.25, "x")


def test_a_result_that_is_not_ours_fails_loudly() -> None:
    with pytest.raises(PoolError, match="result of t-1"):
        codec.result_of(codec.task_of("t-1", values()), '{"colour": "blue"}', estimated=False)


# -- verdicts


def test_a_verdict_leaves_out_what_it_does_not_say() -> None:
    fields = codec.pairs(codec.verdict_fields(Verdict(to=TaskState.COMPLETED)))
    assert set(fields) == {"to", "reason", "outcome", "counts_as", "next_kind", "cost"}
    assert (fields["outcome"], fields["cost"]) == ("completed", "0")


def test_a_verdict_carries_money_as_whole_micro_dollars_and_times_as_whole_ms() -> None:
    verdict = Verdict(
        to=TaskState.PARKED,
        error=TaskError(code=ErrorCode.USAGE_LIMIT, message="m"),
        cost_usd=0.1234565,
        session_id="s",
        session_cost_usd=2,
        delay_ms=5,
        breaker=BreakerMove(kind="open", code=ErrorCode.USAGE_LIMIT, until_ms=7, message="a\nb"),
    )
    fields = codec.pairs(codec.verdict_fields(verdict))
    assert (fields["cost"], fields["session_cost"], fields["delay_ms"]) == ("123457", "2000000", "5")
    assert (fields["breaker"], fields["breaker_until"], fields["breaker_message"]) == ("open", "7", "a b")
    assert fields["outcome"] == "usage_limit"
    assert json.loads(fields["error"]) == {"code": "usage_limit", "message": "m"}


def test_a_cost_below_nothing_is_nothing() -> None:
    verdict = Verdict(to=TaskState.FAILED, cost_usd=-1)
    assert codec.pairs(codec.verdict_fields(verdict))["cost"] == "0"


# -- small things


def test_flat_and_pairs_undo_each_other() -> None:
    fields = {"a": "1", "b": ""}
    assert codec.pairs(codec.flat(fields)) == fields


def test_feedback_comes_oldest_first() -> None:
    assert codec.feedback_of("") == ()
    assert codec.feedback_of('["first","second"]') == ("first", "second")
