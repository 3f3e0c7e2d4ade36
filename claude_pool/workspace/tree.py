"""Isolation `worktree` and `clone`: a directory of the slot's own with the task's branch in it.

Opening, in order: the slot's lock and the branch's lock, the watch over what all share, the tree made or repaired, what
a dead run left kept, the branch made or found, the files put there, the owner's preparations. Whatever fails on the way
gives everything back. Saving checks the shared parts first, then keeps. Closing lets the branch go.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Final

from claude_pool.config import PoolConfig
from claude_pool.models.options import Isolation
from claude_pool.models.task import BranchFacts
from claude_pool.models.workspace import PREFIX, WorkspaceJob
from claude_pool.workspace.base import Workspace
from claude_pool.workspace.branching import begin, drop, lock_of
from claude_pool.workspace.carry import Carrier
from claude_pool.workspace.ground import Ground
from claude_pool.workspace.hygiene import Guarded
from claude_pool.workspace.keep import facts
from claude_pool.workspace.locks import take
from claude_pool.workspace.prepare import prepare
from claude_pool.workspace.worktree import WorktreeManager

OPEN_WAIT_S: Final = 15.0


class TreeWorkspace(Workspace):
    """A task's branch in a work tree of the slot."""

    def __init__(
        self, ground: Ground, manager: WorktreeManager, job: WorkspaceJob, config: PoolConfig, carrier: Carrier
    ) -> None:
        self.path = manager.path
        self.isolation: Isolation = job.isolation
        self.branch = job.branch_name
        self._name = job.branch_name
        self._ground = ground
        self._config = config
        self._carrier = carrier
        self._manager = manager
        self._warnings: list[str] = []
        self._ready = False
        self._saved = False
        self._closed = False
        self._empty = False
        self._kept_tip = ""
        with ExitStack() as stack:
            self._open(job, stack)
            self._exit = stack.pop_all()
        self._ready = True

    def _open(self, job: WorkspaceJob, stack: ExitStack) -> None:
        target = job.target or self._config.target
        own, branch = Guarded(self._ground).lock_path(self.path.name), lock_of(self._ground, self._name)
        for lock in (own, branch):
            stack.callback(os.close, take(lock, wait_s=OPEN_WAIT_S, note=job.task_id))
        stack.callback(branch.unlink, missing_ok=True)  # there are as many of these as tasks
        if job.base_ref is not None and job.base_ref.startswith(PREFIX):
            self._carrier.bring(self._ground, job.base_ref)
        with self._ground.lock(f"{job.task_id} opens its workspace"):
            self._warnings += self._manager.enter()
            stack.callback(self._leave)
            self._warnings += self._manager.ready(self._ground.start(job.base_ref, target))
        if self._manager.note.branch:
            rescued = self._manager.note.branch
            warnings = self._manager.rescue().warnings
            self._warnings += warnings if rescued == self._name else []
        if job.expects is not None or job.continues:
            self._carrier.bring(self._ground, self._name, expects=job.expects)
        with self._ground.lock(f"{job.task_id} begins {self._name}"):
            begun = begin(self._ground, job, target=target, own=self.path)
        self._warnings += begun.warnings
        self.base, self._new, self._kept_tip = begun.base, begun.new, begun.tip
        stack.callback(self._drop_if_empty)
        self._empty = begun.new
        self._manager.check_out(job.task_id, self._name, begun.tip)
        stack.callback(self._let_go)
        prepare(self._manager, self._config, self._ground.top, begun.tip)

    def save(self, message: str) -> BranchFacts | None:
        with self._ground.lock(f"saving {self._name}"):
            self._warnings += self._manager.inspect()
        kept = self._manager.keep(self._name, message)
        self._saved = True
        self._kept_tip = kept.tip
        assert self.base is not None
        found = facts(self._ground, self._name, self.base, kept)
        self._empty = self._new and kept.tip == self.base and not kept.aside
        sent = "" if self._empty else self._carrier.send(self._ground, found)
        found = found.evolve(warnings=(*self._warnings, *found.warnings, *([sent] if sent else ())))
        return None if self._empty and not found.warnings else found

    def close(self) -> None:
        with self._exit.pop_all():
            if not (self._closed or self._saved):
                self._closed = True
                self.save(f"claude-pool: what was left on {self._name}")

    def _let_go(self) -> None:
        if self._saved or not self._ready:  # else the next opening of this tree keeps what is in it
            self._manager.let_go()

    def _leave(self) -> None:
        with self._ground.lock(f"leaving {self._name}"):
            self._manager.leave()

    def _drop_if_empty(self) -> None:
        if self._empty and (self._saved or not self._ready):
            with self._ground.lock(f"dropping {self._name}"):
                drop(self._ground, self._name, self._kept_tip)
