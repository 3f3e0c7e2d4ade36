"""The counter's verbs for branches, over a fake store and a real repository."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.desks.branches import Placed
from claude_pool.errors import Conflict, InvalidRequest, NotFound, WorkspaceError
from claude_pool.models.task import ErrorCode, TaskError, TaskResult, TaskState
from claude_pool.models.verdict import Verdict
from claude_pool.pool import Pool
from claude_pool.store import fake_store
from claude_pool.testing.hands import Hand

Work = Callable[..., Any]
Do = Callable[..., str]


class Bells:
    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring(self, bells: list[Any]) -> None:
        self.rung += [bell.task_id for bell in bells]

    def waiting(self, queue: str) -> int:
        return 0

    def close(self) -> None: ...


@pytest.fixture
def pool(home: Path, project: Any) -> Iterator[Pool]:
    config = PoolConfig(name="alpha", home=home, node="n1", repo=project.path)
    store = fake_store(config)
    store.pool.prepare(epoch=None)
    pool = Pool(config, store, Bells())  # type: ignore[arg-type]
    yield pool
    pool.hub.close()
    store.close()


@pytest.fixture
def do(pool: Pool, work: Work) -> Do:
    """Hand in a task, have it change files, end it; its id."""
    hand = Hand(pool.store)

    def carry_out(files: dict[str, str], to: TaskState = TaskState.COMPLETED, *, task: str = "", **options: Any) -> str:
        task_id = task or pool.submit("Do it.", **options).task_id
        claim = hand.run(task_id)
        base = pool.get(task_id).options.base_ref
        facts = work(0, task_id, files, base_ref=base)
        error = TaskError(code=ErrorCode.EXECUTION, message="broke") if to is TaskState.FAILED else None
        result = TaskResult(task_id=task_id, state=to, branch=facts, error=error, run_id=claim.run_id)
        pool.store.tasks.finish(task_id, claim.run_id, Verdict(to=to, result=result, session_id="s", error=error))
        return task_id

    return carry_out


def test_the_diff_of_a_task_is_the_diff_of_its_branch(pool: Pool, do: Do) -> None:
    task_id = do({"a.txt": "one\n", "b.txt": "two\n"})
    found = pool.diff(task_id)
    assert [(file.path, file.insertions) for file in found.files] == [("a.txt", 1), ("b.txt", 1)]
    assert "+one" in found.patch
    assert pool.diff(task_id, path="b.txt").files_total == 1
    assert pool.diff(f"pool/{task_id}").tip == found.tip


def test_a_task_that_changed_nothing_says_so(pool: Pool, do: Do) -> None:
    with pytest.raises(NotFound, match="changed nothing"):
        pool.diff(do({}))


def test_finished_work_is_merged_and_other_work_is_not(project: Any, pool: Pool, do: Do) -> None:
    running = pool.submit("Do it.").task_id
    waiting = do({"w.txt": "w"}, TaskState.PENDING_REVIEW, review=True)
    failed = do({"f.txt": "f"}, TaskState.FAILED)
    for task_id, why in ((running, "can't be merged yet"), (waiting, "review"), (failed, "half done")):
        with pytest.raises(Conflict, match=why):
            pool.merge(task_id)
    assert pool.merge(failed, anyway=True).merged
    assert pool.merge(do({"a.txt": "a"}), how="squash", message="Words").merged
    assert project.git("log", "-1", "--format=%s", "main") == "Words"
    with pytest.raises(InvalidRequest):
        pool.merge(failed, anyway=True, how="octopus")


def test_rejected_work_is_never_merged(pool: Pool, do: Do) -> None:
    task_id = do({"a.txt": "a"}, TaskState.PENDING_REVIEW, review=True, max_rejections=1)
    pool.reject(task_id, "No.")
    with pytest.raises(Conflict, match="rejected"):
        pool.merge(task_id, anyway=True)


def test_a_branch_that_changed_since_its_review_is_not_merged(project: Any, pool: Pool, do: Do, work: Work) -> None:
    task_id = do({"a.txt": "a"}, TaskState.PENDING_REVIEW, review=True)
    seen = pool.review(task_id).tip
    pool.approve(task_id)
    work(0, task_id, {"a.txt": "something else"}, continues=True)
    with pytest.raises(Conflict, match="changed since it was reviewed"):
        pool.merge(task_id)
    project.git("update-ref", f"refs/heads/pool/{task_id}", str(seen))
    assert pool.merge(task_id).merged


def test_a_tip_that_was_looked_at_binds_a_merge(pool: Pool, do: Do, work: Work) -> None:
    task_id = do({"a.txt": "a"})
    seen = pool.diff(task_id).tip
    work(0, task_id, {"b.txt": "b"}, continues=True)
    with pytest.raises(Conflict):
        pool.merge(task_id, tip=seen)
    assert pool.merge(task_id, tip=pool.diff(task_id).tip).merged


def test_the_owners_check_has_to_pass(project: Any, pool: Pool, do: Do) -> None:
    pool.config = pool.config.model_copy(update={"merge_check": "test ! -e bad.txt"})
    bad, good = do({"bad.txt": "x"}), do({"good.txt": "x"})
    refused = pool.merge(bad)
    assert (refused.merged, refused.check and refused.check.passed) == (False, False)
    assert pool.merge(good).merged
    assert "bad.txt" not in project.files("main")


def test_three_branches_two_merge_and_the_third_is_forecast_reported_and_resolved(
    project: Any, pool: Pool, do: Do
) -> None:
    project.write("a.txt", "one\n")
    project.commit()
    one, two, three = do({"a.txt": "uno\n"}), do({"b.txt": "b\n"}), do({"a.txt": "eins\n"})
    pairs = {frozenset((found.branch, found.into)) for found in pool.outlook().collisions}
    assert pairs == {frozenset((f"pool/{one}", f"pool/{three}"))}
    assert pool.merge(one).merged
    assert pool.merge(two).merged
    assert [found.branch for found in pool.outlook().conflicts] == [f"pool/{three}"]
    assert pool.forecast(three).conflicts[0].hunks[0].theirs == "eins"
    result = pool.merge(three, resolve=True)
    assert not result.merged
    assert [found.path for found in result.conflicts] == ["a.txt"]
    assert result.resolving is not None
    task = pool.get(result.resolving)
    assert "a.txt" in pool.detail(task.id).prompt
    do({"a.txt": "uno, eins\n"}, task=task.id)
    assert pool.merge(task.id).merged
    assert (project.path / "a.txt").read_text() == "uno, eins\n"
    assert pool.outlook().open == 0
    pool.gc()
    assert pool.branches() == []


def test_the_task_that_resolves_is_reviewed_when_the_first_one_was(project: Any, pool: Pool, do: Do) -> None:
    project.write("a.txt", "one\n")
    project.commit()
    task_id = do({"a.txt": "uno\n"}, TaskState.PENDING_REVIEW, review=True, max_rejections=7, model="haiku")
    pool.approve(task_id)
    project.write("a.txt", "ein\n")
    project.commit()
    resolving = pool.merge(task_id, resolve=True).resolving
    options = pool.get(str(resolving)).options
    assert (options.review, options.max_rejections, options.model) == (True, 7, "haiku")


def test_a_review_shows_which_other_branches_it_gets_in_the_way_of(project: Any, pool: Pool, do: Do) -> None:
    project.write("a.txt", "one\n")
    project.commit()
    other = do({"a.txt": "uno\n"})
    task_id = do({"a.txt": "eins\n"}, TaskState.PENDING_REVIEW, review=True)
    assert [found.into for found in pool.review(task_id).collisions] == [f"pool/{other}"]


def test_a_discarded_branch_is_gone_and_its_commit_is_told(project: Any, pool: Pool, do: Do) -> None:
    task_id = do({"a.txt": "a"})
    tip = pool.discard(task_id)
    assert project.show(tip, "a.txt") == "a"
    assert pool.branches() == []
    with pytest.raises(Conflict):
        pool.discard(pool.submit("Do it.").task_id)


def test_clearing_up_spares_unfinished_work_and_takes_what_was_rejected(pool: Pool, do: Do) -> None:
    rejected = do({"r.txt": "r"}, TaskState.PENDING_REVIEW, review=True, max_rejections=1)
    pool.reject(rejected, "No.")
    waiting = do({"w.txt": "w"}, TaskState.PENDING_REVIEW, review=True)
    merged, kept = do({"m.txt": "m"}), do({"k.txt": "k"})
    pool.merge(merged)
    based = pool.submit("Go on from there.", base_ref=f"pool/{merged}").task_id
    pool.gc()
    assert {branch.name for branch in pool.branches()} == {f"pool/{name}" for name in (waiting, merged, kept)}
    pool.cancel(based)
    pool.gc()
    assert {branch.name for branch in pool.branches()} == {f"pool/{name}" for name in (waiting, kept)}


def test_a_chain_is_looked_at_and_merged_as_a_whole(project: Any, pool: Pool, work: Work) -> None:
    chain = pool.submit_chain([{"name": "a", "prompt": "A"}, {"name": "b", "prompt": "B"}])
    hand = Hand(pool.store)
    for number, step in enumerate(chain.step_ids):
        claim = hand.run(step)
        facts = work(0, step, {f"{number}.txt": "x"}, branch=f"pool/{chain.chain_id}")
        result = TaskResult(task_id=step, state=TaskState.COMPLETED, branch=facts)
        if number == 0:
            with pytest.raises(Conflict):
                pool.merge(chain.chain_id)
        pool.store.tasks.end(step, claim.run_id, Verdict(to=TaskState.COMPLETED, result=result, session_id="s"))
    assert pool.diff(chain.chain_id).files_total == 2
    assert pool.merge(chain.chain_id).merged
    assert {"0.txt", "1.txt"} <= set(project.files("main"))


def test_what_names_no_branch_is_refused(pool: Pool) -> None:
    fan = pool.fan_out(["a", "b"])
    with pytest.raises(InvalidRequest, match=fan.task_ids[0]):
        pool.diff(fan.fan_out_id)
    for what in ("main", "--upload-pack=x", "refs/heads/main"):
        with pytest.raises(InvalidRequest, match="neither"):
            pool.merge(what)
    with pytest.raises(NotFound):
        pool.diff("t-0000000000")
    with pytest.raises(NotFound):
        pool.diff("pool/t-0000000000")


def test_a_repository_that_is_not_here_is_said(pool: Pool, do: Do) -> None:
    placed = Placed(branch="pool/t-x", repo="/not/on/this/machine")
    pool.config = pool.config.model_copy(update={"repo": None})
    with pytest.raises(WorkspaceError, match="not on this machine"):
        pool._repository_of(placed)
    assert pool.glance().open == 0


def test_what_was_squashed_is_merged_whatever_became_of_those_lines_since(project: Any, pool: Pool, do: Do) -> None:
    project.write("a.txt", "one\n")
    project.commit()
    task_id = do({"a.txt": "uno\n"})
    assert pool.merge(task_id, how="squash").merged
    project.write("a.txt", "something else\n")
    project.commit()
    assert pool.outlook().open == 0
    assert pool.branches()[0].merged
    assert pool.gc().branches[0].endswith("merged")
    assert "refs/claude-pool/merged" not in project.git("for-each-ref")
