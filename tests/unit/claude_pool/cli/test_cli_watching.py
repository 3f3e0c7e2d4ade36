"""Verbs that look: status, list, logs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from claude_pool.pool import Pool

Cli = Callable[..., Any]


def test_status_gives_the_documented_fields(cli: Cli, pool: Pool) -> None:
    document = cli("status", "--json").document
    least = {"slots", "idle", "busy", "pending", "running", "parked", "pending_review", "spent_usd", "budget_usd"}
    assert least <= set(document)
    assert (document["slots"], document["budget_usd"]) == (0, None)


def test_status_shows_which_slot_runs_what(cli: Cli, pool: Pool, slot: Any) -> None:
    task_id = pool.submit("Say hello", title="Greeting").task_id
    run_id = slot.start(task_id)
    pool.store.slots.beat(slot.identity, task_id=task_id, run_id=run_id, lease_ms=60_000, progress="Read a.txt")
    (shown,) = cli("status", "--json").document["slot_list"]
    assert (shown["state"], shown["task_id"], shown["title"]) == ("busy", task_id, "Greeting")
    plain = cli("status").out
    assert task_id in plain
    assert "Greeting" in plain
    assert "\x1b" not in plain


def test_list_filters_and_pages(cli: Cli, pool: Pool, slot: Any) -> None:
    ids = [pool.submit(f"Task {number}", tags=(f"n{number % 2}",)).task_id for number in range(5)]
    slot.do(ids[0])
    assert [task["task_id"] for task in cli("list", "--json").document["tasks"]] == ids[::-1]
    assert [task["task_id"] for task in cli("list", "--tag", "n1", "--json").document["tasks"]] == [ids[3], ids[1]]
    assert [task["task_id"] for task in cli("list", "--state", "completed", "--json").document["tasks"]] == [ids[0]]
    page = cli("list", "--limit", "2", "--json").document
    rest = cli("list", "--after", page["next"], "--json").document
    assert [task["task_id"] for task in page["tasks"] + rest["tasks"]] == ids[::-1]
    assert rest["next"] is None
    assert page["next"] in cli("list", "--limit", "2").err


def test_an_empty_list_is_said_in_words_and_as_an_empty_document(cli: Cli, pool: Pool) -> None:
    assert cli("list").out == "There is no such task.\n"
    assert cli("list", "--json").document == {"tasks": [], "next": None}


@pytest.fixture
def logged(pool: Pool, slot: Any) -> str:
    task_id = pool.submit("Say hello").task_id
    run_id = slot.start(task_id)
    slot.say(task_id, run_id, "Let me\nlook [bold]here[/bold] \x1b[2J")
    slot.say(task_id, run_id, "a.txt", kind="notice")
    slot.finish(task_id, run_id, log_path="/var/log/run.jsonl")
    return task_id


@pytest.mark.parametrize("follow", [(), ("-f",)])
def test_logs_are_readable_and_clean_and_tell_where_the_whole_is(
    cli: Cli, logged: str, follow: tuple[str, ...]
) -> None:
    answer = cli("logs", logged, *follow)
    assert answer.code == 0
    first, second, third = answer.out.splitlines()
    assert first.endswith("  Let me")
    assert second.strip() == "look [bold]here[/bold]"
    assert third.endswith("i a.txt")
    assert "/var/log/run.jsonl on host-a" in answer.err


def test_raw_logs_are_one_line_of_json_an_entry(cli: Cli, logged: str) -> None:
    lines = [json.loads(line) for line in cli("logs", "--raw", logged).out.splitlines()]
    assert [line["kind"] for line in lines] == ["text", "notice"]


def test_logs_as_one_document(cli: Cli, logged: str) -> None:
    document = cli("logs", logged, "-f", "--json").document
    assert (document["task_id"], document["state"], len(document["entries"])) == (logged, "completed", 2)
    assert (document["log_path"], document["node"]) == ("/var/log/run.jsonl", "host-a")


def test_ctrl_c_ends_the_following_only(cli: Cli, logged: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_given: Any, **_how: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Pool, "stream", interrupted)
    answer = cli("logs", "-f", logged)
    assert answer.code == 130
    assert f"claude-pool cancel {logged}" in answer.err
