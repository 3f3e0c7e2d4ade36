"""Who acts in the virtual world: slots that do at protocol level what a real one does, and clients that submit.

A slot's guard is a deadline: at the moment the lease may have run out its execution is dead, whatever the slot itself
does (it may be stopped, and go on later as if nothing had happened). A slot that is killed leaves its journal, and its
seat to a new incarnation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

from chaosrig import plans
from chaosrig.history import Report, Submission
from chaosrig.world import LEASE_MS, World
from claude_pool.errors import PoolError, SlotTaken, Unreachable
from claude_pool.ids import new_run_id
from claude_pool.keys import QUEUE, queue_of_node
from claude_pool.models.base import to_micros
from claude_pool.models.pool import SlotIdentity, slot_id
from claude_pool.models.run import RunFacts
from claude_pool.models.task import Task, TaskRequest, TaskState
from claude_pool.models.verdict import Verdict
from claude_pool.retry import RunContext, judge
from claude_pool.store.base import Claim, Doorbell
from workers.journal import Entry

BEAT_MS: Final = LEASE_MS // 6
REBIRTH_MS: Final = 40


class VirtualSlot:
    """One slot. `step` lets it do one thing."""

    def __init__(self, world: World, number: int, node: str, journal: dict[str, Entry]) -> None:
        self._world = world
        self._number = number
        self._node = node
        self._journal = journal
        self._next: Callable[[], None] = self._arrive
        self._reborn_ms = 0
        self._stalled_until = 0
        self._stall_at_claim = 0
        self._deadline = 0
        self._beaten_at = 0
        self._claim: Claim | None = None
        self._session = ""
        self._plan = plans.Plan("ok", 1, 0, 0)
        self._left = 0
        self._paid = 0
        self._verdict: Verdict | None = None
        self.identity = self._born()
        world.guards.append(self._guard)

    def _born(self) -> SlotIdentity:
        name = slot_id(self._number, self._node)
        self._world.pids += 1
        return SlotIdentity(
            slot_id=name, node=self._node, number=self._number, incarnation=new_run_id(), pid=self._world.pids
        )

    @property
    def idle(self) -> bool:
        return self._claim is None

    @property
    def runs(self) -> bool:
        """An execution is under way."""
        return self._claim is not None and self._claim.run_id in self._world.running

    # What is done to it

    def kill(self) -> None:
        """kill -9: its guard kills the run at once; a new incarnation comes soon.

        One time in two its supervisor is there to bury it, else its lease has to run out.
        """
        self._world.fault("slot_kill", self.identity.slot_id)
        if self._claim is not None:
            self._world.end(self._claim.run_id, None)
        self._claim = self._verdict = None
        self._stalled_until = 0
        self._reborn_ms = self._world.now_ms + REBIRTH_MS
        self._next = self._arrive
        if self._world.rng.random() < 0.5:
            self._bury()

    def _bury(self) -> None:
        """What the supervisor does: deliver the journal, then declare the slot dead."""
        try:
            for run_id, entry in list(self._journal.items()):
                if run_id not in self._world.running:
                    self._world.ask(lambda entry=entry: self._finish(entry))
                    self._journal.pop(run_id, None)
            self._world.ask(lambda: self._world.store.slots.bury(self.identity.slot_id, self.identity.pid))
        except Unreachable:
            return

    def stall(self, ms: int, *, at_claim: bool = False) -> None:
        """SIGSTOP, now or at the next claim, and SIGCONT so much later."""
        self._world.fault("slot_stall", self.identity.slot_id)
        if at_claim:
            self._stall_at_claim = ms
        else:
            self._stalled_until = self._world.now_ms + ms

    def kill_run(self) -> None:
        """kill -9 for the CLI alone."""
        if self._claim is not None and self.runs:
            self._world.fault("cli_kill", self._claim.run_id)
            self._die("crash")

    def _guard(self) -> None:
        """The guard's own watch: it acts also while the slot is stopped."""
        if self._claim is not None and self._world.now_ms >= self._deadline:
            self._world.end(self._claim.run_id, None)

    # What it does

    def step(self) -> None:
        if self._world.now_ms < self._stalled_until:
            return
        if self._next != self._arrive and self._world.now_ms >= self._beaten_at + BEAT_MS:
            self._beat()
        with contextlib.suppress(Unreachable):
            self._next()

    def _arrive(self) -> None:
        if self._world.now_ms < self._reborn_ms:
            return
        self.identity = self._born()
        try:
            self._world.store.slots.register_slot(self.identity, lease_ms=LEASE_MS)
        except SlotTaken:
            self._reborn_ms = self._world.now_ms + REBIRTH_MS
            return
        self._beaten_at = self._world.now_ms
        self._next = self._deliver

    def _deliver(self) -> None:
        """What an earlier life of the node left in the journal."""
        for run_id, entry in list(self._journal.items()):
            if run_id not in self._world.running:
                self._world.ask(lambda entry=entry: self._finish(entry))
                self._journal.pop(run_id, None)
        self._next = self._listen

    def _listen(self) -> None:
        task_id = self._world.hear([queue_of_node(self._node), QUEUE])
        if task_id is None:
            return
        deadline = self._world.now_ms + LEASE_MS
        run_id = new_run_id()
        answer = self._world.ask(
            lambda: self._world.store.tasks.claim(task_id, self.identity, run_id, lease_ms=LEASE_MS)
        )
        if not isinstance(answer, Claim):
            return
        self._claim, self._deadline = answer, deadline
        self._plan = plans.plan_of(answer.prompt)
        self._session = answer.resume_session_id or new_run_id()
        self._stalled_until, self._stall_at_claim = self._world.now_ms + self._stall_at_claim, 0
        self._next = self._release if self._world.faults and self._world.rng.random() < 0.01 else self._start

    def _release(self) -> None:
        claim, self._next = self._claim, self._listen
        self._claim = None
        assert claim is not None
        if self._world.ask(lambda: self._world.store.tasks.release(claim.task.id, claim.run_id, reason="leaving")):
            self._ring(claim.task)

    def _start(self) -> None:
        claim = self._claim
        assert claim is not None
        try:
            started = self._world.ask(
                lambda: self._world.store.tasks.start(claim.task.id, claim.run_id, session_id=self._session)
            )
        except Unreachable:
            started = False
        if not started:
            self._next = self._release
            return
        self._left, self._paid = self._plan.steps, 0
        self._world.begin(claim.task.id, claim.run_id)
        self._guard()
        self._next = self._work

    def _work(self) -> None:
        """One piece of work, paid for; at the end the answer, or what the plan says instead."""
        claim, world = self._claim, self._world
        assert claim is not None
        one = world.running.get(claim.run_id)
        if one is None:
            self._report("lease", self._paid)
            return
        failing = self._plan.kind not in {"ok", "slow"} and world.executed[claim.task.id] < self._plan.times
        if failing and self._plan.kind in {"api", "limit", "login"}:
            self._stop_working(self._plan.kind)
            return
        part = self._plan.micros // self._plan.steps + 1
        if claim.cap_usd is not None and self._paid + part > to_micros(claim.cap_usd):
            self._stop_working("budget")
            return
        one.paid += part
        self._paid += part
        world.sessions[self._session] += part
        self._left -= 1
        if self._left <= 0:
            self._stop_working(self._plan.kind if failing else "ok")

    def _stop_working(self, kind: str) -> None:
        """The run ends by itself, in this way."""
        claim, world = self._claim, self._world
        assert claim is not None
        if kind not in {"ok", "cancelled", "fenced"}:
            world.executed[claim.task.id] += 1
        if kind in {"crash", "poison"}:
            world.end(claim.run_id, None)
        else:
            world.end(claim.run_id, "exit_0" if kind == "cut" else kind)
        self._report(kind, self._paid)

    def _die(self, kind: str) -> None:
        assert self._claim is not None
        self._world.end(self._claim.run_id, None)
        self._report(kind, self._paid)

    def _report(self, kind: str, paid: int) -> None:
        claim = self._claim
        assert claim is not None
        total = self._world.sessions[self._session]
        facts = plans.facts(
            kind, answer=claim.prompt, session_id=self._session, paid=paid, total=total, now_ms=self._world.now_ms
        )
        self._verdict = judge(facts, self._context(claim, facts))
        self._next = self._tell

    def _context(self, claim: Claim, facts: RunFacts) -> RunContext:
        task = claim.task
        return RunContext(
            task_id=task.id, run_id=claim.run_id, options=task.options, counters=task.counters, kind=claim.kind,
            cap_usd=claim.cap_usd, spent_usd=task.cost_usd, retry_base_s=0.2, retry_max_s=2.0,
            jitter=self._world.rng.random(), now_ms=self._world.now_ms, session_id=self._session,
        )  # fmt: skip

    def _tell(self) -> None:
        """Tell the store; the journal has it until it answers."""
        claim, verdict = self._claim, self._verdict
        assert claim is not None
        assert verdict is not None
        entry = Entry(task_id=claim.task.id, run_id=claim.run_id, verdict=verdict)
        self._journal[claim.run_id] = entry
        task = self._world.ask(lambda: self._finish(entry))
        self._journal.pop(claim.run_id, None)
        self._claim = self._verdict = None
        self._next = self._listen
        if task is not None and task.state is TaskState.PENDING:
            self._ring(task)

    def _finish(self, entry: Entry) -> Task | None:
        task = self._world.store.tasks.finish(entry.task_id, entry.run_id, entry.verdict)
        self._world.history.reports.append(Report(entry.task_id, entry.run_id, task.run_id if task else None))
        return task

    def _ring(self, task: Task) -> None:
        self._world.ring([Doorbell(task_id=task.id, queue=task.queue, priority=task.options.priority)])

    def _beat(self) -> None:
        """What the heart does; the deadline counts from before the question."""
        asked_at, claim = self._world.now_ms, self._claim
        self._beaten_at = asked_at
        try:
            beat = self._world.ask(
                lambda: self._world.store.slots.beat(
                    self.identity, task_id=claim.task.id if claim else None, run_id=claim.run_id if claim else None,
                    lease_ms=LEASE_MS, progress="",
                )
            )  # fmt: skip
        except Unreachable:
            return
        if beat.fenced and claim is None:
            try:
                self._world.store.slots.register_slot(self.identity, lease_ms=LEASE_MS)
            except SlotTaken:
                self.kill()
            return
        if not beat.fenced and claim is not None:
            self._deadline = asked_at + LEASE_MS
        if claim is not None and claim.run_id in self._world.running:
            if beat.fenced:
                self._stop_working("fenced")
            elif beat.cancel and not self._world.chance("stop_unheard"):
                self._stop_working("cancelled")


class Client:
    """Submits, cancels and holds; repeats what was not answered, with the same key."""

    def __init__(self, world: World, tasks: int, *, batch: int = 20) -> None:
        self._world = world
        self._batch = batch
        self._requests = [plans.request(world.rng, f"key-{world.seed}-{number}") for number in range(tasks)]
        world.history.answers |= {str(one.idempotency_key): one.prompt for one in self._requests}
        self._unanswered: list[list[TaskRequest]] = []
        self.known: list[str] = []

    @property
    def done(self) -> bool:
        return not self._requests and not self._unanswered

    def step(self) -> None:
        if self._unanswered:
            self._submit(self._unanswered.pop())
        elif self._requests:
            size = self._world.rng.randint(1, self._batch)
            batch, self._requests = self._requests[:size], self._requests[size:]
            self._submit(batch)
            if self._world.faults and self._world.rng.random() < 0.1:
                self._submit(batch)  # a coordinator that calls its tool twice

    def _submit(self, batch: list[TaskRequest]) -> None:
        keys = [str(one.idempotency_key) for one in batch]
        try:
            answers = self._world.ask(lambda: self._world.store.tasks.submit(batch, queue=QUEUE))
        except Unreachable:
            self._unanswered.append(batch)
            for key in keys:
                self._world.told(Submission(key, "unknown"))
            return
        for key, answer in zip(keys, answers, strict=True):
            self._world.told(Submission(key, "ok", answer.task_id))
        made = [one.task_id for one in answers]
        self.known += made
        self._world.ring([Doorbell(task_id=one, queue=QUEUE, priority=2) for one in made])

    def meddle(self) -> None:
        """Cancel or hold somebody, or ring for nobody."""
        world = self._world
        if not self.known:
            return
        under_way = [one.task for one in world.running.values()]
        task_id = world.rng.choice(under_way if under_way and world.rng.random() < 0.5 else self.known[-200:])
        try:
            match world.rng.randrange(4):
                case 0:
                    world.fault("cancel", task_id)
                    world.ask(lambda: world.store.tasks.cancel(task_id, reason="not wanted"))
                case 1:
                    world.store.tasks.hold(task_id, reason="wait")
                case 2:
                    if bell := world.store.tasks.wake(task_id):
                        world.ring([bell])
                case _:
                    world.fault("bell_forged")
                    world.bells[QUEUE] += ["t-0000000000", task_id, "", "../../etc/passwd"]
        except PoolError:
            return
