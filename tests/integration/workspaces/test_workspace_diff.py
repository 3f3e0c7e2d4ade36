from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from claude_pool.errors import InvalidRequest, NotFound, WorkspaceError
from claude_pool.models.workspace import WorkspaceJob
from claude_pool.workspace import Repository

Work = Callable[..., Any]


def test_a_diff_names_every_change_with_its_kind_and_counts(project: Any, slots: Any, repository: Repository) -> None:
    project.write("old.txt", "".join(f"line {number}\n" for number in range(20)))
    project.write("gone.txt", "gone\n")
    base = project.commit()
    with slots().open(WorkspaceJob(task_id="t-1")) as workspace:
        (workspace.path / "old.txt").rename(workspace.path / "new.txt")
        (workspace.path / "gone.txt").unlink()
        (workspace.path / "README.md").write_text("# Scratch\nmore\n")
        (workspace.path / "image.png").write_bytes(b"\0\1\2")
        (workspace.path / "tool").write_text("#!/bin/sh\n")
        (workspace.path / "tool").chmod(0o755)
        (workspace.path / "link").symlink_to("README.md")
        facts = workspace.save("Work")
    found = repository.diff("pool/t-1")
    assert (found.base, found.tip, found.files_total) == (base, facts.tip, 6)
    assert (found.insertions, found.deletions, found.next_offset) == (3, 1, None)
    kinds = {(file.path, file.kind, file.old_path, file.insertions, file.mode) for file in found.files}
    assert kinds == {
        ("new.txt", "renamed", "old.txt", 0, ""),
        ("gone.txt", "deleted", None, 0, ""),
        ("README.md", "modified", None, 1, ""),
        ("image.png", "added", None, None, ""),
        ("tool", "added", None, 1, "100755"),
        ("link", "added", None, 1, "120000"),
    }
    assert "+more" in found.patch
    assert "Binary files" in found.patch


def test_the_pages_of_a_patch_put_together_are_the_patch(work: Work, repository: Repository) -> None:
    work(0, "t-1", {"a.txt": "".join(f"line {number} ü\n" for number in range(400)), "b.txt": "ü" * 3000})
    whole = repository.diff("pool/t-1")
    assert whole.next_offset is None
    pages: list[str] = []
    offset: int | None = 0
    while offset is not None:
        page = repository.diff("pool/t-1", offset=offset, page_bytes=1000)
        assert len(page.patch.encode()) <= 1000
        assert page.files_total == 2
        pages.append(page.patch)
        offset = page.next_offset
    assert "".join(pages) == whole.patch
    assert len(pages) > 5


def test_one_path_of_a_diff_can_be_asked_for_whatever_it_is_called(work: Work, repository: Repository) -> None:
    work(0, "t-1", {"--output=x": "dash\n", ":(top)*": "magic\n", "src/a.py": "a\n", "src/b.py": "b\n"})
    for path, names in (
        ("--output=x", ["--output=x"]),
        (":(top)*", [":(top)*"]),
        ("src", ["src/a.py", "src/b.py"]),
        ("*", []),
    ):
        found = repository.diff("pool/t-1", path=path)
        assert [file.path for file in found.files] == names
    assert repository.diff("pool/t-1", path="src/a.py", page_bytes=0).patch == ""


def test_a_diff_against_the_target_leaves_out_what_only_the_target_has(
    project: Any, work: Work, repository: Repository
) -> None:
    base = project.tip()
    work(0, "t-1", {"a.txt": "a\n"})
    project.write("b.txt", "b\n")
    project.commit()
    assert [file.path for file in repository.diff("pool/t-1").files] == ["a.txt"]
    assert [file.path for file in repository.diff("pool/t-1", against="target").files] == ["a.txt"]
    assert [file.path for file in repository.diff("pool/t-1", against="main").files] == ["a.txt", "b.txt"]
    assert repository.diff("pool/t-1", against=base).base == base


def test_a_branch_can_not_hide_a_file_from_its_reviewer_by_attributes(work: Work, repository: Repository) -> None:
    work(0, "t-1", {".gitattributes": "* -diff -text\nsecret.txt binary\n", "secret.txt": "shown\n"})
    assert "+shown" in repository.diff("pool/t-1").patch


def test_names_and_contents_that_are_no_unicode_travel_as_text(slots: Any, repository: Repository) -> None:
    with slots().open(WorkspaceJob(task_id="t-1")) as workspace:
        (workspace.path / b"\xff.txt".decode(errors="surrogateescape")).write_bytes(b"\xfe\n")
        facts = workspace.save("Work")
    assert facts.paths == ("\ufffd.txt",)
    found = repository.diff("pool/t-1")
    assert found.files[0].path == "\ufffd.txt"
    assert "+\ufffd" in found.model_dump_json(ensure_ascii=False)


def test_what_can_not_be_compared_is_refused_by_name(repository: Repository, work: Work) -> None:
    with pytest.raises(NotFound, match="pool/t-9"):
        repository.diff("pool/t-9")
    work(0, "t-1", {"a.txt": "a"})
    with pytest.raises(WorkspaceError, match="no-such-ref"):
        repository.diff("pool/t-1", against="no-such-ref")
    with pytest.raises(InvalidRequest):
        repository.diff("pool/t-1", offset=-1)
