from __future__ import annotations

from typing import Any

import pytest

from claude_pool.models.workspace import WorkspaceJob


@pytest.mark.parametrize("isolation", ["worktree", "clone", "none"])
def test_every_workspace_can_be_saved_and_closed_twice(slots: Any, isolation: str) -> None:
    workspace = slots().open(WorkspaceJob(task_id="t-1", isolation=isolation))
    (workspace.path / "a.txt").write_text("a")
    first = workspace.save("Work")
    (workspace.path / "b.txt").write_text("b")
    second = workspace.save("More")
    assert isolation == "none" or (first.commits, second.commits) == (1, 2)
    workspace.close()
    workspace.close()


@pytest.mark.parametrize("isolation", ["worktree", "clone"])
def test_an_error_in_the_block_closes_and_keeps(project: Any, slots: Any, isolation: str) -> None:
    def run() -> None:
        with slots().open(WorkspaceJob(task_id="t-1", isolation=isolation)) as workspace:
            (workspace.path / "a.txt").write_text("a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert project.show("pool/t-1", "a.txt") == "a"
    with slots().open(WorkspaceJob(task_id="t-2", isolation=isolation)) as workspace:
        assert not (workspace.path / "a.txt").exists()


@pytest.mark.parametrize("isolation", ["worktree", "clone"])
def test_work_after_the_last_save_is_there_for_the_next_run(project: Any, slots: Any, isolation: str) -> None:
    with slots().open(WorkspaceJob(task_id="t-1", isolation=isolation)) as workspace:
        (workspace.path / "a.txt").write_text("a")
        workspace.save("Work")
    with slots().open(WorkspaceJob(task_id="t-1", isolation=isolation, continues=True)) as workspace:
        assert (workspace.path / "a.txt").read_text() == "a"
