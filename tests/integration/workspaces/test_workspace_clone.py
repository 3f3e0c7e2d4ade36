from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_pool.models.workspace import WorkspaceJob
from claude_pool.workspace import Repository

Slots = Callable[..., Any]


def job(task: str = "t-1", **how: Any) -> WorkspaceJob:
    return WorkspaceJob(task_id=task, isolation="clone", **how)


def test_a_clone_has_a_git_directory_of_its_own_and_its_work_comes_back(project: Any, slots: Slots) -> None:
    base = project.tip()
    with slots().open(job()) as workspace:
        assert (workspace.isolation, workspace.branch, workspace.base) == ("clone", "pool/t-1", base)
        assert (workspace.path / ".git").is_dir()
        assert not (workspace.path / ".git" / "objects" / "info" / "alternates").exists()
        assert project.git("-C", str(workspace.path), "status", "--porcelain", "-b") == "## pool/t-1"
        (workspace.path / "a.txt").write_text("a\n")
        project.git("-C", str(workspace.path), "add", "a.txt")
        project.git("-C", str(workspace.path), "commit", "-qm", "By the run")
        (workspace.path / "b.txt").write_text("b\n")
        facts = workspace.save("Left over")
    assert (facts.commits, facts.paths, facts.warnings) == (2, ("a.txt", "b.txt"), ())
    assert project.tip("pool/t-1") == facts.tip
    assert len(project.git("worktree", "list").splitlines()) == 1
    assert project.git("log", "-2", "--format=%an", "pool/t-1").splitlines() == ["A Person", "A Person"]


def test_the_origin_is_the_one_of_the_repository(project: Any, slots: Slots) -> None:
    with slots().open(job()) as workspace:
        assert project.git("-C", str(workspace.path), "remote", "get-url", "origin") == str(project.path)
    project.git("remote", "add", "origin", 'https://example.org/a"b\\c.git')
    with slots().open(job("t-2")) as workspace:
        found = project.git("-C", str(workspace.path), "remote", "get-url", "origin")
        assert found == 'https://example.org/a"b\\c.git'


def test_a_branch_goes_from_a_worktree_to_a_clone_and_back(project: Any, slots: Slots, work: Any) -> None:
    first = work(0, "t-1", {"a.txt": "a\n"})
    with slots(1).open(job(continues=True)) as workspace:
        assert (workspace.path / "a.txt").read_text() == "a\n"
        (workspace.path / "b.txt").write_text("b\n")
        second = workspace.save("Work")
    assert (second.base, second.commits) == (first.base, 2)
    assert work(0, "t-1", {"c.txt": "c\n"}, continues=True).commits == 3
    with slots(1).open(job(continues=True)) as workspace:
        assert (workspace.path / "c.txt").read_text() == "c\n"


def test_other_branches_that_a_run_made_come_back_as_well(project: Any, slots: Slots) -> None:
    with slots().open(job()) as workspace:
        here = ("-C", str(workspace.path))
        project.git(*here, "checkout", "-q", "-b", "experiment")
        (workspace.path / "a.txt").write_text("a")
        project.git(*here, "add", "a.txt")
        project.git(*here, "commit", "-qm", "Tried")
        project.git(*here, "checkout", "-q", "pool/t-1")
        (workspace.path / "b.txt").write_text("b")
        facts = workspace.save("Work")
    assert facts.paths == ("b.txt",)
    assert project.show("pool/t-1.left-1", "a.txt") == "a"
    assert "experiment" in facts.warnings[0]
    assert project.git("branch", "--list", "experiment") == ""


def test_a_run_that_changed_nothing_leaves_no_branch(project: Any, slots: Slots) -> None:
    with slots().open(job()) as workspace:
        assert workspace.save("Nothing") is None
    assert project.git("for-each-ref", "refs/heads/pool", "refs/claude-pool") == ""


def test_nothing_that_a_run_plants_in_its_clone_is_executed(project: Any, slots: Slots, tmp_path: Path) -> None:
    marker, script = tmp_path / "executed", tmp_path / "trap.sh"
    script.write_text(f"#!/bin/sh\ntouch {marker}\ncat\n")
    script.chmod(0o755)
    slot = slots()
    with slot.open(job()) as workspace:
        git_dir = workspace.path / ".git"
        for key in ("core.fsmonitor", "filter.x.clean", "filter.x.smudge", "uploadpack.packObjectsHook"):
            project.git("-C", str(workspace.path), "config", key, str(script))
        (git_dir / "hooks").mkdir()
        shutil.copy(script, git_dir / "hooks" / "post-checkout")
        (git_dir / "info").mkdir(exist_ok=True)
        (git_dir / "info" / "attributes").write_text("* filter=x\n")
        (git_dir / "objects" / "info" / "alternates").write_text(f"{tmp_path}\n")
        (git_dir / "commondir").write_text(f"{tmp_path}\n")
        (git_dir / "index.lock").touch()
        (workspace.path / "a.txt").write_text("a")
        facts = workspace.save("Work")
    assert facts.paths == ("a.txt",)
    for name in ("hooks", "info/attributes", "objects/info/alternates", "commondir", "core.fsmonitor"):
        assert any(warning.startswith(f"{name} of the clone") for warning in facts.warnings)
    with slot.open(job("t-2")) as workspace:
        assert workspace.save("Nothing") is None
    assert not marker.exists()


@pytest.mark.parametrize("harm", ["gone", "a link", "a file", "a broken HEAD", "a broken index"])
def test_a_clone_whose_git_directory_was_harmed_keeps_its_files(
    project: Any, slots: Slots, harm: str, tmp_path: Path
) -> None:
    with slots().open(job()) as workspace:
        (workspace.path / "a.txt").write_text("a")
        git_dir = workspace.path / ".git"
        if harm.startswith("a broken"):
            (git_dir / harm.rsplit(maxsplit=1)[-1]).write_text("rubbish")
        else:
            shutil.rmtree(git_dir)
            if harm == "a link":
                git_dir.symlink_to(tmp_path)
            if harm == "a file":
                git_dir.write_text("gitdir: /nowhere\n")
    with slots().open(job()) as workspace:
        assert (workspace.path / "a.txt").read_text() == "a"
        assert workspace.save("Work").paths == ("a.txt",)


def test_a_shallow_repository_can_be_cloned_from(project: Any, slots: Slots, tmp_path: Path) -> None:
    project.write("later.txt", "later")
    project.commit()
    shallow = tmp_path / "shallow"
    project.git("clone", "-q", "--depth", "1", f"file://{project.path}", str(shallow))
    with slots(repo=shallow).open(job()) as workspace:
        (workspace.path / "a.txt").write_text("a")
        assert workspace.save("Work").paths == ("a.txt",)
    assert project.git("-C", str(shallow), "show", "pool/t-1:a.txt") == "a"


def test_a_merge_takes_what_a_clone_brought(project: Any, slots: Slots, repository: Repository) -> None:
    with slots().open(job()) as workspace:
        (workspace.path / "a.txt").write_text("a")
    assert [file.path for file in repository.diff("pool/t-1").files] == ["a.txt"]
    assert repository.forecast("pool/t-1").state == "clean"
