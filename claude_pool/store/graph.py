"""Chains and fan-outs over Redis: handed in whole, launched once, followed by the scripts that end their tasks."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterable, Sequence
from typing import Final

from claude_pool.errors import Conflict, NotFound, PoolDrained, PoolError
from claude_pool.models.graph import Graph, Inputs, Outcome, StepPlan, Whole
from claude_pool.models.task import TaskState
from claude_pool.store import codec, graph_codec
from claude_pool.store.base import Doorbell, Tended
from claude_pool.store.client import Client
from claude_pool.store.tasks import BATCH_CHARS, CHUNK

BATCH: Final = 150
"""Nodes stored in one step; some milliseconds of the server's time."""
LAUNCH_MS: Final = 600_000
"""A graph whose submitter died before it was launched is dropped after this."""
OUTCOMES: Final = 100
"""Outcomes read in one call: each may be as large as an answer."""


class RedisGraphs:
    """`GraphStore` over Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def submit(self, graph: Graph) -> tuple[TaskState, builtins.list[Doorbell]]:
        root = graph.root.id
        answers = self._client.call_many(
            "graph_add", [[root, LAUNCH_MS, *batch] for batch in _batches(graph_codec.graph_args(graph))]
        )
        if refused := next((answer for answer in answers if answer != "done"), None):
            if refused != "drained":
                self._client.call("graph_cancel", root, "could not be stored", 0)
            raise refused if isinstance(refused, PoolError) else PoolDrained
        return self._launch(root)

    def _launch(self, root: str) -> tuple[TaskState, builtins.list[Doorbell]]:
        bells: list[Doorbell] = []
        while True:
            answer = self._client.call("graph_launch", root)
            if not answer:
                raise _none(root)
            bells += map(codec.bell_of, answer[1])
            if not answer[2]:
                return TaskState(answer[0]), bells

    def get(self, whole_id: str) -> Whole:
        (answer,) = self._client.call("graph_get", 1, whole_id)
        if not answer:
            raise _none(whole_id)
        return graph_codec.whole_of(whole_id, answer)

    def get_many(self, whole_ids: Sequence[str], *, children: bool = False) -> dict[str, Whole]:
        if not whole_ids:
            return {}
        answers = self._client.call("graph_get", int(children), *whole_ids)
        return {
            id_: graph_codec.whole_of(id_, answer) for id_, answer in zip(whole_ids, answers, strict=True) if answer
        }

    def list(self, *, limit: int = 50, after: str | None = None) -> builtins.list[Whole]:
        rows = self._client.call("walk", "graphs", after or "", min(limit, CHUNK))
        if rows is None:
            raise _none(str(after))
        ids = [row[0] for row in rows]
        found = self.get_many(ids)
        return [found[id_] for id_ in ids if id_ in found]

    def inputs(self, plan: StepPlan) -> Inputs:
        wanted = [*plan.inputs.values(), *([plan.fan_out] if plan.fan_out else [])]
        if not wanted and not plan.previous and plan.chain is None:
            return Inputs()
        args, previous, tip, answers = self._client.call("graph_inputs", plan.chain or "", int(plan.previous), *wanted)
        outcomes: dict[str, tuple[Outcome, ...]] = {}
        for id_, values, children in answers:
            if id_.startswith("t-"):
                one = graph_codec.outcome_of(id_, values)
                outcomes[id_] = () if one is None else (one,)
            else:
                outcomes[id_] = tuple(self.outcomes(children).values())
        return Inputs(args=json.loads(args or "{}"), previous=previous or None, tip=tip or None, outcomes=outcomes)

    def outcomes(self, task_ids: Sequence[str]) -> dict[str, Outcome]:
        found: dict[str, Outcome] = {}
        for start in range(0, len(task_ids), OUTCOMES):
            chunk = task_ids[start : start + OUTCOMES]
            for id_, values in zip(chunk, self._client.call("graph_outcomes", *chunk), strict=True):
                if (one := graph_codec.outcome_of(id_, values)) is not None:
                    found[id_] = one
        return found

    def cancel(
        self, whole_id: str, *, reason: str, after_step: bool = False
    ) -> tuple[TaskState, builtins.list[Doorbell]]:
        reason = codec.one_line(reason, codec.REASON_CHARS) or "cancelled"
        answer = self._client.call("graph_cancel", whole_id, reason, int(after_step))
        if not answer:
            raise _none(whole_id)
        return TaskState(answer[0]), [codec.bell_of(bell) for bell in answer[1]]

    def resume(self, chain_id: str, graph: Graph, *, start: int) -> builtins.list[Doorbell]:
        nodes = [part for node in graph.nodes if node.id != chain_id for part in graph_codec.node_args(node)]
        answer = self._client.call("graph_resume", chain_id, start, *nodes)
        if answer[0] != "done":
            raise Conflict(f"{chain_id} is {answer[0]}; only a chain that failed or was cancelled can be resumed.")
        return [codec.bell_of(bell) for bell in answer[1]]

    def tend(self, *, limit: int = 100) -> Tended:
        ids, bells = self._client.call("graph_tend", limit)
        return Tended(ids=tuple(ids), bells=tuple(codec.bell_of(bell) for bell in bells))


def _none(whole_id: str) -> NotFound:
    kind = "fan-out" if whole_id.startswith("f-") else "chain"
    return NotFound(f"There is no {kind} {whole_id!r}.")


def _batches(nodes: Iterable[list[str]]) -> Iterable[list[str]]:
    """The arguments of several nodes together, bounded in number and size."""
    batch: list[str] = []
    count = size = 0
    for node in nodes:
        weight = sum(map(len, node))
        if batch and (count == BATCH or size + weight > BATCH_CHARS):
            yield batch
            batch, count, size = [], 0, 0
        batch += node
        count, size = count + 1, size + weight
    if batch:
        yield batch
