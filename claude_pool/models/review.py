"""Reviews: what somebody sees who decides about a task, and what came of the decision."""

from __future__ import annotations

from claude_pool.models.base import Record
from claude_pool.models.run import Denial
from claude_pool.models.task import BranchFacts, Task, TaskResult
from claude_pool.models.workspace import Forecast, MergeResult

FEEDBACK_BYTES = 32_768
"""Longest feedback of one rejection: all of it goes into the next run's prompt."""


class Review(Record):
    """One task that waits for a decision. `run_id` and `tip` are what the decision should be bound to."""

    task: Task
    prompt: str
    result: TaskResult
    feedback: tuple[str, ...] = ()
    """What was said to earlier runs, oldest first."""
    forecast: Forecast | None = None
    """What merging would do now; None when there is no branch, or its repository is not on this machine."""
    collisions: tuple[Forecast, ...] = ()
    """Other open branches that it would get in the way of."""
    moved: bool = False
    """The branch is not where the run left it: somebody committed to it since, so it can't be approved."""
    note: str = ""
    """Why there is no forecast."""

    @property
    def run_id(self) -> str:
        """The run that brought the answer."""
        return self.result.run_id or self.task.run_id or ""

    @property
    def branch(self) -> BranchFacts | None:
        """What the run left in git."""
        return self.result.branch

    @property
    def tip(self) -> str | None:
        """The commit that the branch was at when the run ended."""
        return None if self.branch is None else self.branch.tip

    @property
    def denials(self) -> tuple[Denial, ...]:
        """Tool calls that were not allowed."""
        return self.result.denials


class Approved(Record):
    """A task that was accepted, and its merge if one was asked for."""

    task: Task
    merge: MergeResult | None = None


class Rejected(Record):
    """A task that was sent back, or that failed with this rejection."""

    task: Task
    rejections: int
    max_rejections: int

    @property
    def again(self) -> bool:
        """It runs once more; False at the limit."""
        return not self.task.state.final
