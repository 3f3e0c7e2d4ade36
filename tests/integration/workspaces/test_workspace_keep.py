"""Whatever state a run leaves its tree in: nothing is lost, and the next task finds a clean one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from claude_pool.models.workspace import WorkspaceJob

Slots = Callable[..., Any]
Work = Callable[..., Any]


def job(task: str, **how: Any) -> WorkspaceJob:
    return WorkspaceJob(task_id=task, **how)


def test_a_run_in_the_middle_of_a_rebase_loses_neither_its_commits_nor_its_files(project: Any, slots: Slots) -> None:
    with slots().open(job("t-1")) as workspace:
        here = ("-C", str(workspace.path))
        for number in range(2):
            (workspace.path / "README.md").write_text(f"version {number}\n")
            project.git(*here, "commit", "-qam", f"Version {number}")
        project.git(*here, "checkout", "-q", "-b", "side", "HEAD~2")
        (workspace.path / "README.md").write_text("other\n")
        project.git(*here, "commit", "-qam", "Other")
        project.git(*here, "checkout", "-q", "pool/t-1")
        project.git(*here, "rebase", "side", check=False)
        assert "<<<<<<<" in (workspace.path / "README.md").read_text()
        facts = workspace.save("Half-way")
    assert project.show("pool/t-1", "README.md") == "version 1"
    assert "<<<<<<<" in project.show("pool/t-1.left-1", "README.md")
    assert any("pool/t-1.left-1" in warning for warning in facts.warnings)
    with slots().open(job("t-2")) as workspace:
        assert "rebase" not in project.git("-C", str(workspace.path), "status")


def test_a_run_that_went_to_another_branch_and_worked_there_loses_nothing(project: Any, slots: Slots) -> None:
    with slots().open(job("t-1")) as workspace:
        project.git("-C", str(workspace.path), "checkout", "-q", "-b", "feature")
        (workspace.path / "a.txt").write_text("a")
        facts = workspace.save("On a branch of its own")
    assert facts.commits == 1
    assert project.show("pool/t-1", "a.txt") == "a"


def test_a_run_that_only_looked_at_another_branch_keeps_its_own_work(project: Any, slots: Slots) -> None:
    with slots().open(job("t-1")) as workspace:
        (workspace.path / "a.txt").write_text("a")
        project.git("-C", str(workspace.path), "add", "-A")
        project.git("-C", str(workspace.path), "commit", "-qm", "Work")
        project.git("-C", str(workspace.path), "checkout", "-q", "--detach", "main")
        facts = workspace.save("Looked around")
    assert (facts.paths, facts.warnings) == (("a.txt",), ())


def test_a_branch_that_the_run_deleted_is_there_again(project: Any, slots: Slots) -> None:
    with slots().open(job("t-1")) as workspace:
        project.git("-C", str(workspace.path), "checkout", "-q", "--detach")
        project.git("-C", str(workspace.path), "branch", "-D", "pool/t-1")
        (workspace.path / "a.txt").write_text("a")
        facts = workspace.save("Work")
    assert (facts.tip, facts.commits) == (project.tip("pool/t-1"), 1)


def test_a_tree_on_an_orphan_branch_is_kept_on_top_of_where_the_run_began(project: Any, slots: Slots) -> None:
    with slots().open(job("t-1")) as workspace:
        project.git("-C", str(workspace.path), "checkout", "-q", "--orphan", "nothing")
        (workspace.path / "a.txt").write_text("a")
        facts = workspace.save("Work")
    assert (facts.commits, facts.paths) == (1, ("a.txt",))


def test_earlier_commits_that_a_run_rewrote_are_kept_beside(project: Any, work: Work, slots: Slots) -> None:
    first = work(0, "t-1", {"a.txt": "a"})
    with slots().open(job("t-1", continues=True)) as workspace:
        project.git("-C", str(workspace.path), "reset", "-q", "--hard", "main")
        (workspace.path / "b.txt").write_text("b")
        facts = workspace.save("Other")
    assert facts.paths == ("b.txt",)
    assert project.tip("pool/t-1.left-1") == first.tip


def test_files_that_git_was_told_to_overlook_are_kept_and_reset_all_the_same(project: Any, slots: Slots) -> None:
    with slots().open(job("t-1")) as workspace:
        project.git("-C", str(workspace.path), "update-index", "--assume-unchanged", "README.md")
        (workspace.path / "README.md").write_text("hidden\n")
    assert project.show("pool/t-1", "README.md") == "hidden"
    with slots().open(job("t-2")) as workspace:
        project.git("-C", str(workspace.path), "update-index", "--skip-worktree", "README.md")
        (workspace.path / "README.md").write_text("hidden too\n")
        workspace.save("Work")
        project.git("-C", str(workspace.path), "update-index", "--assume-unchanged", "README.md")
        (workspace.path / "README.md").write_text("after the end\n")
    assert project.show("pool/t-2", "README.md") == "hidden too"
    with slots().open(job("t-3")) as workspace:
        assert (workspace.path / "README.md").read_text() == "# Scratch\n"


def test_a_sparse_tree_is_not_taken_for_deleted_files(project: Any, slots: Slots) -> None:
    project.write("src/code.py", "code\n")
    project.write("docs/page.md", "page\n")
    project.commit()
    with slots().open(job("t-1")) as workspace:
        project.git("-C", str(workspace.path), "sparse-checkout", "set", "src")
        assert not (workspace.path / "docs").exists()
        (workspace.path / "src" / "code.py").write_text("better\n")
        facts = workspace.save("Work")
    assert facts.paths == ("src/code.py",)
    with slots().open(job("t-2")) as workspace:
        assert (workspace.path / "docs" / "page.md").is_file()


def test_a_repository_inside_the_tree_is_kept_file_by_file(project: Any, slots: Slots) -> None:
    with slots().open(job("t-1")) as workspace:
        for folder in ("vendor/tool", "vendor/tool/deeper", "empty"):
            project.git("init", "-q", str(workspace.path / folder))
        (workspace.path / "vendor/tool/code.py").write_text("code")
        (workspace.path / "vendor/tool/deeper/more.py").write_text("more")
        inner = ("-C", str(workspace.path / "vendor/tool"), "-c", "user.name=a", "-c", "user.email=a@b")
        project.git(*inner, "add", "code.py")
        project.git(*inner, "commit", "-qm", "x")
        facts = workspace.save("Work")
    assert facts.paths == ("vendor/tool/code.py", "vendor/tool/deeper/more.py")
    assert sum("repository of its own" in warning for warning in facts.warnings) == 3


def test_unusual_files_survive_the_way_through_the_branch(project: Any, slots: Slots) -> None:
    project.write("old name.txt", "the same content, long enough to be seen as a rename\n" * 5)
    project.write("pointer.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    project.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
    project.commit()
    odd = 'über/naïve ☃\n"quoted"\t.txt'
    with slots().open(job("t-1")) as workspace:
        (workspace.path / "old name.txt").rename(workspace.path / "new name.txt")
        (workspace.path / "image.png").write_bytes(bytes(range(256)))
        (workspace.path / "über").mkdir()
        (workspace.path / odd).write_text("odd")
        (workspace.path / "--upload-pack=x").write_text("dash")
        (workspace.path / "link").symlink_to("/etc/passwd")
        (workspace.path / "tool").write_text("#!/bin/sh\n")
        (workspace.path / "tool").chmod(0o755)
        facts = workspace.save("Work")
    assert set(facts.paths) >= {"new name.txt", "old name.txt", "image.png", odd, "--upload-pack=x", "link", "tool"}
    assert "pointer.bin" not in facts.paths
    with slots(1).open(job("t-1", continues=True)) as workspace:
        assert (workspace.path / "image.png").read_bytes() == bytes(range(256))
        assert (workspace.path / odd).read_text() == "odd"
        assert (workspace.path / "link").is_symlink()
        assert (workspace.path / "tool").stat().st_mode & 0o111
        assert workspace.save("Nothing new").tip == facts.tip


def test_a_path_that_looks_like_gits_own_words_is_a_path(slots: Slots) -> None:
    odd = ":100644 160000 abc def M"
    with slots().open(job("t-1")) as workspace:
        (workspace.path / odd).write_text("a\n")
        (workspace.path / "1\t2\tx").write_text("a\n")
        facts = workspace.save("Work")
    assert (facts.paths, facts.insertions, facts.warnings) == (("1\t2\tx", odd), 2, ())


def test_a_submodule_that_moved_is_told_for_its_commits_are_not_here(project: Any, slots: Slots) -> None:
    with slots().open(job("t-1")) as workspace:
        project.git("-C", str(workspace.path), "update-index", "--add", "--cacheinfo", f"160000,{project.tip()},sub")
        (workspace.path / "sub").mkdir()
        facts = workspace.save("Work")
    assert facts.paths == ("sub",)
    assert "sub is a submodule" in facts.warnings[0]
