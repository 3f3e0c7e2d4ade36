from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_pool.errors import Conflict, NotFound
from claude_pool.models.workspace import WorkspaceJob
from claude_pool.workspace import MergeRequest, Repository

Work = Callable[..., Any]
DAY_S = 86_400


def age(home: Path, days: float) -> None:
    """Let the pool believe that it has known everything for so long."""
    [path] = (home / "alpha" / "repos").glob("*/branches.json")
    known = json.loads(path.read_text())
    path.write_text(
        json.dumps({name: [tip, since - days * DAY_S] for name, (tip, since) in known.items()}).replace(".0", "")
    )
    for note in home.rglob("work/*.json"):
        os.utime(note, (time.time() - days * DAY_S,) * 2)


def test_branches_are_listed_with_how_they_stand_to_the_target(
    project: Any, work: Work, repository: Repository
) -> None:
    first = work(0, "t-1", {"a.txt": "a\n"})
    work(0, "t-1", {"b.txt": "b\n"}, continues=True)
    work(0, "t-2", {"c.txt": "c\n"})
    repository.merge(MergeRequest(branch="pool/t-2", how="squash"))
    project.git("checkout", "-q", "pool/t-2")
    found = {branch.name: branch for branch in repository.branches()}
    one, two = found["pool/t-1"], found["pool/t-2"]
    assert (one.base, one.merged, one.checked_out, one.subject) == (first.base, False, None, "Work of t-1")
    assert (two.checked_out, two.age_s) == (str(project.path), 0)
    project.git("checkout", "-q", "main")
    found = {branch.name: branch for branch in repository.branches()}
    assert (found["pool/t-1"].ahead, found["pool/t-1"].behind) == (2, 1)
    assert (found["pool/t-2"].ahead, found["pool/t-2"].merged) == (1, True)


def test_a_discarded_branch_is_gone_and_its_commit_named(project: Any, work: Work, repository: Repository) -> None:
    tip = work(0, "t-1", {"a.txt": "a\n"}).tip
    assert repository.discard("pool/t-1") == tip
    assert project.git("for-each-ref", "refs/heads/pool", "refs/claude-pool") == ""
    assert project.git("cat-file", "-t", tip) == "commit"
    for name in ("pool/t-1", "main"):
        with pytest.raises(NotFound):
            repository.discard(name)


def test_a_branch_that_somebody_has_is_not_discarded(
    project: Any, work: Work, slots: Any, repository: Repository
) -> None:
    work(0, "t-1", {"a.txt": "a\n"})
    with slots().open(WorkspaceJob(task_id="t-1")), pytest.raises(Conflict, match="a run works on it"):
        repository.discard("pool/t-1")
    project.git("checkout", "-q", "pool/t-1")
    with pytest.raises(Conflict, match="is checked out in"):
        repository.discard("pool/t-1")


def test_clearing_away_takes_merged_rejected_and_expired_branches_and_leaves_the_busy(
    project: Any, work: Work, repository: Repository, home: Path
) -> None:
    tips = {name: work(0, name, {f"{name}.txt": "a\n"}).tip for name in ("t-1", "t-2", "t-3", "t-4")}
    work(0, "t-4", {"x.txt": "x\n"}, fresh=True)
    repository.merge(MergeRequest(branch="pool/t-1"))
    report = repository.gc(rejected=["pool/t-2"], busy=["pool/t-4"])
    assert sorted(report.branches) == [f"pool/t-1 {tips['t-1']} merged", f"pool/t-2 {tips['t-2']} rejected"]
    assert repository.gc().branches == ()
    age(home, 13)
    assert repository.gc().branches == ()
    age(home, 2)
    assert repository.gc(busy=["pool/t-4"]).branches == (f"pool/t-3 {tips['t-3']} expired",)
    assert {branch.name for branch in repository.branches()} == {"pool/t-4", "pool/t-4.left-1"}
    assert len(repository.gc().branches) == 2


def test_dates_in_commits_have_no_say_in_what_is_old(project: Any, slots: Any, repository: Repository) -> None:
    with slots().open(WorkspaceJob(task_id="t-1")) as workspace:
        here, old = ("-C", str(workspace.path)), "2001-01-01T00:00:00"
        project.git(*here, "commit", "-q", "--allow-empty", "-m", "Old", GIT_COMMITTER_DATE=old, GIT_AUTHOR_DATE=old)
        workspace.save("Work")
    assert repository.gc().branches == ()
    assert repository.branches()[0].committed_s < 10**9


def test_a_branch_that_a_run_holds_stays_however_old(
    work: Work, slots: Any, repository: Repository, home: Path
) -> None:
    work(0, "t-1", {"a.txt": "a\n"})
    repository.branches()
    age(home, 20)
    with slots().open(WorkspaceJob(task_id="t-1")):
        report = repository.gc()
    assert report.branches == ()
    assert "a run works on it" in report.kept[0]


def test_work_trees_that_no_slot_uses_any_more_go_with_everything_beside_them(
    project: Any, work: Work, slots: Any, repository: Repository, home: Path
) -> None:
    for number in range(3):
        work(number, f"t-{number}", {"a.txt": "a\n"})
    repository.branches()
    age(home, 20)
    with slots(0).open(WorkspaceJob(task_id="t-9")) as used:
        report = repository.gc(busy=["pool/t-0", "pool/t-1", "pool/t-2"])
        assert used.path.is_dir()
    assert len(report.worktrees) == 2
    assert len(project.git("worktree", "list").splitlines()) == 2
    assert {path.parent.parent.name for path in home.rglob("work/*")} == {"0"}


def test_an_unused_tree_with_unsaved_work_is_saved_before_it_goes(
    project: Any, slots: Any, repository: Repository, home: Path, die_at: Any
) -> None:
    def task() -> None:
        workspace = slots(3).open(WorkspaceJob(task_id="t-1"))
        (workspace.path / "a.txt").write_text("a")
        os.kill(os.getpid(), 9)

    assert die_at(task)
    repository.branches()
    age(home, 20)
    assert len(repository.gc(busy=["pool/t-1"]).worktrees) == 1
    assert project.show("pool/t-1", "a.txt") == "a"


def test_work_trees_of_the_user_and_of_other_pools_are_left_alone(
    project: Any, slots: Any, repository: Repository, tmp_path: Path, home: Path
) -> None:
    project.git("worktree", "add", "-q", "-b", "users", str(tmp_path / "users"))
    with slots(0, pool="beta").open(WorkspaceJob(task_id="t-1")) as workspace:
        path = workspace.path
    repository.branches()
    age(home, 20)
    assert repository.gc().worktrees == ()
    assert path.is_dir()
    assert (tmp_path / "users").is_dir()
