"""The demonstration's repository, and the processes of its pool."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from claude_pool.cli import demo_stage
from claude_pool.models.task import BranchFacts

MODEL = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1", "ANTHROPIC_API_KEY": "dummy"}


def test_the_place_has_a_pool_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_POOL_REDIS_URL", "redis://theirs")
    (tmp_path / "claude-pool.toml").write_text("slots = 99\n")
    place = demo_stage.prepare(tmp_path / "stage", claude=Path("/bin/true"), simulated=MODEL)
    assert (place.config.redis_url, place.config.slots) == (None, demo_stage.SLOTS)
    assert place.config.home == tmp_path / "stage" / "home"
    assert place.config.name.startswith("demo-")
    assert (place.simulated, place.config.repo) == (True, place.repo)


def test_a_real_run_has_a_budget(tmp_path: Path) -> None:
    place = demo_stage.prepare(tmp_path / "stage", claude=Path("/bin/true"), simulated=None)
    assert (place.config.budget_usd, place.config.task_budget_usd) == (1.0, 0.25)


def test_it_is_noticed_when_a_task_worked_in_the_checkout(tmp_path: Path) -> None:
    place = demo_stage.prepare(tmp_path / "stage", claude=Path("/bin/true"), simulated=None)
    assert place.untouched()
    (place.repo / "stray.txt").touch()
    assert not place.untouched()
    (place.repo / "stray.txt").unlink()
    (place.repo / "README.md").write_text("other")
    assert not place.untouched()


def test_the_patch_of_a_branch_is_its_diff(tmp_path: Path) -> None:
    place = demo_stage.prepare(tmp_path / "stage", claude=Path("/bin/true"), simulated=None)
    git = demo_stage._git(place.repo)
    empty = git.text("hash-object", "-t", "tree", "-w", "--stdin")
    facts = BranchFacts(branch="main", base=empty, tip=git.text("rev-parse", "HEAD"))
    assert "+    return celsius + 273" in place.patch(facts)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="this system tells no environments")
def test_a_process_that_is_left_is_found_by_its_mark() -> None:
    pool = f"demo-test-{os.getpid()}"
    child = subprocess.Popen(
        [sys.executable, "-c", "print('up', flush=True); input()"],
        env={"CLAUDE_POOL_NAME": pool}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        child.stdout.readline()
        assert demo_stage.marked(pool) == [child.pid]
        assert demo_stage.marked(pool[:-1]) == []
    finally:
        child.communicate(b"\n")
    assert demo_stage.marked(pool) == []
