from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_pool.errors import Conflict, InvalidRequest, NotFound
from claude_pool.workspace import MergeRequest, Repository

Work = Callable[..., Any]


def request(branch: str = "pool/t-1", **how: Any) -> MergeRequest:
    return MergeRequest(branch=branch, **how)


@pytest.fixture
def two_commits(project: Any, work: Work) -> Any:
    """A branch with two commits, and a target that moved on beside it."""
    work(0, "t-1", {"a.txt": "one\n"})
    facts = work(0, "t-1", {"a.txt": "one\ntwo\n"}, continues=True)
    project.write("person.txt", "by a person\n")
    project.commit("By a person")
    return facts


def test_a_merge_joins_both_histories_and_brings_the_checkout_along(
    project: Any, two_commits: Any, repository: Repository
) -> None:
    before = project.tip("main")
    result = repository.merge(request(message="Accepted", author="Ann Other <ann@localhost>"))
    assert (result.merged, result.conflicts, result.target, result.before) == (True, (), "main", before)
    assert result.commit == project.tip("main")
    assert (
        project.git("log", "-1", "--format=%P|%s|%an|%cn") == f"{before} {two_commits.tip}|Accepted|Ann Other|A Person"
    )
    assert (project.path / "a.txt").read_text() == "one\ntwo\n"
    assert project.git("status", "--porcelain") == ""
    assert result.checkout_updated == str(project.path)


def test_a_squash_is_one_commit_that_tells_what_is_in_it(
    project: Any, two_commits: Any, repository: Repository
) -> None:
    before = project.tip("main")
    repository.merge(request(how="squash"))
    assert project.git("log", "-1", "--format=%P") == before
    assert project.git("log", "-1", "--format=%B").count("* Work of t-1") == 2
    assert project.show("main", "a.txt") == "one\ntwo"


def test_a_rebase_puts_each_commit_on_top_with_its_author_and_message(
    project: Any, two_commits: Any, repository: Repository
) -> None:
    before = project.tip("main")
    dates = project.git("log", "-2", "--format=%ad", "pool/t-1")
    project.git("config", "user.name", "Somebody Else")
    repository.merge(request(how="rebase"))
    assert project.git("log", "-2", "--format=%s|%an|%cn").splitlines() == ["Work of t-1|A Person|Somebody Else"] * 2
    assert project.git("log", "-2", "--format=%ad") == dates
    assert project.tip("main~2") == before
    assert project.show("main", "a.txt") == "one\ntwo"


def test_a_rebase_onto_an_unmoved_target_keeps_the_commits_themselves(
    project: Any, work: Work, repository: Repository
) -> None:
    facts = work(0, "t-1", {"a.txt": "a"})
    assert repository.merge(request(how="rebase")).commit == facts.tip


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_a_conflict_is_a_result_with_files_and_hunks_and_nothing_moves(
    project: Any, two_commits: Any, repository: Repository, how: str
) -> None:
    project.write("a.txt", "by a person\n")
    before = project.commit()
    result = repository.merge(request(how=how))
    assert (result.merged, result.commit) == (False, None)
    [conflict] = result.conflicts
    assert (conflict.path, conflict.hunks[0].ours) == ("a.txt", "by a person")
    assert project.tip("main") == before
    assert project.git("status", "--porcelain") == ""


def test_what_was_merged_already_is_merged_and_nothing_happens(
    project: Any, two_commits: Any, repository: Repository
) -> None:
    first = repository.merge(request())
    second = repository.merge(request())
    assert (second.merged, second.commit) == (True, first.commit)
    assert "has all of pool/t-1 already" in second.message


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_what_was_squashed_into_the_target_is_not_merged_again(
    project: Any, two_commits: Any, repository: Repository, how: str
) -> None:
    first = repository.merge(request(how="squash"))
    project.write("later.txt", "later")
    later = project.commit()
    assert later != first.commit
    second = repository.merge(request(how=how))
    assert (second.merged, second.commit, project.tip()) == (True, later, later)


def test_a_branch_that_changed_since_its_review_is_refused(project: Any, work: Work, repository: Repository) -> None:
    reviewed = work(0, "t-1", {"a.txt": "a"}).tip
    now = work(0, "t-1", {"b.txt": "b"}, continues=True).tip
    with pytest.raises(Conflict, match="changed since it was reviewed"):
        repository.merge(request(reviewed_tip=reviewed))
    assert repository.merge(request(reviewed_tip=now)).merged


@pytest.mark.parametrize("harm", ["changed", "staged", "untracked", "ignored", "merging", "index.lock"])
def test_a_checkout_that_is_not_clean_is_not_touched(
    project: Any, work: Work, repository: Repository, harm: str
) -> None:
    project.write(".gitignore", "a.txt\n")
    before = project.commit()
    work(0, "t-1", {"b.txt": "by the run\n"})
    project.git("checkout", "-q", "pool/t-1")
    project.write("a.txt", "by the run")
    project.git("add", "-f", "a.txt")
    project.commit()
    project.git("checkout", "-q", "main")
    {
        "changed": lambda: project.write("README.md", "precious"),
        "staged": lambda: (project.write("c.txt", "precious"), project.git("add", "c.txt")),
        "untracked": lambda: project.write("b.txt", "precious"),
        "ignored": lambda: project.write("a.txt", "precious"),
        "merging": lambda: project.write(".git/MERGE_HEAD", f"{before}\n"),
        "index.lock": lambda: project.write(".git/index.lock", ""),
    }[harm]()
    state = project.git("status", "--porcelain", "--ignored", check=False)
    with pytest.raises(Conflict, match=str(project.path)):
        repository.merge(request())
    assert project.tip("main") == before
    assert project.git("status", "--porcelain", "--ignored", check=False) == state


def test_a_target_that_nobody_has_checked_out_moves_without_a_checkout(
    project: Any, two_commits: Any, repository: Repository
) -> None:
    project.git("branch", "release")
    project.write("README.md", "dirty, but elsewhere")
    result = repository.merge(request(target="release"))
    assert (result.merged, result.checkout_updated) == (True, None)
    assert project.show("release", "a.txt") == "one\ntwo"
    assert (project.path / "README.md").read_text() == "dirty, but elsewhere"


def test_a_target_in_another_worktree_of_the_user_is_brought_along_there(
    project: Any, two_commits: Any, repository: Repository, tmp_path: Path
) -> None:
    project.git("worktree", "add", "-q", "-b", "release", str(tmp_path / "other"))
    result = repository.merge(request(target="release"))
    assert result.checkout_updated == str(tmp_path / "other")
    assert (tmp_path / "other" / "a.txt").read_text() == "one\ntwo\n"


def test_the_check_runs_on_the_merged_tree_before_the_target_moves(
    project: Any, two_commits: Any, repository: Repository
) -> None:
    before = project.tip("main")
    failed = repository.merge(request(check_command="echo looked; test -e a.txt && test ! -e person.txt"))
    assert (failed.merged, failed.check.passed, failed.check.output) == (False, False, "looked\n")
    assert project.tip("main") == before
    passed = repository.merge(request(check_command="test -e a.txt && test -e person.txt && echo x > made-by-check"))
    assert (passed.merged, passed.check.code) == (True, 0)
    assert project.files("main") == ["README.md", "a.txt", "person.txt"]
    assert len(project.git("worktree", "list").splitlines()) == 2


def test_a_check_that_takes_too_long_fails_the_merge(project: Any, two_commits: Any, repository: Repository) -> None:
    result = repository.merge(request(check_command="sleep 60", check_timeout_s=0.2))
    assert (result.merged, result.check.timed_out) == (False, True)


def test_a_target_that_moves_during_the_check_is_not_overwritten(
    project: Any, two_commits: Any, repository: Repository
) -> None:
    moving = f"git -C {project.path} -c user.name=a -c user.email=a@b commit -q --allow-empty -m Meanwhile"
    with pytest.raises(Conflict, match="moved while the merge was checked"):
        repository.merge(request(check_command=moving))
    assert project.git("log", "-1", "--format=%s", "main") == "Meanwhile"


def test_hooks_of_the_repository_have_no_say_in_a_merge(
    project: Any, two_commits: Any, repository: Repository, tmp_path: Path
) -> None:
    for name in (
        "pre-commit",
        "pre-merge-commit",
        "commit-msg",
        "post-merge",
        "post-checkout",
        "reference-transaction",
    ):
        project.write(f".git/hooks/{name}", f"#!/bin/sh\ntouch {tmp_path}/ran-{name}\nexit 1\n").chmod(0o755)
    before = project.tip()
    for how in ("squash", "rebase", "merge"):
        assert repository.merge(request(how=how)).commit != before
        project.git("-c", "core.hooksPath=/dev/null", "reset", "-q", "--hard", before)
    assert list(tmp_path.glob("ran-*")) == []


def test_what_makes_no_sense_is_refused_by_name(project: Any, work: Work, repository: Repository) -> None:
    with pytest.raises(NotFound, match="pool/t-9"):
        repository.merge(request("pool/t-9"))
    work(0, "t-1", {"a.txt": "a"})
    with pytest.raises(NotFound, match="no-such"):
        repository.merge(request(target="no-such"))
    with pytest.raises(InvalidRequest, match="is no author"):
        repository.merge(request(author="nobody"))
    project.git("checkout", "-q", "--detach")
    with pytest.raises(InvalidRequest, match="no target branch"):
        repository.merge(request())


def test_files_behind_a_content_filter_are_not_written_raw_into_a_checkout(
    project: Any, work: Work, repository: Repository
) -> None:
    project.write(".gitattributes", "*.bin filter=lfs\n")
    project.commit()
    work(0, "t-1", {"data.bin": "version https://git-lfs.github.com/spec/v1\n"})
    with pytest.raises(Conflict, match="content filter"):
        repository.merge(request())
    project.git("checkout", "-q", "--detach")
    assert repository.merge(request(target="main")).merged
