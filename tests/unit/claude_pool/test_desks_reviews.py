"""The counter's verbs for reviews, over a fake store and a repository that is only told of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from claude_pool.config import PoolConfig
from claude_pool.desks import reviews as desk
from claude_pool.errors import Conflict, InvalidRequest, NotFound, WorkspaceError
from claude_pool.models.task import BranchFacts, TaskResult, TaskState
from claude_pool.models.verdict import Verdict
from claude_pool.models.workspace import FileConflict, Forecast, MergeResult
from claude_pool.pool import Pool
from claude_pool.store import fake_store
from claude_pool.store.base import Claim, Doorbell
from claude_pool.testing.hands import Hand
from claude_pool.workspace import MergeRequest

TIP, BASE, OTHER = "b" * 40, "a" * 40, "c" * 40


class Bells:
    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring(self, bells: list[Doorbell]) -> None:
        self.rung += [bell.task_id for bell in bells]

    def waiting(self, queue: str) -> int:
        return 0

    def close(self) -> None: ...


class Repo:
    """The repository's double."""

    now: ClassVar[str | None] = TIP
    conflicts: ClassVar[tuple[FileConflict, ...]] = ()
    error: ClassVar[Exception | None] = None
    before_merge: ClassVar[Any] = staticmethod(lambda: None)
    merged: ClassVar[list[MergeRequest]] = []

    @classmethod
    def open(cls, *_: object) -> Self:
        if cls.error is not None:
            raise cls.error
        return cls()

    def tip(self, branch: str) -> str | None:
        return self.now

    def forecast(self, branch: str) -> Forecast:
        return Forecast(branch=branch, tip=TIP, into="main", into_tip=BASE, state="clean")

    def rivals(self, branch: str) -> tuple[Forecast, ...]:
        return ()

    def merge(self, request: MergeRequest) -> MergeResult:
        self.before_merge()
        self.merged.append(request)
        told = MergeResult(branch=request.branch, tip=TIP, target="main", merged=True, how=request.how, commit=OTHER)
        if self.conflicts:
            return told.evolve(merged=False, commit=None, conflicts=self.conflicts, message="They conflict.")
        return told


@pytest.fixture
def repo(monkeypatch: pytest.MonkeyPatch) -> type[Repo]:
    class Fresh(Repo):
        merged: ClassVar[list[MergeRequest]] = []

    monkeypatch.setattr(desk, "Repository", Fresh)
    return Fresh


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    config = PoolConfig(home=tmp_path)
    store = fake_store(config)
    store.pool.prepare(epoch=None)
    pool = Pool(config, store, Bells())  # type: ignore[arg-type]
    yield pool
    pool.hub.close()
    store.close()


@pytest.fixture
def hand(pool: Pool) -> Hand:
    return Hand(pool.store)


def answered(pool: Pool, hand: Hand, *, branch: BranchFacts | None = None, task_id: str | None = None) -> Claim:
    claim = hand.run(task_id or pool.submit_with_review("Do it.", max_rejections=2).task_id)
    state = TaskState.PENDING_REVIEW
    result = TaskResult(task_id=claim.task.id, state=state, output="Done.", run_id=claim.run_id, branch=branch)
    pool.store.tasks.finish(claim.task.id, claim.run_id, Verdict(to=state, result=result, session_id="s"))
    return claim


@pytest.fixture
def branch(tmp_path: Path) -> BranchFacts:
    return BranchFacts(branch="pool/t-x", base=BASE, tip=TIP, repo=str(tmp_path), commits=1, files=1)


def test_work_with_review_asks_for_one_and_says_how_often_it_may_be_rejected(pool: Pool) -> None:
    options = pool.get(pool.submit_with_review("Do it.", max_rejections=5, tags=("x",)).task_id).options
    assert (options.review, options.max_rejections, options.tags) == (True, 5, ("x",))


@pytest.mark.parametrize("wrong", [0, -1, 101])
def test_a_limit_of_rejections_that_makes_no_sense_is_refused(pool: Pool, wrong: int) -> None:
    with pytest.raises(InvalidRequest, match="max_rejections"):
        pool.submit_with_review("Do it.", max_rejections=wrong)


def test_a_review_shows_answer_branch_and_forecast(
    pool: Pool, hand: Hand, repo: type[Repo], branch: BranchFacts
) -> None:
    claim = answered(pool, hand, branch=branch)
    shown = pool.review(claim.task.id)
    assert (shown.prompt, shown.result.output, shown.run_id, shown.tip) == ("Do it.", "Done.", claim.run_id, TIP)
    assert shown.forecast is not None
    assert (shown.forecast.state, shown.moved, shown.note) == ("clean", False, "")
    assert [task.id for task in pool.reviews()] == [claim.task.id]


def test_a_review_without_its_repository_at_hand_says_so(
    pool: Pool, hand: Hand, repo: type[Repo], branch: BranchFacts
) -> None:
    claim = answered(pool, hand, branch=branch.evolve(repo="/nowhere/at/all"))
    shown = pool.review(claim.task.id)
    assert shown.forecast is None
    assert "is not on this machine" in shown.note
    assert pool.approve(claim.task.id, tip=TIP).task.state is TaskState.COMPLETED


def test_what_waits_for_no_review_has_none(pool: Pool) -> None:
    with pytest.raises(Conflict, match="is pending; it waits for no review"):
        pool.review(pool.submit("Do it.").task_id)
    with pytest.raises(NotFound):
        pool.review("t-0000000000")


def test_an_approval_names_who_approved(pool: Pool, hand: Hand) -> None:
    claim = answered(pool, hand)
    assert pool.approve(claim.task.id).task.state is TaskState.COMPLETED
    assert pool.submitter.name in pool.detail(claim.task.id).runs[0].then


def test_an_approval_of_another_run_or_another_tip_is_refused(
    pool: Pool, hand: Hand, repo: type[Repo], branch: BranchFacts
) -> None:
    claim = answered(pool, hand, branch=branch)
    with pytest.raises(Conflict, match="ran again"):
        pool.approve(claim.task.id, run_id="an older one")
    with pytest.raises(Conflict, match="was left at"):
        pool.approve(claim.task.id, tip=OTHER)
    assert hand.state(claim.task.id) is TaskState.PENDING_REVIEW
    assert pool.approve(claim.task.id, run_id=claim.run_id, tip=TIP).task.state is TaskState.COMPLETED


@pytest.mark.parametrize("now", [OTHER, None])
def test_a_branch_that_changed_or_went_since_the_run_is_not_approved(
    pool: Pool, hand: Hand, repo: type[Repo], branch: BranchFacts, monkeypatch: pytest.MonkeyPatch, now: str | None
) -> None:
    claim = answered(pool, hand, branch=branch)
    monkeypatch.setattr(repo, "now", now)
    assert pool.review(claim.task.id).moved
    with pytest.raises(Conflict, match="changed since the run left it"):
        pool.approve(claim.task.id)
    assert hand.state(claim.task.id) is TaskState.PENDING_REVIEW


def test_an_approval_with_a_merge_merges_what_was_shown_first(
    pool: Pool, hand: Hand, repo: type[Repo], branch: BranchFacts
) -> None:
    claim = answered(pool, hand, branch=branch)
    approved = pool.approve(claim.task.id, merge="squash")
    assert approved.merge is not None
    assert (approved.task.state, approved.merge.commit) == (TaskState.COMPLETED, OTHER)
    assert [(one.how, one.reviewed_tip) for one in repo.merged] == [("squash", TIP)]


def test_what_can_not_be_merged_is_not_approved_and_may_be_rejected(
    pool: Pool, hand: Hand, repo: type[Repo], branch: BranchFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = answered(pool, hand, branch=branch)
    monkeypatch.setattr(repo, "conflicts", (FileConflict(path="a.txt", kind="contents"),))
    with pytest.raises(Conflict, match="They conflict"):
        pool.approve(claim.task.id, merge="merge")
    assert hand.state(claim.task.id) is TaskState.PENDING_REVIEW
    assert pool.reject(claim.task.id, "Bring it up to date.").again


def test_nobody_rejects_what_is_being_merged(
    pool: Pool, hand: Hand, repo: type[Repo], branch: BranchFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = answered(pool, hand, branch=branch)

    def reject() -> None:
        with pytest.raises(Conflict, match="at this moment"):
            pool.reject(claim.task.id, "Stop!")

    monkeypatch.setattr(repo, "before_merge", staticmethod(reject))
    assert pool.approve(claim.task.id, merge="merge").task.state is TaskState.COMPLETED
    assert repo.merged


def test_a_merge_of_a_task_that_was_cancelled_meanwhile_is_told(
    pool: Pool, hand: Hand, repo: type[Repo], branch: BranchFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = answered(pool, hand, branch=branch)
    monkeypatch.setattr(repo, "before_merge", staticmethod(lambda: pool.cancel(claim.task.id)))
    with pytest.raises(Conflict, match=f"is cancelled.*The merge into main was made: {OTHER}"):
        pool.approve(claim.task.id, merge="merge")


def test_without_a_branch_or_a_repository_nothing_is_merged_or_approved(
    pool: Pool, hand: Hand, repo: type[Repo], branch: BranchFacts
) -> None:
    plain = answered(pool, hand)
    with pytest.raises(InvalidRequest, match="no branch to merge"):
        pool.approve(plain.task.id, merge="merge")
    elsewhere = answered(pool, hand, branch=branch.evolve(repo="/nowhere/at/all"))
    with pytest.raises(WorkspaceError, match="not on this machine"):
        pool.approve(elsewhere.task.id, merge="merge")
    for claim in (plain, elsewhere):
        assert pool.approve(claim.task.id).task.state is TaskState.COMPLETED


def test_a_rejection_is_rung_and_counted_until_the_limit(pool: Pool, hand: Hand) -> None:
    claim = answered(pool, hand)
    first = pool.reject(claim.task.id, "  No.  ")
    assert (first.again, first.rejections, first.max_rejections) == (True, 1, 2)
    assert pool._broker.rung == [claim.task.id, claim.task.id]  # type: ignore[attr-defined]
    assert pool.detail(claim.task.id).feedback == ("No.",)
    answered(pool, hand, task_id=claim.task.id)
    last = pool.reject(claim.task.id, "Never.")
    assert (last.again, last.rejections, last.task.state) == (False, 2, TaskState.FAILED)
    assert pool.result(claim.task.id).output == "Done."


@pytest.mark.parametrize("feedback", ["", " \n", "x" * 32_769, "a\x00b", "\ud800"])
def test_feedback_that_nobody_could_work_with_is_refused(pool: Pool, hand: Hand, feedback: str) -> None:
    claim = answered(pool, hand)
    with pytest.raises(InvalidRequest, match="feedback"):
        pool.reject(claim.task.id, feedback)
    assert hand.state(claim.task.id) is TaskState.PENDING_REVIEW


def test_nothing_is_decided_twice(pool: Pool, hand: Hand) -> None:
    claim = answered(pool, hand)
    pool.approve(claim.task.id)
    with pytest.raises(Conflict, match="is completed"):
        pool.approve(claim.task.id)
    with pytest.raises(Conflict, match="is completed"):
        pool.reject(claim.task.id, "No.")
