"""Chaos at process level: real nodes, a real Redis, a fake `claude`, and signals at moments that a seed chooses.

One thread hands in the load, one reads the store's events as they come (the stream is capped), the main one hurts. When
the faults are over everything has to come to its end; then the nodes are stopped, and what they left is looked for.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from chaosrig import load, quick
from chaosrig.history import Fault, History, Money, Submission
from chaosrig.shapes import PATIENT, Shape, shapes
from chaosrig.victims import Victims, marked
from claude_pool.config import PoolConfig
from claude_pool.errors import PoolError
from claude_pool.models.base import to_micros
from claude_pool.models.graph import Whole
from claude_pool.models.task import TaskRequest, TaskState
from claude_pool.pool import Pool
from claude_pool.processes import WaitTimeout
from claude_pool.store import open_store
from claude_pool.store.base import TaskFilter
from claude_pool.testing import ledger
from claude_pool.testing.node import TestNode
from claude_pool.testing.redis_server import RedisServer, find_program, short_folder

PATIENCE_S = 300.0
BATCH = 50
_EMPTY = ("leases", "due", "bells", "slots", "nodes", "deadlines", "stopping")
LEAST_USD, MORE_USD = 3.0, 12.0
"""The pool's limit is raised when so little is left; all slots at work reserve all of it between them."""
MISS_S = 2.0
"""How long a fault waits for somebody to hit."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How large, and how much of each fault."""

    tasks: int = 300
    """All of them, those of chains and fan-outs included."""
    graphs: int = 12
    """Chains and fan-outs."""
    nodes: int = 2
    slots: int = 4
    """Of each node."""
    lease_s: float = 3.0
    within_s: float = 20.0
    """The faults are spread over this time; more come as long as tasks are left to do."""
    mix: dict[str, int] = field(default_factory=lambda: load.MIXED)
    faults: dict[str, int] = field(default_factory=lambda: SHORT)


SHORT = {
    "slot_kill": 14, "guard_kill": 3, "cli_kill": 6, "slot_stop": 3, "housekeeper_kill": 2, "supervisor_kill": 1,
    "redis_kill": 2, "client_kill": 3, "bells_lost": 4, "bells_repeated": 4, "bells_forged": 4, "cancel": 10,
}  # fmt: skip

FULL = {
    "slot_kill": 500, "guard_kill": 30, "cli_kill": 40, "slot_stop": 15, "housekeeper_kill": 10, "supervisor_kill": 4,
    "redis_kill": 20, "client_kill": 20, "bells_lost": 30, "bells_repeated": 30, "bells_forged": 20, "cancel": 100,
}  # fmt: skip


def node_chaos(seed: int, plan: Plan, *, say: Callable[[str], None] = lambda _: None) -> History:
    """Play one storm on nodes of its own, and clear everything away."""
    program = find_program()
    assert program is not None, "redis-server is missing"
    with ExitStack() as stack:
        server = RedisServer(program)
        stack.callback(server.remove)
        server.start()
        home = short_folder()
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        return _Storm(seed, plan, server, home, scratch, stack, say).play()


class _Storm:
    def __init__(
        self, seed: int, plan: Plan, server: RedisServer, home: Path, scratch: Path, stack: ExitStack,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._rng = random.Random(seed)
        self._plan = plan
        self._server = server
        self._say = say
        self._ledger = scratch / "ledger"
        self._config = PoolConfig(
            name=f"chaos{os.getpid()}-{seed}", home=home, redis_url=server.url, lease_s=plan.lease_s, slack_s=0.3,
            claude=quick.install(scratch / "claude", ledger=self._ledger), slots=plan.slots, stop_grace_s=1,
            drain_s=10, housekeeping_s=0.2, retry_base_s=0.1, retry_max_s=1, timeout_s=60, silence_timeout_s=20,
        )  # fmt: skip
        self.history = History(seed)
        self._nodes = [TestNode(self._config.model_copy(update={"node": f"n{number}"})) for number in range(plan.nodes)]
        for node in self._nodes:
            stack.callback(node.__exit__, None, None, None)
        self._store = open_store(server.url, self._config)
        stack.callback(self._store.close)
        self._pool = Pool.open(self._config)
        stack.callback(self._pool.close)
        self._victims = Victims(self._rng, self._nodes, server, self._config.name)
        self._shapes = shapes(self._rng, plan.graphs)
        alone = plan.tasks - sum(shape.tasks for shape in self._shapes)
        self._requests, self.history.answers = load.requests(self._rng, alone, plan.mix)
        self.history.answers |= {shape.key: shape.answer for shape in self._shapes}
        self._wholes: list[str] = []
        self._ids: list[str] = []
        self._stopped: list[tuple[float, int]] = []
        self._over = threading.Event()
        self._cursor = ""

    def play(self) -> History:
        for node in self._nodes:
            node.start()
        self._say(f"{self._plan.nodes} nodes with {self._plan.slots} slots each")
        began = time.monotonic()
        bodies = (self._watch, self._submit_all, self._submit_graphs)
        threads = [threading.Thread(target=body, daemon=True) for body in bodies]
        for thread in threads:
            thread.start()
        try:
            self._hurt()
            for thread in threads[1:]:
                thread.join(PATIENCE_S)
            self._await_the_end()
        finally:
            self.history.duration_s = time.monotonic() - began
            self._over.set()
            threads[0].join(PATIENCE_S)
        self._witness()
        return self.history

    # The client

    def _submit_all(self) -> None:
        rng = random.Random(self._rng.random())
        waiting = [self._requests[at : at + BATCH] for at in range(0, len(self._requests), BATCH)]
        while waiting:
            batch = waiting.pop(0)
            if not self._submit(batch):
                waiting.insert(0, batch)
                time.sleep(0.05)
            elif rng.random() < 0.05:
                self._submit(batch)  # asked twice, with the same keys

    def _submit(self, batch: list[TaskRequest]) -> bool:
        keys = [str(one.idempotency_key) for one in batch]
        try:
            answers = self._pool.submit_many(batch)
        except PoolError:
            self.history.submissions += [Submission(key, "unknown") for key in keys]
            return False
        self.history.submissions += [
            Submission(key, "ok", answer.task_id) for key, answer in zip(keys, answers, strict=True)
        ]
        self._ids += [answer.task_id for answer in answers]
        return True

    def _submit_graphs(self) -> None:
        """One by one, among the others; without an answer, again with the same key."""
        waiting = list(self._shapes)
        pause_s = self._plan.within_s / (len(waiting) + 1)
        while waiting and not self._over.wait(pause_s):
            shape = waiting.pop(0)
            if not self._submit_graph(shape):
                waiting.insert(0, shape)

    def _submit_graph(self, shape: Shape) -> bool:
        try:
            if shape.steps:
                id_ = self._pool.submit_chain(list(shape.steps), idempotency_key=shape.key, **PATIENT).chain_id
            else:
                id_ = self._pool.fan_out(
                    list(shape.branches), gather=shape.gather, max_parallel=shape.max_parallel,
                    idempotency_key=shape.key, **PATIENT,
                ).fan_out_id  # fmt: skip
        except PoolError:
            self.history.graphs.append(Submission(shape.key, "unknown"))
            return False
        self.history.graphs.append(Submission(shape.key, "ok", id_))
        self._wholes.append(id_)
        return True

    # The witness of events and money

    def _watch(self) -> None:
        while not self._over.is_set():
            self._read()

    def _read(self) -> bool:
        """Whatever came since; True when there was something."""
        try:
            events, self._cursor = self._store.events.read(self._cursor, block_ms=200, limit=5_000)
            self.history.events += events
            self.history.samples.append(self._money())
            self._give_money()
        except PoolError:
            time.sleep(0.05)
            return True
        return bool(events)

    def _give_money(self) -> None:
        """An operator who gives more when the pool has nearly spent what it may."""
        now = self.history.samples[-1]
        if now.limit is None or now.limit - now.spent < to_micros(LEAST_USD):
            self._pool.set_budget(now.spent / 1e6 + MORE_USD)

    def _money(self) -> Money:
        status = self._store.pool.status()
        limit = None if status.budget_usd is None else to_micros(status.budget_usd)
        return Money(limit, to_micros(status.reserved_usd), to_micros(status.spent_usd))

    # The faults

    def _hurt(self) -> None:
        """Every fault at its moment; what has to be undone is undone."""
        kinds = [kind for kind, number in self._plan.faults.items() for _ in range(number)]
        self._rng.shuffle(kinds)
        gap_s = self._plan.within_s / max(len(kinds), 1)
        next_at = time.monotonic() + 0.5
        for kind in kinds:
            while (left := next_at - time.monotonic()) > 0:
                self._let_go()
                time.sleep(min(left, 0.05))
            next_at += gap_s * self._rng.uniform(0.5, 1.5)
            self._until_it_hits(kind)
        while self._stopped:
            self._let_go()
            time.sleep(0.05)

    def _until_it_hits(self, kind: str) -> None:
        """Once; again as long as there is nobody to be hit, for a moment."""
        deadline = time.monotonic() + MISS_S
        while time.monotonic() < deadline:
            with contextlib.suppress(PoolError, OSError, WaitTimeout):
                if (target := self._do(kind)) is not None:
                    self.history.faults.append(Fault(time.time(), kind, target))
                    return
            self._let_go()
            time.sleep(0.02)

    def _do(self, kind: str) -> str | None:
        """One fault; what it hit, None when there was nothing to hit."""
        victims = self._victims
        deeds: dict[str, Callable[[], str | None]] = {
            "slot_kill": lambda: victims.kill(victims.slot()),
            "guard_kill": lambda: victims.kill(victims.guard()),
            "cli_kill": lambda: victims.kill(victims.cli()),
            "housekeeper_kill": lambda: victims.kill(victims.housekeeper()),
            "slot_stop": lambda: self._stop(victims.slot()),
            "supervisor_kill": self._restart_node,
            "redis_kill": self._restart_redis,
            "cancel": self._cancel,
        }
        return deeds.get(kind, lambda: victims.meddle(kind, self._ids))()

    def _restart_redis(self) -> str:
        self._server.restart()
        return "redis"

    def _stop(self, pid: int | None) -> str | None:
        if pid is None:
            return None
        os.kill(pid, signal.SIGSTOP)
        self._stopped.append((time.monotonic() + self._plan.lease_s * self._rng.uniform(0.5, 2.0), pid))
        return str(pid)

    def _let_go(self) -> None:
        """SIGCONT for those whose time has come."""
        due = [one for one in self._stopped if one[0] <= time.monotonic()]
        for one in due:
            self._stopped.remove(one)
            with contextlib.suppress(ProcessLookupError):
                os.kill(one[1], signal.SIGCONT)

    def _restart_node(self) -> str:
        node = self._rng.choice(self._nodes)
        node.signal(signal.SIGKILL)
        node.wait()
        node.start(ready=False)
        return node.config.node

    def _cancel(self) -> str | None:
        if not self._ids:
            return None
        some = self._wholes if self._wholes and self._rng.random() < 0.15 else self._ids[-2_000:]
        task_id = self._rng.choice(some)
        self._pool.cancel(task_id, reason="not wanted")
        return task_id

    # The end

    def _await_the_end(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        told = 0.0
        while time.monotonic() < deadline:
            with contextlib.suppress(PoolError):
                status = self._pool.status()
                self._revive()
                if time.monotonic() > told + 5:
                    told = time.monotonic()
                    self._say(f"pending {status.pending} running {status.running} parked {status.parked} "
                              f"completed {status.completed} slots {status.slots}")  # fmt: skip
                open_ = status.blocked + status.pending + status.claimed + status.running
                if not open_ and self._all_settled():
                    return
            time.sleep(0.1)

    def _revive(self) -> None:
        """A node that gave up is a finding, but the evidence is wanted all the same."""
        for node in self._nodes:
            if node.process is not None and node.process.poll() is not None:
                self.history.left.setdefault("nodes that ended by themselves", []).append(node.log()[-1_500:])
                node.start(ready=False)

    def _all_settled(self) -> bool:
        parked = self._store.tasks.list(TaskFilter(states=(TaskState.PARKED,), limit=10_000)).tasks
        if any(task.parked_for == "budget" for task in parked):
            return False
        if any(task.parked_for == "breaker" and task.until_ms is None for task in parked):
            self._store.pool.close_breaker()
        return all(task.waits_for_somebody for task in parked)

    def _witness(self) -> None:
        history = self.history
        while self._read():
            pass
        history.tasks = {task_id: self._store.tasks.detail(task_id) for task_id in self._every_id()}
        history.wholes = self._all_wholes()
        history.events_added = int(self._raw("XINFO", "STREAM", "events")["entries-added"])
        history.end = self._money()
        errored = [slot.slot_id for slot in self._pool.slots() if slot.state == "errored"]
        for node in self._nodes:
            node.stop()
        history.left |= self._left_in_store() | self._left_on_disk()
        history.left["slots given up"] = errored
        history.left["processes"] = [f"{pid} {line}" for pid, line in marked(self._config.name).items()]
        evidence = ledger.read(self._ledger)
        history.executions = list(evidence.executions)
        history.clock_offset_s = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

    def _raw(self, command: str, *words: str) -> dict[str, object]:
        *before, key = words
        answer = self._store.client._quick.execute_command(command, *before, f"{self._config.name}:{key}")
        return answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))

    def _every_id(self) -> Iterator[str]:
        yield from self._store.client._quick.zrange(f"{self._config.name}:index", 0, -1)

    def _all_wholes(self) -> dict[str, Whole]:
        found: dict[str, Whole] = {}
        open_ = list(self._store.client._quick.zrange(f"{self._config.name}:graphs", 0, -1))
        while open_:
            some = self._store.graph.get_many(open_[:100], children=True)
            inner = [id_ for whole in some.values() for id_ in whole.children if not id_.startswith("t-")]
            found |= some
            open_ = [*open_[100:], *inner]
        return found

    def _left_in_store(self) -> dict[str, list[str]]:
        redis, name = self._store.client._quick, self._config.name
        left = {index: redis.zrange(f"{name}:{index}", 0, -1) for index in _EMPTY}
        return left | {"busy": list(redis.smembers(f"{name}:busy"))}

    def _left_on_disk(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {"journal": [], "temporary files": []}
        for node in self._nodes:
            folder = node.config.node_dir
            found["journal"] += [path.name for path in (folder / "journal").iterdir()]
            found["temporary files"] += [str(path) for path in folder.glob("slots/*/tmp/*")]
        return found
