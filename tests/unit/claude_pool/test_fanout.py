import itertools
from typing import Any

import pytest
from pydantic import ValidationError

from claude_pool.errors import InvalidRequest
from claude_pool.fanout import Site, from_template, gathered, merged, plan_fan_out
from claude_pool.models.fanout import MOST_BRANCHES, FanOut, FanOutPolicy
from claude_pool.models.graph import Outcome, ParentNode, TaskNode
from claude_pool.models.options import TaskOptions
from claude_pool.models.task import ErrorCode, TaskError, TaskResult, TaskState


def plan(**fields: Any) -> tuple[ParentNode, list[TaskNode]]:
    numbers = itertools.count(1)
    site = Site(new_id=lambda kind: f"{kind}-{next(numbers)}", settle=lambda options: options)
    top, *rest = plan_fan_out("f-0", FanOut.model_validate(fields), site)
    assert isinstance(top, ParentNode)
    return top, [node for node in rest if isinstance(node, TaskNode)]


def test_each_branch_is_a_task_with_its_own_options_and_label() -> None:
    top, (one, two) = plan(
        branches=["first", {"prompt": "second", "label": "B", "model": "opus"}],
        options={"model": "haiku", "max_turns": 2},
        tags=["x"],
        max_parallel=1,
    )
    assert (top.total, top.max_parallel, top.policy, top.gather) == (2, 1, FanOutPolicy.ALL, None)
    assert (one.plan.name, one.request.options.model) == ("1", "haiku")
    assert (two.plan.name, two.request.options.model, two.request.options.max_turns) == ("B", "opus", 2)
    assert one.request.options.tags == ("x",)
    assert one.scopes == ("f-0",)


def test_prompts_of_a_fan_out_by_itself_are_plain_text() -> None:
    _, (one,) = plan(branches=["{previous_output} {anything}"])
    assert not one.plan.template
    assert one.request.prompt == "{previous_output} {anything}"


def test_a_gather_gets_the_branches_where_it_says_so_or_at_its_end() -> None:
    top, (_, there) = plan(branches=["x"], gather="Sum up {branches} in a line.")
    assert (there.gathers, there.id, there.plan.fan_out) == (True, top.gather, "f-0")
    assert there.request.prompt == "Sum up {branches} in a line."
    _, (_, end) = plan(branches=["x"], gather={"prompt": "Sum up.", "model": "opus"})
    assert end.request.prompt.endswith("{branches}")
    assert end.request.options.model == "opus"


def test_a_quorum_may_be_written_in_one_word() -> None:
    top, _ = plan(branches=["a", "b", "c"], policy="quorum(2)")
    assert (top.policy, top.quorum) == (FanOutPolicy.QUORUM, 2)


@pytest.mark.parametrize(
    "fields",
    [
        {"branches": []},
        {"branches": ["a"], "policy": "quorum"},
        {"branches": ["a"], "policy": "quorum(2)"},
        {"branches": ["a"], "policy": "all", "quorum": 1},
        {"branches": ["a"], "policy": "most"},
        {"branches": [{"prompt": "a", "label": "x"}, {"prompt": "b", "label": "x"}]},
        {"branches": ["a"], "max_parallel": 0},
        {"branches": [{"prompt": "a", "modle": "x"}]},
        {"branches": ["x"] * (MOST_BRANCHES + 1)},
        {"branches": ["x"], "budget_usd": -1},
    ],
)
def test_a_fan_out_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FanOut.model_validate(fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"branches": ["x"], "gather": "{steps.a.output}"},
        {"branches": ["x"], "gather": "{previous_output}"},
        {"branches": ["x"], "failure_policy": {"recovery_prompt": "{args.a}"}},
        {"branches": [{"prompt": "x", "options": {"session": "continue:t-0123456789"}}]},
    ],
)
def test_markers_and_options_that_can_not_work_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        plan(**fields)


def test_later_options_win_and_a_default_that_was_chosen_is_a_choice() -> None:
    found = merged([TaskOptions(model="a", on_lost="hold"), TaskOptions(on_lost="resume")])
    assert (found.model, found.on_lost) == ("a", "resume")
    assert found.model_fields_set == {"model", "on_lost"}


def test_one_prompt_over_many_targets() -> None:
    found = from_template("audit {target} for {{x}}", ["a.py", "b {y}.py", "a.py"])
    assert [one["prompt"] for one in found] == ["audit a.py for {x}", "audit b {y}.py for {x}", "audit a.py for {x}"]
    assert [one["label"] for one in found] == ["a.py #1", "b {y}.py", "a.py #3"]
    with pytest.raises(InvalidRequest, match="does not say"):
        from_template("audit it", ["a"])


def outcome(number: int, output: str, **more: Any) -> Outcome:
    state = TaskState(more.pop("state", "completed"))
    result = TaskResult(task_id=f"t-{number}", state=state, output=output)
    return Outcome(id=f"t-{number}", name=str(number), state=state, result=result, **more)


def test_answers_are_fenced_and_a_failure_says_why() -> None:
    error = TaskError(code=ErrorCode.TIMEOUT, message="took too long")
    value = gathered(
        [outcome(1, "fine"), outcome(2, "half", state="failed", error=error)], boundary="k", most_bytes=999
    )
    assert value.shown is None
    assert value.text.count("<branch-k ") == value.text.count("</branch-k>") == 2
    assert "[timeout: took too long]\nhalf" in value.text


def test_long_answers_are_each_cut_to_the_same_length_and_whole_in_the_file() -> None:
    value = gathered([outcome(n, "x" * 10_000) for n in range(20)], boundary="k", most_bytes=2_000)
    assert value.shown is not None
    assert len(value.text) > 200_000
    assert len(value.shown) < 20_000
    assert value.shown.count("bytes more") == 20


def test_of_very_many_branches_the_prompt_shows_the_first_and_counts_the_rest() -> None:
    value = gathered([outcome(n, "x" * 500) for n in range(5_000)], boundary="k", most_bytes=4_000)
    assert value.shown is not None
    assert len(value.shown) < 50_000
    assert "branches more …]" in value.shown
