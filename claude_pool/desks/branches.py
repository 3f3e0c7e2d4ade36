"""Branches: see what a task or a chain changed, merge it, have its conflicts resolved, throw it away, clear up.

Everything takes the id of a task or of a chain, or the name of a branch (`pool/…`) in the pool's repository. What is
merged has to be finished: work that failed or was cancelled only when it is asked for, work that waits for its review
by `approve`, rejected work never. A merge is bound to the commit that was reviewed: what a person or a run put on the
branch since then was seen by nobody.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

from claude_pool.desks.graphs import valid
from claude_pool.desks.tasks import ACTIVE, TaskDesk
from claude_pool.errors import Conflict, InvalidRequest, NotFound, PoolError, WorkspaceError
from claude_pool.ids import kind_of
from claude_pool.models.base import Record
from claude_pool.models.task import BranchFacts, ErrorCode, Task, TaskState
from claude_pool.models.workspace import PREFIX, Branch, Diff, Forecast, GcReport, MergeResult, Outlook
from claude_pool.resolving import resolution_prompt
from claude_pool.workspace import MergeRequest, Repository

_log = logging.getLogger(__name__)

PAGE_BYTES: Final = 100_000
_MOST_SCANNED: Final = 10_000
"""Unfinished tasks whose base branches are looked at before a clean-up."""


class Placed(Record):
    """Whose branch it is, and where. `task` is None for a branch that was only named."""

    branch: str
    repo: str | None = None
    task: Task | None = None
    facts: BranchFacts | None = None
    base: str | None = None


class BranchDesk(TaskDesk):
    """The verbs for branches."""

    def diff(
        self,
        what: str,
        *,
        against: str = "base",
        path: str | None = None,
        offset: int = 0,
        page_bytes: int = PAGE_BYTES,
    ) -> Diff:
        """What the branch of a task or chain changes, and one page of the patch; of a running one, what is committed.

        `against` is `base` (where it began), `target` (where it left the target) or a ref. Raises NotFound,
        WorkspaceError, InvalidRequest.
        """
        placed = self._placed(what)
        repository = self._repository_of(placed)
        if repository.tip(placed.branch) is None and placed.task is not None:
            raise NotFound(_nothing(placed), hint="A branch without changes is not kept.")
        return repository.diff(placed.branch, against=against, path=path, offset=offset, page_bytes=page_bytes)

    def forecast(self, what: str, *, into: str | None = None) -> Forecast:
        """What merging a branch would do now; running work counts as far as it is committed. Raises NotFound."""
        placed = self._placed(what)
        return self._repository_of(placed).forecast(placed.branch, into)

    def outlook(self, *, repo: Path | None = None, limit: int = 20) -> Outlook:
        """Which open branches conflict with the target, and which with each other. Raises WorkspaceError."""
        return Repository.open(self.config, repo).outlook(limit=limit)

    def glance(self) -> Outlook:
        """The outlook, for a screen that has other things to show: empty where there is no repository to look at."""
        try:
            return self.outlook() if self.config.repo is not None else Outlook()
        except PoolError as error:
            _log.debug("no outlook: %s", error)
            return Outlook()

    def merge(
        self, what: str, *, tip: str | None = None, anyway: bool = False, resolve: bool = False, **fields: Any
    ) -> MergeResult:
        """Merge the branch of a task or chain into the target. A conflict of content is a result, not an error.

        `tip` binds it to what was looked at; work that was reviewed is bound by itself. `fields` are those of
        MergeRequest: `how target message author check_command`; a check command, else the setting `merge_check`, has
        to pass on the merged tree first. `anyway` merges what failed or was cancelled. With `resolve`, a conflict
        hands in a task that resolves it: the result names it, and merging that task merges both. Raises Conflict,
        NotFound, InvalidRequest, WorkspaceError.
        """
        placed = self._placed(what)
        self._require_done(placed, anyway=anyway)
        seen = placed.facts.tip if placed.facts and placed.task and placed.task.options.review else None
        checks = {"check_command": self.config.merge_check, "check_timeout_s": self.config.merge_check_timeout_s}
        chosen = {name: value for name, value in fields.items() if value is not None}
        request = valid(MergeRequest, {"branch": placed.branch, "reviewed_tip": tip or seen, **checks, **chosen})
        repository = self._repository_of(placed)
        result = repository.merge(request)
        if result.merged:
            self._note(placed.branch, f"merged into {result.target} as {result.commit}")
        if resolve and result.conflicts:
            return result.evolve(resolving=self._resolve(placed, repository, result))
        return result

    def discard(self, what: str) -> str:
        """Delete a branch, whatever is on it; gives its last commit. Raises Conflict while work on it goes on."""
        placed = self._placed(what)
        if placed.task is not None and not placed.task.state.final:
            raise Conflict(f"{placed.task.id} is {placed.task.state}; its branch is in use.", hint="Cancel it first.")
        tip = self._repository_of(placed).discard(placed.branch)
        self._note(placed.branch, f"discarded; it was at {tip}")
        return tip

    def branches(self, *, repo: Path | None = None) -> list[Branch]:
        """All branches of pools in the repository, the youngest first. Raises WorkspaceError."""
        return Repository.open(self.config, repo).branches()

    def gc(self, *, repo: Path | None = None) -> GcReport:
        """Clear away branches that are merged, rejected or expired, and work trees that nobody uses any more.

        The tasks' records say what became of their branches. Branches of other pools stay.
        """
        repository = Repository.open(self.config, repo)
        roots = {branch.name.partition(".")[0] for branch in repository.branches()}
        states = self._standing({root.removeprefix(PREFIX) for root in roots})
        others = {root for root in roots - repository.owned() if root.removeprefix(PREFIX) not in states}
        busy = {f"{PREFIX}{id_}" for id_, task in states.items() if not task.state.final}
        rejected = {f"{PREFIX}{id_}" for id_, task in states.items() if _was_rejected(task)}
        report = repository.gc(busy=busy | others | self._started_from(), rejected=rejected)
        for name, tip, why in (entry.split() for entry in report.branches):
            self._note(name, f"deleted because it is {why}; it was at {tip}")
        return report

    def _note(self, branch: str, note: str) -> None:
        """Into the record of each task that worked on it, unless it is a branch beside."""
        owner = branch.removeprefix(PREFIX)
        if kind_of(owner) == "chain":
            wholes = self.store.graph.get_many([owner], children=True)
            children = wholes[owner].children if owner in wholes else ()
            self.store.tasks.note_branch([id_ for id_ in children if kind_of(id_) == "task"], note)
        elif kind_of(owner) == "task":
            self.store.tasks.note_branch([owner], note)

    def _standing(self, ids: set[str]) -> dict[str, Task]:
        tasks = self.store.tasks.get_many([id_ for id_ in ids if kind_of(id_) == "task"])
        wholes = self.store.graph.get_many([id_ for id_ in ids if kind_of(id_) in {"chain", "fan-out"}])
        return tasks | {id_: whole.as_task().evolve(state=whole.state) for id_, whole in wholes.items()}

    def _started_from(self) -> set[str]:
        """Branches that unfinished tasks are to begin from."""
        found: set[str] = set()
        for state in ACTIVE:
            after: str | None = None
            seen = 0
            while seen < _MOST_SCANNED:
                page = self.list(states=[state], limit=500, after=after)
                found |= {task.options.base_ref for task in page.tasks if task.options.base_ref}
                after, seen = page.next, seen + len(page.tasks)
                if after is None:
                    break
        return {ref.removeprefix("refs/heads/") for ref in found}

    # -- whose branch, and where

    def _placed(self, what: str) -> Placed:
        """The branch that an id or a name stands for. Raises NotFound, InvalidRequest."""
        kind = kind_of(what)
        if kind == "task":
            detail = self.store.tasks.detail(what)
            facts, task = detail.result.branch if detail.result else None, detail.task
            return self._of_task(task, facts)
        if kind == "chain":
            return self._of_chain(what)
        if kind == "fan-out":
            whole = self.store.graph.get(what)
            hint = f"Name one of its branches: {', '.join(whole.children[:20])}."
            raise InvalidRequest(f"{what} is a fan-out; each of its branches is a branch of its own.", hint=hint)
        if not what.startswith(PREFIX):
            raise InvalidRequest(f"{what!r} is neither a task, nor a chain, nor a branch of a pool ({PREFIX}…).")
        owner = what.removeprefix(PREFIX).partition(".")[0]
        if kind_of(owner) in {"task", "chain"}:
            try:
                return self._placed(owner).evolve(branch=what, facts=None)
            except NotFound:  # forgotten by now; the branch may be there all the same
                return Placed(branch=what)
        return Placed(branch=what)

    def _of_task(self, task: Task, facts: BranchFacts | None) -> Placed:
        branch = facts.branch if facts else f"{PREFIX}{task.id}"
        return Placed(branch=branch, repo=(facts and facts.repo) or task.options.repo, task=task, facts=facts)

    def _of_chain(self, chain_id: str) -> Placed:
        whole = self.store.graph.get(chain_id)
        outcomes = self.store.graph.outcomes([id_ for id_ in whole.children if kind_of(id_) == "task"])
        branch = f"{PREFIX}{chain_id}"
        left = [one.result.branch for one in outcomes.values() if one.result and one.result.branch]
        mine = [facts for facts in left if facts.branch == branch]
        task = whole.as_task().evolve(state=whole.state)
        if mine:
            return Placed(branch=branch, repo=mine[-1].repo or None, task=task)
        tasks = self.store.tasks.get_many(list(outcomes))
        repos = [step.options.repo for step in tasks.values() if step.options.repo]
        return Placed(branch=branch, repo=repos[0] if repos else None, task=task)

    def _repository_of(self, placed: Placed) -> Repository:
        """The repository on this machine that has the branch. Raises WorkspaceError."""
        path = Path(placed.repo) if placed.repo else None
        if path is not None and not path.exists():
            if self.config.repo is None:
                raise WorkspaceError(f"The repository {path} is not on this machine.")
            path = self.config.repo
        repository = Repository.open(self.config, path)
        tip = placed.facts.tip if placed.facts else None
        if repository.tip(placed.branch) is None or (tip is not None and not repository.has(placed.branch, tip)):
            repository.bring(placed.branch, self.store.parcels, expects=tip)
        return repository

    def _require_done(self, placed: Placed, *, anyway: bool) -> None:
        task = placed.task
        if task is None or task.state is TaskState.COMPLETED:
            return
        if task.state is TaskState.PENDING_REVIEW:
            raise Conflict(f"{task.id} waits for its review.", hint="Approve it; `approve --merge` does both at once.")
        if not task.state.final:
            raise Conflict(f"{task.id} is {task.state}; what it works on can't be merged yet.", hint="Wait for it.")
        if _was_rejected(task):
            raise Conflict(f"{task.id} was rejected; its branch is not merged.")
        if not anyway:
            raise Conflict(f"{task.id} {task.state}: its work may be half done.", hint="Merge it anyway with --anyway.")

    # -- resolving

    def _resolve(self, placed: Placed, repository: Repository, result: MergeResult) -> str:
        """Hand in a task that resolves the conflicts of a merge; its id. It is reviewed if the first one was."""
        made = repository.scaffold(placed.branch, result.target)
        task = placed.task
        prompt, title = "", placed.branch
        chosen: dict[str, Any] = {}
        if task is not None:
            title = task.title or placed.branch
            prompt = self.store.tasks.detail(task.id).prompt if kind_of(task.id) == "task" else task.title
            kept = ("model", "permission_mode", "max_budget_usd", "review", "max_rejections", "tags", "allowed_tools")
            chosen = {name: value for name in kept if (value := getattr(task.options, name))}
        return self.submit(
            resolution_prompt(placed.branch, result.target, made.conflicts, asked=prompt),
            title=f"Resolve: {title}"[:200],
            isolation="worktree",
            repo=str(repository.path),
            base_ref=made.commit,
            **chosen,
        ).task_id


def _nothing(placed: Placed) -> str:
    assert placed.task is not None
    return f"{placed.task.id} has no branch: it changed nothing in a repository, or its branch is gone."


def _was_rejected(task: Task) -> bool:
    return task.state is TaskState.FAILED and task.error is not None and task.error.code is ErrorCode.REJECTED
