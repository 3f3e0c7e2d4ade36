import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_pool.models.events import LogEntry
from claude_pool.models.run import RunFacts
from workers.report import RunReport
from workers.stream import Event, StreamParser

CLI = Path(__file__).parents[2] / "fixtures" / "cli"
USED = {"inputTokens": 10, "outputTokens": 5, "cacheReadInputTokens": 2, "cacheCreationInputTokens": 1}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def report(*events: Event, before: float = 0.0) -> tuple[RunFacts, list[LogEntry]]:
    told = RunReport("run-1", session_cost_before_usd=before, now_ms=lambda: 1234)
    lines = [line for event in events for line in told.feed(event)]
    return told.facts(), lines


def recorded(name: str, *, before: float = 0.0) -> tuple[RunFacts, list[LogEntry]]:
    parser = StreamParser(max_line_bytes=1 << 20)
    return report(*parser.feed((CLI / f"{name}.jsonl").read_bytes()), *parser.end(), before=before)


def result(**fields: Any) -> Event:
    share = {"claude-x": {**USED, "costUSD": fields.pop("share", 0.25)}}
    usual = {"subtype": "success", "is_error": False, "result": "done", "total_cost_usd": 0.25, "num_turns": 1}
    return {"type": "result", **usual, "model_usage_since_last_result": share, **fields}


def assistant(text: str, message_id: str = "m1", **fields: Any) -> Event:
    message = {"id": message_id, "model": "claude-x", "content": [{"type": "text", "text": text}]}
    message["usage"] = {"input_tokens": 1_000_000, "output_tokens": 0}
    return {"type": "assistant", "message": message, **fields}


def test_a_successful_run_is_told_whole() -> None:
    facts, lines = recorded("success")
    assert (facts.output, facts.is_error, facts.terminal_reason, facts.num_turns) == (
        "hello there",
        False,
        "completed",
        1,
    )
    assert facts.saw_init
    assert facts.saw_output
    assert (facts.cost_usd, facts.cost_known) == (0.00035, True)
    assert (facts.usage.input_tokens, facts.usage.output_tokens) == (1000, 500)
    assert facts.model == "claude-haiku-5-5"
    assert facts.model_usage["claude-haiku-5-5"].cost_usd == 0.00035
    assert facts.cli_version == "2.1.330"
    assert facts.session_id == "00000000-0000-4000-8000-000000000003" or facts.session_id
    assert [line.kind for line in lines] == ["start", "text", "result"]
    assert {(line.at_ms, line.run_id) for line in lines} == {(1234, "run-1")}


def test_a_resumed_run_costs_what_it_cost_itself() -> None:
    facts, _ = recorded("resumed", before=0.00035)
    assert (facts.cost_usd, facts.session_cost_usd) == (0.00035, 0.0007)


def test_the_first_result_is_the_answer_and_the_last_tells_the_cost() -> None:
    facts, _ = recorded("background_follow_up")
    assert facts.result_count == 2
    assert facts.output == "first"
    assert facts.cost_usd == pytest.approx(0.0039595)
    assert facts.usage.input_tokens == 26_119 + 13_396


def test_a_run_that_its_budget_ended_still_tells_tokens_and_money() -> None:
    facts, _ = recorded("budget")
    assert (facts.subtype, facts.terminal_reason) == ("error_max_budget_usd", "budget_exhausted")
    assert (facts.cost_usd, facts.cost_known) == (0.525, True)
    assert facts.usage.input_tokens == 1_000_000


def test_structured_output_is_told_apart_from_none() -> None:
    facts, _ = recorded("schema")
    assert (facts.has_structured_output, facts.structured_output) == (True, {"a": 1})
    facts, _ = recorded("schema_text")
    assert facts.has_result
    assert not facts.has_structured_output


def test_denials_are_listed_once_with_their_input() -> None:
    facts, lines = recorded("denied")
    assert [(denial.tool_name, denial.tool_input) for denial in facts.denials] == [
        ("Bash", {"command": "curl http://127.0.0.1:1/"})
    ]
    assert [line.text for line in lines if line.kind == "notice"] == [
        "Not allowed: Bash. This command requires approval"
    ]


def test_a_tool_call_and_its_result_are_two_lines_of_one_tool() -> None:
    _, lines = recorded("tool")
    told = [(line.kind, line.tool, line.text) for line in lines if line.tool]
    assert told == [("tool", "Bash", "echo hello from tool"), ("tool_result", "Bash", "hello from tool")]
    assert "let me see" in [line.text for line in lines if line.kind == "thinking"]


@pytest.mark.parametrize(
    ("name", "status", "category"),
    [
        ("auth", 401, "authentication_failed"),
        ("no_key", None, "authentication_failed"),
        ("billing", 402, "billing_error"),
        ("throttled", 429, "rate_limit"),
        ("overloaded", 529, "server_error"),
        ("connection_refused", None, "connection_failed"),
        ("unknown_model", 404, "model_not_found"),
        ("usage_limit", 429, "usage_limit_reached"),
    ],
)
def test_an_api_failure_is_an_error_without_output(name: str, status: int | None, category: str) -> None:
    facts, lines = recorded(name)
    assert facts.is_error
    assert (facts.api_error_status, facts.api_error_category) == (status, category)
    assert not facts.saw_output
    assert facts.output == ""
    assert facts.errors
    assert lines[-1].kind == "error"
    assert (facts.cost_usd, facts.cost_known) == (0.0, True)


def test_retries_inside_the_cli_are_counted_and_shown() -> None:
    facts, lines = recorded("overloaded")
    assert (facts.api_retries, facts.last_retry_status) == (2, 529)
    retries = [line.text for line in lines if line.kind == "retry"]
    assert retries[0].startswith("The API failed: overloaded (529); try 1 of 2 in ")


def test_a_rejected_quota_tells_when_it_resets() -> None:
    facts, lines = recorded("usage_limit")
    assert facts.rate_limit is not None
    assert (facts.rate_limit.resets_at, facts.rate_limit.limit_type) == (1_790_000_000, "five_hour")
    assert [line.text for line in lines if line.kind == "limit"] == ["Usage limit (five hour): rejected"]


def test_a_reset_in_milliseconds_is_understood() -> None:
    info = {"status": "rejected", "resetsAt": 1_790_000_000_000}
    facts, _ = report({"type": "rate_limit_event", "rate_limit_info": info})
    assert facts.rate_limit is not None
    assert facts.rate_limit.resets_at == 1_790_000_000


def test_a_quota_that_is_not_used_up_is_no_limit() -> None:
    facts, lines = recorded("rate_limit_event")
    assert facts.rate_limit is None
    assert "limit" not in {line.kind for line in lines}


def test_an_mcp_server_that_was_left_out_is_named() -> None:
    assert recorded("mcp_failed")[0].mcp_failed == ("gone",)


def test_without_a_result_the_last_words_are_the_partial_output_and_the_cost_is_a_high_guess() -> None:
    facts, _ = report(assistant("first", "m1"), assistant("second ", "m2"), assistant("half", "m2"))
    assert not facts.has_result
    assert facts.output == "second half"
    assert not facts.cost_known
    assert facts.cost_usd == pytest.approx(30.0)  # two messages of a million tokens at 15 dollars
    assert facts.usage.input_tokens == 2_000_000


def test_a_failed_run_keeps_what_the_model_had_said() -> None:
    facts, _ = report(assistant("so far"), result(is_error=True, result="API Error: 529", terminal_reason="api_error"))
    assert (facts.output, facts.errors) == ("so far", ("API Error: 529",))


def test_what_a_sub_agent_says_is_not_the_answer() -> None:
    facts, lines = report(assistant("main", "m1"), assistant("sub", "m2", parent_tool_use_id="t1"))
    assert facts.output == "main"
    assert lines[1].data == {"sub_agent": True}


@pytest.mark.parametrize("absurd", [float("nan"), float("inf"), -1.0, 1e12, "3", None, True, {}])
def test_money_that_can_not_be_right_is_not_believed(absurd: Any) -> None:
    event = result(total_cost_usd=absurd)
    del event["model_usage_since_last_result"]
    facts, _ = report(event)
    assert (facts.cost_usd, facts.cost_known) == (0.0, False)


def test_without_a_share_the_cost_is_the_difference_and_never_negative() -> None:
    event = result(total_cost_usd=0.75)
    del event["model_usage_since_last_result"]
    facts, _ = report(event, before=0.5)
    assert (facts.cost_usd, facts.cost_known, facts.session_cost_usd) == (0.25, True, 0.75)
    facts, _ = report(event, before=0.9)
    assert (facts.cost_usd, facts.cost_known) == (0.0, False)


def test_log_lines_are_clean_and_bounded() -> None:
    _, lines = report(assistant("\x1b[31mred\x1b[0m " + "x" * 100_000))
    assert lines[0].text.startswith("red xxx")
    assert len(lines[0].text) == 2000


@given(st.sampled_from(["system", "assistant", "user", "result", "rate_limit_event", "other"]), st.data())
@settings(deadline=None, max_examples=150)
def test_no_field_type_is_believed(kind: str, data: st.DataObject) -> None:
    names = [
        "subtype",
        "message",
        "content",
        "usage",
        "is_error",
        "result",
        "errors",
        "session_id",
        "total_cost_usd",
        "modelUsage",
        "origin",
        "model_usage_since_last_result",
        "permission_denials",
        "rate_limit_info",
        "mcp_servers",
        "structured_output",
        "num_turns",
        "api_error",
        "api_error_params",
        "api_error_status",
        "error_status",
        "tool_use_id",
        "claude_code_version",
        "model",
    ]
    fields = data.draw(st.dictionaries(st.sampled_from(names), JSON, max_size=12))
    facts, lines = report({"type": kind, **fields})
    facts.model_dump_json()
    json.dumps([line.model_dump() for line in lines])
    assert facts.cost_usd >= 0


@given(st.sampled_from(sorted(CLI.glob("*.jsonl"))), st.data())
@settings(deadline=None, max_examples=60)
def test_a_recorded_run_with_one_field_replaced_never_raises(path: Path, data: st.DataObject) -> None:
    events = [json.loads(line) for line in path.read_text().splitlines()]
    event = data.draw(st.sampled_from(events))
    holder = data.draw(st.sampled_from([value for value in (event, event.get("message")) if isinstance(value, dict)]))
    holder[data.draw(st.sampled_from(sorted(holder)))] = data.draw(JSON)
    facts, _ = report(*events)
    facts.model_dump_json()
