"""The slot's one work tree: repaired whatever broke it, and never in anybody's way, whenever its slot dies."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_pool.models.workspace import WorkspaceJob
from claude_pool.workspace import MergeRequest, Repository

Slots = Callable[..., Any]
Work = Callable[..., Any]


def job(task: str, **how: Any) -> WorkspaceJob:
    return WorkspaceJob(task_id=task, **how)


HARMS: dict[str, Callable[[Path, Path], object]] = {
    "the tree is gone": lambda path, _admin: shutil.rmtree(path),
    "the pointer is gone": lambda path, _admin: (path / ".git").unlink(),
    "the pointer leads elsewhere": lambda path, _admin: (path / ".git").write_text("gitdir: /nowhere\n"),
    "git forgot it": lambda _path, admin: shutil.rmtree(admin),
    "a broken index": lambda _path, admin: (admin / "index").write_bytes(b"rubbish"),
    "no index": lambda _path, admin: (admin / "index").unlink(),
    "an index lock": lambda _path, admin: (admin / "index.lock").touch(),
    "a lock on HEAD": lambda _path, admin: (admin / "HEAD.lock").touch(),
    "another repository": lambda _path, admin: (admin / "commondir").write_text("/nowhere\n"),
    "another place": lambda _path, admin: (admin / "gitdir").write_text("/nowhere/.git\n"),
    "a broken HEAD": lambda _path, admin: (admin / "HEAD").write_text("rubbish\n"),
    "no note": lambda path, _admin: path.with_name(f"{path.name}.json").unlink(),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_a_worktree_that_broke_between_two_runs_repairs_itself(
    project: Any, slots: Slots, harm: Callable[[Path, Path], object]
) -> None:
    with slots().open(job("t-1")) as workspace:
        (workspace.path / "a.txt").write_text("a")
    harm(workspace.path, project.path / ".git" / "worktrees" / workspace.path.name)
    with slots().open(job("t-2")) as workspace:
        assert sorted(path.name for path in workspace.path.iterdir()) == [".git", "README.md"]
        assert project.git("-C", str(workspace.path), "status", "--porcelain", "-b") == "## pool/t-2"
        (workspace.path / "b.txt").write_text("b")
        assert workspace.save("Work").paths == ("b.txt",)
    assert len(project.git("worktree", "list").splitlines()) == 2


@pytest.mark.parametrize("harm", list(HARMS.values())[1:-1], ids=list(HARMS)[1:-1])
def test_a_worktree_that_its_run_broke_gives_its_files_all_the_same(
    project: Any, slots: Slots, harm: Callable[[Path, Path], object]
) -> None:
    with slots().open(job("t-1")) as workspace:
        (workspace.path / "committed.txt").write_text("a")
        project.git("-C", str(workspace.path), "add", "-A")
        project.git("-C", str(workspace.path), "commit", "-qm", "By the run")
        (workspace.path / "left.txt").write_text("a")
        (workspace.path / "README.md").unlink()
        harm(workspace.path, project.path / ".git" / "worktrees" / workspace.path.name)
        facts = workspace.save("Left")
    assert (facts.commits, facts.paths) == (2, ("README.md", "committed.txt", "left.txt"))
    assert project.git("status", "--porcelain") == ""


def test_a_run_that_deleted_its_whole_workspace_keeps_its_commits(project: Any, slots: Slots) -> None:
    with slots().open(job("t-1")) as workspace:
        (workspace.path / "committed.txt").write_text("a")
        project.git("-C", str(workspace.path), "add", "-A")
        project.git("-C", str(workspace.path), "commit", "-qm", "By the run")
        shutil.rmtree(workspace.path)
        facts = workspace.save("Nothing")
    assert (facts.commits, facts.paths) == (1, ("committed.txt",))
    assert "deleted its whole workspace" in facts.warnings[0]
    with slots().open(job("t-2")) as workspace:
        assert (workspace.path / "README.md").exists()


def test_a_workspace_that_became_a_link_to_the_users_checkout_is_not_followed(project: Any, slots: Slots) -> None:
    with slots().open(job("t-1")) as workspace:
        path = workspace.path
    project.write("precious.txt", "not committed")
    shutil.rmtree(path)
    path.symlink_to(project.path)
    with slots().open(job("t-2")) as workspace:
        assert not workspace.path.is_symlink()
    assert (project.path / "precious.txt").read_text() == "not committed"


LAST_CALL = 45
"""More git commands than one task needs, so that the last ones do not die at all."""


@pytest.mark.parametrize("isolation", ["worktree", "clone"])
@pytest.mark.parametrize("tree", ["warm", "new"])
def test_wherever_a_slot_dies_its_work_is_there_for_whoever_comes_next(
    project: Any, slots: Slots, die_at: Any, dies_at_call: Any, isolation: str, tree: str, home: Path
) -> None:
    written = home.with_name("written")

    def task(number: int, call: int) -> None:
        dies_at_call(call, after=bool(call % 2))
        with slots(0).open(job(f"t-{number}", isolation=isolation)) as workspace:
            (workspace.path / "work.txt").write_text(f"{number}\n")
            (workspace.path / "README.md").unlink()
            written.touch()
            workspace.save("Work")

    deaths = 0
    for number, call in enumerate(range(1, LAST_CALL, 4)):
        if tree == "new":
            shutil.rmtree(home, ignore_errors=True)
        written.unlink(missing_ok=True)
        deaths += die_at(lambda n=number, c=call: task(n, c))
        with slots(number % 2).open(job(f"t-{number}", isolation=isolation)) as workspace:
            assert (workspace.path / "work.txt").exists() == written.exists()
            assert (workspace.path / "README.md").exists() != written.exists()
            (workspace.path / "more.txt").write_text("more")
            assert "more.txt" in workspace.save("More").paths
        assert project.show(f"pool/t-{number}", "more.txt") == "more"
        assert ("work.txt" in project.files(f"pool/t-{number}")) == written.exists()
        with slots(0).open(job(f"u-{number}", isolation=isolation)) as workspace:
            assert sorted(path.name for path in workspace.path.iterdir()) == [".git", "README.md"]
    assert deaths >= 6
    assert project.git("status", "--porcelain") == ""
    assert project.git("fsck", "--no-dangling", "--no-progress") == ""


def test_sixteen_slots_open_their_workspaces_at_once(project: Any, slots: Slots) -> None:
    errors: list[BaseException] = []
    together = threading.Barrier(16)

    def run(number: int) -> None:
        try:
            together.wait()
            with slots(number).open(job(f"t-{number}")) as workspace:
                (workspace.path / "a.txt").write_text(f"{number}")
                together.wait()
                assert workspace.save("Work").commits == 1
        except BaseException as error:  # noqa: BLE001 - reported below
            errors.append(error)
            together.abort()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert errors == []
    assert len(project.git("worktree", "list").splitlines()) == 17
    assert {project.show(f"pool/t-{number}", "a.txt") for number in range(16)} == {str(n) for n in range(16)}


@pytest.mark.slow
def test_ten_thousand_files_go_in_and_come_back(project: Any, slots: Slots) -> None:
    for number in range(10_000):
        project.write(f"d{number % 100}/f{number}.txt", f"{number}\n")
    project.commit()
    slot = slots()
    with slot.open(job("t-1")) as workspace:
        for number in range(0, 10_000, 100):
            (workspace.path / f"d{number % 100}" / f"f{number}.txt").write_text("changed\n")
        facts = workspace.save("Work")
        assert (facts.files, len(facts.paths)) == (100, 100)
    with slot.open(job("t-2")) as workspace:
        assert project.git("-C", str(workspace.path), "status", "--porcelain") == ""
        shutil.rmtree(workspace.path / "d1")
        facts = workspace.save("Work")
        assert (facts.files, facts.deletions) == (100, 100)


def test_many_tasks_leave_as_many_work_trees_as_slots_and_no_more_files_than_few(
    project: Any, slots: Slots, home: Path, repository: Repository
) -> None:
    def left(after: range) -> tuple[set[str], int]:
        for number in after:
            with slots(number % 2).open(job(f"t-{number}")) as workspace:
                (workspace.path / f"{number}.txt").write_text("x")
                workspace.save("Work")
            if number % 3 == 0:
                repository.merge(MergeRequest(branch=f"pool/t-{number}", check_command="true"))
        repository.gc()
        kept = {
            str(path.relative_to(home))
            for path in home.rglob("*")
            if path.is_file() and "/work/" not in str(path)  # what is in the trees themselves grows with the target
        }
        return kept, len(project.git("worktree", "list").splitlines())

    few = left(range(6))
    assert left(range(6, 24)) == few
    assert few[1] == 3, "the person's own and one of each slot"
