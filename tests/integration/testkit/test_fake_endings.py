"""What the directives of the fake `claude` do: endings, noise, deeds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_pool.processes import WaitTimeout
from claude_pool.testing.dialogue import PATIENCE_S, STREAM, Claude, control, is_type, user
from claude_pool.testing.fake_script import directive


@pytest.fixture
def cli(fake_claude: Path, tmp_path: Path) -> Iterator[Claude]:
    folder = tmp_path / "work"
    folder.mkdir()
    env = {"PATH": os.defpath, "HOME": str(folder), "CLAUDE_POOL_TASK": "t-1", "CLAUDE_POOL_RUN": "r-1"}
    made = Claude(fake_claude, env, folder)
    yield made
    made.end()


# -- endings


@pytest.mark.parametrize("status", [0, 400, 401, 402, 403, 404, 413, 429, 500, 529])
def test_api_errors_look_like_success_but_for_is_error(cli: Claude, status: int) -> None:
    answer = cli.run(f"[[fake:api status={status}]]")
    assert answer.code == 1
    result = answer.result
    assert (result["subtype"], result["is_error"], result["terminal_reason"]) == ("success", True, "api_error")
    assert result["api_error_status"] == (status or None)
    assert result["total_cost_usd"] == 0


@pytest.mark.parametrize(
    ("args", "expected"),
    [("resets=60", 60), ("resets=-60", -60), ("resets=missing", None), ("resets=60 unit=ms", "ms")],
)
def test_a_usage_limit_tells_when_it_ends(cli: Claude, args: str, expected: object) -> None:
    before = time.time()
    answer = cli.run(f"[[fake:limit {args}]]")
    event = next(event for event in answer.events if event["type"] == "rate_limit_event")
    resets_at = event["rate_limit_info"].get("resetsAt")
    assert event["rate_limit_info"]["status"] == "rejected"
    assert answer.result["api_error"] == "usage_limit_reached"
    if expected is None:
        assert resets_at is None
    elif expected == "ms":
        assert resets_at > before * 900
    else:
        assert abs(resets_at - before - int(str(expected))) < PATIENCE_S


@pytest.mark.parametrize(
    ("prompt", "code", "terminal"),
    [
        ("[[fake:max-turns]]", 1, "max_turns"),
        ("[[fake:budget]]", 1, "budget_exhausted"),
        ("[[fake:too-long]]", 1, "prompt_too_long"),
        ("[[fake:login]]", 1, "api_error"),
        ("[[fake:overloaded]]", 1, "api_error"),
        ("[[fake:schema-exhausted]]", 1, "structured_output_retry_exhausted"),
        ("[[fake:refusal]]", 0, "completed"),
        ("[[fake:max-output]]", 0, "completed"),
        ("[[fake:denied path=/etc/x]]", 0, "completed"),
        ("[[fake:result subtype=odd terminal=strange is-error]]", 1, "strange"),
    ],
)
def test_endings_have_their_code_and_reason(cli: Claude, prompt: str, code: int, terminal: str) -> None:
    answer = cli.run(prompt)
    assert (answer.code, answer.result["terminal_reason"]) == (code, terminal)


def test_denials_are_listed(cli: Claude) -> None:
    (denial,) = cli.run("[[fake:denied tool=Bash path=ls]]").result["permission_denials"]
    assert (denial["tool_name"], denial["tool_input"]) == ("Bash", {"command": "ls"})


@pytest.mark.parametrize("code", [0, 1, 137, 143])
def test_it_exits_with_any_code_and_no_result(cli: Claude, code: int) -> None:
    answer = cli.run(f"[[fake:exit code={code}]]")
    assert (answer.code, answer.results) == (code, [])


def test_an_early_exit_says_nothing_on_stdout(cli: Claude) -> None:
    answer = cli.run('[[fake:exit code=1 early text="bad config"]]')
    assert (answer.code, answer.out, answer.err) == (1, b"", "bad config\n")


@pytest.mark.parametrize(("prompt", "number"), [("segv", 11), ("oom", 9), ("signal number=15", 15)])
def test_it_dies_by_a_signal_and_the_ledger_does_not_see_it_end(
    cli: Claude, fake_ledger: Any, prompt: str, number: int
) -> None:
    assert cli.run(f"[[fake:say cost=0.5]] [[fake:{prompt}]]").code == -number
    (died,) = fake_ledger.read().unended
    assert died.cost_usd == pytest.approx(0.5)


def test_a_cut_result_is_no_line(cli: Claude) -> None:
    answer = cli.run("[[fake:cut]]")
    assert (answer.code, answer.results) == (0, [])
    assert not answer.out.endswith(b"\n")


def test_a_second_result_has_an_origin(cli: Claude) -> None:
    first, second = cli.run("[[fake:two-results text=answer]]").results
    assert first["result"] == "answer"
    assert second["origin"] == {"kind": "task-notification"}


def test_no_result_means_none(cli: Claude) -> None:
    answer = cli.run("[[fake:no-result]]")
    assert (answer.code, answer.results, len(answer.texts)) == (0, [], 1)


@pytest.mark.parametrize("mode", ["hang", "linger", "closed", "hang ignore-term"])
def test_hanging_modes_outlive_the_end_of_stdin_and_an_interrupt(cli: Claude, mode: str) -> None:
    child = cli.start()
    child.send(user(f"[[fake:say text=here]] [[fake:{mode}]]"))
    child.until(is_type("assistant"))
    child.send(control("interrupt"))
    child.close()
    if mode == "closed":
        assert child.process.stdout.read() == b""
    if mode == "linger":
        child.until(is_type("result"))
    with pytest.raises(WaitTimeout):
        child.wait(0.2)
    if "ignore-term" not in mode:
        child.signal(signal.SIGTERM)
        assert child.wait() == 143


def test_sigint_ends_the_turn_with_a_result_and_exit_0(cli: Claude) -> None:
    child = cli.start()
    child.send(user("[[fake:say]] [[fake:silent]]"))
    child.until(is_type("assistant"))
    child.signal(signal.SIGINT)
    assert child.until(is_type("result"))["is_error"] is True
    assert child.wait() == 0


def test_slow_work_shows_events_meanwhile(cli: Claude) -> None:
    assert cli.run("[[fake:slow s=0.06 every=0.02]]").texts == ["working 1", "working 2", "working 3", "ok"]


def test_report_names_secrets_without_their_values(cli: Claude) -> None:
    text = cli.run("[[fake:report]]", ANTHROPIC_API_KEY="hush").result["result"]
    facts = json.loads(text)
    assert "ANTHROPIC_API_KEY" in facts["env_names"]
    assert "hush" not in text
    assert facts["cwd"] == str(cli.cwd)


# -- noise


@pytest.mark.parametrize("noise", ["garbage", "binary", "ansi", "stderr text=x", "stderr mb=1", "garbage n=40"])
def test_after_noise_comes_a_good_result(cli: Claude, noise: str) -> None:
    answer = cli.run(f"[[fake:{noise}]] [[fake:ok text=fine]]")
    assert answer.code == 0
    assert answer.result["result"] == "fine"


def test_a_huge_line_is_one_line(cli: Claude) -> None:
    answer = cli.run("[[fake:huge mb=3]]")
    assert max(map(len, answer.lines)) > 3 << 20
    assert answer.code == 0


def test_a_flood_is_as_long_as_it_was_asked_for(cli: Claude) -> None:
    assert len(cli.run("[[fake:flood mb=2]]").out) > 2_000_000


def test_torn_characters_make_a_whole_text(cli: Claude) -> None:
    assert cli.run(directive("split", text="日本 🚀", pause=0)).texts[0] == "日本 🚀"


def test_an_injected_event_tears_a_line(cli: Claude) -> None:
    answer = cli.run("[[fake:inject]]")
    assert b'"con{"type": "rate_limit_event"' in answer.out
    assert len(answer.results) == 1


# -- deeds


def test_files_are_written_edited_and_read(cli: Claude) -> None:
    script = (
        directive("write", path="a/b.txt", content="one [[two]]")
        + directive("edit", path="a/b.txt", find="one", replace="1")
        + directive("read", path="a/b.txt")
        + directive("symlink", path="l", to="/etc")
    )
    answer = cli.run(script)
    assert (cli.cwd / "a/b.txt").read_text() == "1 [[two]]"
    assert "1 [[two]]" in answer.texts
    assert (cli.cwd / "l").is_symlink()


def test_it_commits_and_plants_hooks(cli: Claude, scratch_repo: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    script = "[[fake:write path=a.txt content=x]] [[fake:commit message=Mine]] " + directive(
        "hooks", marker=str(marker)
    )
    assert cli.run(script, cwd=scratch_repo).code == 0
    log = subprocess.run(
        ["git", "log", "-1", "--format=%s"], cwd=scratch_repo, capture_output=True, text=True, check=True
    )
    assert log.stdout == "Mine\n"
    assert os.access(scratch_repo / ".git/hooks/pre-commit", os.X_OK)
    subprocess.run(["git", "status"], cwd=scratch_repo, capture_output=True, check=True)
    assert "fsmonitor" in marker.read_text(), "the trap must be able to snap"


def marked(mark: str) -> set[int]:
    found: set[int] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.add(int(folder.name))
        except OSError:
            continue
    return found


def test_a_tree_outlives_the_fake_and_carries_its_marks(cli: Claude) -> None:
    mark = f"r-{uuid.uuid4()}"
    answer = cli.run("[[fake:tree seconds=60]]", CLAUDE_POOL_RUN=mark)
    assert answer.code == 0
    deadline = time.monotonic() + PATIENCE_S
    while len(left := marked(mark)) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)  # a process that is just being executed shows no environment
    try:
        assert len(left) == 6
        for pid in left:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE_S
        while len(marked(mark)) > 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(marked(mark)) == 3, "half of them are deaf to TERM"
    finally:
        for pid in marked(mark):
            os.kill(pid, signal.SIGKILL)


def test_it_kills_no_parent_that_is_not_of_its_pool(cli: Claude) -> None:
    answer = cli.run("[[fake:kill-parent]]", CLAUDE_POOL_NAME="a-pool-that-pytest-is-not-in")
    assert answer.code == 2
    assert "not of this pool" in answer.err


def test_it_kills_its_parent(cli: Claude) -> None:
    shell = Claude(Path("/bin/sh"), {**cli.env, "CLAUDE_POOL_NAME": "mine"}, cli.cwd, ("-c", '"$@"; exit 7', "sh"))
    try:
        answer = shell.run("[[fake:kill-parent]]", str(cli.program), *STREAM)
    finally:
        shell.end()
    assert answer.code == -signal.SIGKILL
