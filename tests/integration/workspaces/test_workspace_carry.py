"""Two machines of a pool, each with its own home and repository: branches travel, by store and by remote."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.errors import WorkspaceError
from claude_pool.models.task import BranchFacts
from claude_pool.models.workspace import WorkspaceJob
from claude_pool.store import fake_store
from claude_pool.workspace import Repository, Workspaces
from claude_pool.workspace.carry import Carrier, is_address
from claude_pool.workspace.ground import locate

SHARED = "redis://localhost:1/0"
"""A store that several machines can reach; it is never asked here."""


class Machine:
    """A node with a home of its own."""

    def __init__(self, folder: Path, name: str, store: Any, **settings: Any) -> None:
        self.config = PoolConfig(
            **{"name": "alpha", "home": folder / name, "node": name, "redis_url": SHARED, **settings}
        )
        slot = self.config.node_dir / "slots" / "0"
        self.slots = Workspaces(
            self.config, slot_dir=slot, pool="alpha", slot_id=f"slot-0@{name}", parcels=store.parcels
        )

    def do(self, task: str, files: dict[str, str], **job: Any) -> BranchFacts:
        with self.slots.open(WorkspaceJob(task_id=task, **job)) as workspace:
            for name, text in files.items():
                (workspace.path / name).write_text(text)
            facts = workspace.save(f"Work of {task}")
        assert facts is not None
        return facts


@pytest.fixture
def store(tmp_path: Path) -> Any:
    store = fake_store(PoolConfig(name="alpha", home=tmp_path))
    store.pool.prepare(epoch=None)
    yield store
    store.close()


Make = Callable[..., Machine]


@pytest.fixture
def machine(tmp_path: Path, project: Any, store: Any) -> Make:
    """A machine with its own clone of the project; `origin` is the project."""

    def make(name: str, **settings: Any) -> Machine:
        clone = tmp_path / f"{name}-repo"
        project.git("clone", "-q", str(project.path), str(clone))
        return Machine(tmp_path, name, store, repo=clone, **settings)

    return make


@pytest.mark.parametrize("remote", [None, "origin"])
def test_the_second_step_of_a_chain_goes_on_where_the_first_one_was_on_another_node(
    machine: Make, remote: str | None
) -> None:
    a, b = machine("a", remote=remote), machine("b", remote=remote)
    first = a.do("t-1", {"a.txt": "one\n"}, branch="pool/c-1")
    second = b.do("t-2", {"b.txt": "two\n"}, branch="pool/c-1", expects=first.tip)
    assert second.commits == 2
    assert second.base == first.base
    assert set(second.paths) == {"a.txt", "b.txt"}
    third = a.do("t-3", {"c.txt": "three\n"}, branch="pool/c-1", expects=second.tip)
    assert set(third.paths) == {"a.txt", "b.txt", "c.txt"}


def test_a_continuation_finds_what_the_run_on_another_node_left(machine: Make) -> None:
    a, b = machine("a"), machine("b")
    a.do("t-1", {"a.txt": "half\n"})
    again = b.do("t-1", {"b.txt": "rest\n"}, continues=True)
    assert set(again.paths) == {"a.txt", "b.txt"}


def test_a_branch_can_begin_from_one_of_another_node(machine: Make) -> None:
    a, b = machine("a"), machine("b")
    a.do("t-1", {"a.txt": "one\n"})
    assert b.do("t-2", {"b.txt": "two\n"}, base_ref="pool/t-1").paths == ("b.txt",)


def test_a_branch_that_is_too_large_for_the_store_is_a_warning_and_then_a_clear_error(machine: Make) -> None:
    a, b = machine("a", parcel_bytes=2000), machine("b")
    facts = a.do("t-1", {"big.bin": os.urandom(5000).hex()}, branch="pool/c-1")
    assert any("node a only" in warning and "at most 2,000" in warning for warning in facts.warnings)
    with pytest.raises(WorkspaceError, match="is to be continued from"):
        b.do("t-2", {"b.txt": "x"}, branch="pool/c-1", expects=facts.tip)


def test_a_repository_that_lacks_the_base_says_so(project: Any, machine: Make) -> None:
    b = machine("b")
    project.write("new.txt", "x")
    project.commit()
    a = machine("a")
    facts = a.do("t-1", {"a.txt": "one\n"}, branch="pool/c-1")
    with pytest.raises(WorkspaceError, match="left on node a and can't be continued here"):
        b.do("t-2", {"b.txt": "x"}, branch="pool/c-1", expects=facts.tip)


def test_a_node_without_the_repository_takes_it_from_the_configured_address(
    project: Any, machine: Make, store: Any, tmp_path: Path
) -> None:
    address = f"file://{project.path}"
    a = machine("a")
    b = Machine(tmp_path, "b", store, repo=tmp_path / "not here", repo_url=address)
    first = a.do("t-1", {"a.txt": "one\n"}, branch="pool/c-1")
    second = b.do("t-2", {"b.txt": "two\n"}, branch="pool/c-1", expects=first.tip)
    assert second.commits == 2
    project.write("later.txt", "x")
    tip = project.commit()
    assert b.do("t-3", {"c.txt": "three\n"}).base == tip, "the mirror is freshened before each task"
    named = Machine(tmp_path, "c", store)
    assert named.do("t-4", {"d.txt": "four\n"}, address=address).base == tip


def test_work_on_a_mirror_survives_its_freshening(project: Any, store: Any, tmp_path: Path) -> None:
    b = Machine(tmp_path, "b", store, repo_url=f"file://{project.path}")
    facts = b.do("t-1", {"a.txt": "one\n"})
    b.do("t-2", {"b.txt": "two\n"})
    assert b.do("t-1", {"c.txt": "three\n"}, continues=True).commits == 2
    mirror = Repository.open(b.config, Path(facts.repo))
    assert mirror.tip("pool/t-2") is not None


@pytest.mark.parametrize("address", ["ext::sh -c evil", "--upload-pack=evil", "/etc/passwd", "http://x/y", "-x@h:y"])
def test_what_is_no_address_is_refused(store: Any, tmp_path: Path, address: str) -> None:
    assert not is_address(address)
    with pytest.raises(WorkspaceError, match="no address"):
        Machine(tmp_path, "b", store, repo_url=address).do("t-1", {"a": "b"})


def test_a_pool_on_one_machine_sends_nothing(project: Any, store: Any, tmp_path: Path) -> None:
    alone = Machine(tmp_path, "a", store, repo=project.path, redis_url=None)
    facts = alone.do("t-1", {"a.txt": "one\n"})
    assert store.parcels.facts(f"branch:{facts.branch}") is None


def test_a_remote_that_is_gone_is_a_warning_and_the_work_is_kept(machine: Make, tmp_path: Path, project: Any) -> None:
    a = machine("a", remote="origin")
    shutil.move(project.path, tmp_path / "away")
    facts = a.do("t-1", {"a.txt": "one\n"})
    assert any("node a only" in warning for warning in facts.warnings)
    assert facts.commits == 1


def test_nothing_is_brought_when_nobody_sent_anything(machine: Make) -> None:
    a = machine("a")
    assert a.config.repo is not None
    ground = locate(a.config.repo, states=a.config.pool_dir / "repos")
    assert not Carrier(a.config).bring(ground, "pool/t-9")
