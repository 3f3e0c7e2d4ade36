from claude_pool.models.task import ErrorCode, TaskError, TaskState
from claude_pool.models.verdict import Verdict
from workers.stepping import failed, unfit


def test_a_step_whose_gate_is_shut_failed_and_keeps_what_it_cost() -> None:
    error = TaskError(code=ErrorCode.GATE_FAILED, message="The gate is shut.")
    verdict = failed(Verdict(to=TaskState.COMPLETED, cost_usd=0.25), error)
    assert (verdict.to, verdict.error, verdict.cost_usd) == (TaskState.FAILED, error, 0.25)


def test_a_prompt_that_cannot_be_asked_is_an_invalid_request() -> None:
    error = unfit(ValueError("must not be empty"))
    assert error.code is ErrorCode.INVALID_REQUEST
    assert "must not be empty" in error.message
