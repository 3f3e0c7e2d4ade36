"""`claude-pool demo --simulated`: the product's main job, by the real CLI, as `make run` does it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from claude_pool.cli.demo_stage import marked

pytestmark = [pytest.mark.claude, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(300)]

PROGRAM = Path(sys.executable).parent / "claude-pool"


def demo(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    env |= {"TMPDIR": str(tmp_path), "CLAUDE_POOL_REDIS_URL": "redis://nobody.invalid", "ANTHROPIC_API_KEY": "not-real"}
    return subprocess.run(
        [PROGRAM, "demo", *words], env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, timeout=280,
    )  # fmt: skip


def test_the_demonstration_works_and_leaves_nothing(tmp_path: Path) -> None:
    done = demo(tmp_path, "--json", "--keep", str(tmp_path / "stage"))
    assert done.returncode == 0, done.stderr[-4000:]
    document = json.loads(done.stdout)
    assert (document["ok"], document["simulated"]) == (True, True)
    assert [check["what"] for check in document["checks"] if not check["ok"]] == []
    assert sorted(task["state"] for task in document["tasks"]) == ["completed"] * 5 + ["failed"]
    assert all(task["simulated"] for task in document["tasks"] if task["state"] == "completed")
    assert all(line.startswith(("[simulated model]", "    ")) for line in done.stderr.splitlines() if line)
    settings = (tmp_path / "stage" / "claude-pool.toml").read_text()
    (name,) = [line.split('"')[1] for line in settings.splitlines() if line.startswith("name")]
    assert marked(name) == []


def test_interrupted_it_still_cleans_up(tmp_path: Path) -> None:

    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {"TMPDIR": str(tmp_path)}
    stage = tmp_path / "stage"
    process = subprocess.Popen(
        [PROGRAM, "demo", "--simulated", "--keep", str(stage)], env=env, cwd=tmp_path, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if " running " in line:
            break
    assert " running " in seen, seen
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    settings = (stage / "claude-pool.toml").read_text()
    (name,) = [line.split('"')[1] for line in settings.splitlines() if line.startswith("name")]
    deadline = time.monotonic() + 20
    while marked(name) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert marked(name) == []
