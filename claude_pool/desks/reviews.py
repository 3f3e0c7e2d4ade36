"""Reviews: hand in work that has to be looked at, see what waits, approve or reject it.

A decision is bound to what was looked at: the run, and the commit that its branch was at. It is refused with Conflict
when either is another by now, when somebody else was first, or while somebody else is merging it. With a merge, the
merge comes first: an answer whose work could not be merged stays in the queue, and one that was approved is in.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from claude_pool.desks.branches import BranchDesk
from claude_pool.errors import Conflict, InvalidRequest, NotFound, PoolError, WorkspaceError
from claude_pool.ids import new_run_id
from claude_pool.models.options import TaskOptions, plain_text
from claude_pool.models.review import FEEDBACK_BYTES, Approved, Rejected, Review
from claude_pool.models.task import BranchFacts, Task, TaskState
from claude_pool.models.workspace import MergeHow, MergeResult
from claude_pool.store.base import Submitted
from claude_pool.workspace import MergeRequest, Repository

HOLD_MS: Final = 120_000
"""Others may not decide for so long while a merge is made; longer ones are only guarded against, not kept apart."""


class ReviewDesk(BranchDesk):
    """The verbs for work that waits for somebody's word."""

    def submit_with_review(
        self, prompt: str, options: TaskOptions | None = None, *, max_rejections: int = 3, **fields: Any
    ) -> Submitted:
        """Like `submit`; a success then waits for `approve` or `reject` instead of being completed.

        The task fails with the `max_rejections`th rejection: 3 means the first run and two more.
        """
        return self.submit(prompt, options, review=True, max_rejections=max_rejections, **fields)

    def reviews(self, *, limit: int = 100) -> list[Task]:
        """What waits for a review, the longest waiting first."""
        return self.store.reviews.waiting(limit=limit)

    def review(self, task_id: str) -> Review:
        """All that a reviewer needs of one task. Raises NotFound, and Conflict when it waits for no review."""
        detail = self.store.tasks.detail(task_id)
        task = detail.task
        if task.state is not TaskState.PENDING_REVIEW or detail.result is None:
            raise Conflict(f"{task_id} is {task.state}; it waits for no review.", hint="`reviews` lists what does.")
        shown = Review(task=task, prompt=detail.prompt, result=detail.result, feedback=detail.feedback)
        if shown.branch is None:
            return shown
        try:
            repository = self._repository(shown.branch)
            moved = repository.tip(shown.branch.branch) != shown.tip
            return shown.evolve(
                moved=moved,
                forecast=repository.forecast(shown.branch.branch),
                collisions=repository.rivals(shown.branch.branch),
            )
        except PoolError as error:
            return shown.evolve(note=str(error))

    def approve(
        self,
        task_id: str,
        *,
        run_id: str | None = None,
        tip: str | None = None,
        merge: MergeHow | None = None,
        target: str | None = None,
        message: str = "",
    ) -> Approved:
        """Accept what a task brought, and merge its branch if asked to. Raises Conflict, NotFound, WorkspaceError.

        `run_id` and `tip` are those of the `review` that was looked at; without them it is what is there now. Nothing
        is approved when the merge is not possible.
        """
        shown = self._shown(task_id, run_id)
        self._check_tip(shown, tip)
        who = new_run_id()
        if merge is None:
            return Approved(task=self._approved(shown, who))
        if shown.branch is None:
            raise InvalidRequest(f"{task_id} has no branch to merge: it changed nothing in a repository.")
        request = MergeRequest(
            branch=shown.branch.branch,
            target=target,
            how=merge,
            message=message,
            reviewed_tip=shown.tip,
            check_command=self.config.merge_check,
            check_timeout_s=self.config.merge_check_timeout_s,
        )
        with self._held(shown, who):
            merged = self._merged(shown.branch, request)
            try:
                return Approved(task=self._approved(shown, who), merge=merged)
            except Conflict as error:  # cancelled, or decided by somebody who did not wait
                raise Conflict(f"{error.message} The merge into {merged.target} was made: {merged.commit}.") from None

    def reject(self, task_id: str, feedback: str, *, run_id: str | None = None) -> Rejected:
        """Send a task back: it goes on in its own session and on its own branch, and is told all feedback so far.

        With the last rejection that it allows, it fails and keeps its answer. Raises Conflict, NotFound,
        InvalidRequest for feedback that is empty or too long.
        """
        try:
            feedback = plain_text(feedback).strip()
        except ValueError as error:
            raise InvalidRequest(f"The feedback {error}.") from None
        if not feedback or len(feedback.encode()) > FEEDBACK_BYTES:
            raise InvalidRequest(
                f"The feedback has {len(feedback.encode()):,} bytes; it takes 1 to {FEEDBACK_BYTES:,}.",
                hint="Say what has to be different; the worker is told just this.",
            )
        shown = self._shown(task_id, run_id)
        decided = self.store.reviews.reject(
            task_id, feedback, run_id=shown.run_id, who=new_run_id(), by=self.submitter.name
        )
        self._ring(decided.bells)
        task = decided.task
        return Rejected(task=task, rejections=task.counters.rejections, max_rejections=task.options.max_rejections)

    def _shown(self, task_id: str, run_id: str | None) -> Review:
        """What the decision is about: the run that was named, else the one that is there now."""
        detail = self.store.tasks.detail(task_id)
        task = detail.task
        if task.state is not TaskState.PENDING_REVIEW or detail.result is None:
            raise Conflict(f"{task_id} is {task.state}; only what waits for its review can be approved or rejected.")
        if run_id is not None and run_id != task.run_id:
            raise Conflict(f"{task_id} ran again since it was shown: now it is run {task.run_id}.", hint="Look again.")
        return Review(task=task, prompt=detail.prompt, result=detail.result.evolve(run_id=task.run_id))

    def _check_tip(self, shown: Review, tip: str | None) -> None:
        """Whether the branch is where it was when it was shown, as far as that can be seen from this machine."""
        if tip is not None and tip != shown.tip:
            raise Conflict(f"The branch of {shown.task.id} was left at {shown.tip}, not at {tip}.", hint="Look again.")
        if shown.branch is None:
            return
        try:
            now = self._repository(shown.branch).tip(shown.branch.branch)
        except WorkspaceError:
            return  # the repository is on another machine; whoever merges there checks the same
        if now != shown.tip:
            raise Conflict(
                f"{shown.branch.branch} changed since the run left it: from {(shown.tip or '')[:12]} to "
                f"{now[:12] if now else 'nothing, it is gone'}.",
                hint="Look again; reject it to have the worker see to it.",
            )

    def _approved(self, shown: Review, who: str) -> Task:
        decided = self.store.reviews.approve(shown.task.id, run_id=shown.run_id, who=who, by=self.submitter.name)
        self._ring(decided.bells)
        return decided.task

    @contextmanager
    def _held(self, shown: Review, who: str) -> Generator[None]:
        """While this lasts nobody else decides about the task."""
        self.store.reviews.hold(shown.task.id, run_id=shown.run_id, who=who, hold_ms=HOLD_MS)
        try:
            yield
        except BaseException:
            self.store.reviews.let_go(shown.task.id, who=who)
            raise

    def _merged(self, branch: BranchFacts, request: MergeRequest) -> MergeResult:
        merged = self._repository(branch).merge(request)
        if merged.merged:
            self._note(request.branch, f"merged into {merged.target} as {merged.commit}")
            return merged
        files = ", ".join(conflict.path for conflict in merged.conflicts[:5])
        more = f" and {len(merged.conflicts) - 5} more" if len(merged.conflicts) > 5 else ""
        raise Conflict(
            f"{merged.message} {files}{more}".strip().rstrip(".") + ". Nothing was merged or approved.",
            hint="Reject it, so that the worker brings it up to date, or approve it without a merge.",
        )

    def _repository(self, branch: BranchFacts) -> Repository:
        path = Path(branch.repo) if branch.repo else None
        if path is not None and not path.exists():
            raise WorkspaceError(f"The repository {path} is not on this machine.")
        try:
            return Repository.open(self.config, path)
        except NotFound as error:
            raise WorkspaceError(error.message) from None
