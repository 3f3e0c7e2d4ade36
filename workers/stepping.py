"""Stepping: what makes a task a step of a chain or a branch of a fan-out, around its run.

Before the run: what the others said is read from the store, the condition is asked, the prompt's template is filled in,
long texts are laid into the workspace. After it: the values that later steps were promised are taken from the answer,
the gate is asked, and the failure policy says whether a failure is the end. What is decided is decided by pure code
(`claude_pool.chain`); here is the reading, the writing and the one command.
"""

from __future__ import annotations

import logging
import random
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from claude_pool.chain import Sight, after_failure, escalated, passed_over, take_vars, told_again
from claude_pool.conditions import holds
from claude_pool.models.chain import Gate
from claude_pool.models.graph import Inputs, StepPlan
from claude_pool.models.options import TaskOptions, prompt_text
from claude_pool.models.task import ErrorCode, TaskError, TaskResult, TaskState
from claude_pool.models.verdict import Verdict
from claude_pool.models.workspace import PREFIX, WorkspaceJob
from claude_pool.store.base import Claim
from claude_pool.templates import FOLDER, Rendered, Value, escaped, render, with_args
from claude_pool.workspace.prepare import put_inputs, take_inputs_away
from workers import gate
from workers.controls import Controls
from workers.tools import Tools

_log = logging.getLogger(__name__)

_WELL: Final = frozenset({TaskState.COMPLETED, TaskState.PENDING_REVIEW})


class Stepping:
    """One claim of a step. Reads the store when it is made: raises PoolError."""

    def __init__(self, tools: Tools, claim: Claim, plan: StepPlan) -> None:
        self._tools = tools
        self._claim = claim
        self._plan = plan
        self._inputs: Inputs = tools.store.graph.inputs(plan)
        self._sight = Sight(
            plan,
            self._inputs,
            boundary=secrets.token_hex(6),
            most_bytes=tools.config.inline_output_bytes,
            own_file=self._own_file,
            error=claim.note.error,
        )
        self._laid = False

    def _own_file(self, result: TaskResult) -> str | None:
        """The file with the whole of a long answer, when it is on this node."""
        here = result.node == self._tools.identity.node and result.output_path is not None
        return result.output_path if here and result.output_path and Path(result.output_path).is_file() else None

    # -- before the run

    def passed_over(self) -> Verdict | None:
        """The verdict of a step whose condition does not hold; None when it is to run."""
        when = self._plan.when
        if when is None or self._claim.task.counters.runs > 1 or holds(when, self._sight.look):
            return None
        return passed_over(f"its condition does not hold: {when}")

    def options(self, options: TaskOptions) -> TaskOptions:
        """The options of this run: stronger after a failure, when the policy says so."""
        return escalated(options, self._claim.note, self._plan.policy)

    def job(self, job: WorkspaceJob) -> WorkspaceJob:
        """The workspace: of a chain, its branch; of a branch within a chain, one that starts from the chain's."""
        plan = self._plan
        if job.isolation == "none" or plan.chain is None:
            return job.evolve(fresh=job.fresh and not self._claim.note.failures)
        if plan.beside:
            base = {"base_ref": f"{PREFIX}{plan.chain}"} if self._inputs.tip else {}
            return job.evolve(fresh=job.fresh and not self._claim.note.failures, **base)
        return job.evolve(branch=f"{PREFIX}{plan.chain}", fresh=False, expects=self._inputs.tip)

    def prompt(self, tree: Path) -> str:
        """The prompt, filled in; long texts are in the workspace. Raises ValueError for one that can't be sent."""
        plan, note, most = self._plan, self._claim.note, self._tools.config.inline_output_bytes
        template = self._claim.prompt if plan.template else escaped(self._claim.prompt)
        if note.recovering and plan.policy.recovery_prompt is not None:
            template = plan.policy.recovery_prompt
        done = render(template, self._sight.value_of, most_bytes=most)
        self._lay(done, tree)
        return prompt_text(told_again(done.text, note, plan.policy))

    def _lay(self, done: Rendered, tree: Path) -> None:
        if done.files:
            put_inputs(tree, {name.removeprefix(f"{FOLDER}/"): _content(value) for name, value in done.files.items()})
            self._laid = True

    @property
    def begins(self) -> bool:
        """This run is the step's first, though it resumes the session of the step before."""
        counters = self._claim.task.counters
        repeats = counters.continuations or counters.infra_retries or counters.crashes or self._claim.feedback
        return self._plan.session == "previous" and not repeats

    # -- after the run

    def checked(self, verdict: Verdict, *, env: Mapping[str, str], tree: Path, controls: Controls) -> Verdict:
        """The verdict, with the step's values; failed when one is missing or the gate is closed."""
        if self._laid:
            take_inputs_away(tree)
        if verdict.to not in _WELL or verdict.result is None:
            return verdict
        values, error = take_vars(self._plan, verdict.result)
        if error is None and self._plan.gate is not None:
            error = gate.check(
                self._gate(self._plan.gate), env=env, cwd=str(tree), guard=self._tools.guard, controls=controls
            )
        if error is None:
            return verdict.evolve(vars=values)
        return failed(verdict, error).evolve(vars=values)

    def _gate(self, wanted: Gate) -> Gate:
        return wanted if wanted.command is None else wanted.evolve(command=with_args(wanted.command, self._inputs.args))

    def settled(self, verdict: Verdict) -> Verdict:
        """The verdict after the failure policy had its say."""
        jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
        return after_failure(verdict, self._plan, self._claim.note, jitter=jitter)


def failed(verdict: Verdict, error: TaskError) -> Verdict:
    """A success that is none after all; cost and answer are kept."""
    result = verdict.result.evolve(state=TaskState.FAILED, error=error) if verdict.result else None
    return verdict.evolve(to=TaskState.FAILED, reason=error.code, error=error, result=result)


def unfit(error: ValueError) -> TaskError:
    """The error of a prompt that became too large, say, when it was filled in."""
    return TaskError(code=ErrorCode.INVALID_REQUEST, message=f"The prompt, filled in, {error}.")


def _content(value: Value) -> bytes:
    """The whole of a text: from its file while that is there, else as far as the store has it."""
    if value.path:
        try:
            return Path(value.path).read_bytes()
        except OSError as error:
            _log.warning("%s is gone, the part of it in the store is used: %s", value.path, error)
    return value.text.encode(errors="replace")
