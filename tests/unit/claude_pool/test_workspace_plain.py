from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.errors import WorkspaceBusy, WorkspaceError
from claude_pool.models.workspace import WorkspaceJob
from claude_pool.workspace import Workspace, Workspaces
from claude_pool.workspace import manager as managers
from claude_pool.workspace.plain import forget_scratch


@pytest.fixture
def slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspaces:
    monkeypatch.setattr(managers, "PLAIN_WAIT_S", 0.0)
    config = PoolConfig(home=tmp_path / "home", node="n1")
    return Workspaces(config, slot_dir=tmp_path / "slot", pool="default", slot_id="slot-0@n1")


def open_(slot: Workspaces, task: str = "t-1", **how: Any) -> Workspace:
    return slot.open(WorkspaceJob(task_id=task, isolation="none", **how))


def test_a_run_works_in_the_directory_that_was_named_and_nothing_is_touched(slot: Workspaces, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "file").write_text("the user's")
    with open_(slot, working_dir=str(tmp_path / "here")) as workspace:
        assert (workspace.path, workspace.isolation) == (tmp_path / "here", "none")
        assert (workspace.branch, workspace.base, workspace.save("Work")) == (None, None, None)
    workspace.close()
    assert (tmp_path / "here" / "file").read_text() == "the user's"


def test_one_run_at_a_time_in_a_directory_under_any_of_its_names(slot: Workspaces, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "here")
    with open_(slot, working_dir=str(tmp_path / "here")):
        for name in ("here", "link", "here/../here"):
            with pytest.raises(WorkspaceBusy, match="t-1"):
                open_(slot, "t-2", working_dir=str(tmp_path / name))
    with open_(slot, "t-2", working_dir=str(tmp_path / "link")) as workspace:
        assert workspace.path == tmp_path / "here"


def test_runs_that_can_only_read_share_a_directory(slot: Workspaces, tmp_path: Path) -> None:
    readers = [open_(slot, f"t-{number}", working_dir=str(tmp_path), reads_only=True) for number in range(2)]
    for reader in readers:
        with pytest.raises(WorkspaceBusy):
            open_(slot, "t-3", working_dir=str(tmp_path))
        reader.close()
    open_(slot, "t-3", working_dir=str(tmp_path)).close()


@pytest.mark.parametrize("where", ["relative/path", "/no/such/folder", "/etc/passwd"])
def test_a_directory_that_can_not_be_had_is_refused_by_name(slot: Workspaces, where: str) -> None:
    with pytest.raises(WorkspaceError, match=where):
        open_(slot, working_dir=where)


def test_a_task_without_a_directory_gets_one_of_its_own_for_all_its_runs(slot: Workspaces) -> None:
    with open_(slot) as first:
        assert list(first.path.iterdir()) == []
        (first.path / "left").write_text("left")
    with open_(slot, "t-2") as other:
        assert other.path != first.path
    assert not other.path.exists()
    with open_(slot) as again:
        assert again.path == first.path
        assert (again.path / "left").read_text() == "left"


def test_an_earlier_run_of_the_task_that_still_has_its_directory_open_neither_hinders_nor_harms_the_next(
    slot: Workspaces,
) -> None:
    stopped = open_(slot)
    with open_(slot) as again:
        assert again.path == stopped.path
        stopped.close()
        assert again.path.is_dir()
    assert not again.path.exists()


def test_a_directory_on_loan_is_the_tasks_for_good_once_something_is_in_it(slot: Workspaces) -> None:
    ready = slot.lend()
    with open_(slot, ready=ready) as first:
        assert first.path == ready
        (first.path / "left").write_text("left")
    with open_(slot, ready=slot.lend()) as again:
        assert again.path == ready
        (again.path / "left").unlink()
    assert not ready.exists()


def test_a_directory_on_loan_goes_back_when_it_is_empty(slot: Workspaces) -> None:
    ready = slot.lend()
    open_(slot, ready=ready).close()
    assert [path.name for path in ready.parent.iterdir()] == [ready.name]
    open_(slot, "t-2", ready=ready).close()


def test_a_loan_that_is_gone_does_not_stand_in_the_way_of_its_task(slot: Workspaces) -> None:
    ready = slot.lend()
    open_(slot, ready=ready)
    ready.rmdir()
    with open_(slot) as again:
        assert again.path.is_dir()


def test_names_that_lead_nowhere_go_with_the_old_directories(tmp_path: Path) -> None:
    (tmp_path / "t-1").symlink_to(tmp_path / "gone")
    (tmp_path / "ready").mkdir()
    (tmp_path / "t-2").symlink_to(tmp_path / "ready")
    forget_scratch(tmp_path, before_s=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ready", "t-2"]


def test_directories_of_tasks_go_when_they_are_old(tmp_path: Path) -> None:
    for name, age in (("old", 100), ("new", 300)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (age, age))
    assert forget_scratch(tmp_path, before_s=200) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert forget_scratch(tmp_path / "nowhere", before_s=200) == 0
