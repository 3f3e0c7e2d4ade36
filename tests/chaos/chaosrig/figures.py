"""Single figures of a real node: how soon, how many, how completely. Each is measured by itself and says what it did.

A figure is a name, what was promised, what was measured, and whether that is good.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaosrig import quick
from chaosrig.victims import marked
from claude_pool.config import PoolConfig
from claude_pool.models.task import TaskState
from claude_pool.testing import ledger
from claude_pool.testing.node import TestNode, until
from claude_pool.testing.redis_server import RedisServer, find_program, short_folder

WAIT_S = 60.0
RESTED_S = 0.4
"""A slot that is registered hears doorbells by then; killed before, it would count as one that can not start."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the result."""

    name: str
    promised: str
    measured: str
    good: bool
    values: dict[str, float]

    def __str__(self) -> str:
        return f"{'ok  ' if self.good else 'FAIL'} {self.name:<34} {self.measured}  (promised: {self.promised})"


@dataclass(frozen=True, slots=True)
class Bench:
    """One node on a Redis of its own."""

    node: TestNode
    server: RedisServer
    ledger: Path

    def submit(self, prompts: Sequence[str], **options: Any) -> list[str]:
        requests = [self.node.pool.request(prompt, **options) for prompt in prompts]
        return [answer.task_id for answer in self.node.pool.submit_many(requests)]

    def await_ends(self, ids: Sequence[str]) -> list[TaskState]:
        """The states of these tasks once all are final."""
        found = self.node.pool.wait(ids, timeout_s=WAIT_S)
        assert not found.running, f"{len(found.running)} of {len(ids)} tasks never ended"
        return [task.state for task in found.finished]

    def await_running(self, ids: Sequence[str]) -> None:
        """Until every one has a process that has said something."""
        pool = self.node.pool

        def speaks(task_id: str) -> bool:
            return any(entry.kind == "text" for entry in pool.stream(task_id, follow=False))

        until(lambda: all(speaks(task_id) for task_id in ids), f"{len(ids)} running", within_s=WAIT_S)

    def slot_pids(self) -> set[int]:
        return {slot.pid for slot in self.node.pool.slots()}


@contextmanager
def bench(slots: int, **settings: Any) -> Iterator[Bench]:
    """A node of so many slots; cleared away afterwards."""
    program = find_program()
    assert program is not None, "redis-server is missing"
    server, home, scratch = RedisServer(program), short_folder(), Path(tempfile.mkdtemp(prefix="figures-"))
    try:
        server.start()
        usual: dict[str, Any] = {
            "lease_s": 3, "slack_s": 0.2, "stop_grace_s": 1, "drain_s": 10, "housekeeping_s": 0.1, "retry_base_s": 0.1,
            "retry_max_s": 1, "timeout_s": 120, "silence_timeout_s": 60,
        }  # fmt: skip
        config = PoolConfig(
            name=f"figures{os.getpid()}", home=home, node="n0", redis_url=server.url, slots=slots,
            claude=quick.install(scratch / "claude", ledger=scratch / "ledger"), **{**usual, **settings},
        )  # fmt: skip
        with TestNode(config) as node:
            yield Bench(node, server, scratch / "ledger")
    finally:
        server.remove()
        for folder in (home, scratch):
            shutil.rmtree(folder, ignore_errors=True)


def seconds(name: str, promised_s: float, took: Sequence[float]) -> Figure:
    """A figure that is good when all of it took no longer than promised."""
    values = {"worst_s": max(took), "median_s": statistics.median(took), "number": len(took)}
    told = f"worst {max(took):.2f} s, median {statistics.median(took):.2f} s of {len(took)}"
    return Figure(name, f"{promised_s:g} s", told, max(took) <= promised_s, values)


def kills_at_delivery(seed: int, kills: int = 1_000) -> Figure:
    """Slots are killed 0 to 5 ms after the doorbells were pushed: what Celery alone loses."""
    rng, slots, done, ids = random.Random(seed), 8, 0, list[str]()
    with bench(slots) as one:
        while done < kills:
            one.node.await_slots(slots)
            time.sleep(RESTED_S)
            victims = one.slot_pids()
            ids += one.submit([f"[[fake:ok text=k{done + n}]]" for n in range(slots)], model=quick.MODEL)
            time.sleep(rng.uniform(0, 0.005))
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            done += len(victims)
        states = one.await_ends(ids)
        overlaps = len(ledger.read(one.ledger).overlaps())
    lost = len(ids) - states.count(TaskState.COMPLETED)
    told = f"{lost} of {len(ids)} tasks lost in {done} kills, {overlaps} overlaps"
    return Figure("kills at the moment of delivery", "0 lost", told, not lost + overlaps, {"lost": lost, "kills": done})


def loss_noticed(_seed: int, trials: int = 5) -> Figure:
    """A whole node is killed in mid-run, so that nobody is left to say so; another notices when the lease is over."""
    took = list[float]()
    with bench(1) as one:
        other = TestNode(one.node.config.model_copy(update={"node": "n1"}))
        try:
            other.start()
            for _ in range(trials):
                before = one.node.pool.store.events.head()
                [task_id] = one.submit(["[[fake:say text=x]] [[fake:slow s=60 times=1]] [[fake:ok]]"])
                one.await_running([task_id])
                victim = next(n for n in (one.node, other) if n.config.node == one.node.pool.get(task_id).node)
                killed_ms = time.time() * 1000
                victim.kill()
                took.append((_lost_ms(one, task_id, before) - killed_ms) / 1000)
                victim.start()
                one.await_ends([task_id])
        finally:
            other.__exit__(None, None, None)
    return seconds("lost worker noticed (lease 3 s)", 13.0, took)


def _lost_ms(one: Bench, task_id: str, cursor: str) -> float:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        events, cursor = one.node.pool.store.events.read(cursor, block_ms=500)
        for event in events:
            if event.subject == task_id and event.verb == "lose":
                return event.at_ms
    msg = f"the loss of {task_id} was never noticed"
    raise AssertionError(msg)


def trees_gone(_seed: int, trees: int = 200) -> Figure:
    """Cancelled runs whose children left the session, forked twice and ignore TERM; the CLI is deaf as well."""
    slots, took, left = 8, list[float](), 0
    prompt = "[[fake:tree n=1 ignore-term]] [[fake:say text=x cost=0.01]] [[fake:hang ignore-term]]"
    with bench(slots) as one:
        for start in range(0, trees, slots):
            ids = one.submit([prompt] * min(slots, trees - start))
            one.await_running(ids)
            runs = [str(one.node.pool.get(task_id).run_id) for task_id in ids]
            began = time.monotonic()
            for task_id in ids:
                one.node.pool.cancel(task_id)
            took += _gone(runs, began)
            assert set(one.await_ends(ids)) == {TaskState.CANCELLED}
            left += sum(bool(marked(run, variable="CLAUDE_POOL_RUN")) for run in runs)
    figure = seconds(f"process trees gone after cancel ({trees})", 10.0, took)
    return figure if not left else Figure(figure.name, figure.promised, f"{left} are left", good=False, values={})


def _gone(runs: Sequence[str], began: float) -> list[float]:
    """When the last process of each run was gone."""
    took: dict[str, float] = {}
    while len(took) < len(runs) and time.monotonic() - began < WAIT_S:
        for run in runs:
            if run not in took and not marked(run, variable="CLAUDE_POOL_RUN"):
                took[run] = time.monotonic() - began
        time.sleep(0.02)
    return [took.get(run, WAIT_S) for run in runs]


def drains(_seed: int) -> list[Figure]:
    """Eight busy slots: once with time enough to finish, once without."""
    finish, checkpoint, slots = "[[fake:slow s=2]] [[fake:ok]]", "[[fake:slow s=90]] [[fake:ok]]", 8
    found = list[Figure]()
    for name, script, deadline_s, kept in (
        ("drain of 8 busy slots, finishing", finish, 15.0, "finished"),
        ("drain of 8 busy slots, checkpointed", checkpoint, 3.0, "checkpointed"),
    ):
        with bench(slots) as one:
            ids = one.submit([f"[[fake:say text=x cost=0.01]] {script}"] * slots)
            one.await_running(ids)
            began = time.monotonic()
            summary = one.node.pool.drain(deadline_s=deadline_s)
            one.node.wait()
            took = time.monotonic() - began
        done = len(getattr(summary, kept))
        limit_s = deadline_s + 3.0  # the stop ladder has its own time, after the deadline
        told = f"{done} of {slots} {kept} in {took:.2f} s, {summary.slots_left} slots left"
        good = done == slots and took <= limit_s and not summary.slots_left
        found.append(Figure(name, f"{limit_s:g} s", told, good, {"took_s": took, "tasks": done}))
    return found


def back_after_restart(_seed: int, trials: int = 10) -> Figure:
    """Redis is killed and started; from its first answer to the end of a task that is handed in then, by every slot."""
    slots, took = 4, list[float]()
    with bench(slots) as one:
        one.await_ends(one.submit(["[[fake:ok text=warm]]"] * slots, model=quick.MODEL))
        for _ in range(trials):
            one.server.kill()
            time.sleep(0.3)
            one.server.start()
            began = time.monotonic()
            ids = one.submit(["[[fake:slow s=0.5 every=0.1]] [[fake:ok text=back]]"] * slots)
            one.await_ends(ids)
            took.append(time.monotonic() - began - 0.5)
    return seconds(f"all {slots} consumers back after Redis", 5.0, took)


def slot_back(_seed: int, trials: int = 20) -> Figure:
    """A killed slot: until its successor is registered."""
    took = list[float]()
    with bench(2) as one:
        for _ in range(trials):
            time.sleep(RESTED_S)
            pid = one.node.slot_pid(0)
            began = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            until(lambda pid=pid: len(one.slot_pids() - {pid}) == 2, "two slots again")
            took.append(time.monotonic() - began)
    return seconds("a killed slot is replaced", 2.0, took)


ALL: dict[str, Callable[[int], Figure | list[Figure]]] = {
    "slot": slot_back,
    "lost": loss_noticed,
    "redis": back_after_restart,
    "drain": drains,
    "trees": trees_gone,
    "delivery": kills_at_delivery,
}
