"""A store of dictionaries: what the scripts should do, said a second time and as plainly as can be.

It knows no time: leases and delays end when the machine says so. Breakers are left out; they have tests of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LEAST = 10_000
"""Micro-dollars below which a run without a cap is not started."""

FINAL = {"completed", "failed", "cancelled"}
AT_WORK = {"claimed", "running"}
_COUNTED = {
    "continuation": ("continuations",),
    "infra": ("infra_retries",),
    "crash": ("crashes",),
    "attempt": ("attempts",),
    "restart": ("crashes", "attempts"),
}
COUNTERS = ("runs", "attempts", "continuations", "infra_retries", "crashes")


@dataclass
class ModelTask:
    """A task and what happened to it. Money is micro-dollars."""

    cap: int | None
    on_lost: str
    limits: dict[str, int]
    state: str = "pending"
    run_id: str | None = None
    cost: int = 0
    reserved: int = 0
    paid: bool = False
    session: bool = False
    next_kind: str = "attempt"
    cancel: str | None = None
    parked_for: str | None = None
    settled: set[str] = field(default_factory=set)
    lost: str | None = None
    charge: int = 0
    slot: int | None = None
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))


@dataclass
class Model:
    """A pool with so many slots and one ledger; every method answers what the store should."""

    slots: int
    limit: int | None = None
    reserved: int = 0
    spent: int = 0
    tasks: dict[str, ModelTask] = field(default_factory=dict)
    moves: int = 0
    """Changes of state so far, births included."""

    @property
    def room(self) -> int | None:
        """What the limit leaves; None without a limit."""
        return None if self.limit is None else self.limit - self.reserved - self.spent

    def busy(self) -> set[int]:
        """Slots that hold something."""
        return {task.slot for task in self.tasks.values() if task.state in AT_WORK and task.slot is not None}

    def _to(self, task: ModelTask, state: str, parked_for: str | None = None) -> None:
        task.state, task.parked_for = state, parked_for
        self.moves += 1
        if state in FINAL:
            task.cancel = None

    def _settle(self, task: ModelTask, cost: int) -> None:
        self.reserved -= task.reserved
        self.spent += cost
        task.cost += cost
        task.reserved = 0

    def submit(self, task_id: str, task: ModelTask) -> None:
        self.tasks[task_id] = task
        self.moves += 1

    def need(self, task: ModelTask) -> int | str | None:
        """Micro-dollars to reserve, None without any limit, or "refused"."""
        if task.cap is not None:
            need = task.cap - task.cost
            return "refused" if need <= 0 or (self.room is not None and need > self.room) else need
        if self.room is None:
            return None
        share = max(self.room // max(self.slots - len(self.busy()), 1), 0)
        return "refused" if share < LEAST else share

    def claim(self, task_id: str, slot: int, run_id: str) -> str:
        task = self.tasks[task_id]
        if task.state != "pending":
            return "not_pending"
        need = self.need(task)
        if need == "refused":
            self._to(task, "parked", "budget")
            return "no_budget"
        assert not isinstance(need, str)
        self._to(task, "claimed")
        task.reserved = need or 0
        self.reserved += task.reserved
        task.run_id, task.slot, task.lost, task.charge = run_id, slot, None, 0
        task.counts["runs"] += 1
        if task.next_kind == "attempt" or not task.session:
            task.counts["attempts"] = max(task.counts["attempts"], 1)
            task.session = False
        return "granted"

    def release(self, task_id: str, run_id: str) -> bool:
        task = self.tasks[task_id]
        if task.run_id != run_id or task.state != "claimed":
            return False
        self._settle(task, 0)
        self._unpaid(task)
        self._to(task, "pending")
        return True

    def _unpaid(self, task: ModelTask) -> None:
        if not task.paid:
            task.counts["attempts"] = 0

    def start(self, task_id: str, run_id: str) -> bool:
        task = self.tasks[task_id]
        if task.run_id != run_id or task.state != "claimed":
            return False
        task.paid = task.session = True
        self._to(task, "running")
        return True

    def beat(self, task_id: str, run_id: str) -> tuple[bool, str | None]:
        task = self.tasks[task_id]
        fenced = task.run_id != run_id or task.state not in AT_WORK
        return fenced, None if fenced else task.cancel

    def finish(self, task_id: str, run_id: str, to: str, cost: int, counts_as: str) -> bool:
        task = self.tasks[task_id]
        if task.run_id != run_id:
            return False
        if run_id in task.settled:
            return True
        late = task.lost == run_id and task.state in {"pending", "parked"}
        if not late and task.state not in AT_WORK:
            return False
        to = "cancelled" if task.cancel else to
        if task.state == "claimed" and to in {"completed", "pending_review"}:
            return False
        self._settle(task, cost - (task.charge if late else 0))
        task.settled.add(run_id)
        repeats = to in {"pending", "parked"}
        if task.state == "claimed" and repeats:
            self._unpaid(task)
        task.lost, task.charge = None, 0
        for name in () if late else _COUNTED.get(counts_as, ()):
            if repeats or name == "crashes":
                task.counts[name] += 1
        if not (late and to in {"pending", task.state}):
            task.next_kind = "continuation"
            self._to(task, to, "retry" if to == "parked" else None)
        return True

    def cancel(self, task_id: str) -> None:
        task = self.tasks[task_id]
        if task.state in FINAL:
            return
        if task.state == "running":
            task.cancel = "asked"
            return
        if task.state == "claimed":
            self._settle(task, 0)
        self._to(task, "cancelled")

    def lose(self, task_id: str) -> str:
        task = self.tasks[task_id]
        if task.state == "claimed":
            self._settle(task, 0)
            self._unpaid(task)
            task.counts["infra_retries"] += 1
            over = task.counts["infra_retries"] > task.limits["max_infra_retries"]
            self._to(task, "failed" if over else "pending")
            return task.state
        task.charge = task.reserved
        self._settle(task, task.charge)
        task.counts["crashes"] += 1
        task.lost = task.run_id
        self._to(task, *self._by_policy(task))
        return task.state

    def _by_policy(self, task: ModelTask) -> tuple[str, str | None]:
        counts, limits = task.counts, task.limits
        if task.cancel:
            return "cancelled", None
        if counts["crashes"] >= limits["max_crashes"]:
            return "failed", None
        if task.on_lost == "hold":
            task.next_kind = "continuation"
            return "parked", "hold"
        if task.on_lost == "resume" and counts["continuations"] < limits["max_continuations"]:
            counts["continuations"] += 1
            task.next_kind = "continuation"
            return "pending", None
        if task.on_lost == "restart" and counts["attempts"] < limits["max_attempts"]:
            counts["attempts"] += 1
            task.next_kind = "attempt"
            return "pending", None
        return "failed", None

    def hold(self, task_id: str) -> bool:
        task = self.tasks[task_id]
        if task.state != "pending":
            return False
        self._to(task, "parked", "hold")
        return True

    def wake(self, task_id: str) -> bool:
        task = self.tasks[task_id]
        if task.state != "parked":
            return False
        self._to(task, "pending")
        return True
