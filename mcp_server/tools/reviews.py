"""Tools for work that waits for a decision: pool_submit_with_review, pool_approve_result, pool_reject_result.

What a reviewer looks at comes with `pool_result`; a decision may be bound to that run and commit. Where the owner wants
a person to decide (setting review_approvers), nobody decides over MCP.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from claude_pool.documents import Document, of_approved, of_rejected, of_submitted
from claude_pool.models.base import Record
from claude_pool.models.options import PlainText
from claude_pool.models.workspace import MergeHow
from mcp_server.rights import check_approver
from mcp_server.tools.answers import gives
from mcp_server.tools.arguments import Id, Submission, schema_of
from mcp_server.tools.submit import hand_in
from mcp_server.tools.tool import Call, Definition

_Run = Annotated[str, Field(max_length=64)]


class Reviewed(Submission):
    """A task to hand in whose answer somebody has to accept."""

    review: bool = True


class Approve(Record):
    """Which answer is accepted."""

    task_id: Id
    run_id: _Run | None = Field(default=None, description="from pool_result: refused if it ran again since")
    tip: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="branch.tip from pool_result: refused if the branch moved since"
    )
    merge: MergeHow | None = Field(default=None, description="merge its branch first; if that fails, nothing happens")


class Reject(Record):
    """Which answer is not accepted, and why."""

    task_id: Id
    feedback: PlainText = Field(description="what has to be different; the worker is told just this")
    run_id: _Run | None = None


async def submit_with_review(call: Call, task: Reviewed) -> Document:
    """Hand in one task that waits for a decision."""
    return of_submitted(await call.ask(lambda pool: hand_in(pool, call, task.evolve(review=True))))


async def approve(call: Call, asked: Approve) -> Document:
    """Accept an answer."""
    check_approver(call.counter.config)
    return of_approved(
        await call.ask(lambda pool: pool.approve(asked.task_id, run_id=asked.run_id, tip=asked.tip, merge=asked.merge))
    )


async def reject(call: Call, asked: Reject) -> Document:
    """Send an answer back."""
    check_approver(call.counter.config)
    return of_rejected(await call.ask(lambda pool: pool.reject(asked.task_id, asked.feedback, run_id=asked.run_id)))


DEFINITIONS: Final = (
    Definition(
        name="pool_submit_with_review",
        title="Submit a task for review",
        description=(
            "pool_submit, but a success waits as pending_review for pool_approve_result or pool_reject_result. It fails"
            " with rejection number max_rejections (default 3)."
        ),
        arguments=Reviewed,
        parameters=schema_of(Reviewed, explained=("max_rejections",), first=("max_rejections",)),
        work=submit_with_review,
        gives=gives(task_id=str, state=str),
        effect="adds",
        scope="submit",
        idempotent=False,
    ),
    Definition(
        name="pool_approve_result",
        title="Approve a result",
        description=(
            "Accept what a task in pending_review brought: it becomes completed. Read pool_result and pool_diff first;"
            " what the worker says about itself is no evidence. Refused when somebody else decided first."
        ),
        arguments=Approve,
        work=approve,
        gives=gives({"merge": dict}, task_id=str, state=str),
        effect="changes",
        scope="approve",
        idempotent=False,
    ),
    Definition(
        name="pool_reject_result",
        title="Reject a result",
        description=(
            "Send a task in pending_review back with feedback: it runs again in its own session and on its own branch,"
            " told all feedback so far. With its last rejection it fails and keeps its answer."
        ),
        arguments=Reject,
        work=reject,
        gives=gives(task_id=str, state=str, rejections=int, max_rejections=int),
        effect="changes",
        scope="approve",
        idempotent=False,
    ),
)
