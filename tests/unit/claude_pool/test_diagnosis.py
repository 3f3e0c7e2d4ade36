"""Recorded runs of the real program, read by the worker's own parser, and what each of them is taken for."""

from pathlib import Path

import pytest

from claude_pool.diagnosis import BY_STOP, diagnose, session_gone
from claude_pool.models.run import ExitFacts, RunFacts, StopCause
from claude_pool.models.task import ErrorCode
from workers.report import RunReport
from workers.stream import StreamParser

CLI = Path(__file__).parents[2] / "fixtures" / "cli"
E = ErrorCode


def recorded(name: str) -> RunFacts:
    parser = StreamParser(max_line_bytes=1 << 20)
    report = RunReport("r", session_cost_before_usd=0.0, now_ms=lambda: 0)
    for event in [*parser.feed((CLI / f"{name}.jsonl").read_bytes()), *parser.end()]:
        report.feed(event)
    return report.facts()


EXPECTED = {
    "success": None,
    "resumed": None,
    "denied": None,
    "tool": None,
    "schema": None,
    "schema_text": None,
    "plan_denied": None,
    "mcp_failed": None,
    "background_follow_up": None,
    "rate_limit_event": None,
    "refusal": None,
    "max_turns": E.MAX_TURNS,
    "budget": E.BUDGET_EXHAUSTED,
    "unknown_model": E.MODEL_NOT_FOUND,
    "auth": E.AUTH,
    "no_key": E.AUTH,
    "billing": E.BILLING,
    "throttled": E.THROTTLED,
    "overloaded": E.OVERLOADED,
    "too_long": E.CONTEXT_TOO_LONG,
    "invalid_request": E.INVALID_REQUEST,
    "connection_refused": E.NETWORK,
    "usage_limit": E.USAGE_LIMIT,
    "resume_unknown": E.LOST,
    "interrupted": E.LOST,
}


def test_every_recorded_run_is_judged() -> None:
    assert {path.stem for path in CLI.glob("*.jsonl")} == set(EXPECTED)


@pytest.mark.parametrize(("name", "code"), EXPECTED.items(), ids=EXPECTED)
def test_what_the_real_program_said_is_understood(name: str, code: ErrorCode | None) -> None:
    error = diagnose(recorded(name))
    assert (error.code if error else None) is code
    assert error is None or error.message


def test_an_answer_in_words_does_not_meet_a_schema() -> None:
    error = diagnose(recorded("schema_text"), wants_schema=True)
    assert error is not None
    assert error.code is E.SCHEMA_UNMET
    assert diagnose(recorded("schema"), wants_schema=True) is None


@pytest.mark.parametrize("cause", sorted(set(StopCause) - {StopCause.NONE}))
def test_what_the_pool_stopped_is_not_blamed_on_the_program(cause: StopCause) -> None:
    error = diagnose(recorded("interrupted").evolve(stopped=cause))
    assert error is not None
    assert (error.code, error.message) == BY_STOP[cause]


def test_a_session_that_is_gone_is_told_by_result_or_stderr() -> None:
    assert session_gone(recorded("resume_unknown"))
    assert session_gone(RunFacts(stderr_tail="No conversation found with session ID: x"))
    assert not session_gone(recorded("success"))


def test_evidence_is_clean_and_bounded() -> None:
    facts = RunFacts(stderr_tail="\x1b[31m" + "x" * 100_000 + "\nthe reason", exit=ExitFacts(code=1))
    error = diagnose(facts)
    assert error is not None
    assert "the reason" in error.message
    assert "the reason" in error.detail
    assert len(error.detail) <= 4000
    assert "\x1b" not in error.detail
