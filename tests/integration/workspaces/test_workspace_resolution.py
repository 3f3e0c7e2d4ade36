"""Conflicts turned into work: the scaffold, what is left of it after the merge, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_pool.errors import Conflict, InvalidRequest, NotFound
from claude_pool.workspace import MergeRequest, Repository
from claude_pool.workspace.ground import locate
from claude_pool.workspace.resolution import KEPT, forget_scaffolds, is_scaffold, scaffold, settled

Work = Callable[..., Any]


@pytest.fixture
def conflict(project: Any, work: Work) -> Any:
    """`pool/t-1` and main have changed the same line of a.txt."""
    project.write("a.txt", "one\ntwo\nthree\n")
    project.commit()
    facts = work(0, "t-1", {"a.txt": "one\nTWO\nthree\n", "b.txt": "new\n"})
    project.write("a.txt", "one\nzwei\nthree\n")
    project.commit()
    return facts


def test_a_run_that_only_edits_files_resolves_a_conflict_and_no_marker_reaches_the_target(
    project: Any, work: Work, repository: Repository, conflict: Any
) -> None:
    made = repository.scaffold("pool/t-1", "main")
    assert [one.path for one in made.conflicts] == ["a.txt"]
    facts = work(0, "t-2", {"a.txt": "one\nZWEI\nthree\n"}, base_ref=made.commit)
    assert facts.paths == ("a.txt",)
    result = repository.merge(MergeRequest(branch="pool/t-2"))
    assert result.merged
    assert project.show("main", "a.txt") == "one\nZWEI\nthree"
    assert project.show("main", "b.txt") == "new"
    commits = project.git("rev-list", "main").splitlines()
    assert made.commit not in commits
    assert not [oid for oid in commits if "<<<<<<<" in project.git("show", f"{oid}:a.txt", check=False)]
    assert repository.forecast("pool/t-1").state == "nothing_to_merge"


def test_a_squash_of_a_resolution_is_one_commit_and_a_rebase_is_refused(
    project: Any, work: Work, repository: Repository, conflict: Any
) -> None:
    made = repository.scaffold("pool/t-1", "main")
    work(0, "t-2", {"a.txt": "one\nZWEI\nthree\n"}, base_ref=made.commit)
    with pytest.raises(InvalidRequest, match="rebase"):
        repository.merge(MergeRequest(branch="pool/t-2", how="rebase"))
    before = project.tip("main")
    assert repository.merge(MergeRequest(branch="pool/t-2", how="squash")).merged
    assert project.git("rev-list", f"{before}..main").splitlines() == [project.tip("main")]


def test_a_resolution_that_still_has_markers_is_refused(
    project: Any, work: Work, repository: Repository, conflict: Any
) -> None:
    made = repository.scaffold("pool/t-1", "main")
    work(0, "t-2", {"c.txt": "something else\n"}, base_ref=made.commit)
    before = project.tip("main")
    with pytest.raises(Conflict, match=r"markers in a\.txt"):
        repository.merge(MergeRequest(branch="pool/t-2"))
    assert project.tip("main") == before


def test_a_resolution_that_conflicts_again_can_be_resolved_again(
    project: Any, work: Work, repository: Repository, conflict: Any
) -> None:
    work(0, "t-2", {"a.txt": "one\nZWEI\nthree\n"}, base_ref=repository.scaffold("pool/t-1", "main").commit)
    project.write("a.txt", "one\ndeux\nthree\n")
    project.commit()
    assert repository.merge(MergeRequest(branch="pool/t-2")).conflicts
    work(0, "t-3", {"a.txt": "one\nall\nthree\n"}, base_ref=repository.scaffold("pool/t-2", "main").commit)
    assert repository.merge(MergeRequest(branch="pool/t-3")).merged
    assert project.show("main", "a.txt") == "one\nall\nthree"
    assert "Claude-Pool-Scaffold" not in project.git("log", "--format=%B", "main")


def test_there_is_nothing_to_resolve_where_nothing_conflicts(work: Work, repository: Repository) -> None:
    work(0, "t-1", {"new.txt": "x"})
    with pytest.raises(InvalidRequest, match="nothing to resolve"):
        repository.scaffold("pool/t-1", "main")
    with pytest.raises(NotFound):
        repository.scaffold("pool/t-9", "main")


def test_a_commit_that_only_talks_like_a_scaffold_is_none(project: Any, home: Path, conflict: Any) -> None:
    ground = locate(project.path, states=home / "alpha" / "repos")
    made = scaffold(ground, "pool/t-1", "main")
    assert is_scaffold(ground, made.commit)
    forged = project.git(
        "commit-tree", f"{made.commit}^{{tree}}", "-p", "main", "-m", "x\n\nClaude-Pool-Scaffold: conflicts"
    )
    assert not is_scaffold(ground, forged)
    tip = ground.tip("pool/t-1")
    assert tip is not None
    assert settled(ground, "pool/t-1", tip) == tip


def test_old_scaffolds_are_let_go(project: Any, home: Path, conflict: Any) -> None:
    ground = locate(project.path, states=home / "alpha" / "repos")
    scaffold(ground, "pool/t-1", "main")
    assert forget_scaffolds(ground, before_s=0) == 0
    assert forget_scaffolds(ground, before_s=1e12) == 1
    assert project.git("for-each-ref", KEPT) == ""
