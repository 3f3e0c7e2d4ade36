"""The fake `claude` as a program: its command line, its protocol, its sessions, its ledger."""

from __future__ import annotations

import json
import math
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_pool.testing import ledger
from claude_pool.testing.dialogue import Claude, control, is_type, user
from claude_pool.testing.fake_claude import MODES
from claude_pool.testing.fake_script import directive, steps


@pytest.fixture
def cli(fake_claude: Path, tmp_path: Path) -> Iterator[Claude]:
    folder = tmp_path / "work"
    folder.mkdir()
    env = {"PATH": os.defpath, "HOME": str(folder), "CLAUDE_POOL_TASK": "t-1", "CLAUDE_POOL_RUN": "r-1"}
    made = Claude(fake_claude, env, folder)
    yield made
    made.end()


# -- the command line


def test_it_tells_a_version_like_the_real_one(fake_claude: Path) -> None:
    done = subprocess.run([fake_claude, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "2.1.330 (Claude Code)\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--no-such-flag",), "unknown option"),
        (("--session-id", "7"), "Invalid session ID"),
        (("--json-schema", "{"), "invalid value"),
        (("--max-turns", "many"), "invalid value"),
        (("--model",), "argument missing"),
    ],
)
def test_a_bad_command_line_exits_1_without_any_json(cli: Claude, argv: tuple[str, ...], said: str) -> None:
    answer = cli.run("hi", *argv)
    assert (answer.code, answer.out) == (1, b"")
    assert said in answer.err


def test_an_unknown_model_fails_as_the_apis_404(cli: Claude) -> None:
    answer = cli.run("hi", "--model", "nope")
    assert answer.code == 1
    assert (answer.result["api_error_status"], answer.result["subtype"]) == (404, "success")
    assert "unrecognized_model" in answer.err


def test_a_prompt_on_the_command_line_is_answered_as_plain_text(cli: Claude) -> None:
    argv = [cli.program, "-p", "--add-dir", "a", "b", "--", "--hello"]
    done = subprocess.run(argv, env=cli.env, capture_output=True, text=True, check=True, cwd=cli.cwd)
    assert done.stdout == "echo: --hello\n"


# -- a turn


def test_without_directives_the_prompt_is_echoed(cli: Claude) -> None:
    answer = cli.run("-x /clear @file")
    assert answer.code == 0
    assert answer.result["result"] == "echo: -x /clear @file"
    assert [event["type"] for event in answer.events] == ["system", "assistant", "result"]


def test_a_directive_that_does_not_exist_stops_the_fake(cli: Claude) -> None:
    answer = cli.run("[[fake:okay]]")
    assert answer.code == 2
    assert "okay" in answer.err


def test_a_result_tells_cost_tokens_and_turns(cli: Claude) -> None:
    answer = cli.run(directive("ok", text="two words", cost=0.3, turns=3) + "", "--model", "haiku")
    result = answer.result
    assert result["result"] == "two words"
    assert result["total_cost_usd"] == pytest.approx(0.3)
    assert result["num_turns"] == 3
    assert result["usage"]["input_tokens"] == 100
    assert result["modelUsage"]["claude-haiku-5-5"]["costUSD"] == pytest.approx(0.3)


def test_max_turns_ends_a_longer_run(cli: Claude) -> None:
    answer = cli.run("[[fake:ok turns=5 cost=0.5]]", "--max-turns", "2")
    assert answer.code == 1
    assert (answer.result["subtype"], answer.result["num_turns"]) == ("error_max_turns", 3)
    assert answer.result["total_cost_usd"] == pytest.approx(0.2)


def test_a_budget_ends_a_run_after_the_call_that_overshoots(cli: Claude) -> None:
    answer = cli.run("[[fake:ok turns=5 cost=0.5]]", "--max-budget-usd", "0.25")
    assert answer.code == 1
    assert answer.result["terminal_reason"] == "budget_exhausted"
    assert answer.result["total_cost_usd"] == pytest.approx(0.3)
    assert answer.result["usage"]["input_tokens"] == 0


def test_a_schema_gives_structured_output_that_satisfies_it(cli: Claude) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "s": {"enum": ["a"]}}, "required": ["n", "s"]}
    assert cli.run("hi", "--json-schema", json.dumps(schema)).result["structured_output"] == {"n": 1, "s": "a"}
    chosen = cli.run(directive("ok", json='{"n": 7}'), "--json-schema", json.dumps(schema))
    assert chosen.result["structured_output"] == {"n": 7}
    unmet = cli.run("[[fake:schema-unmet]]", "--json-schema", json.dumps(schema))
    assert unmet.code == 0
    assert "structured_output" not in unmet.result


@pytest.mark.parametrize("odd", ["nan", "-1", "1e308", "lots"])
def test_an_odd_cost_is_told_and_never_counted(cli: Claude, fake_ledger: Any, odd: str) -> None:
    told = cli.run(f"[[fake:ok cost={odd}]]").result["total_cost_usd"]
    assert str(told) == odd or math.isnan(told) or told == float(odd)
    assert fake_ledger.read().cost_usd == pytest.approx(0.01)


def test_a_cost_can_be_missing(cli: Claude) -> None:
    assert "total_cost_usd" not in cli.run("[[fake:ok cost=missing]]").result


def test_messages_get_one_result_each(cli: Claude) -> None:
    answer = cli.start().finish(user("one") + user("two") + user("three"))
    assert [result["result"] for result in answer.results] == ["echo: one", "echo: two", "echo: three"]


def test_a_message_in_mid_run_is_heard(cli: Claude) -> None:
    child = cli.start()
    child.send(user("[[fake:listen s=15]] [[fake:ok text=done]]"))
    child.until(lambda event: event.get("subtype") == "init")
    answer = child.finish(user("make it blue"))
    assert answer.texts == ["heard: make it blue", "done"]
    assert len(answer.results) == 1


def test_an_interrupt_ends_a_turn_with_its_cost(cli: Claude, fake_ledger: Any) -> None:
    child = cli.start()
    child.send(user("[[fake:say cost=0.05]] [[fake:silent]]"))
    child.until(is_type("assistant"))
    child.send(control("interrupt", cancel_queued=True))
    assert child.until(is_type("control_response"))["response"]["subtype"] == "success"
    result = child.until(is_type("result"))
    assert (result["subtype"], result["total_cost_usd"]) == ("error_during_execution", 0.05)
    child.close()
    assert child.wait() == 1
    assert fake_ledger.read().executions[0].outcome == "error_during_execution"


def test_an_unknown_control_request_is_an_error(cli: Claude) -> None:
    child = cli.start()
    child.send(control("nonsense"))
    assert child.until(is_type("control_response"))["response"]["subtype"] == "error"
    child.send(control("end_session"))
    assert child.wait() == 0


def test_a_line_that_is_no_json_ends_it(cli: Claude) -> None:
    answer = cli.start().finish(b"not json\n")
    assert answer.code == 1
    assert "not json" in answer.err


def test_clear_begins_a_new_session_at_no_cost(cli: Claude) -> None:
    clear = user("/clear", client_composed=False)
    one, cleared, two = cli.start().finish(user("one") + clear + user("two")).results
    assert cleared["num_turns"] == 0
    assert one["session_id"] != cleared["session_id"] == two["session_id"]
    assert two["total_cost_usd"] == one["total_cost_usd"]


# -- sessions


def test_a_resumed_session_goes_on_counting_from_any_folder(cli: Claude, tmp_path: Path) -> None:
    session, other = str(uuid.uuid4()), tmp_path / "other"
    other.mkdir()
    cli.run("[[fake:ok cost=0.1]]", "--session-id", session)
    again = cli.run("[[fake:ok cost=0.2]]", "--resume", session, cwd=other).result
    assert again["session_id"] == session
    assert again["total_cost_usd"] == pytest.approx(0.3)
    assert again["usage"]["input_tokens"] == 100
    assert len(list((cli.cwd / ".claude/projects").rglob(session + ".jsonl"))) == 1


def test_a_session_id_can_be_used_once(cli: Claude) -> None:
    session = str(uuid.uuid4())
    assert cli.run("hi", "--session-id", session).code == 0
    again = cli.run("hi", "--session-id", session)
    assert (again.code, again.out) == (1, b"")
    assert "already in use" in again.err


def test_a_fork_copies_a_session_under_a_new_id(cli: Claude) -> None:
    session, fork = str(uuid.uuid4()), str(uuid.uuid4())
    cli.run("[[fake:ok cost=0.1]]", "--session-id", session)
    forked = cli.run("hi", "--resume", session, "--fork-session", "--session-id", fork, CLAUDE_POOL_TASK="t-2").result
    assert forked["session_id"] == fork
    assert forked["total_cost_usd"] == pytest.approx(0.11)
    assert cli.run("hi", "--resume", session, CLAUDE_POOL_TASK="t-2").result["total_cost_usd"] == pytest.approx(0.11)


def test_resuming_what_is_not_there_fails(cli: Claude) -> None:
    answer = cli.run("hi", "--resume", str(uuid.uuid4()))
    assert answer.code == 1
    assert "No conversation found" in answer.err
    assert answer.result["subtype"] == "error_during_execution"


def test_going_on_with_the_same_task_plays_its_script_again(cli: Claude) -> None:
    session = str(uuid.uuid4())
    script = "[[fake:exit code=9 times=1]] [[fake:ok text=finished]]"
    assert cli.run(script, "--session-id", session).code == 9
    assert cli.run("continue", "--resume", session).result["result"] == "finished"
    assert cli.run("next", "--resume", session, CLAUDE_POOL_TASK="t-2").result["result"] == "echo: next"


def test_times_counts_per_task(cli: Claude) -> None:
    script = "[[fake:api status=529 times=2]] [[fake:ok]]"
    assert [cli.run(script).code for _ in range(3)] == [1, 1, 0]
    assert cli.run(script, CLAUDE_POOL_TASK="t-2").code == 1


# -- the ledger and the directives


def test_the_ledger_tells_overlaps_and_costs(fake_ledger: Any, cli: Claude) -> None:
    first, second = cli.start(CLAUDE_POOL_RUN="r-1"), cli.start(CLAUDE_POOL_RUN="r-2")
    for child in (first, second):
        child.send(user("[[fake:say cost=0.25]] [[fake:silent]]"))
    for child in (first, second):
        child.until(is_type("assistant"))
    for child in (first, second):
        child.send(control("interrupt"))
        child.until(is_type("result"))
    book = fake_ledger.read()
    assert len(book.of("t-1")) == 2
    assert len(book.overlaps()) == 1
    assert book.task_cost_usd("t-1") == pytest.approx(0.5)


def test_runs_one_after_the_other_do_not_overlap(fake_ledger: Any, cli: Claude) -> None:
    cli.run("one")
    cli.run("two")
    book = fake_ledger.read()
    assert [one.outcome for one in book.executions] == ["success", "success"]
    assert book.overlaps() == []
    assert book.unended == ()


@pytest.mark.parametrize("line", ["S t r", "X t r 1 2.0", "E t r 1 2.0 0.1 success", "nonsense"])
def test_a_ledger_line_that_makes_no_sense_is_an_error(tmp_path: Path, line: str) -> None:
    path = tmp_path / "ledger"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match="ledger"):
        ledger.read(path)


def test_directives_come_back_as_they_were_written() -> None:
    text = 'a "quoted" ]] [[thing]]\nand a newline'
    (step,) = steps("before " + directive("ok", text=text, cost=0.5, flag=True, absent=False) + " after")
    assert (step.name, step.args) == ("ok", {"text": text, "cost": "0.5", "flag": ""})


def test_every_directive_is_described_for_people() -> None:
    manual = (Path(__file__).parents[3] / "docs/testing.md").read_text()
    missing = [name for name in MODES if f"`{name}" not in manual]
    assert missing == []
    assert all(mode.__doc__ for mode in MODES.values())
