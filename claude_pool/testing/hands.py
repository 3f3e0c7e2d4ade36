"""Hands: a slot without a process, that does to a store what a slot does, step by step, for tests.

hand = Hand(store)
task_id = hand.submit("Say hello.")
run = hand.run(task_id)
hand.finish(run, "completed", cost_usd=0.1)
"""

from __future__ import annotations

import time
from typing import Any, Final

from claude_pool.ids import new_run_id
from claude_pool.keys import QUEUE
from claude_pool.models.options import TaskOptions
from claude_pool.models.pool import SlotIdentity, slot_id
from claude_pool.models.task import Task, TaskRequest, TaskResult, TaskState
from claude_pool.models.verdict import Verdict
from claude_pool.store.base import Beat, Claim, Lost, RefusedClaim, Store

LEASE_MS: Final = 60_000
PATIENCE_S: Final = 10.0


def slot_identity(number: int = 0, node: str = "n1") -> SlotIdentity:
    """A new incarnation of that slot."""
    name = slot_id(number, node)
    return SlotIdentity(slot_id=name, node=node, number=number, incarnation=new_run_id(), pid=1)


class Hand:
    """One registered slot, moved by hand."""

    def __init__(self, store: Store, number: int = 0, *, node: str = "n1") -> None:
        self.store = store
        self.identity = slot_identity(number, node)
        store.slots.register_slot(self.identity, lease_ms=LEASE_MS)

    def submit(self, prompt: str = "Say hello.", *, key: str | None = None, **options: Any) -> str:
        """Submit one task; the keywords are `TaskOptions`. Its id."""
        request = TaskRequest(prompt=prompt, options=TaskOptions(**options), idempotency_key=key)
        return self.store.tasks.submit([request], queue=QUEUE)[0].task_id

    def try_claim(self, task_id: str, *, lease_ms: int = LEASE_MS) -> Claim | RefusedClaim:
        """Claim with a new run id, whatever comes of it."""
        return self.store.tasks.claim(task_id, self.identity, new_run_id(), lease_ms=lease_ms)

    def claim(self, task_id: str, *, lease_ms: int = LEASE_MS) -> Claim:
        """Claim what has to be claimable."""
        claim = self.try_claim(task_id, lease_ms=lease_ms)
        assert isinstance(claim, Claim), f"{task_id} was refused: {claim}"
        return claim

    def start(self, claim: Claim) -> bool:
        """Start it in the session that it resumes, else in a new one."""
        session_id = claim.resume_session_id or new_run_id()
        return self.store.tasks.start(claim.task.id, claim.run_id, session_id=session_id)

    def run(self, task_id: str, *, lease_ms: int = LEASE_MS) -> Claim:
        """Claim and start."""
        claim = self.claim(task_id, lease_ms=lease_ms)
        assert self.start(claim), f"{task_id} could not be started"
        return claim

    def finish(self, claim: Claim, to: str, *, output: str | None = None, **verdict: Any) -> Task | None:
        """Finish with this verdict; the keywords are those of `Verdict`."""
        state = TaskState(to)
        result = None if output is None else TaskResult(task_id=claim.task.id, state=state, output=output)
        return self.store.tasks.finish(claim.task.id, claim.run_id, Verdict(to=state, result=result, **verdict))

    def beat(self, claim: Claim | None = None, *, lease_ms: int = LEASE_MS, progress: str = "") -> Beat:
        """Beat, with this run or without."""
        return self.store.slots.beat(
            self.identity,
            task_id=claim.task.id if claim else None,
            run_id=claim.run_id if claim else None,
            lease_ms=lease_ms,
            progress=progress,
        )

    def lose(self, task_id: str, *, claimed: bool = False) -> tuple[Claim, Lost]:
        """Run it (or only claim it) with a lease that is over at once, and have it reaped."""
        claim = self.claim(task_id, lease_ms=1) if claimed else self.run(task_id, lease_ms=1)
        return claim, self.reaped(task_id)

    def reaped(self, task_id: str) -> Lost:
        """Wait until the task's lease has run out and it is reaped."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for lost in self.store.house.reap(slack_ms=0):
                if lost.task_id == task_id:
                    return lost
        raise AssertionError(f"{task_id} was not reaped")

    def state(self, task_id: str) -> TaskState:
        """The task's state now."""
        return self.store.tasks.get(task_id).state
