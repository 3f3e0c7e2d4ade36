from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.errors import WorkspaceError
from claude_pool.workspace import MergeRequest, Repository


def test_a_pool_without_a_repository_says_so(home: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="The pool has no repository"):
        Repository.open(PoolConfig(home=home))
    with pytest.raises(WorkspaceError, match="is no git repository"):
        Repository.open(PoolConfig(home=home), tmp_path)


def test_the_settings_name_the_target_and_a_request_may_name_another(project: Any, work: Any, home: Path) -> None:
    project.git("branch", "release")
    project.git("branch", "other")
    repository = Repository.open(PoolConfig(name="alpha", home=home, repo=project.path, target="release"))
    assert repository.target == "release"
    assert repository.path == project.path
    tip = work(0, "t-1", {"a.txt": "a"}).tip
    assert repository.tip("pool/t-1") == tip
    assert repository.merge(MergeRequest(branch="pool/t-1")).target == "release"
    assert repository.merge(MergeRequest(branch="pool/t-1", target="other")).target == "other"
    assert repository.forecast("pool/t-1").into == "release"
    assert project.files("main") == ["README.md"]


def test_a_subfolder_and_a_linked_worktree_lead_to_the_same_repository(
    project: Any, home: Path, tmp_path: Path
) -> None:
    (project.path / "deep" / "er").mkdir(parents=True)
    project.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    config = PoolConfig(home=home)
    assert Repository.open(config, project.path / "deep" / "er").path == project.path
    linked = Repository.open(config, tmp_path / "side")
    assert (linked.path, linked.target) == (tmp_path / "side", "side")
    assert linked.tip("main") == project.tip("main")


def test_a_detached_checkout_has_no_target_to_forecast_for(project: Any, repository: Repository) -> None:
    project.git("checkout", "-q", "--detach")
    with pytest.raises(WorkspaceError, match="no target branch"):
        repository.forecast("main")
