from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from claude_pool.errors import WorkspaceBusy
from claude_pool.models.workspace import WorkspaceJob
from claude_pool.workspace.branching import begin, drop, lock_of
from claude_pool.workspace.ground import BASES, Ground, locate


@pytest.fixture
def ground(project: Any, home: Path) -> Ground:
    return locate(project.path, states=home / "alpha" / "repos")


def job(**how: Any) -> WorkspaceJob:
    return WorkspaceJob(task_id="t-1", **how)


def test_a_new_branch_is_noted_with_its_base_and_dropped_with_it(project: Any, ground: Ground) -> None:
    begun = begin(ground, job(), target=None, own=None)
    assert (begun.tip, begun.base, begun.new, begun.warnings) == (project.tip(), project.tip(), True, [])
    assert project.tip(f"{BASES}pool/t-1") == project.tip()
    drop(ground, "pool/t-1", begun.tip)
    assert project.git("for-each-ref", "refs/heads/pool", BASES) == ""


def test_a_fresh_start_on_a_branch_that_holds_nothing_leaves_nothing_beside_it(project: Any, ground: Ground) -> None:
    begin(ground, job(), target=None, own=None)
    project.write("later.txt", "later")
    later = project.commit()
    begun = begin(ground, job(fresh=True), target=None, own=None)
    assert (begun.tip, begun.new, begun.warnings) == (later, True, [])
    assert project.git("for-each-ref", "--format=%(refname)", "refs/heads/pool") == "refs/heads/pool/t-1"


@pytest.mark.parametrize("isolation", ["worktree", "clone"])
def test_a_branch_is_taken_from_a_slot_that_died_with_everything_in_its_tree(
    project: Any, slots: Any, die_at: Any, isolation: str
) -> None:
    def task() -> None:
        workspace = slots(0).open(job(isolation=isolation))
        (workspace.path / "a.txt").write_text("a")
        os.kill(os.getpid(), 9)

    assert die_at(task)
    with slots(1).open(job(isolation=isolation)) as workspace:
        assert (workspace.path / "a.txt").read_text() == "a"
        assert workspace.save("Nothing new").commits == 1
    with slots(0).open(WorkspaceJob(task_id="t-2", isolation=isolation)) as workspace:
        assert not (workspace.path / "a.txt").exists()


def test_a_branch_is_not_taken_from_a_slot_that_lives(slots: Any, ground: Ground) -> None:
    with slots(0).open(job()) as workspace, pytest.raises(WorkspaceBusy, match="is being worked on"):
        begin(ground, job(), target=None, own=workspace.path.with_name("other"))


def test_the_lock_of_a_branch_is_gone_when_its_run_is(slots: Any, ground: Ground) -> None:
    with slots(0).open(job()):
        assert lock_of(ground, "pool/t-1").exists()
    assert not lock_of(ground, "pool/t-1").exists()
