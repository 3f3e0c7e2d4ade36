"""The demonstration's tasks and what has to come of them."""

from __future__ import annotations

from typing import Any

import pytest

from claude_pool.cli.demo_jobs import FILES, JOBS, Job
from claude_pool.models.options import TaskOptions
from claude_pool.models.task import BranchFacts, ErrorCode, TaskError, TaskResult, TaskState
from claude_pool.testing.simulated.script import directives

EDIT, STOCK, UNKNOWN = JOBS[0], JOBS[4], JOBS[5]


def result(state: TaskState = TaskState.COMPLETED, **fields: Any) -> TaskResult:
    return TaskResult(task_id="t-0000000001", state=state, **fields)


def branch(*paths: str) -> BranchFacts:
    return BranchFacts(branch="pool/x", base="a", tip="b", paths=paths)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.title)
def test_every_task_has_a_script_and_options_that_are_valid(job: Job) -> None:
    TaskOptions(**job.options)
    assert directives(job.text(simulated=True)) != []
    assert directives(job.text(simulated=False)) == []
    assert job.prompt in job.text(simulated=True)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.title)
def test_a_script_edits_only_what_is_there(job: Job) -> None:
    for directive in directives(job.script):
        if directive.name == "tool" and '"old_string"' in directive.arg:
            assert any(name in directive.arg for name in FILES)


def test_an_edit_must_be_on_the_branch() -> None:
    assert EDIT.fulfilled(result(branch=branch("convert.py")))
    assert not EDIT.fulfilled(result(branch=branch("README.md")))
    assert not EDIT.fulfilled(result())
    assert not EDIT.fulfilled(result(TaskState.FAILED, branch=branch("convert.py")))


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ({"functions": ["kelvin", "fahrenheit()"], "stations": 3}, True),
        ({"functions": ["kelvin"], "stations": 3}, False),
        ({"functions": ["kelvin", "fahrenheit"], "stations": 4}, False),
        ("kelvin, fahrenheit", False),
        (None, False),
    ],
)
def test_the_structured_answer_must_be_right(value: Any, good: bool) -> None:
    assert STOCK.fulfilled(result(structured_output=value)) is good


def test_the_unknown_model_must_fail_for_that_reason() -> None:
    unknown = TaskError(code=ErrorCode.MODEL_NOT_FOUND, message="m")
    assert UNKNOWN.fulfilled(result(TaskState.FAILED, error=unknown))
    assert not UNKNOWN.fulfilled(result(TaskState.FAILED, error=unknown.evolve(code=ErrorCode.AUTH)))
    assert not UNKNOWN.fulfilled(result())
    assert "model_not_found" in UNKNOWN.expectation()
