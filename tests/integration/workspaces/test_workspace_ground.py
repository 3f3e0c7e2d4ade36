from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from claude_pool.errors import Conflict, WorkspaceBusy, WorkspaceError
from claude_pool.workspace.ground import BASES, Ground, digest, locate


@pytest.fixture
def ground(project: Any, home: Path) -> Ground:
    return locate(project.path, states=home / "repos")


def test_a_ref_moves_only_from_where_it_was_believed_to_be(project: Any, ground: Ground) -> None:
    first = project.tip()
    second = project.git("commit-tree", "-m", "x", "-p", first, "HEAD^{tree}")
    ground.move("refs/heads/pool/t-1", first, None, "made")
    with pytest.raises(Conflict, match="changed by somebody else"):
        ground.move("refs/heads/pool/t-1", second, None, "made again")
    with pytest.raises(Conflict):
        ground.move("refs/heads/pool/t-1", second, second, "wrong")
    ground.move("refs/heads/pool/t-1", second, first, "right")
    assert (ground.tip("pool/t-1"), ground.tip("pool/t-2")) == (second, None)
    with pytest.raises(Conflict):
        ground.delete("refs/heads/pool/t-1", first)
    ground.delete("refs/heads/pool/t-1", second)
    ground.delete("refs/heads/pool/t-1", second)
    assert ground.tip("pool/t-1") is None


def test_a_ref_that_can_not_be_made_says_why(project: Any, ground: Ground) -> None:
    project.git("branch", "pool")
    with pytest.raises(WorkspaceError, match="can't be set"):
        ground.move("refs/heads/pool/t-1", project.tip(), None, "in the way")


@pytest.mark.parametrize("rev", ["--all", "-x", "HEAD^{tree}", "README.md", "..", "", "@{-1}", "--output=x"])
def test_what_is_no_commit_is_not_found_whatever_it_looks_like(ground: Ground, rev: str) -> None:
    assert ground.find(rev) is None
    with pytest.raises(WorkspaceError, match="names no commit"):
        ground.resolve(rev)


def test_a_repository_is_found_from_below_and_from_every_kind_of_checkout(
    project: Any, ground: Ground, home: Path, tmp_path: Path
) -> None:
    (project.path / "a" / "b").mkdir(parents=True)
    project.git("worktree", "add", "-q", str(tmp_path / "linked"))
    project.git("clone", "-q", "--bare", str(project.path), str(tmp_path / "bare.git"))
    assert locate(project.path / "a" / "b", states=home).common == ground.common
    linked = locate(tmp_path / "linked", states=home)
    assert (linked.common, linked.top, linked.head()) == (ground.common, tmp_path / "linked", "linked")
    bare = locate(tmp_path / "bare.git", states=home)
    assert (bare.common, bare.top, bare.name, bare.head()) == (tmp_path / "bare.git", None, "bare", "main")
    for path in (tmp_path, tmp_path / "no" / "such"):
        with pytest.raises(WorkspaceError, match="is no git repository"):
            locate(path, states=home)


def test_a_submodule_is_a_repository_of_its_own(project: Any, home: Path, tmp_path: Path) -> None:
    project.git("clone", "-q", str(project.path), str(tmp_path / "other"))
    project.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(tmp_path / "other"), "sub")
    ground = locate(project.path / "sub", states=home)
    assert ground.common == project.path / ".git" / "modules" / "sub"
    assert [checkout.path for checkout in ground.checkouts()] == [project.path / "sub"]


def test_all_checkouts_are_known_with_what_they_are_on(project: Any, ground: Ground, tmp_path: Path) -> None:
    project.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    project.git("worktree", "add", "-q", "--detach", str(tmp_path / "loose"))
    found = {checkout.path: checkout.branch for checkout in ground.checkouts()}
    assert found == {project.path: "main", tmp_path / "side": "side", tmp_path / "loose": None}


def test_the_base_of_a_branch_is_as_noted_unless_the_note_can_not_be_true(project: Any, ground: Ground) -> None:
    first = project.tip()
    project.write("a.txt", "a")
    second = project.commit()
    project.git("branch", "pool/t-1")
    project.git("update-ref", f"{BASES}pool/t-1", first)
    assert ground.base_of("pool/t-1", second) == first
    stranger = project.git("commit-tree", "-m", "x", "HEAD^{tree}")
    project.git("update-ref", f"{BASES}pool/t-1", stranger)
    assert ground.base_of("pool/t-1", second) == second


def test_the_lock_of_a_repository_is_shared_by_all_pools(project: Any, ground: Ground, tmp_path: Path) -> None:
    other = locate(project.path, states=tmp_path / "other-pool")
    with ground.lock("first"), pytest.raises(WorkspaceBusy, match="first"), other.lock("second", wait_s=0):
        pass


def test_a_digest_is_short_and_tells_names_apart() -> None:
    assert len(digest("a", "b")) == 8
    assert digest("ab") != digest("a", "b")
    assert digest(Path("/x")) == digest("/x")
