"""Documents of chains and fan-outs: what `--json` prints and the MCP tools return for them. Pure.

As in `claude_pool.documents`: fields that programs rely on are always there, the rest only when it says something, and
text of a model goes in unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from claude_pool.documents import Document, spare
from claude_pool.models.chain import ChainProgress, ChainResult, ChainSubmitted
from claude_pool.models.fanout import BranchProgress, BranchResult, FanOutProgress, FanOutResult, FanOutSubmitted
from claude_pool.models.graph import Whole

if TYPE_CHECKING:
    from claude_pool.chain_files import Found

_OF_A_WHOLE: Final = ("title", "error", "branch", "run_ms")


def of_chain_submitted(answer: ChainSubmitted) -> Document:
    """`chain_id state step_ids`; the ids are of tasks, or of fan-outs."""
    return {"chain_id": answer.chain_id, "state": answer.state.value, "step_ids": list(answer.step_ids)}


def of_chain_result(result: ChainResult) -> Document:
    """`chain_id state steps: [{name, id, state, output, cost_usd, …}] final_output cost_usd`."""
    steps: list[Document] = []
    for step in result.steps:
        document = {"name": step.name, **of_branch_result(step)}
        del document["label"]
        branches = [of_branch_result(one) for one in step.branches]
        more = spare(step, but=(*BranchResult.model_fields, "name", "branches"))
        steps.append(document | more | ({"branches": branches} if branches else {}))
    document = {
        "chain_id": result.chain_id,
        "state": result.state.value,
        "steps": steps,
        "final_output": result.final_output,
        "cost_usd": result.cost_usd,
    }
    noted = spare(result, but=("steps",))
    return document | {name: noted[name] for name in _OF_A_WHOLE if name in noted}


def of_branch_result(result: BranchResult) -> Document:
    """`label id state output cost_usd`, and whatever else the branch brought."""
    document: Document = {
        "label": result.label,
        "id": result.id,
        "state": result.state,
        "output": result.output,
        "cost_usd": result.cost_usd,
    }
    extra = {name: getattr(result, name) for name in BranchResult.model_fields if name not in document}
    return document | spare(BranchResult(**document, **extra), but=document)


def of_chain_progress(progress: ChainProgress) -> Document:
    """`chain_id state total_steps completed_steps current_step current_step_name cost_usd steps`, and more."""
    document: Document = {
        "chain_id": progress.chain_id,
        "state": progress.state.value,
        "total_steps": progress.total_steps,
        "completed_steps": progress.completed_steps,
        "current_step": progress.current_step,
        "current_step_name": progress.current_step_name,
        "cost_usd": progress.cost_usd,
        "steps": [_of_progress(step) for step in progress.steps],
    }
    return document | spare(progress, but=document)


def of_fan_out_submitted(answer: FanOutSubmitted) -> Document:
    """`fan_out_id state task_ids labels`; `gather_id` when there is a gather."""
    document: Document = {
        "fan_out_id": answer.fan_out_id,
        "state": answer.state.value,
        "task_ids": list(answer.task_ids),
        "labels": list(answer.labels),
    }
    return document | spare(answer, but=document)


def of_fan_out_result(result: FanOutResult) -> Document:
    """`fan_out_id state task_ids results: [{label, id, state, output, cost_usd, …}] gather cost_usd`."""
    document: Document = {
        "fan_out_id": result.fan_out_id,
        "state": result.state.value,
        "task_ids": [one.id for one in result.results],
        "results": [of_branch_result(one) for one in result.results],
        "gather": None if result.gather is None else of_branch_result(result.gather),
        "cost_usd": result.cost_usd,
    }
    noted = spare(result, but=("results", "gather"))
    return document | {name: noted[name] for name in _OF_A_WHOLE if name in noted}


def of_fan_out_progress(progress: FanOutProgress) -> Document:
    """`fan_out_id state total ended completed failed cost_usd branches`, and what else there is."""
    document: Document = {
        "fan_out_id": progress.fan_out_id,
        "state": progress.state.value,
        "total": progress.total,
        "ended": progress.ended,
        "completed": progress.completed,
        "failed": progress.failed,
        "cost_usd": progress.cost_usd,
        "branches": [_of_progress(branch) for branch in progress.branches],
    }
    return document | spare(progress, but=document)


def _of_progress(one: BranchProgress) -> Document:
    document: Document = {"name": one.name, "id": one.id, "state": one.state, "cost_usd": one.cost_usd}
    return document | spare(one, but=document)


def of_named_chains(found: Iterable[Found]) -> Document:
    """`chains: [{name, path, description, args: {name: {description, default}}, steps, trouble}]`."""
    return {"chains": [of_named_chain(one) for one in found]}


def of_named_chain(found: Found) -> Document:
    """One reusable chain, and what is wrong with it, if anything is."""
    document: Document = {"name": found.name, "path": found.path}
    if found.chain is not None:
        document |= {
            "description": found.chain.description,
            "args": {name: one.model_dump(mode="json") for name, one in found.chain.args.items()},
            "steps": [step.name for step in found.chain.steps],
        }
    return document | ({"trouble": found.trouble} if found.trouble else {})


def of_wholes(wholes: Iterable[Whole]) -> Document:
    """`runs: [{id, state, title, ended, total, cost_usd, created_ms}]`: chains and fan-outs, newest first."""
    return {
        "runs": [
            {
                "id": one.id,
                "state": (one.waiting or one.state).value,
                "title": one.title,
                "ended": one.ended,
                "total": one.total,
                "cost_usd": one.cost_usd,
                "created_ms": one.created_ms,
            }
            for one in wholes
        ]
    }
