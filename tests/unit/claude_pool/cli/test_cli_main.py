"""From a command line to an exit code: errors become one sentence, and with --json one document."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from claude_pool.cli.app import GROUPS, VERBS
from claude_pool.errors import BudgetRefused, CliError, Conflict, InvalidSettings, NotFound, PoolError, Unreachable
from claude_pool.pool import Pool

Cli = Callable[..., Any]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PoolError("a"), 1),
        (CliError("b"), 1),
        (InvalidSettings("c"), 2),
        (NotFound("d"), 2),
        (Unreachable("e", hint="start it"), 3),
        (BudgetRefused("f"), 4),
        (Conflict("g"), 4),
    ],
)
def test_each_error_has_its_exit_code_and_one_sentence(
    cli: Cli, pool: Pool, monkeypatch: pytest.MonkeyPatch, error: PoolError, code: int
) -> None:
    def fails(*_given: Any, **_how: Any) -> None:
        raise error

    monkeypatch.setattr(Pool, "status", fails)
    plain, as_json = cli("status"), cli("status", "--json")
    assert (plain.code, as_json.code) == (code, code)
    assert plain.out == ""
    assert plain.err == as_json.err == f"claude-pool: {error.message}\n" + (f"  {error.hint}\n" if error.hint else "")
    assert as_json.document == {"error": {"code": error.code, "message": error.message, "hint": error.hint}}


def test_a_pool_that_can_not_be_reached_ends_with_3(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("CLAUDE_POOL_REDIS_URL", f"unix://{tmp_path}/nothing.sock")
    answer = cli("submit", "Say hello", "--json")
    assert answer.code == 3
    assert answer.document["error"]["code"] == "unreachable"
    assert len(answer.err.splitlines()) <= 2


def test_a_wrong_setting_is_named_with_what_was_received(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_POOL_SLOTS", "many")
    answer = cli("config")
    assert answer.code == 2
    assert "slots = 'many' (from CLAUDE_POOL_SLOTS)" in answer.err


@pytest.mark.parametrize(
    "arguments",
    [("frobnicate",), ("status", "--frob"), ("wait",), ("list", "--state", "happy"), ("list", "--limit", "x")],
)
def test_wrong_usage_ends_with_2_and_points_to_the_help(cli: Cli, pool: Pool, arguments: tuple[str, ...]) -> None:
    answer = cli(*arguments, "--json")
    assert answer.code == 2
    assert answer.document["error"]["code"] == "invalid_request"
    assert "--help" in answer.err


def test_json_behind_two_dashes_is_a_prompt_and_no_flag(cli: Cli, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_given: Any, **_how: Any) -> None:
        raise Unreachable

    monkeypatch.setattr(Pool, "submit", fails)
    assert cli("submit", "--", "--json").out == ""


def test_an_interrupt_ends_with_130_and_no_trace(cli: Cli, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_given: Any, **_how: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Pool, "status", interrupted)
    answer = cli("status")
    assert (answer.code, answer.out) == (130, "")


def test_a_mistake_of_ours_is_not_hidden(cli: Cli, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_given: Any, **_how: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Pool, "status", broken)
    with pytest.raises(ZeroDivisionError):
        cli("status")


@pytest.mark.parametrize(
    "verb", [words for verb in VERBS for words in ([f"{verb} {word}" for word in GROUPS.get(verb, ())] or [verb])]
)
def test_every_verb_has_a_help_with_examples_and_takes_json(cli: Cli, verb: str) -> None:
    answer = cli(*verb.split(), "--help")
    assert answer.code == 0
    assert "--json" in answer.out
    assert f"claude-pool {verb}" in answer.out.partition("Examples:")[2]


def test_without_a_verb_the_help_lists_them_all(cli: Cli) -> None:
    answer = cli("--help")
    assert [verb for verb in VERBS if verb not in answer.out] == []
    assert cli().code == 2


def test_the_version_is_told(cli: Cli) -> None:
    answer = cli("--version")
    assert (answer.code, answer.out.split()[0]) == (0, "claude-pool")


def test_json_is_one_line_of_ascii_when_nobody_looks(cli: Cli, pool: Pool, slot: Any) -> None:
    task_id = pool.submit("Say hello", title="grüße 👋").task_id
    slot.do(task_id, output="\x1b[2Jgrüße")
    out = cli("result", task_id, "--json").out
    assert out.isascii()
    assert out.count("\n") == 1
    assert json.loads(out)["output"] == "\x1b[2Jgrüße"
