"""Chains and fan-outs moved by hand over any store, for tests: no slot, no process.

chain = Chained(store, named("a", "b"))
chain.finish(chain.ids[0])
assert chain.states() == ["completed", "pending"]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from claude_pool.chain import plan_chain
from claude_pool.fanout import Site, plan_fan_out
from claude_pool.ids import new_id
from claude_pool.models.chain import ChainOptions, ChainStep
from claude_pool.models.fanout import FanOut
from claude_pool.models.graph import Graph, Whole
from claude_pool.models.task import ErrorCode, TaskError, TaskResult, TaskState
from claude_pool.models.verdict import Verdict
from claude_pool.store.base import Doorbell, Store
from claude_pool.testing.hands import Hand


def site() -> Site:
    """Where nodes are planned when nothing is settled by a pool."""
    return Site(new_id=new_id, settle=lambda options: options)


class Chained:
    """One chain in a store, moved by hand."""

    def __init__(self, store: Store, steps: Sequence[dict[str, Any]], **options: Any) -> None:
        self.store = store
        self.hand = Hand(store, len(store.slots.slots()))
        self.id = new_id("c")
        self.steps = [ChainStep.model_validate(step) for step in steps]
        self.options = ChainOptions(**options)
        self.graph = Graph(nodes=tuple(plan_chain(self.id, self.steps, self.options, site=site())))
        self.ids = self.graph.children(self.id)
        self.state, self.bells = store.graph.submit(self.graph)

    @property
    def whole(self) -> Whole:
        """The chain as it is now."""
        return self.store.graph.get(self.id)

    def states(self) -> list[str]:
        """Its steps' states, `skipped` among them."""
        found = self.store.graph.outcomes(self.whole.children)
        return [found[id_].word if id_ in found else self.store.graph.get(id_).state for id_ in self.whole.children]

    def finish(self, task_id: str, to: str = "completed", **verdict: Any) -> tuple[Doorbell, ...]:
        """Run a step to this end; what became ready by it."""
        if to == "failed":
            verdict.setdefault("error", TaskError(code=ErrorCode.EXECUTION, message="went wrong"))
        return done(self.hand, task_id, to, **verdict)


def done(hand: Hand, task_id: str, to: str = "completed", **verdict: Any) -> tuple[Doorbell, ...]:
    """Run a task to this end; what became ready by it."""
    claim = hand.run(task_id)
    output = verdict.pop("output", f"output of {task_id}")
    result = TaskResult(task_id=task_id, state=TaskState(to), output=output)
    ended = hand.store.tasks.end(task_id, claim.run_id, Verdict(to=TaskState(to), result=result, **verdict))
    assert ended is not None
    return ended.bells


def named(*names: str, **more: Any) -> list[dict[str, Any]]:
    """Plain steps of these names."""
    return [{"name": name, "prompt": f"do {name}", **more} for name in names]


def fan(store: Store, branches: int | list[Any], **fields: Any) -> tuple[str, tuple[str, ...], list[Doorbell]]:
    """Submit a fan-out: its id, its branches' ids, its bells."""
    fan_id = new_id("f")
    listed = [f"branch {n}" for n in range(branches)] if isinstance(branches, int) else branches
    asked = FanOut.model_validate({"branches": listed, **fields})
    graph = Graph(nodes=tuple(plan_fan_out(fan_id, asked, site())))
    return fan_id, graph.children(fan_id), store.graph.submit(graph)[1]
