from typing import Any

import pytest

from claude_pool.models.options import TaskOptions
from claude_pool.models.run import Denial, ExitFacts, ModelUsage, RateLimit, RunFacts, StopCause, Usage
from claude_pool.models.task import Counters, ErrorCode, ParkedFor, TaskState
from claude_pool.models.verdict import CountsAs, Verdict
from claude_pool.retry import RunContext, judge

E = ErrorCode
NOW_MS = 1_790_000_000_000
HOUR_MS = 3_600_000


def ran(**fields: Any) -> RunFacts:
    """A run with an answer, unless the fields say otherwise."""
    usual = {
        "session_id": "s",
        "saw_init": True,
        "saw_output": True,
        "has_result": True,
        "subtype": "success",
        "terminal_reason": "completed",
        "stop_reason": "end_turn",
        "output": "answer",
        "cost_usd": 0.5,
        "session_cost_usd": 0.75,
        "cost_known": True,
        "exit": ExitFacts(code=0),
    }
    return RunFacts(**{**usual, **fields})


def api_error(
    status: int | None = None, category: str | None = None, text: str = "API Error", **fields: Any
) -> RunFacts:
    """A run that the API refused before the model said a word."""
    usual = {
        "is_error": True,
        "terminal_reason": "api_error",
        "stop_reason": "stop_sequence",
        "api_error_status": status,
        "api_error_category": category,
        "errors": (text,),
        "output": "",
        "saw_output": False,
        "cost_usd": 0.0,
        "exit": ExitFacts(code=1),
    }
    return ran(**{**usual, **fields})


def broken(**fields: Any) -> RunFacts:
    """A run without a result."""
    usual = {"has_result": False, "subtype": None, "terminal_reason": None, "stop_reason": None, "cost_known": False}
    return ran(**{**usual, "output": "half", **fields})


def given_context(options: dict[str, Any] | None = None, **fields: Any) -> RunContext:
    usual = {"task_id": "t-0000000000", "run_id": "r", "now_ms": NOW_MS, "counters": Counters(runs=1, attempts=1)}
    return RunContext(options=TaskOptions(**(options or {})), **{**usual, **fields})


def decide(facts: RunFacts, options: dict[str, Any] | None = None, **fields: Any) -> Verdict:
    return judge(facts, given_context(options, **fields))


def code_of(verdict: Verdict) -> ErrorCode | None:
    return verdict.error.code if verdict.error else None


def test_an_answer_completes_the_task_and_closes_the_breaker() -> None:
    verdict = decide(ran())
    assert (verdict.to, verdict.error, verdict.counts_as) == (TaskState.COMPLETED, None, CountsAs.NOTHING)
    assert (verdict.cost_usd, verdict.cost_estimated, verdict.session_cost_usd) == (0.5, False, 0.75)
    assert verdict.breaker is not None
    assert verdict.breaker.kind == "close"
    assert verdict.result is not None
    assert (verdict.result.output, verdict.result.partial, verdict.result.state) == (
        "answer",
        False,
        TaskState.COMPLETED,
    )


def test_an_answer_that_wants_a_review_waits_for_it() -> None:
    assert decide(ran(), needs_review=True).to is TaskState.PENDING_REVIEW


def test_denied_tools_do_not_fail_a_run_and_are_listed() -> None:
    denial = Denial(tool_name="Bash")
    verdict = decide(ran(denials=(denial,)))
    assert verdict.to is TaskState.COMPLETED
    assert verdict.result is not None
    assert verdict.result.denials == (denial,)


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (api_error(429, "rate_limit"), E.THROTTLED),
        (api_error(529, "server_error"), E.OVERLOADED),
        (api_error(500, "server_error"), E.OVERLOADED),
        (api_error(None, "connection_failed", "API Error: Connection refused (ECONNREFUSED)"), E.NETWORK),
        (api_error(None, "server_error", "API Error: Connection refused (ECONNREFUSED)"), E.NETWORK),
        (api_error(None, None, "Request timed out"), E.NETWORK),
    ],
)
def test_a_busy_or_unreachable_api_frees_the_slot_and_is_tried_afresh_for_free(
    facts: RunFacts, code: ErrorCode
) -> None:
    verdict = decide(facts, retry_base_s=30, retry_max_s=600, jitter=0.5)
    assert code_of(verdict) is code
    assert (verdict.to, verdict.parked_for, verdict.delay_ms) == (TaskState.PARKED, ParkedFor.RETRY, 15_000)
    assert (verdict.counts_as, verdict.next_kind) == (CountsAs.INFRA, "attempt")
    assert verdict.breaker is not None
    assert (verdict.breaker.kind, verdict.breaker.code) == ("failure", code)


def test_a_busy_api_in_mid_work_resumes_what_was_paid_for() -> None:
    verdict = decide(api_error(529, saw_output=True, cost_usd=0.2))
    assert (code_of(verdict), verdict.next_kind, verdict.cost_usd) == (E.OVERLOADED, "continuation", 0.2)


def test_a_busy_api_at_the_start_of_a_continuation_still_resumes() -> None:
    assert decide(api_error(529), kind="continuation").next_kind == "continuation"


def test_the_pause_grows_with_each_repeat() -> None:
    counters = Counters(attempts=1, infra_retries=3)
    assert decide(api_error(529), retry_base_s=10, retry_max_s=600, jitter=1.0, counters=counters).delay_ms == 80_000


def test_too_many_repeats_end_in_a_failure_that_names_the_limit_and_keeps_the_error() -> None:
    verdict = decide(api_error(529, text="Overloaded"), counters=Counters(attempts=1, infra_retries=10))
    assert (verdict.to, code_of(verdict), verdict.counts_as) == (TaskState.FAILED, E.OVERLOADED, CountsAs.NOTHING)
    assert verdict.error is not None
    assert "Overloaded" in verdict.error.message
    assert "max_infra_retries is 10" in verdict.error.message
    assert verdict.breaker is not None


@pytest.mark.parametrize(
    ("resets_in_ms", "waits_ms"),
    [(2 * HOUR_MS, 2 * HOUR_MS), (5_000, 60_000), (-HOUR_MS, 60_000), (10_000 * HOUR_MS, 8 * 24 * HOUR_MS)],
)
def test_a_usage_limit_parks_until_the_reset_within_sane_bounds(resets_in_ms: int, waits_ms: int) -> None:
    limit = RateLimit(resets_at=(NOW_MS + resets_in_ms) / 1000, limit_type="five_hour")
    verdict = decide(api_error(429, "usage_limit_reached", "You've hit your limit", rate_limit=limit), jitter=0.5)
    assert (code_of(verdict), verdict.to, verdict.parked_for) == (E.USAGE_LIMIT, TaskState.PARKED, ParkedFor.LIMIT)
    assert (verdict.until_ms, verdict.counts_as) == (NOW_MS + waits_ms + 30_000, CountsAs.NOTHING)
    assert verdict.breaker is not None
    assert (verdict.breaker.kind, verdict.breaker.until_ms) == ("open", NOW_MS + waits_ms)


def test_a_usage_limit_of_unknown_length_is_looked_at_again_after_a_while() -> None:
    verdict = decide(api_error(429, "usage_limit_reached"))
    assert verdict.until_ms == NOW_MS + 15 * 60_000


def test_a_429_with_a_rejected_quota_is_a_usage_limit_whatever_the_text_says() -> None:
    limit = RateLimit(resets_at=NOW_MS / 1000 + 3600)
    assert code_of(decide(api_error(429, "rate_limit", "new words", rate_limit=limit))) is E.USAGE_LIMIT


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (api_error(401, "authentication_failed", "Invalid API key"), E.AUTH),
        (api_error(None, "authentication_failed", "Not logged in · Please run /login"), E.AUTH),
        (api_error(None, None, "Not logged in · Please run /login"), E.AUTH),
        (api_error(403), E.AUTH),
        (api_error(402, "billing_error", "Credit balance is too low"), E.BILLING),
        (api_error(400, "unknown", "Credit balance is too low"), E.BILLING),
    ],
)
def test_an_account_that_can_not_work_holds_its_tasks_until_a_person_acts(facts: RunFacts, code: ErrorCode) -> None:
    verdict = decide(facts)
    assert code_of(verdict) is code
    assert (verdict.to, verdict.parked_for, verdict.counts_as) == (
        TaskState.PARKED,
        ParkedFor.BREAKER,
        CountsAs.NOTHING,
    )
    assert (verdict.delay_ms, verdict.until_ms) == (None, None)
    assert verdict.breaker is not None
    assert (verdict.breaker.kind, verdict.breaker.until_ms) == ("open", None)
    assert verdict.error is not None
    assert verdict.error.hint


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (api_error(400, "unknown", "API Error: 400 invalid request"), E.INVALID_REQUEST),
        (api_error(418), E.INVALID_REQUEST),
        (api_error(404, "model_not_found"), E.MODEL_NOT_FOUND),
        (
            api_error(400, "invalid_request", "Prompt is too long", terminal_reason="prompt_too_long"),
            E.CONTEXT_TOO_LONG,
        ),
        (api_error(400, "unknown", "prompt is too long: 300000 tokens"), E.CONTEXT_TOO_LONG),
        (api_error(413, terminal_reason="image_error"), E.CONTEXT_TOO_LONG),
        (api_error(None, None, "Prompt is too long", terminal_reason="blocking_limit"), E.CONTEXT_TOO_LONG),
        (ran(is_error=True, subtype="error_max_turns", terminal_reason="max_turns"), E.MAX_TURNS),
        (ran(is_error=True, subtype="error_max_budget_usd", terminal_reason="budget_exhausted"), E.BUDGET_EXHAUSTED),
        (ran(is_error=True, subtype="error_max_structured_output_retries", terminal_reason=None), E.SCHEMA_UNMET),
        (ran(stop_reason="refusal"), E.REFUSED),
        (ran(is_error=True, subtype="error_during_execution", terminal_reason=None), E.EXECUTION),
        (broken(stopped=StopCause.TIMEOUT), E.TIMEOUT),
        (broken(stopped=StopCause.OUTPUT_LIMIT), E.OUTPUT_LIMIT),
        (broken(saw_init=False, saw_output=False, exit=ExitFacts(code=1), stderr_tail="error: bad"), E.CLI_START),
        (broken(saw_init=False, saw_output=False, exit=ExitFacts(started=False)), E.CLI_MISSING),
    ],
)
def test_what_no_repeat_can_mend_is_final_with_everything_kept(facts: RunFacts, code: ErrorCode) -> None:
    verdict = decide(facts, options={"max_attempts": 5})
    assert (verdict.to, code_of(verdict), verdict.counts_as) == (TaskState.FAILED, code, CountsAs.NOTHING)
    assert verdict.cost_usd == facts.cost_usd
    assert verdict.result is not None
    assert (verdict.result.output, verdict.result.state) == (facts.output, TaskState.FAILED)


def test_a_schema_that_was_asked_for_must_be_met() -> None:
    options = {"json_schema": {"type": "object"}}
    assert code_of(decide(ran(), options)) is E.SCHEMA_UNMET
    verdict = decide(ran(has_structured_output=True, structured_output={"a": 1}), options)
    assert verdict.to is TaskState.COMPLETED
    assert verdict.result is not None
    assert verdict.result.structured_output == {"a": 1}


def test_a_start_error_tells_stderr_and_costs_nothing() -> None:
    facts = broken(
        saw_init=False, saw_output=False, cost_usd=0.0, exit=ExitFacts(code=1), stderr_tail="x\nerror: unknown option"
    )
    verdict = decide(facts, cap_usd=2.0)
    assert verdict.error is not None
    assert "unknown option" in verdict.error.message
    assert "unknown option" in verdict.error.detail
    assert (verdict.cost_usd, verdict.cost_estimated) == (0.0, False)


@pytest.mark.parametrize(
    "facts",
    [
        api_error(None, None, "the stream ended", saw_output=True),
        api_error(None, None, "unheard of", saw_output=True),
        broken(exit=ExitFacts(code=0)),
        ran(is_error=True, terminal_reason="aborted_tools"),
    ],
)
def test_a_run_that_broke_off_goes_on_where_it_was(facts: RunFacts) -> None:
    verdict = decide(facts)
    assert (verdict.to, verdict.counts_as, verdict.next_kind) == (
        TaskState.PENDING,
        CountsAs.CONTINUATION,
        "continuation",
    )
    last = decide(facts, counters=Counters(attempts=1, continuations=5))
    assert last.to is TaskState.FAILED
    assert last.error is not None
    assert "max_continuations is 5" in last.error.message


def test_a_run_that_ended_with_nothing_begins_afresh_for_free() -> None:
    verdict = decide(broken(saw_output=False, cost_usd=0.0, exit=ExitFacts(code=0)))
    assert (code_of(verdict), verdict.to) == (E.NO_RESULT, TaskState.PARKED)
    assert (verdict.counts_as, verdict.next_kind) == (CountsAs.INFRA, "attempt")


def test_an_answer_cut_at_the_output_limit_is_continued_twice_at_most() -> None:
    assert decide(ran(stop_reason="max_tokens")).counts_as is CountsAs.CONTINUATION
    verdict = decide(ran(stop_reason="max_tokens"), counters=Counters(attempts=1, continuations=2))
    assert (verdict.to, code_of(verdict)) == (TaskState.FAILED, E.MAX_OUTPUT)
    assert verdict.result is not None
    assert verdict.result.partial


def test_silence_is_resumed_once() -> None:
    facts = broken(stopped=StopCause.SILENCE)
    assert decide(facts).counts_as is CountsAs.CONTINUATION
    verdict = decide(facts, kind="continuation")
    assert (verdict.to, code_of(verdict)) == (TaskState.FAILED, E.SILENCE_TIMEOUT)
    assert decide(broken(stopped=StopCause.SILENCE, saw_output=False)).to is TaskState.FAILED


def test_a_drained_run_is_continued_and_counts_nothing() -> None:
    verdict = decide(broken(stopped=StopCause.DRAINED))
    assert (verdict.to, verdict.counts_as, verdict.next_kind) == (TaskState.PENDING, CountsAs.NOTHING, "continuation")
    assert decide(broken(stopped=StopCause.DRAINED, saw_output=False)).next_kind == "attempt"


@pytest.mark.parametrize("stopped", [StopCause.TIMEOUT, StopCause.SILENCE, StopCause.DRAINED])
def test_an_answer_that_came_before_the_stop_counts(stopped: StopCause) -> None:
    assert decide(ran(stopped=stopped)).to is TaskState.COMPLETED


@pytest.mark.parametrize("facts", [ran(), ran(stopped=StopCause.CANCELLED), broken(), api_error(529)])
def test_a_cancelled_task_ends_cancelled_with_cost_and_output_kept(facts: RunFacts) -> None:
    verdict = decide(facts, cancelled=True)
    assert (verdict.to, code_of(verdict), verdict.counts_as) == (TaskState.CANCELLED, E.CANCELLED, CountsAs.NOTHING)
    assert verdict.cost_usd == facts.cost_usd
    assert verdict.result is not None
    assert verdict.result.output == facts.output


def test_a_superseded_run_never_completes_a_task() -> None:
    assert decide(ran(stopped=StopCause.FENCED)).to is not TaskState.COMPLETED


def test_a_session_that_is_gone_is_paid_again_only_if_an_attempt_is_left() -> None:
    facts = ran(
        is_error=True, terminal_reason=None, saw_output=False, errors=("No conversation found with session ID: s",)
    )
    verdict = decide(facts, kind="continuation")
    assert (verdict.to, code_of(verdict)) == (TaskState.FAILED, E.LOST)
    assert verdict.error is not None
    assert "max_attempts is 1" in verdict.error.message
    verdict = decide(facts, {"max_attempts": 2}, kind="continuation")
    assert (verdict.to, verdict.counts_as, verdict.next_kind) == (TaskState.PENDING, CountsAs.ATTEMPT, "attempt")


def test_a_session_id_in_use_begins_afresh_under_another() -> None:
    facts = broken(
        saw_init=False,
        saw_output=False,
        session_id=None,
        exit=ExitFacts(code=1),
        stderr_tail="Error: Session ID 6be2a392-81c7 is already in use.",
    )
    verdict = decide(facts)
    assert (code_of(verdict), verdict.to, verdict.next_kind) == (E.LOST, TaskState.PARKED, "attempt")


def test_an_unknown_cost_is_estimated_high_but_not_above_the_cap() -> None:
    facts = broken(cost_usd=30.0, exit=ExitFacts(signal=9))
    assert (decide(facts).cost_usd, decide(facts).cost_estimated) == (30.0, True)
    assert decide(facts, cap_usd=2.0).cost_usd == 2.0


def test_the_result_counts_all_runs_and_carries_what_the_cli_told() -> None:
    facts = ran(usage=Usage(input_tokens=3), model_usage={"m": ModelUsage(cost_usd=0.5)}, model="m", num_turns=4)
    result = decide(facts, spent_usd=1.0).result
    assert result is not None
    assert (result.cost_usd, result.usage, result.model, result.num_turns) == (1.5, facts.usage, "m", 4)
    assert (result.session_id, result.run_id, result.output_bytes) == ("s", "r", 6)
