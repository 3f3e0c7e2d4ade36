"""A node clears away what is over in all repositories that it worked in, and says so in the records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.models.task import TaskResult, TaskState
from claude_pool.models.verdict import Verdict
from claude_pool.models.workspace import WorkspaceJob
from claude_pool.pool import Pool
from claude_pool.store import fake_store
from claude_pool.testing.hands import Hand
from claude_pool.workspace import Repository
from workers.tidy import Tidy

DAY_S = 86_400


class Bells:
    def ring(self, bells: list[Any]) -> None: ...

    def waiting(self, queue: str) -> int:
        return 0

    def close(self) -> None: ...


@pytest.fixture
def pool(home: Path, project: Any) -> Iterator[Pool]:
    config = PoolConfig(name="alpha", home=home, node="n1")
    store = fake_store(config)
    store.pool.prepare(epoch=None)
    pool = Pool(config, store, Bells())  # type: ignore[arg-type]
    yield pool
    pool.hub.close()
    store.close()


Do = Callable[..., str]


@pytest.fixture
def do(pool: Pool, work: Any, project: Any) -> Do:
    hand = Hand(pool.store)

    def carry_out(to: TaskState = TaskState.COMPLETED) -> str:
        task_id = pool.submit("Do it.", repo=str(project.path), review=to is TaskState.PENDING_REVIEW).task_id
        claim = hand.run(task_id)
        facts = work(0, task_id, {f"{task_id}.txt": "x"})
        result = TaskResult(task_id=task_id, state=to, branch=facts)
        pool.store.tasks.finish(task_id, claim.run_id, Verdict(to=to, result=result, session_id="s"))
        return task_id

    return carry_out


def grow_old(home: Path, days: int) -> None:
    """As if all branches had been seen first so long ago."""
    for path in (home / "alpha" / "repos").glob("*/branches.json"):
        seen = {name: [tip, since - days * DAY_S] for name, (tip, since) in json.loads(path.read_text()).items()}
        path.write_text(json.dumps(seen))


def names(repository: Repository) -> set[str]:
    return {branch.name for branch in repository.branches()}


def test_expired_branches_go_with_a_note_and_unfinished_work_stays(
    pool: Pool, do: Do, home: Path, repository: Repository
) -> None:
    old, waiting = do(), do(TaskState.PENDING_REVIEW)
    tip = repository.tip(f"pool/{old}")
    tidy = Tidy(pool.config, pool.store, Bells(), first_s=0)  # type: ignore[arg-type]
    assert names(repository) == {f"pool/{old}", f"pool/{waiting}"}
    grow_old(home, 15)
    tidy()
    assert names(repository) == {f"pool/{waiting}"}
    assert pool.get(old).branch_note == f"deleted because it is expired; it was at {tip}"
    assert pool.result(old).branch_note == pool.get(old).branch_note
    assert pool.get(waiting).branch_note == ""


def test_branches_are_kept_for_fourteen_days(pool: Pool, do: Do, home: Path, repository: Repository) -> None:
    task_id = do()
    names(repository)
    grow_old(home, 13)
    Tidy(pool.config, pool.store, Bells(), first_s=0)()  # type: ignore[arg-type]
    assert names(repository) == {f"pool/{task_id}"}


def test_branches_of_another_pool_on_the_repository_are_left_alone(
    pool: Pool, do: Do, home: Path, slots: Any, repository: Repository
) -> None:
    do()
    theirs = "t-000000000z"
    with slots(0, pool="beta").open(WorkspaceJob(task_id=theirs)) as workspace:
        (workspace.path / "x").write_text("x")
        workspace.save("theirs")
    names(repository)
    grow_old(home, 100)
    Tidy(pool.config, pool.store, Bells(), first_s=0)()  # type: ignore[arg-type]
    assert names(repository) == {f"pool/{theirs}"}


def test_a_merge_and_a_discard_are_noted_too(pool: Pool, do: Do, project: Any) -> None:
    merged, discarded = do(), do()
    commit = pool.merge(merged).commit
    assert pool.get(merged).branch_note == f"merged into main as {commit}"
    pool.discard(discarded)
    assert pool.get(discarded).branch_note.startswith("discarded; it was at ")


def test_it_waits_for_its_time_and_a_repository_that_is_broken_stops_nothing(
    pool: Pool, do: Do, home: Path, project: Any
) -> None:
    do()
    early = Tidy(pool.config, pool.store, Bells(), first_s=1000)  # type: ignore[arg-type]
    early()
    (home / "alpha" / "repos" / "0000").mkdir()
    (home / "alpha" / "repos" / "0000" / "where").write_text(str(home))
    late = Tidy(pool.config, pool.store, Bells(), first_s=0)  # type: ignore[arg-type]
    late()
    late()
