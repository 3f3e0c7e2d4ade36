"""Flags made from TaskOptions: one each, and what they turn into."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_pool.cli.flags import NAMES, flag, json_argument, read
from claude_pool.errors import InvalidRequest
from claude_pool.models.options import TaskOptions
from claude_pool.pool import Pool

Cli = Callable[..., Any]

SAMPLES: dict[str, tuple[tuple[str, ...], Any]] = {
    "model": (("haiku",), "haiku"),
    "fallback_model": (("sonnet",), "sonnet"),
    "effort": (("low",), "low"),
    "permission_mode": (("plan",), "plan"),
    "max_turns": (("7",), 7),
    "system_prompt": (("Be brief.",), "Be brief."),
    "allowed_tools": (("Read", "Bash(git:*)"), ("Read", "Bash(git:*)")),
    "disallowed_tools": (("WebFetch",), ("WebFetch",)),
    "tools": (("none",), ()),
    "mcp_servers": (('{"a": {"command": "x"}}', '{"mcpServers": {"b": {}}}'), {"a": {"command": "x"}, "b": {}}),
    "json_schema": (('{"type": "object"}',), {"type": "object"}),
    "max_budget_usd": (("1.5",), 1.5),
    "timeout_s": (("60",), 60.0),
    "silence_timeout_s": (("30.5",), 30.5),
    "tags": (("nightly", "build:512"), ("nightly", "build:512")),
    "repo": (("/srv/repo",), "/srv/repo"),
    "working_dir": (("/srv/data",), "/srv/data"),
    "env": (("AWS_REGION", "FOO"), ("AWS_REGION", "FOO")),
    "isolation": (("clone",), "clone"),
    "base_ref": (("release/1.2",), "release/1.2"),
    "session": (("name:release-1",), "name:release-1"),
    "warm": (("spare",), "spare"),
    "on_lost": (("hold",), "hold"),
    "max_attempts": (("3",), 3),
    "max_continuations": (("0",), 0),
    "max_infra_retries": (("4",), 4),
    "max_crashes": (("2",), 2),
    "priority": (("4",), 4),
    "review": ((), True),
    "max_rejections": (("2",), 2),
    "review_expires_s": (("3600",), 3600.0),
}
"""For every field: what is typed, each word behind a flag of its own, and what the task must have.

A flag without a word stands for true.
"""


def test_every_field_has_a_flag_and_every_flag_a_field() -> None:
    assert set(SAMPLES) == set(TaskOptions.model_fields)
    assert set(NAMES) <= set(TaskOptions.model_fields)
    assert len({flag(name) for name in TaskOptions.model_fields}) == len(TaskOptions.model_fields)


def test_every_flag_reaches_its_field(cli: Cli, pool: Pool) -> None:
    typed = [part for field, (words, _) in SAMPLES.items() for word in words for part in (flag(field), word)]
    typed += [flag(field) for field, (words, _) in SAMPLES.items() if not words]
    answer = cli("submit", "Say hello", *typed)
    assert answer.code == 0, answer.err
    options = pool.get(answer.out.strip()).options
    assert {name: getattr(options, name) for name in SAMPLES} == {name: value for name, (_, value) in SAMPLES.items()}


def test_what_was_not_given_stays_open(cli: Cli, pool: Pool) -> None:
    options = pool.get(cli("submit", "Say hello").out.strip()).options
    assert options == TaskOptions()


@pytest.mark.parametrize("verb", ["run", "submit"])
def test_the_help_names_every_flag(cli: Cli, verb: str) -> None:
    shown = cli(verb, "--help").out
    missing = [flag(name) for name in TaskOptions.model_fields if not re.search(rf"{flag(name)}\b", shown)]
    assert missing == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--json-schema", "{"), "--json-schema"),
        (("--json-schema", "[]"), "--json-schema"),
        (("--json-schema", "@missing.json"), "missing.json"),
        (("--mcp-server", '{"bad name!": {}}'), "bad name!"),
        (("--model", "-x y"), "model"),
        (("--tag", "no spaces please"), "tags"),
        (("--effort", "heroic"), "--effort"),
        (("--max-turns", "0"), "max_turns"),
        (("--timeout", "-1"), "timeout_s"),
        (("--session", "yesterday"), "session"),
    ],
)
def test_a_wrong_value_is_wrong_usage_and_is_named(
    cli: Cli, pool: Pool, arguments: tuple[str, ...], named: str
) -> None:
    answer = cli("submit", "Say hello", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert named in answer.err
    assert "Traceback" not in answer.err
    assert pool.list().tasks == ()


def test_json_may_come_from_a_file(place: Path) -> None:
    (place / "schema.json").write_text('{"type": "object"}')
    assert json_argument("--json-schema", "@schema.json") == {"type": "object"}


def test_json_from_a_file_that_is_no_text(place: Path) -> None:
    (place / "schema.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidRequest, match="not UTF-8"):
        json_argument("--json-schema", "@schema.json")


def test_tools_are_kept_as_they_are_given() -> None:
    assert read("tools", ["Read", "Edit"]) == ("Read", "Edit")
