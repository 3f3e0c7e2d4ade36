"""Verbs for single tasks: what they hand in, what they print, which exit code they end with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_pool.cli import tasks as verbs
from claude_pool.errors import InvalidRequest
from claude_pool.models.options import MAX_PROMPT_BYTES
from claude_pool.models.task import BranchFacts, TaskState
from claude_pool.pool import Pool

Cli = Callable[..., Any]


def test_submit_prints_the_id_and_nothing_else(cli: Cli, pool: Pool, slot: Any) -> None:
    answer = cli("submit", "Say hello")
    assert answer.code == 0
    assert pool.get(answer.out.strip()).state is TaskState.PENDING
    assert answer.err == ""


def test_submit_gives_the_documented_json(cli: Cli, pool: Pool, slot: Any) -> None:
    answer = cli("submit", "Say hello", "--json")
    assert answer.document == {"task_id": pool.list().tasks[0].id, "state": "pending"}


def test_submit_rings_one_bell(cli: Cli, pool: Pool, bells: Any) -> None:
    task_id = cli("submit", "Say hello", "--priority", "0").out.strip()
    assert [(bell.task_id, bell.priority) for bell in bells.rung] == [(task_id, 0)]


def test_a_task_without_any_slot_is_taken_with_a_word_of_warning(cli: Cli, pool: Pool) -> None:
    answer = cli("submit", "Say hello", "--json")
    assert answer.code == 0
    assert "claude-pool up" in answer.err
    assert answer.document["state"] == "pending"


def test_an_idempotency_key_gives_the_earlier_task_and_says_so(cli: Cli, pool: Pool, slot: Any) -> None:
    first = cli("submit", "Say hello", "--idempotency-key", "k1", "--json").document
    again = cli("submit", "Say hello", "--idempotency-key", "k1", "--json").document
    assert again == {**first, "created": False}
    other = cli("submit", "Say goodbye", "--idempotency-key", "k1", "--json")
    assert other.code == 4
    assert other.document["error"]["code"] == "key_reused"


def test_the_prompt_may_come_from_stdin_or_a_file(cli: Cli, pool: Pool, place: Path) -> None:
    (place / "task.md").write_text("From a file — with umlauts: äöü")
    by_file = cli("submit", "--file", "task.md").out.strip()
    by_stdin = cli("submit", "-", stdin="From stdin: ß".encode()).out.strip()
    assert pool.detail(by_file).prompt == "From a file — with umlauts: äöü"
    assert pool.detail(by_stdin).prompt == "From stdin: ß"


@pytest.mark.parametrize("prompt", ["-5 or 5?", "/clear", "@README.md", "--json"])
def test_a_prompt_behind_two_dashes_is_taken_as_it_is(cli: Cli, pool: Pool, prompt: str) -> None:
    task_id = cli("submit", "--", prompt).out.strip()
    assert pool.detail(task_id).prompt == prompt


@pytest.mark.parametrize(
    "arguments", [(), ("one", "--file", "task.md"), ("  ",), ("--file", "missing.md"), ("bad \udcff",)]
)
def test_a_prompt_that_is_none_is_wrong_usage(cli: Cli, pool: Pool, arguments: tuple[str, ...]) -> None:
    answer = cli("submit", *arguments, "--json")
    assert answer.code == 2
    assert set(answer.document["error"]) == {"code", "message", "hint"}
    assert answer.err.startswith("claude-pool: ")
    assert pool.list().tasks == ()


def test_a_prompt_on_stdin_must_be_text(cli: Cli, pool: Pool) -> None:
    answer = cli("submit", "-", stdin=b"\xff\xfe")
    assert (answer.code, answer.out) == (2, "")


def test_a_prompt_on_stdin_that_is_too_large_is_told_by_its_size(cli: Cli, pool: Pool) -> None:
    answer = cli("submit", "-", stdin="ß".encode() * (MAX_PROMPT_BYTES // 2 + 1))
    assert answer.code == 2
    assert "8 MiB" in answer.err


def test_options_reach_the_task(cli: Cli, pool: Pool) -> None:
    task_id = cli(
        "submit", "Say hello", "--model", "haiku", "--allowed-tool", "Bash(git:*)", "--allowed-tool", "Read",
        "--max-budget-usd", "0.5", "--timeout", "90", "--tag", "a", "--tag", "b", "--json-schema", '{"type": "object"}',
        "--on-lost", "fail", "--title", "Greeting",
    ).out.strip()  # fmt: skip
    task = pool.get(task_id)
    options = task.options
    assert (options.model, options.allowed_tools, options.tags) == ("haiku", ("Bash(git:*)", "Read"), ("a", "b"))
    assert (options.max_budget_usd, options.timeout_s, options.on_lost) == (0.5, 90, "fail")
    assert options.json_schema == {"type": "object"}
    assert (task.title, task.submitter.kind) == ("Greeting", "cli")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"repo": "HERE"}),
        ({"repo": "none"}, {"isolation": "none"}),
        ({"repo": "/other"}, {"repo": "/other"}),
        ({"isolation": "none"}, {"isolation": "none"}),
        ({"working_dir": "/data"}, {"working_dir": "/data"}),
        ({"isolation": "clone"}, {"isolation": "clone", "repo": "HERE"}),
    ],
)
def test_the_repository_around_us_is_the_tasks_unless_something_else_is_said(
    place: Path, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    (place / ".git").mkdir()
    (deep := place / "a" / "b").mkdir(parents=True)
    wanted = {name: str(place) if value == "HERE" else value for name, value in expected.items()}
    assert verbs.place(given, configured=False, here=deep) == wanted


def test_a_configured_repository_goes_first(place: Path) -> None:
    (place / ".git").mkdir()
    assert verbs.place({}, configured=True, here=place) == {}


def test_run_prints_the_output_on_stdout_and_the_rest_on_stderr(cli: Cli, slot: Any, branch: BranchFacts) -> None:
    with working(slot, output="Hello.", branch=branch, num_turns=2, run_ms=1500):
        answer = cli("run", "Say hello")
    assert (answer.code, answer.out) == (0, "Hello.\n")
    assert "completed · $0.0125 · 1.5 s · 2 turns" in answer.err
    assert "branch pool/t-x: 1 commit, 1 file, +2 -0" in answer.err


def test_run_gives_the_documented_json(cli: Cli, pool: Pool, slot: Any) -> None:
    with working(slot, output="Hello."):
        document = cli("run", "Say hello", "--json").document
    assert {"task_id", "state", "output", "cost_usd", "session_id"} <= set(document)
    assert (document["state"], document["output"], document["cost_usd"]) == ("completed", "Hello.", 0.0125)


def test_a_failed_task_ends_with_1_and_says_why(cli: Cli, slot: Any) -> None:
    with working(slot, to=TaskState.FAILED):
        answer = cli("run", "Say hello")
    assert (answer.code, answer.out) == (1, "")
    assert "model_not_found: no such model" in answer.err
    assert "Try haiku." in answer.err


def test_run_may_stop_waiting_and_the_task_goes_on(cli: Cli, pool: Pool, slot: Any) -> None:
    answer = cli("run", "Say hello", "--wait", "0.01", "--json")
    assert answer.code == 5
    assert answer.document["state"] == "pending"
    assert pool.get(answer.document["task_id"]).state is TaskState.PENDING


def test_ctrl_c_ends_the_waiting_and_not_the_task(
    cli: Cli, pool: Pool, slot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_given: Any, **_how: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("claude_pool.cli.live.wait", interrupted)
    for verb in (("run", "Say hello"), ("wait", pool.submit("Say hello").task_id)):
        answer = cli(*verb)
        assert answer.code == 130
        assert "claude-pool cancel t-" in answer.err
        assert answer.out == ""
    assert {task.state for task in pool.list().tasks} == {TaskState.PENDING}


def test_structured_output_is_printed_as_json(cli: Cli, slot: Any) -> None:
    with working(slot, structured_output={"licence": "MIT"}):
        answer = cli("run", "Which licence?")
    assert answer.out == '{\n  "licence": "MIT"\n}\n'


def test_wait_gives_the_documented_json_and_consumes_nothing(cli: Cli, pool: Pool, slot: Any) -> None:
    first, second = (pool.submit("Say hello").task_id for _ in range(2))
    slot.do(first)
    answer = cli("wait", "--any", first, second, "--json")
    assert answer.code == 0
    cursor = answer.document["cursor"]
    assert answer.document == {
        "finished": [{"id": first, "state": "completed"}],
        "running": [second],
        "cursor": cursor,
        "timed_out": False,
    }
    assert cli("wait", "--any", first, second, "--json").document["finished"] == answer.document["finished"]
    after = cli("wait", "--any", first, second, "--after", cursor, "--timeout", "0.01", "--json")
    assert (after.code, after.document["finished"], after.document["timed_out"]) == (5, [], True)


def test_wait_ends_with_1_when_one_of_them_failed(cli: Cli, pool: Pool, slot: Any) -> None:
    first, second = (pool.submit("Say hello").task_id for _ in range(2))
    slot.do(first, TaskState.FAILED)
    slot.do(second)
    assert cli("wait", first, second).code == 1


def test_an_unknown_task_is_wrong_usage_with_its_name(cli: Cli, pool: Pool) -> None:
    for arguments in (("wait", "t-0000000000"), ("result", "t-0000000000"), ("cancel", "t-0000000000")):
        answer = cli(*arguments, "--json")
        assert answer.code == 2
        assert answer.document["error"]["code"] == "not_found"
        assert "t-0000000000" in answer.err


def test_result_of_a_task_that_still_runs_is_what_is_known(cli: Cli, pool: Pool, slot: Any) -> None:
    task_id = pool.submit("Say hello").task_id
    slot.start(task_id)
    answer = cli("result", task_id, "--json")
    assert (answer.code, answer.document["state"], answer.document["partial"]) == (5, "running", True)


def test_cancel_gives_the_documented_json(cli: Cli, pool: Pool, slot: Any) -> None:
    first, second, third = (pool.submit("Say hello", tags=(tag,)).task_id for tag in "aab")
    assert cli("cancel", first, "--json").document == {"task_id": first, "state": "cancelled"}
    assert cli("cancel", "--tag", "a", "--json").document == {"cancelled": [{"task_id": second, "state": "cancelled"}]}
    slot.start(third)
    assert cli("cancel", "--all", "--json").document == {
        "cancelled": [{"task_id": third, "state": "running", "stopping": True}]
    }


@pytest.mark.parametrize("arguments", [(), ("--all", "--tag", "a"), ("t-0000000000", "--all")])
def test_cancel_wants_to_know_what(cli: Cli, pool: Pool, arguments: tuple[str, ...]) -> None:
    assert cli("cancel", *arguments).code == 2


def test_hold_and_wake(cli: Cli, pool: Pool) -> None:
    task_id = pool.submit("Say hello").task_id
    held = cli("hold", task_id, "--reason", "later", "--json").document
    assert (held["state"], held["parked_for"]) == ("parked", "hold")
    assert cli("wait", task_id, "--timeout", "5").code == 5
    assert cli("wake", task_id, "--json").document["woken"] is True
    assert cli("wake", task_id, "--json").document["woken"] is False


def test_a_refused_hold_ends_with_4(cli: Cli, pool: Pool, slot: Any) -> None:
    task_id = pool.submit("Say hello").task_id
    slot.do(task_id)
    assert cli("hold", task_id).code == 4


def test_reading_a_prompt_names_the_file(place: Path) -> None:
    (place / "bytes").write_bytes(b"\xff")
    with pytest.raises(InvalidRequest, match="bytes is not UTF-8"):
        verbs.read_prompt(None, "bytes")


class working:  # noqa: N801 - reads as a word of the test
    """A slot that does the next task while we wait for it."""

    def __init__(self, slot: Any, to: TaskState = TaskState.COMPLETED, **result: Any) -> None:
        self._work = threading.Thread(target=self._do, args=(slot, to, result))

    def _do(self, slot: Any, to: TaskState, result: dict[str, Any]) -> None:
        with slot.pool.hub.inbox(None) as inbox:
            while not (found := slot.pool.list(states=[TaskState.PENDING]).tasks):
                assert inbox.take(10)
        slot.do(found[0].id, to, **result)

    def __enter__(self) -> None:
        self._work.start()

    def __exit__(self, *_error: object) -> None:
        self._work.join(10)
        assert not self._work.is_alive()
