from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from claude_pool.errors import WorkspaceError
from claude_pool.models.workspace import WorkspaceJob


def test_each_isolation_has_a_place_of_its_own_in_the_slots_folder(project: Any, slots: Any, home: Path) -> None:
    folder = home / "alpha" / "nodes" / "n1"
    with slots().open(WorkspaceJob(task_id="t-1")) as tree:
        assert tree.path.parent == folder / "slots" / "0" / "work"
        assert tree.path.name.startswith("repo-")
        with slots().open(WorkspaceJob(task_id="t-2", isolation="clone")) as clone:
            assert clone.path == tree.path.with_name(f"{tree.path.name}-clone")
        with slots().open(WorkspaceJob(task_id="t-3", isolation="none")) as plain:
            assert plain.path.is_relative_to(folder)
    with slots().open(WorkspaceJob(task_id="t-4", isolation="none", working_dir=str(project.path))) as plain:
        assert plain.path == project.path


def test_a_job_may_name_another_repository_than_the_pools(project: Any, slots: Any, tmp_path: Path) -> None:
    project.git("clone", "-q", str(project.path), str(tmp_path / "second"))
    with slots().open(WorkspaceJob(task_id="t-1", repo=tmp_path / "second")) as workspace:
        assert workspace.path.name.startswith("second-")
        (workspace.path / "a.txt").write_text("a")
        assert workspace.save("Work").repo == str(tmp_path / "second")
    assert project.git("branch", "--list", "pool/*") == ""


@pytest.mark.parametrize("isolation", ["worktree", "clone"])
def test_isolation_that_can_not_be_had_fails_and_never_falls_back(slots: Any, tmp_path: Path, isolation: str) -> None:
    with pytest.raises(WorkspaceError, match=f"Isolation {isolation} needs a repository"):
        slots(repo=None).open(WorkspaceJob(task_id="t-1", isolation=isolation))
    with pytest.raises(WorkspaceError, match="is no git repository"):
        slots().open(WorkspaceJob(task_id="t-1", isolation=isolation, repo=tmp_path))
