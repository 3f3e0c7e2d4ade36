"""What holds for every verdict, whatever the facts."""

from hypothesis import given
from hypothesis import strategies as st

from claude_pool.models.options import TaskOptions
from claude_pool.models.run import ExitFacts, RateLimit, RunFacts, StopCause, Usage
from claude_pool.models.task import Counters, ErrorCode, TaskError, TaskState
from claude_pool.models.verdict import CountsAs
from claude_pool.retry import RunContext, backoff_ms, failed, judge


@given(
    st.integers(0, 10_000),
    st.floats(0.001, 1000),
    st.floats(0.001, 10_000),
    st.floats(allow_nan=False) | st.floats(0, 1),
)
def test_a_pause_is_positive_and_never_over_the_longest(
    repeats: int, base_s: float, max_s: float, jitter: float
) -> None:
    assert 1 <= backoff_ms(repeats, base_s=base_s, max_s=max_s, fraction=jitter) <= max(round(max_s * 1000), 1)


@given(
    facts=st.builds(
        RunFacts,
        saw_output=st.booleans(),
        has_result=st.booleans(),
        is_error=st.booleans(),
        session_id=st.none() | st.just("s"),
        terminal_reason=st.none() | st.text(max_size=5) | st.sampled_from(["api_error", "max_turns", "completed"]),
        api_error_status=st.none() | st.integers(),
        api_error_category=st.none() | st.text(max_size=5),
        errors=st.lists(st.text(), max_size=2).map(tuple),
        stop_reason=st.none() | st.sampled_from(["end_turn", "refusal", "max_tokens"]),
        rate_limit=st.none()
        | st.builds(RateLimit, resets_at=st.none() | st.floats(allow_nan=False, allow_infinity=False)),
        stopped=st.sampled_from(StopCause),
        exit=st.builds(ExitFacts, code=st.none() | st.integers(-255, 255), signal=st.none() | st.integers(1, 64)),
        stderr_tail=st.text(max_size=20),
        model_usage=st.just({}),
        denials=st.just(()),
        mcp_failed=st.just(()),
        structured_output=st.none(),
        usage=st.just(Usage()),
    ),
    counters=st.builds(Counters, continuations=st.integers(0, 9), infra_retries=st.integers(0, 20)),
)
def test_whatever_happened_there_is_one_verdict_that_can_be_applied(facts: RunFacts, counters: Counters) -> None:
    context = RunContext(task_id="t-0000000000", run_id="r", options=TaskOptions(), counters=counters)
    verdict = judge(facts, context)
    assert verdict.to in set(TaskState) - {TaskState.BLOCKED, TaskState.CLAIMED, TaskState.RUNNING}
    assert (verdict.to is TaskState.PARKED) == (verdict.parked_for is not None)
    assert (verdict.error is None) == (verdict.to in {TaskState.COMPLETED, TaskState.PENDING_REVIEW})
    if verdict.to is TaskState.FAILED:
        assert verdict.counts_as in {CountsAs.NOTHING, CountsAs.CRASH}


def test_a_failure_of_the_pools_own_is_final_and_free() -> None:
    context = RunContext(task_id="t-0000000000", run_id="r", options=TaskOptions(), spent_usd=1.0)
    error = TaskError(code=ErrorCode.WORKSPACE, message="no worktree")
    verdict = failed(error, context)
    assert (verdict.to, verdict.error, verdict.cost_usd) == (TaskState.FAILED, error, 0.0)
    assert verdict.result is not None
    assert verdict.result.cost_usd == 1.0
