"""What the desks of chains and fan-outs share: planning with this pool's defaults, and results put together."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from claude_pool.desks.tasks import TaskDesk
from claude_pool.errors import InvalidRequest, KeyReused
from claude_pool.fanout import Site, gathered
from claude_pool.ids import new_id
from claude_pool.models.base import Record, explain
from claude_pool.models.fanout import BranchProgress, BranchResult
from claude_pool.models.graph import Graph, Outcome, Whole
from claude_pool.models.options import TaskOptions
from claude_pool.models.task import Task, TaskState

R = TypeVar("R", bound=Record)

_WHOLE: Final = 1 << 40
PARTIAL_CHARS: Final = 4_000


class GraphDesk(TaskDesk):
    """Planning and reading of graphs."""

    def _site(self, ids: Callable[[str], str] = new_id) -> Site:
        return Site(new_id=ids, settle=lambda options: self._options(options, {}), submitter=self.submitter)

    def _launch(self, graph: Graph, *, key: str | None = None) -> TaskState:
        """Store it, let it begin, ring. Raises PoolDrained, KeyReused, Unreachable.

        Of a key the ids are always the same (`ids_from`), and what is there stays as it is: a repeated call meets what
        the first one made, or completes it.
        """
        root = graph.root
        there = self.store.graph.get_many([root.id]) if key is not None else {}
        if root.id in there and there[root.id].spec != root.spec:
            raise KeyReused(f"That idempotency key was used for a different request, {root.id}.")
        state, bells = self.store.graph.submit(graph)
        self._ring(bells)
        return state

    def _outcomes(self, ids: Iterable[str]) -> dict[str, Outcome]:
        return self.store.graph.outcomes([id_ for id_ in ids if id_.startswith("t-")])

    def _tasks(self, ids: Iterable[str]) -> dict[str, Task]:
        return self.store.tasks.get_many([id_ for id_ in ids if id_.startswith("t-")])

    def _partial_output(self, task_id: str) -> str:
        """The end of what its model has said so far."""
        said = [entry.text for entry in self.store.logs.read(task_id, limit=5_000) if entry.kind == "text"]
        return "\n".join(said)[-PARTIAL_CHARS:]


def valid(model: type[R], value: Any) -> R:
    """The record, from itself or from plain data. Raises InvalidRequest that says what is wrong."""
    try:
        return value if isinstance(value, model) else model.model_validate(value)
    except ValidationError as error:
        raise InvalidRequest(explain(error)) from None


def parted(model: type[Record], fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Loose fields: those of the model, and those of TaskOptions. Raises InvalidRequest for others."""
    own = {name: value for name, value in fields.items() if name in model.model_fields}
    rest = {name: value for name, value in fields.items() if name not in own}
    if unknown := [name for name in rest if name not in TaskOptions.model_fields]:
        raise InvalidRequest(f"there is no field {unknown[0]!r}.")
    return own, rest


def branch_result(outcome: Outcome, task: Task | None) -> BranchResult:
    """What one task of a graph brought back."""
    return BranchResult(**result_fields(outcome, task))


def result_fields(outcome: Outcome, task: Task | None) -> dict[str, Any]:
    """The fields of a BranchResult."""
    result = outcome.result
    return {
        "label": outcome.name,
        "id": outcome.id,
        "state": outcome.word,
        "output": result.output if result else "",
        "structured_output": result.structured_output if result else None,
        "error": outcome.error if outcome.state.final or outcome.error else None,
        "cost_usd": task.cost_usd if task else 0.0,
        "session_id": task.session_id if task else None,
        "branch": result.branch if result else None,
        "partial": bool(result and result.partial),
        "usage": result.usage if result else {},
    }


def progress_fields(task: Task) -> dict[str, Any]:
    """The fields of a BranchProgress."""
    return {
        "name": task.step,
        "id": task.id,
        "state": "skipped" if task.skipped else task.state.value,
        "runs": task.counters.runs,
        "retries": max(task.counters.attempts - 1, 0),
        "cost_usd": task.cost_usd,
        "started_ms": task.started_ms,
        "ended_ms": task.since_ms if task.state.final else None,
        "progress": task.progress if task.state is TaskState.RUNNING else "",
        "error": task.error,
    }


def branch_progress(task: Task) -> BranchProgress:
    """Where one branch is."""
    return BranchProgress(**progress_fields(task))


def together(outcomes: Sequence[Outcome]) -> str:
    """The answers of branches that nobody gathered, each between tags."""
    return gathered(outcomes, boundary=secrets.token_hex(6), most_bytes=_WHOLE).text


def run_ms(whole: Whole) -> int:
    """From its start to its end; 0 while it has no end."""
    return whole.ended_ms - whole.started_ms if whole.ended_ms and whole.started_ms else 0
