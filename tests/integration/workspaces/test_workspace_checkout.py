"""A merge that dies at any moment loses nothing, and what it left is taken back by whoever comes next."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_pool.git import Git
from claude_pool.workspace import MergeRequest, Repository
from claude_pool.workspace import merge as merging

Work = Callable[..., Any]


def die_at(function: Callable[[], object]) -> None:
    """Run something in a process of its own that kills itself on the way."""
    if (pid := os.fork()) == 0:
        try:
            function()
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)


def kill_self(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def ready(project: Any, work: Work) -> str:
    project.write("changed.txt", "old\n")
    project.write("deleted.txt", "deleted\n")
    project.write("same.txt", "same\n")
    project.commit()
    work(0, "t-1", {"changed.txt": "new\n", "added/file.txt": "added\n"})
    project.git("checkout", "-q", "pool/t-1")
    (project.path / "deleted.txt").unlink()
    project.commit()
    project.git("checkout", "-q", "main")
    return project.tip()


def test_a_merge_that_dies_before_the_branch_moved_is_taken_back(
    project: Any, ready: str, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("claude_pool.workspace.ground.Ground.move", kill_self)
        die_at(lambda: repository.merge(MergeRequest(branch="pool/t-1")))
    assert project.git("status", "--porcelain") != ""
    report = repository.gc(busy=["pool/t-1"])
    assert "was taken back" in report.leftovers[-1]
    assert (project.tip("main"), project.git("status", "--porcelain")) == (ready, "")
    assert repository.merge(MergeRequest(branch="pool/t-1")).merged
    assert project.git("status", "--porcelain") == ""
    assert project.files("main") == ["README.md", "added/file.txt", "changed.txt", "same.txt"]


def test_a_merge_that_dies_after_the_branch_moved_is_done(
    project: Any, ready: str, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(merging, "done", kill_self)
        die_at(lambda: repository.merge(MergeRequest(branch="pool/t-1")))
    after = project.tip("main")
    assert after != ready
    assert project.git("status", "--porcelain") == ""
    assert repository.merge(MergeRequest(branch="pool/t-1")).commit == after


@pytest.mark.parametrize("half", ["ne", "new\n", ""])
def test_a_checkout_that_was_half_written_is_taken_back_but_a_persons_edit_stays(
    project: Any, ready: str, repository: Repository, monkeypatch: pytest.MonkeyPatch, half: str
) -> None:
    real = Git.run

    def dies_in_read_tree(git: Git, *argv: str, **how: Any) -> Any:
        return kill_self() if argv[:2] == ("read-tree", "-m") else real(git, *argv, **how)

    with monkeypatch.context() as patch:
        patch.setattr(Git, "run", dies_in_read_tree)
        die_at(lambda: repository.merge(MergeRequest(branch="pool/t-1")))
    project.write("changed.txt", half)
    project.write("added/file.txt", "add")
    project.write("same.txt", "edited by a person\n")
    project.write(".git/index.lock", "")
    (project.path / "deleted.txt").write_text("edited by a person\n")
    repository.gc(busy=["pool/t-1"])
    assert (project.path / "changed.txt").read_text() == "old\n"
    assert not (project.path / "added").exists()
    assert project.git("status", "--porcelain").splitlines() == ["M deleted.txt", " M same.txt"]
    assert (project.path / "deleted.txt").read_text() == "edited by a person\n"


def test_a_scratch_worktree_of_a_merge_that_died_is_swept(
    project: Any, ready: str, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(merging, "run_command", kill_self)
        die_at(lambda: repository.merge(MergeRequest(branch="pool/t-1", check_command="true")))
    assert len(project.git("worktree", "list").splitlines()) == 3
    assert any(name.startswith("scratch-") for name in repository.gc(busy=["pool/t-1"]).leftovers)
    assert len(project.git("worktree", "list").splitlines()) == 2
    assert repository.merge(MergeRequest(branch="pool/t-1", check_command="true")).merged


def test_a_journal_that_is_no_journal_harms_nobody(
    project: Any, ready: str, repository: Repository, home: Path
) -> None:
    [folder] = (home / "alpha" / "repos").glob("*/void")
    (folder.parent / "merge.json").write_text("rubbish")
    assert repository.merge(MergeRequest(branch="pool/t-1")).merged
    assert not (folder.parent / "merge.json").exists()
