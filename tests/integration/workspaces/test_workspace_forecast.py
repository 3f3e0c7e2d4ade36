from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from claude_pool.errors import NotFound
from claude_pool.workspace import Repository
from claude_pool.workspace.forecast import hunks

Work = Callable[..., Any]


def test_a_branch_that_fits_is_forecast_clean_with_the_merged_tree(
    project: Any, work: Work, repository: Repository
) -> None:
    facts = work(0, "t-1", {"a.txt": "a\n"})
    before = project.git("for-each-ref")
    forecast = repository.forecast("pool/t-1")
    assert (forecast.state, forecast.into, forecast.conflicts) == ("clean", "main", ())
    assert (forecast.tip, forecast.into_tip) == (facts.tip, project.tip("main"))
    assert project.git("ls-tree", "--name-only", str(forecast.tree)).splitlines() == ["README.md", "a.txt"]
    assert project.git("for-each-ref") == before
    assert project.git("status", "--porcelain") == ""


def test_a_conflict_is_forecast_with_its_files_and_hunks(project: Any, work: Work, repository: Repository) -> None:
    work(0, "t-1", {"README.md": "# By the run\n", "fine.txt": "fine\n"})
    project.write("README.md", "# By a person\n")
    project.commit()
    forecast = repository.forecast("pool/t-1")
    assert forecast.state == "conflicts"
    [conflict] = forecast.conflicts
    assert (conflict.path, conflict.kind) == ("README.md", "contents")
    [hunk] = conflict.hunks
    assert (hunk.line, hunk.ours, hunk.theirs) == (1, "# By a person", "# By the run")


def test_conflicts_without_content_are_told_by_their_kind(project: Any, work: Work, repository: Repository) -> None:
    project.write("both.bin", b"\0one")
    project.commit()
    work(0, "t-1", {"README.md": "# Changed\n", "both.bin": "\0two", "new.txt": "by the run\n"})
    (project.path / "README.md").unlink()
    project.write("both.bin", b"\0three")
    project.write("new.txt", "by a person\n")
    project.commit()
    found = {conflict.path: conflict for conflict in repository.forecast("pool/t-1").conflicts}
    assert {path: conflict.kind for path, conflict in found.items()} == {
        "README.md": "modify/delete",
        "both.bin": "binary",
        "new.txt": "contents",
    }
    assert found["both.bin"].hunks == ()
    assert found["new.txt"].hunks[0].theirs == "by the run"


def test_a_branch_whose_work_is_in_the_target_has_nothing_to_merge(
    project: Any, work: Work, repository: Repository
) -> None:
    work(0, "t-1", {"a.txt": "a\n"})
    project.git("cherry-pick", "pool/t-1")
    project.write("later.txt", "later\n")
    project.commit()
    assert repository.forecast("pool/t-1").state == "nothing_to_merge"
    assert repository.forecast("main", into="main").state == "nothing_to_merge"


def test_branches_that_get_in_each_others_way_are_found_among_those_that_do_not(
    work: Work, repository: Repository
) -> None:
    work(0, "t-1", {"README.md": "one\n"})
    work(0, "t-2", {"README.md": "two\n"})
    work(0, "t-3", {"other.txt": "three\n"})
    [found] = repository.collisions(["pool/t-1", "pool/t-2", "pool/t-3", "pool/t-unknown"])
    assert (found.branch, found.into, found.state) == ("pool/t-2", "pool/t-1", "conflicts")


def test_histories_that_have_nothing_in_common_are_told_and_not_guessed(project: Any, repository: Repository) -> None:
    project.git("checkout", "-q", "--orphan", "pool/t-1")
    project.write("a.txt", "a")
    project.commit()
    project.git("checkout", "-q", "main")
    forecast = repository.forecast("pool/t-1")
    assert forecast.state == "unknown"
    assert "unrelated histories" in forecast.message


def test_a_branch_that_does_not_exist_is_named(repository: Repository) -> None:
    with pytest.raises(NotFound, match="pool/t-9"):
        repository.forecast("pool/t-9")


def test_hunks_are_found_with_their_lines_and_unfinished_ones_are_not() -> None:
    text = "a\n<<<<<<< x\none\n=======\ntwo\n>>>>>>> y\nb\n<<<<<<< x\n=======\nthree\n>>>>>>> y\n<<<<<<< x\nopen"
    assert [(hunk.line, hunk.ours, hunk.theirs) for hunk in hunks(text)] == [(2, "one", "two"), (8, "", "three")]
    assert hunks("") == []
    [long] = hunks("<<<<<<< x\n" + "o" * 9000 + "\n=======\n>>>>>>> y")
    assert (len(long.ours), long.cut) == (4000, True)
