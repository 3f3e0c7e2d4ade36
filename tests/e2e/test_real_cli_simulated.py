"""The real `claude` against the simulated API: both do as the pool believes, and the fake resembles the real one."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_pool.testing.dialogue import Answer, Claude, control, is_type, user
from claude_pool.testing.simulated import (
    SimulatedApi,
    reply,
    script_bash,
    script_edit,
    script_pause,
    script_say,
    script_usage,
    script_write,
)

pytestmark = pytest.mark.claude

ISOLATED = ("--strict-mcp-config", "--setting-sources", "")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def real(claude_binary: Path, claude_env: dict[str, str], pool_name: str, work: Path) -> Iterator[Claude]:
    made = Claude(claude_binary, {**claude_env, "CLAUDE_POOL_NAME": pool_name}, work)
    yield made
    made.end()


@pytest.fixture
def fake(fake_claude: Path, claude_env: dict[str, str], work: Path) -> Iterator[Claude]:
    made = Claude(fake_claude, {**claude_env, "CLAUDE_POOL_TASK": "t-1"}, work)
    yield made
    made.end()


def ask(claude: Claude, prompt: str, *argv: str, **env: str) -> Answer:
    return claude.run(prompt, *ISOLATED, *argv, **env)


def test_without_a_script_the_answer_says_that_it_is_simulated(real: Claude, simulated_api: SimulatedApi) -> None:
    answer = ask(real, "/clear is literal, and so is @this")
    assert answer.code == 0
    assert "simulated model" in answer.result["result"]
    assert simulated_api.messages[-1]["prompt_head"] == "/clear is literal, and so is @this"


def test_the_demos_tools_really_work_on_files(real: Claude, work: Path) -> None:
    prompt = (
        "Add a greeting. "
        + script_usage(tokens_in=1000, tokens_out=100)
        + script_say("Writing it.")
        + script_write("greet.py", "print('hello [[you]]')\n")
        + script_pause(0.01)
        + script_edit("greet.py", "hello", "good morning")
        + script_bash("cat greet.py > out.txt")
        + reply("Done.")
    )
    answer = ask(real, prompt, "--permission-mode", "acceptEdits", "--allowedTools", "Bash(cat:*)")
    assert (answer.code, answer.result["result"], answer.result["permission_denials"]) == (0, "Done.", [])
    assert (work / "out.txt").read_text() == (work / "greet.py").read_text() == "print('good morning [[you]]')\n"
    assert answer.result["total_cost_usd"] > 0


def test_a_denied_tool_is_listed_and_does_nothing(real: Claude, work: Path) -> None:
    answer = ask(real, script_write("no.txt", "x") + reply("well"), "--permission-mode", "default")
    assert answer.code == 0
    assert [denial["tool_name"] for denial in answer.result["permission_denials"]] == ["Write"]
    assert not (work / "no.txt").exists()


def test_structured_output_comes_by_the_schema(real: Claude) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    answer = ask(real, '[[json:{"n":7}]]', "--json-schema", json.dumps(schema))
    assert answer.result["structured_output"] == {"n": 7}


def test_a_resume_goes_on_with_the_conversation_and_its_cost(real: Claude, simulated_api: SimulatedApi) -> None:
    session = str(uuid.uuid4())
    usage = script_usage(tokens_in=1000, tokens_out=0)  # a million would be compacted on resume, for money
    first = ask(real, usage + reply("one"), "--session-id", session).result
    second = ask(real, usage + reply("two"), "--resume", session).result
    assert (first["result"], second["result"], second["session_id"]) == ("one", "two", session)
    assert second["total_cost_usd"] == pytest.approx(2 * first["total_cost_usd"])
    assert simulated_api.messages[-1]["messages"] >= 3


def test_overload_is_retried_inside_the_cli_and_then_answered(real: Claude) -> None:
    answer = ask(real, "[[error:529 times=1]]" + reply("at last"))
    assert answer.result["result"] == "at last"
    assert [event["error_status"] for event in answer.events if event.get("subtype") == "api_retry"] == [529]


def test_an_outage_that_no_prompt_knows_of(real: Claude, simulated_api: SimulatedApi) -> None:
    simulated_api.set_rules({"status": 500})
    answer = ask(real, "hi", CLAUDE_CODE_MAX_RETRIES="0")
    assert (answer.code, answer.result["api_error_status"]) == (1, 500)


@pytest.mark.parametrize("fault", ["[[cut:after=3 times=1]]", "[[sse-error:overloaded_error times=1]]"])
def test_a_broken_stream_is_repaired_by_the_cli(real: Claude, fault: str) -> None:
    answer = ask(real, fault + reply("whole"))
    assert (answer.code, answer.result["result"]) == (0, "whole")


def test_an_interrupt_ends_a_hang_with_a_result(real: Claude, simulated_api: SimulatedApi) -> None:
    talk = real.start(*ISOLATED)
    talk.send(user("[[hang]]"))
    talk.until(lambda event: event.get("subtype") == "init")
    deadline = time.monotonic() + 30
    while not simulated_api.health()["active"] and time.monotonic() < deadline:
        time.sleep(0.01)
    talk.send(control("interrupt", cancel_queued=True))
    result = talk.until(is_type("result"))
    talk.close()
    assert (result["subtype"], talk.wait()) == ("error_during_execution", 1)


# -- the fake beside the real one

LIMIT = (
    "[[header:anthropic-ratelimit-unified-status=rejected]]"
    "[[header:anthropic-ratelimit-unified-reset={reset}]]"
    "[[header:anthropic-ratelimit-unified-representative-claim=five_hour]][[error:429]]"
)
SCHEMA = ("--json-schema", '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}')
BASH = '[[tool:Bash {"command":"echo 1"}]]'
TWIN_CASES = {
    "success": (reply("fine"), "[[fake:ok text=fine]]", ()),
    "400": ("[[error:400]]", "[[fake:api status=400]]", ()),
    "401": ("[[error:401]]", "[[fake:api status=401]]", ()),
    "402": ("[[error:402]]", "[[fake:api status=402]]", ()),
    "403": ("[[error:403]]", "[[fake:api status=403]]", ()),
    "429": ("[[error:429]]", "[[fake:api status=429]]", ()),
    "404": ("hi", "hi", ("--model", "nope")),
    "too long": ("[[error:400 prompt is too long: 2 > 1]]", "[[fake:too-long]]", ()),
    "turns": (BASH + reply("x"), "[[fake:ok turns=2]]", ("--max-turns", "1", "--allowedTools", "Bash(echo:*)")),
    "budget": (
        script_usage(tokens_in=1_000_000, tokens_out=1) + BASH + reply("x"),
        "[[fake:ok turns=2 cost=10]]",
        ("--max-budget-usd", "0.01", "--allowedTools", "Bash(echo:*)"),
    ),
    "schema": ('[[json:{"n":1}]]', "[[fake:ok]]", SCHEMA),
    "unmet": ("[[reply:no]]", "[[fake:schema-unmet text=no]]", SCHEMA),
    "limit": (LIMIT, "[[fake:limit]]", ()),
    "no key": ("hi", "[[fake:login]]", ()),
    "refused": ("hi", "[[fake:api status=0]]", ()),
}
DECISIVE = ("subtype", "is_error", "terminal_reason", "api_error_status", "api_error_type", "api_error")
TEXT_TOO = ("400", "401", "402", "403", "404", "429", "success")


@pytest.mark.parametrize("case", TWIN_CASES)
def test_the_fake_decides_as_the_real_one(real: Claude, fake: Claude, case: str) -> None:
    scripted, faked, argv = TWIN_CASES[case]
    env = {"CLAUDE_CODE_MAX_RETRIES": "1"}
    if case == "no key":
        env["ANTHROPIC_API_KEY"] = ""
    if case == "refused":
        env["ANTHROPIC_BASE_URL"] = "http://127.0.0.1:1"
    if case == "limit":
        env |= {"CLAUDE_CODE_OAUTH_TOKEN": "dummy", "ANTHROPIC_API_KEY": ""}
        scripted = scripted.replace("{reset}", str(int(time.time()) + 3600))
    one, other = ask(real, scripted, *argv, **env), ask(fake, faked, *argv, **env)
    assert one.code == other.code
    assert facts(one, case) == facts(other, case)


def facts(answer: Answer, case: str) -> dict[str, Any]:
    """What the pool decides on, and the texts where they are the CLI's own."""
    result = answer.result
    found: dict[str, Any] = {key: result.get(key) for key in DECISIVE}
    found["keys"] = sorted(
        result.keys() & {"result", "errors", "structured_output", "total_cost_usd", "usage", "modelUsage"}
    )
    found["retries"] = [event["error"] for event in answer.events if event.get("subtype") == "api_retry"]
    found["limits"] = [sorted(e["rate_limit_info"]) for e in answer.events if e["type"] == "rate_limit_event"]
    found["category"] = [event["error"] for event in answer.events if event["type"] == "assistant" and "error" in event]
    if case in TEXT_TOO:
        found["text"] = result["result"]
    if case in {"turns", "budget"}:
        found |= {
            "errors": result["errors"],
            "num_turns": result["num_turns"],
            "tokens": result["usage"]["input_tokens"] > 0,
        }
    return found


def test_what_the_fake_tells_the_real_one_tells_as_well(real: Claude, fake: Claude) -> None:
    """The fake invents no keys: whoever reads them would read nothing from the real CLI."""
    one = ask(real, BASH + reply("x"), "--allowedTools", "Bash(echo:*)")
    other = ask(fake, "[[fake:ok turns=2]]")
    for kind in ("init", "assistant", "user", "result"):
        theirs, ours = (
            next(event for event in answer.events if kind in (event["type"], event.get("subtype")))
            for answer in (one, other)
        )
        assert set(ours) - set(theirs) == set(), kind
