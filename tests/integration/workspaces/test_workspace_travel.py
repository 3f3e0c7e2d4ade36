from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.errors import InvalidRequest, NotFound, WorkspaceError
from claude_pool.workspace import Repository

Work = Callable[..., Any]


@pytest.fixture
def other(project: Any, tmp_path: Path) -> tuple[Any, Repository]:
    """The same repository on another node."""
    path = tmp_path / "other"
    project.git("clone", "-q", str(project.path), str(path))
    project.git("-C", str(path), "config", "user.name", "Other")
    project.git("-C", str(path), "config", "user.email", "other@localhost")
    return type(project)(path), Repository.open(PoolConfig(name="alpha", home=tmp_path / "home2", repo=path))


def test_a_branch_travels_as_a_bundle_without_the_history_that_is_there(
    project: Any, work: Work, repository: Repository, other: Any
) -> None:
    there, elsewhere = other
    facts = work(0, "t-1", {"a.txt": "a\n"})
    bundle = repository.export_bundle("pool/t-1", facts.base)
    assert len(bundle) < len(repository.export_bundle("pool/t-1"))
    assert elsewhere.import_bundle(bundle, "pool/t-1") == facts.tip
    assert there.show("pool/t-1", "a.txt") == "a"
    assert elsewhere.diff("pool/t-1").base == facts.base
    assert elsewhere.import_bundle(bundle, "pool/t-1") == facts.tip
    assert there.git("for-each-ref", "refs/claude-pool/arrived") == ""


def test_a_branch_with_nothing_new_is_an_empty_bundle(project: Any, work: Work, repository: Repository) -> None:
    work(0, "t-1", {"a.txt": "a\n"})
    assert repository.export_bundle("pool/t-1", "pool/t-1") == b""
    assert repository.import_bundle(b"", "pool/t-1") == project.tip("pool/t-1")
    assert repository.import_bundle(b"", "pool/t-2") is None


def test_a_branch_that_went_two_ways_keeps_both(project: Any, work: Work, repository: Repository, other: Any) -> None:
    there, elsewhere = other
    facts = work(0, "t-1", {"a.txt": "a\n"})
    elsewhere.import_bundle(repository.export_bundle("pool/t-1", facts.base), "pool/t-1")
    there.git("checkout", "-q", "pool/t-1")
    there.write("theirs.txt", "theirs")
    theirs = there.commit()
    there.git("checkout", "-q", "main")
    ours = work(0, "t-1", {"b.txt": "b\n"}, continues=True).tip
    elsewhere.import_bundle(repository.export_bundle("pool/t-1", facts.tip), "pool/t-1")
    assert (there.tip("pool/t-1"), there.tip("pool/t-1.left-1")) == (ours, theirs)


def test_bundles_above_the_limit_are_refused_on_both_sides(work: Work, repository: Repository, other: Any) -> None:
    facts = work(0, "t-1", {"a.txt": "".join(f"{number * 7919}\n" for number in range(5000))})
    with pytest.raises(WorkspaceError, match=r"at most 1,000 go through the store.*remote"):
        repository.export_bundle("pool/t-1", facts.base, most_bytes=1000)
    bundle = repository.export_bundle("pool/t-1", facts.base)
    with pytest.raises(WorkspaceError, match="more than"):
        other[1].import_bundle(bundle, "pool/t-1", most_bytes=1000)


@pytest.mark.parametrize("data", [b"rubbish", b"# v2 git bundle\n", b"# v2 git bundle\n\nPACK"])
def test_what_is_no_bundle_is_refused(repository: Repository, data: bytes) -> None:
    with pytest.raises(WorkspaceError, match="bundle"):
        repository.import_bundle(data, "pool/t-1")
    assert repository.branches() == []


def test_a_bundle_gives_one_branch_and_no_other(project: Any, work: Work, repository: Repository, other: Any) -> None:
    there, elsewhere = other
    work(0, "t-1", {"a.txt": "a\n"})
    file = project.path.parent / "all.bundle"
    project.git("bundle", "create", "-q", str(file), "--all")
    before = there.tip("main")
    project.write("evil.txt", "evil")
    project.commit()
    with pytest.raises(WorkspaceError, match="has no branch pool/t-2"):
        elsewhere.import_bundle(file.read_bytes(), "pool/t-2")
    elsewhere.import_bundle(file.read_bytes(), "pool/t-1")
    assert there.git("for-each-ref", "--format=%(refname)", "refs/heads").split() == [
        "refs/heads/main",
        "refs/heads/pool/t-1",
    ]
    assert there.tip("main") == before


def test_a_bundle_without_its_foundation_is_refused(
    project: Any, work: Work, repository: Repository, other: Any
) -> None:
    project.write("later.txt", "later")
    project.commit()
    facts = work(0, "t-1", {"a.txt": "a\n"})
    with pytest.raises(WorkspaceError, match="can't be used here"):
        other[1].import_bundle(repository.export_bundle("pool/t-1", facts.base), "pool/t-1")


def test_a_branch_travels_by_a_remote(
    project: Any, work: Work, repository: Repository, other: Any, tmp_path: Path
) -> None:
    there, elsewhere = other
    hub = tmp_path / "hub.git"
    project.git("init", "-q", "--bare", str(hub))
    project.git("remote", "add", "hub", str(hub))
    there.git("remote", "add", "hub", str(hub))
    first = work(0, "t-1", {"a.txt": "a\n"})
    repository.push("hub", "pool/t-1")
    assert elsewhere.fetch("hub", "pool/t-1") == first.tip
    second = work(0, "t-1", {"b.txt": "b\n"}, continues=True)
    repository.push("hub", "pool/t-1")
    assert elsewhere.fetch("hub", "pool/t-1") == second.tip
    assert project.git("-C", str(hub), "for-each-ref", "--format=%(refname)") == "refs/heads/pool/t-1"


def test_a_remote_that_is_no_name_or_not_there_is_refused(work: Work, repository: Repository) -> None:
    work(0, "t-1", {"a.txt": "a\n"})
    for name in ("--upload-pack=x", "ext::sh", "/tmp/x", ""):
        with pytest.raises(InvalidRequest, match="no name of a remote"):
            repository.push(name, "pool/t-1")
    with pytest.raises(WorkspaceError, match="origin"):
        repository.fetch("origin", "pool/t-1")
    with pytest.raises(NotFound):
        repository.push("origin", "pool/t-9")
    with pytest.raises(NotFound):
        repository.export_bundle("pool/t-9")
