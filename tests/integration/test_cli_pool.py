"""The command line as a person uses it: the installed program, a real node, the fake claude."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.nodes import as_environment

pytestmark = pytest.mark.redis

PROGRAM = Path(sys.executable).parent / "claude-pool"
PATIENCE_S = 40.0


@dataclass(frozen=True)
class Shell:
    """A shell in a repository, with the pool's settings in its environment."""

    env: dict[str, str]
    cwd: Path

    def __call__(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [PROGRAM, *words], env=self.env, cwd=self.cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=PATIENCE_S,
        )  # fmt: skip
        assert done.returncode == code, (words, done)
        return done

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self(*words, "--json", code=code).stdout)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [PROGRAM, *words], env=self.env, cwd=self.cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def until(self, task_id: str, state: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.json("result", task_id, code=5)["state"] != state:
            assert time.monotonic() < deadline, f"{task_id} did not become {state}"


@pytest.fixture
def shell(pool_config: Callable[..., PoolConfig], scratch_repo: Path) -> Iterator[Shell]:
    config = pool_config(slots=2)
    variables = {name: os.environ[name] for name in ("PATH", "HOME", "XDG_STATE_HOME") if name in os.environ}
    shell = Shell({**variables, **as_environment(config), "LANG": "C.UTF-8"}, scratch_repo)
    yield shell
    shell("down", "--now")


def test_a_day_with_the_pool(shell: Shell) -> None:
    up = shell.json("up", "--detach")
    assert (up["node"], up["slots"], up["started"]) == ("n1", 2, True)
    assert shell.json("status")["idle"] == 2

    done = shell("run", '[[fake:ok text="forty-two" cost=0.02]]')
    assert done.stdout == "forty-two\n"
    assert "completed · $0.0200" in done.stderr

    written = shell.json("run", '[[fake:write path=new.txt content="hi"]] [[fake:ok text="written"]]')
    assert written["branch"]["paths"] == ["new.txt"]
    assert not (shell.cwd / "new.txt").exists()

    ids = [shell("submit", f'[[fake:ok text="{name}"]]').stdout.strip() for name in ("one", "two")]
    waited = shell.json("wait", *ids)
    assert {task["state"] for task in waited["finished"]} == {"completed"}
    assert shell("result", ids[1]).stdout == "two\n"
    assert [task["task_id"] for task in shell.json("list", "--limit", "2")["tasks"]] == ids[::-1]
    assert "one" in shell("logs", ids[0]).stdout
    assert Path(shell.json("logs", ids[0])["log_path"]).is_file()
    assert shell.json("up", "--detach")["started"] is False

    down = shell.json("down")
    assert (down["nodes"], down["redis_stopped"], down["slots_left"]) == (["n1"], True, 0)
    assert shell.json("down") == {"nodes": [], "redis_stopped": False}
    assert shell.json("result", ids[0])["state"] == "completed"  # everything is kept


def test_a_failed_task_a_cancelled_one_and_one_that_goes_on(shell: Shell) -> None:
    shell("up", "--detach")
    failed = shell("run", "[[fake:api status=404]]", code=1)
    assert failed.stdout == ""
    assert "Traceback" not in failed.stderr

    task_id = shell("submit", "[[fake:slow s=60]]").stdout.strip()
    shell.until(task_id, "running")
    follower, waiter = shell.start("logs", "-f", task_id), shell.start("wait", task_id)
    waiter_that_leaves = shell.start("wait", task_id)
    try:
        interrupted(waiter_that_leaves, task_id)
        assert shell.json("result", task_id, code=5)["state"] == "running"
        cancelled = shell.json("cancel", task_id)
        assert cancelled["task_id"] == task_id
        assert waiter.wait(PATIENCE_S) == 1
        assert follower.wait(PATIENCE_S) == 0
    finally:
        for process in (follower, waiter, waiter_that_leaves):
            process.kill()
            process.communicate()
    assert shell.json("result", task_id, code=1)["state"] == "cancelled"


def interrupted(process: subprocess.Popen[str], task_id: str) -> None:
    """Press Ctrl-C once it waits: then it has a second thread, which listens to the pool."""
    deadline = time.monotonic() + PATIENCE_S
    while "Threads:\t1\n" in Path(f"/proc/{process.pid}/status").read_text():
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert f"claude-pool cancel {task_id}" in err


def test_up_in_the_foreground_leaves_at_a_signal(shell: Shell) -> None:
    node = shell.start("up", "--slots", "1")
    try:
        deadline = time.monotonic() + PATIENCE_S
        while shell.json("status")["idle"] != 1:
            assert time.monotonic() < deadline
        node.send_signal(signal.SIGTERM)
        out, err = node.communicate(timeout=PATIENCE_S)
    finally:
        node.kill()
        node.communicate()
    assert (node.returncode, out) == (0, "")
    assert "Traceback" not in err


def test_a_wrong_setting_is_named_before_anything_is_started(shell: Shell) -> None:
    shell.env["CLAUDE_POOL_SETUP_TIMEOUT_S"] = "soon"
    failed = shell.json("up", "--detach", code=2)
    assert "setup_timeout_s" in failed["error"]["message"]
    del shell.env["CLAUDE_POOL_SETUP_TIMEOUT_S"]
