"""One task from claim to finish: the pipeline that everything else serves.

    answer ─ claim ─ workspace ─ start ─ run ─ save ─ judge ─ finish

A claim that is refused costs nothing and says nothing. Until `start` is durable in the store no process exists; after
it, money may have been spent, and every way out leads through a verdict: kept in the journal, applied by one script,
fenced by the run's id. Failures of our own (a workspace that can't be had, a bug) become verdicts as well, so that no
task is left running without a slot; what even that misses, the lease brings back.

The script that ends a task says what became ready by it, a chain's next step or a fan-out's next branch: it is rung
from here, or by the link that the doorbell carries, never by both.
"""

from __future__ import annotations

import logging
import time

from claude_pool.errors import PoolError, StoreReset, Unreachable
from claude_pool.ids import new_run_id
from claude_pool.keys import queue_of_node
from claude_pool.models.run import StopCause
from claude_pool.models.task import Task, TaskState
from claude_pool.models.verdict import Verdict
from claude_pool.store.base import Claim, Doorbell, Ended, RefusedClaim
from workers.guarded import boottime_s
from workers.journal import Entry
from workers.runner import Controls
from workers.running import Running
from workers.tools import Tools

_log = logging.getLogger(__name__)

_KNOCK_S = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Pauses between attempts to reach the store with a result in hand."""


class Slot:
    """Answers doorbells, one at a time."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._controls: Controls | None = None
        self._draining = False

    def checkpoint(self) -> None:
        """Stop what runs so that it can be continued, and start nothing more."""
        self._draining = True
        if (controls := self._controls) is not None:
            controls.stop(StopCause.DRAINED)

    def answer(self, task_id: str, link: Doorbell | None = None) -> bool:
        """Carry out the task that a doorbell named. True when the doorbell's next link is to be rung by Celery.

        What became ready by the task's end is rung here, unless it is just what `link` would ring.
        """
        if self._draining:
            return False
        until_s = boottime_s() + self._tools.config.lease_s
        claim = self._claim(task_id)
        if claim is None:
            return False
        self._controls = controls = Controls()
        try:
            with self._tools.heart.carrying(task_id, claim.run_id, controls, until_s=until_s):
                verdict = Running(self._tools, claim, controls).verdict()
                ended = self._release(claim) if verdict is None else self._finish(claim, verdict)
        finally:
            self._controls = None
        linked = ended is not None and self._ring(ended, link)
        self._tools.warm.settle()
        return linked

    def _claim(self, task_id: str) -> Claim | None:
        tools = self._tools
        try:
            answer = tools.store.tasks.claim(task_id, tools.identity, new_run_id(), lease_ms=tools.config.lease_ms)
        except PoolError as error:
            _log.warning("%s: not claimed: %s", task_id, error)
            return None
        if isinstance(answer, Claim):
            return answer
        level = logging.ERROR if answer is RefusedClaim.STORE_RESET else logging.DEBUG
        _log.log(level, "%s: claim refused: %s", task_id, answer)
        return None

    def _release(self, claim: Claim) -> Ended | None:
        """Nothing was started, so nothing was spent: somebody else may have it."""
        try:
            if self._tools.store.tasks.release(claim.task.id, claim.run_id, reason="not started"):
                return Ended(task=self._tools.store.tasks.get(claim.task.id))
        except PoolError as error:
            _log.warning("%s: not released, its lease will run out: %s", claim.task.id, error)
        return None

    def _finish(self, claim: Claim, verdict: Verdict) -> Ended | None:
        """Tell the store, however long it is away; the journal has it meanwhile."""
        journal, tasks = self._tools.journal, self._tools.store.tasks
        entry = Entry(task_id=claim.task.id, run_id=claim.run_id, verdict=verdict)
        journal.write(entry)
        failures = 0
        while True:
            try:
                ended = tasks.end(claim.task.id, claim.run_id, verdict)
            except Unreachable as error:
                if not failures:
                    journal.write(entry, durable=True)
                    _log.warning("%s: the result waits for the store: %s", claim.task.id, error)
                time.sleep(_KNOCK_S[min(failures, len(_KNOCK_S) - 1)])
                failures += 1
                continue
            except StoreReset as error:
                _log.error("%s: the result stays in the journal: %s", claim.task.id, error)
                return None
            journal.remove(claim.run_id)
            if ended is None:
                _log.warning("%s: run %s was superseded; its result is not taken", claim.task.id, claim.run_id)
            return ended

    def _ring(self, ended: Ended, link: Doorbell | None) -> bool:
        """Ring for what waits now; True when the doorbell's own link does it for all there is."""
        bells = [*([self._again(ended.task)] if ended.task.state is TaskState.PENDING else []), *ended.bells]
        linked = len(bells) == 1 and link is not None and link == bells[0].evolve(group="", then=())
        if bells and not linked:
            try:
                self._tools.broker.ring(bells)
            except Unreachable as error:
                _log.warning("%s: what follows it was not rung: %s", ended.task.id, error)
        return linked

    def _again(self, task: Task) -> Doorbell:
        """For what waits again: on this node for as long as it stays, because the session's transcript is here."""
        here = task.next_kind == "continuation" and not self._draining
        queue = queue_of_node(self._tools.identity.node) if here else task.queue
        return Doorbell(task_id=task.id, queue=queue, priority=task.options.priority)
