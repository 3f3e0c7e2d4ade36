import itertools
import json
from typing import Any

import pytest
from pydantic import ValidationError

from claude_pool.chain import (
    Kept,
    Sight,
    after_failure,
    escalated,
    passed_over,
    plan_chain,
    take_vars,
    told_again,
)
from claude_pool.conditions import holds
from claude_pool.errors import InvalidRequest
from claude_pool.fanout import NodeList, Site
from claude_pool.models.chain import ChainOptions, ChainStep
from claude_pool.models.fanout import StepFailurePolicy
from claude_pool.models.graph import Graph, Inputs, Outcome, ParentNode, StepNote, StepPlan, TaskNode
from claude_pool.models.options import TaskOptions
from claude_pool.models.task import ErrorCode, ParkedFor, TaskError, TaskResult, TaskState
from claude_pool.models.verdict import CountsAs, Verdict
from claude_pool.templates import render

GATE_ERROR = TaskError(code=ErrorCode.GATE_FAILED, message="make test ended with 2", detail="1 failed")


def site() -> Site:
    numbers = itertools.count(1)
    return Site(new_id=lambda kind: f"{kind}-{next(numbers)}", settle=lambda options: options)


def steps(*items: dict[str, Any]) -> list[ChainStep]:
    return [ChainStep.model_validate(item) for item in items]


def plan(*items: dict[str, Any], kept: tuple[Kept, ...] = (), **options: Any) -> NodeList:
    return plan_chain("c-0", steps(*items), ChainOptions(**options), site=site(), kept=kept)


def tasks(nodes: NodeList) -> list[TaskNode]:
    return [node for node in nodes if isinstance(node, TaskNode)]


# -- planning


def test_a_chain_is_its_record_and_a_task_for_each_step_in_order() -> None:
    nodes = plan({"name": "a", "prompt": "one"}, {"name": "b", "prompt": "two"}, title="T", budget_usd=2, tags=["x"])
    top = nodes[0]
    assert isinstance(top, ParentNode)
    assert (top.id, top.title, top.total, top.budget_usd, top.tags) == ("c-0", "T", 2, 2, ("x",))
    first, second = tasks(nodes)
    assert (first.plan.name, second.plan.name) == ("a", "b")
    assert {node.parent for node in (first, second)} == {"c-0"}
    assert first.scopes == ("c-0",)
    assert first.plan.chain == "c-0"
    assert first.request.options.tags == ("x",)
    assert Graph(nodes=tuple(nodes)).children("c-0") == (first.id, second.id)


def test_a_step_knows_only_the_steps_it_looks_at() -> None:
    nodes = plan(
        {"name": "a", "prompt": "one", "output_vars": {"v": "x.y"}},
        {"name": "b", "prompt": "two"},
        {"name": "c", "prompt": "{steps.a.v}", "when": '{steps.b.state} == "completed"'},
        {"name": "d", "prompt": "{previous_output}"},
    )
    a, b, c, d = tasks(nodes)
    assert c.plan.inputs == {"a": a.id, "b": b.id}
    assert (c.plan.previous, d.plan.previous, d.plan.inputs) == (False, True, {})


def test_a_chain_of_500_steps_takes_no_more_for_a_step_than_one_of_50() -> None:
    def size(number: int) -> float:
        items: list[dict[str, Any]] = [{"name": "s0", "prompt": "go"}]
        items += [
            {"name": f"s{at}", "prompt": f"{{previous_output}} {{steps.s{at - 1}.output}}"} for at in range(1, number)
        ]
        return len(Graph(nodes=tuple(plan(*items))).model_dump_json()) / number

    assert size(500) < 1.05 * size(50)


def test_options_of_a_step_win_over_those_of_the_chain() -> None:
    nodes = plan(
        {"name": "a", "prompt": "x"},
        {"name": "b", "prompt": "x", "model": "opus", "options": {"effort": "high"}},
        step_options=TaskOptions(model="haiku", max_turns=3),
        isolation="clone",
    )
    a, b = (node.request.options for node in tasks(nodes))
    assert (a.model, a.max_turns, a.isolation) == ("haiku", 3, "clone")
    assert (b.model, b.effort, b.max_turns) == ("opus", "high", 3)


def test_a_step_that_is_a_fan_out_is_a_parent_of_its_own_whose_gather_speaks_for_it() -> None:
    nodes = plan(
        {"name": "plan", "prompt": "plan it"},
        {
            "name": "look",
            "fan_out": {"branches": ["{previous_output} 1", "{steps.plan.output} 2"], "gather": "sum up"},
            "failure_policy": {"then": "continue"},
        },
        {"name": "end", "prompt": "{steps.look.output}", "session": "previous"},
    )
    fan = next(node for node in nodes[1:] if isinstance(node, ParentNode))
    one, two, gather, end = tasks(nodes)[1:]
    assert (fan.parent, fan.name, fan.total, fan.on_fail) == ("c-0", "look", 2, "continue")
    assert {one.parent, two.parent, gather.parent} == {fan.id}
    assert fan.gather == gather.id
    assert (gather.gathers, gather.plan.fan_out, gather.plan.beside, one.plan.beside) == (True, fan.id, False, True)
    assert one.scopes == ("c-0", fan.id)
    assert end.plan.inputs == {"look": gather.id}
    assert end.session_of == gather.id
    assert "{branches}" in gather.request.prompt


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([], "at least one step"),
        ([{"name": "a", "prompt": "x"}, {"name": "a", "prompt": "y"}], "Two steps have the name 'a'"),
        ([{"name": "a", "prompt": "{steps.b.output}"}, {"name": "b", "prompt": "x"}], "comes later"),
        ([{"name": "a", "prompt": "{steps.a.output}"}], "comes later"),
        ([{"name": "a", "prompt": "{previous_output}"}], "first step"),
        ([{"name": "a", "prompt": "x", "when": "{steps.z.output}"}], "no step 'z'"),
        ([{"name": "a", "prompt": "x", "when": "1 =="}], "can't be read"),
        ([{"name": "a", "prompt": "x", "session": "previous"}], "no session before it"),
        ([{"name": "a", "prompt": "x", "gate": "{args.tset}"}], "gate: there is no argument 'tset'"),
        ([{"name": "a", "prompt": "x", "output_vars": {"v": "a..b"}}], "is no path"),
        ([{"name": "a", "prompt": "x", "output_vars": {"output": "a"}}], "every step has it already"),
        ([{"name": "a", "prompt": "x", "failure_policy": {"recovery_prompt": "{eror}"}}], "means nothing"),
        ([{"name": "a", "fan_out": {"branches": ["{previous_output}"]}}], "first step"),
        ([{"name": "a", "fan_out": {"branches": ["x"] * 1001}}], "more than 1,000 branches"),
        ([{"name": f"s{n}", "prompt": "x"} for n in range(1001)], "at most 1,000"),
        ([{"name": f"s{n}", "fan_out": {"branches": ["x"] * 1000}} for n in range(6)], "at most 5,000"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_stored(items: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        plan(*items)


@pytest.mark.parametrize(
    "item",
    [
        {"name": "a"},
        {"name": "a", "prompt": "x", "fan_out": {"branches": ["y"]}},
        {"name": "a b", "prompt": "x"},
        {"name": "a", "prompt": "x", "retries": 3},
        {"name": "a", "prompt": "x", "gate": {}},
        {"name": "a", "fan_out": {"branches": ["y"]}, "when": "true"},
        {"name": "a", "prompt": " "},
    ],
)
def test_a_step_that_is_none_is_refused_by_its_model(item: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ChainStep.model_validate(item)


def test_a_resumed_chain_plans_only_the_steps_that_are_left() -> None:
    items = ({"name": "a", "prompt": "x"}, {"name": "b", "prompt": "{steps.a.output}"})
    nodes = plan(*items, kept=(Kept(id="t-old", source="t-old"),))
    (only,) = tasks(nodes)
    assert only.plan.inputs == {"a": "t-old"}


def test_short_forms_stand_for_the_long_ones() -> None:
    step = ChainStep.model_validate(
        {"name": "a", "prompt": "x", "gate": "make test", "output_vars": {"v": "a", "w": {"path": "b", "default": 1}}}
    )
    assert step.gate is not None
    assert step.gate.command == "make test"
    assert (step.output_vars["v"].required, step.output_vars["w"].required) == (True, False)
    reviewed = ChainStep.model_validate({"name": "a", "prompt": "x", "gate": "review"})
    assert reviewed.gate is not None
    assert (reviewed.gate.review, reviewed.gate.command) == (True, None)


# -- what a step sees


def outcome(task_id: str, output: str, state: str = "completed", **more: Any) -> Outcome:
    result = TaskResult(task_id=task_id, state=TaskState(state), output=output)
    return Outcome(id=task_id, state=TaskState(state), result=result, **more)


def sight(plan: StepPlan, *outcomes: Outcome, previous: str | None = None, **args: str) -> Sight:
    found = {one.id: (one,) for one in outcomes}
    return Sight(plan, Inputs(args=args, previous=previous, outcomes=found), boundary="b", most_bytes=1000)


def test_markers_stand_for_what_the_store_says() -> None:
    look = sight(
        StepPlan(name="c", inputs={"a": "t-1", "b": "t-2"}),
        outcome("t-1", "AA", vars={"v": {"k": [1]}, "w": "text"}),
        outcome("t-2", "BB", "failed", error=TaskError(code=ErrorCode.TIMEOUT, message="too slow")),
        previous="t-1",
        name="N",
    )
    template = "{previous_output}|{steps.a.v}|{steps.a.w}|{steps.b.state}|{steps.b.error}|{args.name}|{steps.b.output}"
    assert render(template, look.value_of, most_bytes=1000).text == 'AA|{"k": [1]}|text|failed|too slow|N|BB'
    assert holds('{steps.a.v} contains "k" and {steps.b.state} == "failed"', look.look)


def test_what_is_not_there_is_empty() -> None:
    look = sight(StepPlan(name="b", inputs={"a": "t-1"}), previous=None)
    assert render("[{previous_output}{steps.a.output}{steps.a.v}]", look.value_of, most_bytes=10).text == "[]"
    assert not holds("{steps.a.v}", look.look)


def test_a_skipped_step_says_so() -> None:
    look = sight(StepPlan(name="b", inputs={"a": "t-1"}), outcome("t-1", "", "cancelled", skipped=True))
    assert look.look("steps.a.state") == "skipped"


def test_a_fan_out_without_a_gather_is_seen_as_all_its_branches() -> None:
    both = (outcome("t-1", "one", name="x"), outcome("t-2", "two", "failed", name="y"))
    inputs = Inputs(outcomes={"f-1": both})
    look = Sight(StepPlan(name="s", inputs={"a": "f-1"}), inputs, boundary="B", most_bytes=1000)
    text = look.value_of("steps.a.output").text
    assert '<branch-B label="x" state="completed">\none\n</branch-B>' in text
    assert 'label="y" state="failed"' in text
    assert look.look("steps.a.state") == "failed"


# -- its end


def test_values_are_taken_from_the_answer_and_a_missing_one_is_an_error_unless_it_has_a_default() -> None:
    step = ChainStep.model_validate(
        {"name": "a", "prompt": "x", "output_vars": {"n": "n", "m": {"path": "m", "default": 7}}}
    )
    its = StepPlan(name="a", output_vars=step.output_vars)
    result = TaskResult(task_id="t-1", state=TaskState.COMPLETED, output=json.dumps({"n": 1}))
    assert take_vars(its, result) == ({"n": 1, "m": 7}, None)
    found, error = take_vars(its, result.evolve(output="{}"))
    assert found == {"n": None, "m": 7}
    assert error is not None
    assert error.code is ErrorCode.OUTPUT_MISSING
    assert "n (at n)" in error.message


def failed(error: TaskError = GATE_ERROR) -> Verdict:
    return Verdict(to=TaskState.FAILED, error=error, result=TaskResult(task_id="t", state=TaskState.FAILED, output="o"))


def test_a_failure_is_repeated_with_growing_pauses_then_recovered_then_final() -> None:
    policy = StepFailurePolicy(retries=2, backoff_s=10, recovery_prompt="mend it: {error}")
    its, note, delays = StepPlan(name="a", policy=policy), StepNote(), []
    for _ in range(3):
        verdict = after_failure(failed(), its, note, jitter=0.999)
        assert (verdict.to, verdict.parked_for) == (TaskState.PARKED, ParkedFor.RETRY)
        assert (verdict.counts_as, verdict.next_kind) == (CountsAs.ATTEMPT, "attempt")
        assert verdict.note is not None
        note = verdict.note
        delays.append(verdict.delay_ms or 0)
    assert note == StepNote(failures=3, error="make test ended with 2\n1 failed", recovering=True)
    assert delays[0] < delays[1] < delays[2]
    last = after_failure(failed(), its, note, jitter=0)
    assert (last.to, last.error) == (TaskState.FAILED, GATE_ERROR)


def test_without_a_pause_a_repeat_is_ready_at_once() -> None:
    its = StepPlan(name="a", policy=StepFailurePolicy(retries=1, backoff_s=0))
    assert after_failure(failed(), its, StepNote(), jitter=0).to is TaskState.PENDING


@pytest.mark.parametrize("code", [ErrorCode.DEAD_LETTER, ErrorCode.BUDGET_EXHAUSTED, ErrorCode.CANCELLED])
def test_some_failures_are_never_repeated(code: ErrorCode) -> None:
    its = StepPlan(name="a", policy=StepFailurePolicy(retries=5, recovery_prompt="x"))
    assert after_failure(failed(TaskError(code=code, message="m")), its, StepNote(), jitter=0).to is TaskState.FAILED


def test_a_success_stays_one() -> None:
    done = Verdict(to=TaskState.COMPLETED)
    assert after_failure(done, StepPlan(name="a"), StepNote(failures=1), jitter=0).to is TaskState.COMPLETED


def test_a_repeat_is_told_the_error_and_may_get_a_stronger_model() -> None:
    policy = StepFailurePolicy(retries=1, escalate_model="opus", escalate_effort="high")
    note = StepNote(failures=1, error="boom")
    assert told_again("do it", StepNote(), policy) == "do it"
    assert "boom" in told_again("do it", note, policy)
    assert told_again("do it", note, policy.evolve(show_error=False)) == "do it"
    options = escalated(TaskOptions(model="haiku"), note, policy)
    assert (options.model, options.effort, options.max_attempts) == ("opus", "high", 2)
    assert escalated(TaskOptions(model="haiku"), StepNote(), policy).model == "haiku"


def test_a_step_that_is_passed_over_is_skipped_and_not_cancelled_by_anybody() -> None:
    verdict = passed_over("its condition does not hold")
    assert (verdict.to, verdict.skipped, verdict.cost_usd) == (TaskState.CANCELLED, True, 0)


def test_a_chain_that_is_reviewed_as_a_whole_holds_its_last_step_alone() -> None:
    nodes = plan({"name": "a", "prompt": "x"}, {"name": "b", "prompt": "y"}, review=True)
    assert [node.request.options.review for node in tasks(nodes)] == [False, True]
    fan = {"branches": ["p"], "gather": "g"}
    nodes = plan({"name": "a", "fan_out": fan}, review=True)
    assert [node.request.options.review for node in tasks(nodes)] == [False, True]


@pytest.mark.parametrize(
    "last",
    [
        {"name": "a", "prompt": "x", "when": "{args.n}"},
        {"name": "a", "prompt": "x", "failure_policy": {"then": "skip"}},
        {"name": "a", "fan_out": {"branches": ["p"]}},
    ],
)
def test_a_last_step_that_nobody_could_review_is_refused(last: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="review"):
        plan(last, review=True, args={"n": "1"})
