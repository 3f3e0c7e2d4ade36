"""review, approve, reject at the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from claude_pool.models.task import BranchFacts, MergeOutlook, TaskState
from claude_pool.pool import Pool

Cli = Callable[..., Any]


@pytest.fixture
def waiting(pool: Pool, slot: Any, branch: BranchFacts) -> str:
    task_id = pool.submit_with_review("Write a parser.").task_id
    outlook = MergeOutlook(into="main", into_tip="c" * 40, state="conflicts", conflicts=("README.md",))
    facts = branch.evolve(repo="/not/on/this/machine")
    slot.do(task_id, TaskState.PENDING_REVIEW, output="A parser.", branch=facts, outlook=outlook)
    return task_id


def test_the_queue_is_listed_with_how_to_look_at_one(cli: Cli, waiting: str) -> None:
    answer = cli("review")
    assert answer.code == 0
    assert waiting in answer.out
    assert "0 of 3" in answer.out
    assert f"claude-pool review {waiting}" in answer.out
    assert [one["task_id"] for one in cli("review", "--json").document["reviews"]] == [waiting]


def test_an_empty_queue_says_so(cli: Cli, pool: Pool) -> None:
    assert "Nothing waits" in cli("review").out
    assert cli("review", "--json").document == {"reviews": []}
    assert cli("review", "--next", "--json").document == {"task_id": None}


@pytest.mark.parametrize("named", [True, False])
def test_one_review_shows_all_that_a_reviewer_needs(cli: Cli, waiting: str, named: bool) -> None:
    answer = cli("review", waiting if named else "--next")
    for part in ("Write a parser.", "A parser.", "changed: README.md", "conflict: README.md", "1 commit", "--tip bbbb"):
        assert part in answer.out
    document = cli("review", waiting, "--json").document
    assert document["state"] == "pending_review"
    assert document["outlook"]["conflicts"] == ["README.md"]
    assert (document["forecast"], document["rejections"], document["max_rejections"]) == (None, 0, 3)
    assert document["tip"] == "b" * 40
    assert "not on this machine" in document["note"]


def test_what_is_shown_can_be_approved_by_its_run_and_tip(cli: Cli, pool: Pool, waiting: str) -> None:
    shown = cli("review", waiting, "--json").document
    answer = cli("approve", waiting, "--run", shown["run_id"], "--tip", shown["tip"], "--json")
    assert (answer.code, answer.document) == (0, {"task_id": waiting, "state": "completed"})


def test_a_decision_that_comes_second_is_refused_with_exit_4(cli: Cli, waiting: str) -> None:
    assert cli("approve", waiting).code == 0
    again = cli("approve", waiting, "--json")
    assert (again.code, again.document["error"]["code"]) == (4, "conflict")
    assert cli("reject", waiting, "No.").code == 4
    assert cli("review", waiting).code == 4


def test_a_rejection_says_what_becomes_of_the_task(cli: Cli, pool: Pool, waiting: str) -> None:
    answer = cli("reject", waiting, "Keep comments.")
    assert (answer.code, answer.out.strip()) == (0, f"{waiting}  pending; rejection 1 of 3")
    assert pool.detail(waiting).feedback == ("Keep comments.",)


def test_the_last_rejection_says_that_it_was_the_last(cli: Cli, pool: Pool, slot: Any) -> None:
    task_id = pool.submit_with_review("x", max_rejections=1).task_id
    slot.do(task_id, TaskState.PENDING_REVIEW, output="y")
    answer = cli("reject", task_id, "-", stdin=b"From a pipe.")
    assert "failed; rejection 1 of 1: the limit is reached" in answer.out
    assert pool.get(task_id).state is TaskState.FAILED


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("reject", "{id}"), "feedback"),
        (("reject", "{id}", ""), "feedback"),
        (("approve", "{id}", "--target", "main"), "--merge"),
        (("approve", "{id}", "--merge", "octopus"), "--merge"),
        (("review", "{id}", "--next"), "--next"),
        (("approve", "t-0000000000"), "no task"),
    ],
)
def test_wrong_usage_is_named(cli: Cli, waiting: str, arguments: tuple[str, ...], named: str) -> None:
    answer = cli(*(word.replace("{id}", waiting) for word in arguments))
    assert answer.code == 2, answer.err
    assert named in answer.err


def test_the_flag_makes_any_task_wait_for_its_review(cli: Cli, pool: Pool) -> None:
    task_id = cli("submit", "x", "--review", "--max-rejections", "2").out.strip()
    assert pool.get(task_id).options.review
