from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_pool.errors import WorkspaceBusy, WorkspaceError
from claude_pool.models.workspace import WorkspaceJob

Slots = Callable[..., Any]
Work = Callable[..., Any]


def job(task: str, **how: Any) -> WorkspaceJob:
    return WorkspaceJob(task_id=task, **how)


def test_a_task_works_on_its_own_branch_outside_the_users_checkout(project: Any, slots: Slots) -> None:
    tip = project.tip()
    with slots().open(job("t-1")) as workspace:
        assert not workspace.path.is_relative_to(project.path)
        assert (workspace.branch, workspace.base, workspace.isolation) == ("pool/t-1", tip, "worktree")
        assert (workspace.path / "README.md").read_text() == "# Scratch\n"
        assert project.git("-C", str(workspace.path), "branch", "--show-current") == "pool/t-1"
    assert project.git("status", "--porcelain") == ""
    assert project.git("branch", "--show-current") == "main"


def test_what_a_run_left_uncommitted_is_committed_with_its_commits_counted(project: Any, slots: Slots) -> None:
    base = project.tip()
    with slots().open(job("t-1")) as workspace:
        (workspace.path / "made.txt").write_text("by the run\n")
        project.git("-C", str(workspace.path), "add", "made.txt")
        project.git("-C", str(workspace.path), "commit", "-q", "-m", "By the run")
        (workspace.path / "left.txt").write_text("left\nover\n")
        (workspace.path / "README.md").unlink()
        facts = workspace.save("What was left")
    assert (facts.commits, facts.files, facts.insertions, facts.deletions) == (2, 3, 3, 1)
    assert facts.paths == ("README.md", "left.txt", "made.txt")
    assert (facts.branch, facts.base, facts.tip) == ("pool/t-1", base, project.tip("pool/t-1"))
    assert facts.warnings == ()
    assert project.git("log", "--format=%s|%an|%ae", "-2", "pool/t-1").splitlines() == [
        "What was left|A Person|person@localhost",
        "By the run|A Person|person@localhost",
    ]


def test_without_an_identity_in_the_configuration_the_pool_commits_under_its_own(project: Any, work: Work) -> None:
    project.git("config", "--unset", "user.name")
    project.git("config", "--unset", "user.email")
    work(0, "t-1", {"a.txt": "a"})
    assert project.git("log", "-1", "--format=%an <%ae>", "pool/t-1") == "claude-pool <claude-pool@localhost>"


def test_a_run_that_changed_nothing_leaves_no_branch(project: Any, work: Work) -> None:
    assert work(0, "t-1", {}) is None
    assert project.git("for-each-ref", "refs/heads/pool", "refs/claude-pool") == ""


def test_a_slot_keeps_one_directory_and_resets_it_between_tasks(project: Any, slots: Slots) -> None:
    project.write(".gitignore", "cache/\n")
    project.commit()
    slot = slots()
    with slot.open(job("t-1")) as first:
        (first.path / "README.md").write_text("changed")
        (first.path / "new.txt").write_text("new")
        (first.path / "cache").mkdir()
        (first.path / "cache" / "kept").write_text("ignored")
    with slot.open(job("t-2")) as second:
        assert second.path == first.path
        assert (second.path / "README.md").read_text() == "# Scratch\n"
        assert not (second.path / "new.txt").exists()
        assert (second.path / "cache" / "kept").read_text() == "ignored"
    assert project.show("pool/t-1", "new.txt") == "new"
    with slots(clean_ignored=True).open(job("t-3")) as third:
        assert third.path == first.path
        assert not (third.path / "cache").exists()


def test_many_tasks_leave_as_many_worktrees_as_there_are_slots(project: Any, work: Work, home: Path) -> None:
    for number in range(12):
        work(number % 2, f"t-{number}", {"a.txt": f"{number}\n"})
    assert len(project.git("worktree", "list").splitlines()) == 3
    assert len(project.git("branch", "--list", "pool/*").splitlines()) == 12
    names = {path.name.partition(".")[2] for path in home.rglob("*") if path.is_file() and path.parent.name == "work"}
    assert names == {"json", "exclude"}


def test_a_second_run_continues_the_branch_in_any_slot(work: Work) -> None:
    first = work(0, "t-1", {"a.txt": "a\n"})
    second = work(1, "t-1", {"b.txt": "b\n"}, continues=True)
    assert second.base == first.base
    assert (second.commits, second.paths) == (2, ("a.txt", "b.txt"))


def test_steps_of_a_chain_share_a_branch(project: Any, work: Work) -> None:
    work(0, "t-1", {"a.txt": "a\n"}, branch="pool/c-1")
    facts = work(1, "t-2", {"b.txt": "b\n"}, branch="pool/c-1")
    assert (facts.branch, facts.commits) == ("pool/c-1", 2)
    assert project.git("branch", "--list", "pool/t-*") == ""


def test_a_branch_that_lacks_what_is_to_be_continued_is_refused(project: Any, slots: Slots, work: Work) -> None:
    with pytest.raises(WorkspaceError, match="pool/t-1 is to be continued"):
        slots().open(job("t-1", expects="1" * 40))
    tip = work(0, "t-1", {"a.txt": "a\n"}).tip
    with slots().open(job("t-1", expects=tip, fresh=True, continues=True)) as workspace:
        assert (workspace.path / "a.txt").exists()
    with pytest.raises(WorkspaceError, match="which is not in"):
        slots().open(job("t-1", expects=project.git("commit-tree", "-m", "x", "HEAD^{tree}")))


def test_a_run_that_continues_after_one_that_changed_nothing_starts_from_the_base(project: Any, work: Work) -> None:
    assert work(0, "t-1", {}) is None
    assert work(0, "t-1", {"a.txt": "a\n"}, continues=True).base == project.tip()


def test_a_fresh_step_of_a_chain_does_not_throw_the_chains_work_away(work: Work) -> None:
    work(0, "t-1", {"a.txt": "a\n"}, branch="pool/c-1")
    assert work(0, "t-2", {"b.txt": "b\n"}, branch="pool/c-1", fresh=True).commits == 2


def test_a_fresh_start_keeps_the_earlier_work_under_another_name(project: Any, work: Work) -> None:
    first = work(0, "t-1", {"a.txt": "a\n"})
    second = work(0, "t-1", {"b.txt": "b\n"}, fresh=True)
    assert second.paths == ("b.txt",)
    assert "pool/t-1.left-1" in second.warnings[0]
    assert project.tip("pool/t-1.left-1") == first.tip


def test_a_branch_starts_from_the_base_that_was_asked_for(project: Any, work: Work) -> None:
    first = project.tip()
    project.write("later.txt", "later")
    project.commit()
    assert work(0, "t-1", {"a.txt": "a"}, base_ref=first).base == first
    assert work(0, "t-2", {"a.txt": "a"}, base_ref="main~1").base == first
    assert work(0, "t-3", {"a.txt": "a"}).base == project.tip()
    with pytest.raises(WorkspaceError, match="names no commit"):
        work(0, "t-4", {}, base_ref="no/such")


def test_the_target_branch_is_where_work_starts_whatever_is_checked_out(project: Any, slots: Slots) -> None:
    project.git("branch", "release")
    project.write("later.txt", "later")
    project.commit()
    with slots(target="release").open(job("t-1")) as workspace:
        assert workspace.base == project.tip("release")


def test_a_detached_head_is_a_place_to_start_from(project: Any, work: Work) -> None:
    project.git("checkout", "-q", "--detach")
    assert work(0, "t-1", {"a.txt": "a"}).base == project.tip()


def test_a_repository_without_a_commit_is_refused_with_the_way_out(slots: Slots, tmp_path: Path, project: Any) -> None:
    project.git("init", "-q", str(tmp_path / "empty"))
    with pytest.raises(WorkspaceError, match=r"no commit yet.*first commit"):
        slots(repo=tmp_path / "empty").open(job("t-1"))


def test_a_bare_repository_and_a_shallow_clone_serve_as_well(slots: Slots, tmp_path: Path, project: Any) -> None:
    project.write("later.txt", "later")
    project.commit()
    project.git("clone", "-q", "--bare", str(project.path), str(tmp_path / "bare.git"))
    project.git("clone", "-q", "--depth", "1", f"file://{project.path}", str(tmp_path / "shallow"))
    for number, name in enumerate(("bare.git", "shallow")):
        with slots(number, repo=tmp_path / name).open(job("t-1")) as workspace:
            (workspace.path / "a.txt").write_text("a\n")
            assert workspace.save("Work").paths == ("a.txt",)
        assert project.git("-C", str(tmp_path / name), "show", "pool/t-1:a.txt") == "a"


def test_without_a_repository_there_is_no_worktree_and_no_falling_back(slots: Slots, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="needs a repository"):
        slots(repo=None).open(job("t-1"))
    with pytest.raises(WorkspaceError, match="is no git repository"):
        slots(repo=tmp_path).open(job("t-1"))


def test_a_branch_has_one_run_at_a_time(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_pool.workspace.tree.OPEN_WAIT_S", 0.1)
    with slots(0).open(job("t-1")), pytest.raises(WorkspaceBusy, match="t-1"):
        slots(1).open(job("t-1"))


def test_a_branch_that_a_person_has_checked_out_is_not_taken_away(project: Any, work: Work) -> None:
    work(0, "t-1", {"a.txt": "a"})
    project.git("checkout", "-q", "pool/t-1")
    with pytest.raises(WorkspaceError, match=r"is checked out in .*Switch that checkout"):
        work(0, "t-1", {}, continues=True)
    project.git("checkout", "-q", "main")
    assert work(0, "t-1", {"b.txt": "b"}, continues=True).commits == 2


def test_two_pools_on_one_repository_never_meet(slots: Slots) -> None:
    with slots(0, pool="alpha").open(job("t-1")) as one, slots(0, pool="beta").open(job("t-2")) as two:
        assert one.path.name != two.path.name
        assert one.path != two.path


def test_a_failing_pre_commit_hook_costs_no_work(project: Any, work: Work) -> None:
    hook = project.write(".git/hooks/pre-commit", "#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    assert work(0, "t-1", {"a.txt": "a"}).commits == 1
    assert hook.exists()


def test_work_that_was_not_saved_is_saved_by_closing(project: Any, slots: Slots) -> None:
    with slots().open(job("t-1")) as workspace:
        (workspace.path / "a.txt").write_text("a")
    assert project.show("pool/t-1", "a.txt") == "a"


def test_ignored_and_copied_files_are_there_for_each_task_and_in_no_commit(project: Any, slots: Slots) -> None:
    project.write(".env", "SECRET=1\n")
    project.write("conf/local.toml", "x = 1\n")
    slot = slots(copy_files=(".env", "conf/local.toml", "not-there"))
    with slot.open(job("t-1")) as workspace:
        assert (workspace.path / ".env").read_text() == "SECRET=1\n"
        (workspace.path / ".env").write_text("tampered")
        (workspace.path / "a.txt").write_text("a")
        assert workspace.save("Work").paths == ("a.txt",)
    project.write(".env", "SECRET=2\n")
    with slot.open(job("t-2")) as workspace:
        assert (workspace.path / ".env").read_text() == "SECRET=2\n"
        assert (workspace.path / "conf" / "local.toml").is_file()


def test_the_set_up_command_runs_once_per_tree_and_what_it_leaves_is_no_work(project: Any, slots: Slots) -> None:
    project.write(".gitignore", "deps/\n")
    project.commit()
    command = "mkdir -p deps && date +%N >> deps/runs && echo noise > noise.txt && echo x >> README.md"
    slot = slots(setup_command=command)
    for number in range(3):
        with slot.open(job(f"t-{number}")) as workspace:
            assert len((workspace.path / "deps" / "runs").read_text().splitlines()) == 1
            assert workspace.save("Work") is None
    with slots(setup_command=f"{command} # changed").open(job("t-9")) as workspace:
        assert len((workspace.path / "deps" / "runs").read_text().splitlines()) == 2


def test_a_set_up_command_that_fails_or_hangs_fails_the_opening_and_gives_all_back(project: Any, slots: Slots) -> None:
    with pytest.raises(WorkspaceError, match="set-up command ended with 3: it broke"):
        slots(setup_command="echo it broke; exit 3").open(job("t-1"))
    with pytest.raises(WorkspaceError, match=r"took more than 0\.1 s"):
        slots(setup_command="sleep 30", setup_timeout_s=0.1).open(job("t-1"))
    assert project.git("for-each-ref", "refs/heads/pool", "refs/claude-pool") == ""
    with slots().open(job("t-1")) as workspace:
        assert workspace.branch == "pool/t-1"
