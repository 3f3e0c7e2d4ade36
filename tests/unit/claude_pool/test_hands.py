from __future__ import annotations

import pytest

from claude_pool.config import PoolConfig
from claude_pool.models.task import TaskState
from claude_pool.store import Store, fake_store
from claude_pool.testing.hands import Hand


@pytest.fixture
def store() -> Store:
    return fake_store(PoolConfig(name="p"))


def test_a_hand_takes_a_task_from_submit_to_its_end(store: Store) -> None:
    hand = Hand(store)
    claim = hand.run(hand.submit("Say hello.", model="haiku"))
    assert (claim.prompt, claim.task.options.model) == ("Say hello.", "haiku")
    task = hand.finish(claim, "completed", output="hello", cost_usd=0.1)
    assert task is not None
    assert hand.state(task.id) is TaskState.COMPLETED


def test_a_hand_can_lose_what_it_holds(store: Store) -> None:
    hand = Hand(store)
    claim, lost = hand.lose(hand.submit())
    assert lost.run_id == claim.run_id


def test_a_claim_that_had_to_succeed_says_why_it_did_not(store: Store) -> None:
    hand = Hand(store)
    with pytest.raises(AssertionError, match="unknown"):
        hand.claim("t-0000000000")
