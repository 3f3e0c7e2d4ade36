"""What the store costs: submitting ten thousand tasks, and whether anything grows with what is finished or with slots.

Slots and tasks here are protocol-level: the store's own calls, no process behind them. "100" and "100,000" are the
same pool before and after that many tasks have been carried through all their states.
"""

from __future__ import annotations

import threading
import time
import uuid
from typing import Final

import redis
from harness import Table, World, alternate, median, p99, quick, timed_ms

from claude_pool.models.pool import SlotIdentity, slot_id
from claude_pool.models.task import TaskResult, TaskState
from claude_pool.models.verdict import Verdict
from claude_pool.pool import Pool
from claude_pool.store.base import Claim

LEASE_MS: Final = 600_000
PROMPT: Final = "Summarise what this module does, and say where it could fail. " * 3


def identity(number: int) -> SlotIdentity:
    return SlotIdentity(slot_id=slot_id(number, "bench"), node="bench", number=number, incarnation=str(uuid.uuid4()),
                        pid=0)  # fmt: skip


def carry(pool: Pool, slot: SlotIdentity, task_id: str) -> tuple[float, float]:
    """One task through claim, start and finish; milliseconds of the claim and of all three."""
    run_id = str(uuid.uuid4())
    began = time.perf_counter()
    claim = pool.store.tasks.claim(task_id, slot, run_id, lease_ms=LEASE_MS)
    claimed = time.perf_counter()
    assert isinstance(claim, Claim), claim
    assert pool.store.tasks.start(task_id, run_id, session_id=run_id)
    result = TaskResult(task_id=task_id, state=TaskState.COMPLETED, output="It reads and writes. " * 20, cost_usd=0.01)
    assert pool.store.tasks.finish(task_id, run_id, Verdict(to=TaskState.COMPLETED, cost_usd=0.01, result=result))
    return (claimed - began) * 1000, (time.perf_counter() - began) * 1000


def finish_many(pool: Pool, slots: list[SlotIdentity], number: int) -> None:
    """Carry that many tasks through, by several threads, so that they share the disk's writes."""
    answers = pool.store.tasks.submit([pool.request(PROMPT) for _ in range(number)], queue="pool")
    ids = iter([answer.task_id for answer in answers])
    lock = threading.Lock()

    def work(slot: SlotIdentity) -> None:
        while True:
            with lock:
                task_id = next(ids, None)
            if task_id is None:
                return
            carry(pool, slot, task_id)

    threads = [threading.Thread(target=work, args=(slot,)) for slot in slots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def figures(pool: Pool, slot: SlotIdentity, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of what is asked often."""
    waiting = [a.task_id for a in pool.store.tasks.submit([pool.request(PROMPT)] * rounds, queue="pool")]
    claims, lives = zip(*(carry(pool, slot, task_id) for task_id in waiting), strict=True)
    return {
        "status": [timed_ms(pool.status) for _ in range(rounds)],
        "claim": list(claims),
        "claim, start and finish": list(lives),
        "list of 50": [timed_ms(lambda: pool.list(limit=50)) for _ in range(rounds)],
        "submit and ring": [timed_ms(lambda: pool.submit(PROMPT)) for _ in range(rounds)],
    }


def cleared(pool: Pool) -> None:
    """Nothing waits any more."""
    pool.cancel_all()


def submits(world: World, table: Table, number: int) -> None:
    """Ten thousand at once, by `submit_many`, with doorbells; the disk is waited for (appendfsync always)."""
    took: list[float] = []
    for _ in range(3):
        with Pool.open(world.config()) as pool:
            requests = [pool.request(PROMPT) for _ in range(number)]
            took.append(timed_ms(lambda pool=pool, requests=requests: pool.submit_many(requests)) / 1000)
    with redis.Redis.from_url(world.redis.url) as line, line.pipeline(transaction=False) as pipe:
        for _ in range(number):
            pipe.lpush("bench:floor", PROMPT)
        floor = timed_ms(pipe.execute) / 1000
        line.delete("bench:floor")
    table.add(f"{number:,} submits in one call", took, "s", floor=floor, floor_is="as many LPUSH in one pipeline",
              aim="< 5 s", met=median(took) < 5)  # fmt: skip


def growth(world: World, table: Table, few: int, many: int, rounds: int) -> None:
    """The same calls with few and with many finished tasks; and what a finished task costs in memory."""
    with Pool.open(world.config(slots=4)) as pool, redis.Redis.from_url(world.redis.url) as line:
        slots = [identity(number) for number in range(4)]
        for slot in slots:
            pool.store.slots.register_slot(slot, lease_ms=LEASE_MS)
        finish_many(pool, slots, few)
        before = figures(pool, slots[0], rounds)
        cleared(pool)
        used, began = line.info("memory")["used_memory"], time.perf_counter()
        finish_many(pool, slots, many)
        took = time.perf_counter() - began
        size = (line.info("memory")["used_memory"] - used) / many
        after = figures(pool, slots[0], rounds)
        cleared(pool)
        for name, samples in after.items():
            ratio = median(samples) / median(before[name])
            table.add(f"{name}, {many:,} finished", samples, "ms", floor=before[name], floor_is=f"with {few} finished",
                      aim="flat", met=ratio < 1.25)  # fmt: skip
        table.add("tasks carried through all states, 4 threads", many / took, "/s", more_is_better=True)
        table.add("Redis memory per finished task", size, "bytes")


def fleet(world: World, table: Table, many: int, rounds: int) -> None:
    """The same calls with four slots and with a thousand."""
    with Pool.open(world.config()) as pool:
        slots = [identity(number) for number in range(many)]
        for slot in slots[:4]:
            pool.store.slots.register_slot(slot, lease_ms=LEASE_MS)
        before = figures(pool, slots[0], rounds)
        cleared(pool)
        for slot in slots[4:]:
            pool.store.slots.register_slot(slot, lease_ms=LEASE_MS)
        after = figures(pool, slots[0], rounds)
        cleared(pool)
        for name in ("status", "claim"):
            ratio = median(after[name]) / median(before[name])
            table.add(f"{name}, {many:,} slots", after[name], "ms", floor=before[name], floor_is="with 4 slots",
                      aim="flat", met=ratio < 1.25)  # fmt: skip
        beats = alternate(
            rounds,
            lambda: timed_ms(
                lambda: pool.store.slots.beat(slots[0], task_id=None, run_id=None, lease_ms=LEASE_MS, progress="")
            ),
        )[0]
        table.add(f"heartbeat, {many:,} slots", beats, "ms")


def waiters(world: World, table: Table, number: int, rounds: int) -> None:
    """How late `wait` tells: from the answer of `finish` until each of many waiting threads is back."""
    with Pool.open(world.config()) as pool:
        slot = identity(0)
        pool.store.slots.register_slot(slot, lease_ms=LEASE_MS)
        for count, what in ((1, "one waiter"), (number, f"{number} waiters of one task, the last of them")):
            late = [one_wait(pool, slot, count) for _ in range(rounds)]
            table.add(f"finish to wait's return, {what}", late, "ms")
        each = own_waits(pool, slot, number)
        table.add(f"finish to wait's return, {number} waiters of a task each", each, "ms", aim="p99 stated")
        print(f"   p99 {p99(each):.1f} ms")


def one_wait(pool: Pool, slot: SlotIdentity, count: int) -> float:
    task_id = pool.store.tasks.submit([pool.request(PROMPT)], queue="pool")[0].task_id
    back: list[float] = []

    def wait() -> None:
        pool.wait([task_id], timeout_s=60)
        back.append(time.perf_counter())

    threads = [threading.Thread(target=wait) for _ in range(count)]
    for thread in threads:
        thread.start()
    time.sleep(0.1 + count * 0.003)
    carry(pool, slot, task_id)
    finished = time.perf_counter()
    for thread in threads:
        thread.join()
    return (max(back) - finished) * 1000


def own_waits(pool: Pool, slot: SlotIdentity, count: int) -> list[float]:
    ids = [answer.task_id for answer in pool.store.tasks.submit([pool.request(PROMPT)] * count, queue="pool")]
    finished: dict[str, float] = {}
    back: dict[str, float] = {}

    def wait(task_id: str) -> None:
        pool.wait([task_id], timeout_s=60)
        back[task_id] = time.perf_counter()

    threads = [threading.Thread(target=wait, args=(task_id,)) for task_id in ids]
    for thread in threads:
        thread.start()
    time.sleep(0.1 + count * 0.003)
    for task_id in ids:
        carry(pool, slot, task_id)
        finished[task_id] = time.perf_counter()
    for thread in threads:
        thread.join()
    return [(back[task_id] - finished[task_id]) * 1000 for task_id in ids]


def main() -> None:
    short = quick("the store's cost and its growth")
    with World("store") as world, world.table() as table:
        submits(world, table, 2_000 if short else 10_000)
        waiters(world, table, 50 if short else 200, 5 if short else 15)
        fleet(world, table, 100 if short else 1_000, 50 if short else 200)
        growth(world, table, 100, 2_000 if short else 100_000, 50 if short else 200)


if __name__ == "__main__":
    main()
