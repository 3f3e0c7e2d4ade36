"""One run of one task, between claim and finish: workspace, start, run, save, judge.

Everything that can go wrong in here ends in a verdict, never in an exception: an isolation that can't be had, a binary
that is gone, a bug of ours. None means that nothing was started, and the claim is simply given back.
"""

from __future__ import annotations

import logging
import random
import time
from pathlib import Path
from typing import Final

from claude_pool.errors import CliError, PoolError, Refused, WorkspaceBusy, WorkspaceError
from claude_pool.ids import new_run_id
from claude_pool.models.events import LogEntry
from claude_pool.models.options import TaskOptions
from claude_pool.models.run import RunFacts, StopCause
from claude_pool.models.task import BranchFacts, ErrorCode, ParkedFor, TaskError, TaskResult, TaskState
from claude_pool.models.verdict import Verdict
from claude_pool.models.workspace import WorkspaceJob
from claude_pool.retry import RunContext, judge
from claude_pool.review import asked_again
from claude_pool.store.base import Claim
from claude_pool.workspace import Workspace
from claude_pool.workspace.carry import is_address
from workers.briefing import briefing, instructions_of
from workers.command import Launch, LaunchRequest, build_launch, isolation_of
from workers.furnish import furnish, node_config_dir, write_files
from workers.outlook import outlook
from workers.report import RunReport
from workers.runner import Controls, Limits, run
from workers.sessions import Sessions
from workers.spare import Spare
from workers.stepping import Stepping, unfit
from workers.tools import Tools

_log = logging.getLogger(__name__)

_BUSY_MS: Final = 2_000
"""Before a task asks again for a directory in which another one works."""

_SIMULATED: Final = "CLAUDE_POOL_SIMULATED"


class Running:
    """A claim being carried out."""

    def __init__(self, tools: Tools, claim: Claim, controls: Controls) -> None:
        self._tools = tools
        self._claim = claim
        self._controls = controls
        self._task = claim.task
        self._settings = tools.config
        self._options = _resolved(claim.task.options, tools)
        self._log_path = tools.place.log_path(claim.run_id)
        self._facts: RunFacts | None = None
        self._session_id: str | None = None
        self._step: Stepping | None = None
        self._spare: Spare | None = None
        self._launched: Launch | None = None

    def verdict(self) -> Verdict | None:
        """Carry it out and say what became of it; None when nothing was started. Raises nothing."""
        verdict = self._verdict()
        self._look_ahead()
        return verdict if verdict is None or self._step is None else self._step.settled(verdict)

    def _look_ahead(self) -> None:
        """Nothing runs any more: a process for the next task may boot while this one's result travels."""
        if self._facts is not None and self._launched is not None:
            self._tools.warm.give_back(self._spare, self._facts, self._launched, self._options)
        elif self._spare is not None:
            self._tools.warm.put_back(self._spare)
        else:
            self._tools.warm.tidy()

    def _verdict(self) -> Verdict | None:
        try:
            return self._stepped_over() or self._carried_out()
        except WorkspaceBusy as error:
            return self._later(error.message)
        except WorkspaceError as error:
            return self._failed(ErrorCode.WORKSPACE, error.message, error.hint)
        except CliError as error:
            return self._failed(ErrorCode.CLI_MISSING, error.message, error.hint)
        except Refused as error:
            return self._failed(ErrorCode.PERMISSION_DENIED, error.message, error.hint)
        except PoolError as error:
            _log.warning("%s: not started: %s", self._task.id, error)
            return None
        except Exception as error:  # noqa: BLE001 - the task must not be left without a verdict
            _log.exception("%s: failed inside the pool", self._task.id)
            return self._failed(ErrorCode.EXECUTION, f"claude-pool itself failed: {error!r}", "")

    def _stepped_over(self) -> Verdict | None:
        """Of a step whose condition does not hold: its verdict."""
        if self._claim.plan is None:
            return None
        self._step = Stepping(self._tools, self._claim, self._claim.plan)
        self._options = self._step.options(self._options)
        return self._step.passed_over()

    def _carried_out(self) -> Verdict | None:
        with self._tools.workspaces.open(self._job()) as workspace:
            return self._in(workspace)

    def _in(self, workspace: Workspace) -> Verdict | None:
        resume = None if self._claim.fork else self._claim.resume_session_id
        session_id = resume or self._claim.session_id or new_run_id()
        sessions = Sessions(self._settings, self._tools.place.projects, self._tools.store.parcels)
        sessions.fetch(self._claim.resume_session_id)
        launch = self._launch(workspace, session_id)
        if not self._claim.session_id:
            self._spare = self._tools.warm.take(launch, self._options)
        session_id = self._session_id = session_id if self._spare is None else self._spare.session_id
        try:
            prompt = self._prompt(workspace)
        except ValueError as error:  # only a step's can have become unfit
            told = unfit(error)
            return self._failed(told.code, told.message, "")
        if self._controls.stopped is not StopCause.NONE or not self._tools.store.tasks.start(
            self._task.id, self._claim.run_id, session_id=session_id
        ):
            return None
        facts = self._facts = self._run(launch, prompt)
        if self._spare is not None and _died_waiting(facts):
            self._spare = None
            facts = self._facts = self._run(launch, prompt)
        sessions.send(facts.session_id or session_id)
        verdict = judge(facts, self._context())
        if self._step is not None:
            verdict = self._step.checked(verdict, env=launch.env, tree=workspace.path, controls=self._controls)
        branch, trouble = self._save(workspace)
        return self._judged(verdict, workspace, branch, trouble)

    def _job(self) -> WorkspaceJob:
        options = self._options
        job = WorkspaceJob(
            task_id=self._task.id,
            branch=f"pool/{self._task.id}",
            isolation=options.isolation or "none",
            repo=Path(options.repo) if options.repo and not is_address(options.repo) else None,
            address=options.repo if options.repo and is_address(options.repo) else None,
            base_ref=options.base_ref,
            target=self._settings.target,
            working_dir=options.working_dir,
            ready=self._tools.warm.ready(options),
            fresh=self._claim.number == 1,
            continues=self._claim.kind == "continuation",
        )
        return job if self._step is None else self._step.job(job)

    def _launch(self, workspace: Workspace, session_id: str) -> Launch:
        claim, tools = self._claim, self._tools
        furnish(tools.place, sign_in=node_config_dir(tools.node_env))
        instructions = instructions_of(workspace.path, self._options, self._settings)
        told = briefing(self._options, tools.store.context.entries(), instructions)
        launch = build_launch(
            LaunchRequest(
                binary=str(tools.binary().path),
                options=self._options.model_copy(update={"system_prompt": told}),  # longer than a caller's may be
                run_id=claim.run_id,
                task_id=self._task.id,
                slot_id=tools.identity.slot_id,
                session_id=session_id,
                resume=claim.resume_session_id,
                fork=claim.fork,
                cap_usd=claim.cap_usd,
                place=tools.place,
                cwd=str(workspace.path),
                config=self._settings,
                node_env=tools.node_env,
            )
        )
        write_files(launch.files)
        self._launched = launch
        return launch

    def _prompt(self, workspace: Workspace) -> str:
        """The task's prompt; a continuation is told to go on, or what a reviewer said, not asked the same again."""
        claim, step = self._claim, self._step
        asked = claim.prompt if step is None else step.prompt(workspace.path)
        if claim.feedback:
            why = self._task.error.message if self._task.error else ""
            return asked_again(asked, claim.feedback, resumes=claim.kind == "continuation", interrupted=why.rstrip("."))
        if claim.kind == "attempt" or (step is not None and step.begins):
            return asked
        why = f" ({self._task.error.message})" if self._task.error else ""
        return (
            f"Your work on this task was interrupted{why}. Look at what you have done so far, then carry on from there "
            f"and finish it. For reference, the task was:\n\n{asked}"
        )

    def _run(self, launch: Launch, prompt: str) -> RunFacts:
        settings, options = self._settings, self._options
        limits = Limits(
            timeout_s=options.timeout_s or settings.timeout_s,
            silence_s=options.silence_timeout_s or settings.silence_timeout_s,
            grace_s=settings.stop_grace_s,
            max_run_bytes=settings.max_run_bytes,
            max_line_bytes=settings.max_line_bytes,
        )
        report = RunReport(
            self._claim.run_id,
            session_cost_before_usd=self._claim.session_cost_usd,
            now_ms=lambda: time.time_ns() // 1_000_000,
        )
        return run(
            launch,
            prompt,
            guard=self._tools.guard,
            limits=limits,
            controls=self._controls,
            report=report,
            log_path=self._log_path,
            on_entries=self._publish,
            spare=self._spare,
            task_id=self._task.id,
        )

    def _publish(self, entries: list[LogEntry]) -> None:
        """Lines for those who watch. They may be lost: the file on the node has everything."""
        if entries:
            self._tools.heart.progress(entries[-1].text or entries[-1].kind)
        try:
            self._tools.store.logs.append(self._task.id, entries)
        except PoolError as error:
            _log.debug("%s: live lines lost: %s", self._task.id, error)

    def _save(self, workspace: Workspace) -> tuple[BranchFacts | None, str]:
        """Commit what the run left. A failure here must not cost the answer that was paid for, and must be told."""
        message = f"{self._task.title}\n\nTask: {self._task.id}\nRun: {self._claim.run_id}"
        try:
            return workspace.save(message), ""
        except (WorkspaceError, OSError) as error:
            _log.exception("%s: the workspace could not be saved; it stays as it is", self._task.id)
            return None, f"The work could not be committed and is in {workspace.path}: {error}"

    def _judged(self, verdict: Verdict, workspace: Workspace, branch: BranchFacts | None, trouble: str) -> Verdict:
        if verdict.result is None:
            return verdict
        result = verdict.result.evolve(branch=branch, workspace=str(workspace.path))
        if verdict.to is TaskState.PENDING_REVIEW and branch is not None:
            result = result.evolve(outlook=outlook(branch, self._settings))
        if trouble and verdict.to in {TaskState.COMPLETED, TaskState.PENDING_REVIEW}:
            error = TaskError(code=ErrorCode.WORKSPACE, message=trouble)
            verdict = verdict.evolve(to=TaskState.FAILED, reason="not saved", error=error)
            result = result.evolve(state=TaskState.FAILED, error=error)
        return verdict.evolve(branch=branch, result=self._stamped(result))

    def _context(self) -> RunContext:
        task, settings = self._task, self._settings
        return RunContext(
            task_id=task.id,
            run_id=self._claim.run_id,
            options=self._options,
            counters=task.counters,
            kind=self._claim.kind,
            needs_review=self._options.review,
            cap_usd=self._claim.cap_usd,
            spent_usd=task.cost_usd,
            retry_base_s=settings.retry_base_s,
            retry_max_s=settings.retry_max_s,
            jitter=random.random(),  # noqa: S311 - spreads retries, guards nothing
            now_ms=time.time_ns() // 1_000_000,
            session_id=self._session_id,
        )

    def _stamped(self, result: TaskResult) -> TaskResult:
        """Where it came from; a long output goes to a file and leaves its head and tail."""
        result = result.evolve(
            node=self._tools.identity.node,
            log_path=str(self._log_path),
            simulated=bool(self._tools.node_env.get(_SIMULATED)),
        )
        most = self._settings.max_output_bytes
        data = result.output.encode()
        if len(data) <= most:
            return result
        path = self._log_path.with_suffix(".output.txt")
        path.touch(mode=0o600)
        path.write_bytes(data)
        head, tail = (piece.decode(errors="ignore") for piece in (data[: most // 2], data[-(most // 4) :]))
        cut = f"\n[… {len(data) - len(head) - len(tail):,} bytes left out; the whole output is in {path} …]\n"
        return result.evolve(output=head + cut + tail, output_path=str(path))

    def _later(self, why: str) -> Verdict:
        """Somebody else works there: try again soon, without holding the slot and without counting anything."""
        return Verdict(
            to=TaskState.PARKED,
            reason=why,
            next_kind=self._claim.kind,
            parked_for=ParkedFor.RETRY,
            delay_ms=_BUSY_MS,
        )

    def _failed(self, code: ErrorCode, message: str, hint: str) -> Verdict:
        """A final failure of ours; if a run took place, its cost and its answer are kept."""
        error = TaskError(code=code, message=message, hint=hint)
        verdict = judge(self._facts or RunFacts(), self._context())
        result = (verdict.result or TaskResult(task_id=self._task.id, state=TaskState.FAILED)).evolve(
            state=TaskState.FAILED, error=error
        )
        return Verdict(
            to=TaskState.FAILED,
            reason=code,
            error=error,
            cost_usd=verdict.cost_usd,
            cost_estimated=verdict.cost_estimated,
            session_id=verdict.session_id,
            session_cost_usd=verdict.session_cost_usd,
            result=self._stamped(result),
        )


def _died_waiting(facts: RunFacts) -> bool:
    """A process that waited ended at its prompt, without a word: nothing was spent, and one can be started instead."""
    return not (facts.saw_init or facts.has_result) and facts.stopped is StopCause.NONE


def _resolved(options: TaskOptions, tools: Tools) -> TaskOptions:
    """The options with what the node decides: isolation, and the permission mode that goes with it.

    Without a repository and without a directory to work in, a task gets an empty directory of its own, where edits do
    no harm; in somebody's own directory it only reads unless it was allowed more.
    """
    settings = tools.config
    repo = options.repo or (str(settings.repo) if settings.repo else None)
    isolation = isolation_of(options, settings)
    own = isolation != "none" or options.working_dir is None
    mode = options.permission_mode or settings.permission_mode or ("acceptEdits" if own else "plan")
    return options.evolve(isolation=isolation, repo=repo, permission_mode=mode)
