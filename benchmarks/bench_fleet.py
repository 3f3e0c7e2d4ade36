"""A simulated pool: up to a thousand slots at protocol level, each claiming, starting, beating and finishing.

No process stands behind a slot: what is left is the store. A few threads play all slots in turn, every one with its own
identity and lease; while tasks flow, claims, whole tasks, heartbeats and status are timed, and what the server's
processor and memory paid for them. Cost that grows with the number of slots shows here first.
"""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import redis
from bench_store import LEASE_MS, PROMPT, carry, identity
from harness import Table, World, cpu_s, median, quick, timed_ms

from claude_pool.models.pool import SlotIdentity
from claude_pool.pool import Pool

THREADS: Final = 4


def flow(pool: Pool, slots: list[SlotIdentity], number: int) -> tuple[list[float], list[float], float]:
    """Tasks through all slots in turn: milliseconds of each claim and of each task, and tasks a second."""
    ids = [answer.task_id for answer in pool.store.tasks.submit([pool.request(PROMPT)] * number, queue="pool")]
    turns, lock = itertools.cycle(slots), threading.Lock()

    def one(task_id: str) -> tuple[float, float]:
        with lock:
            slot = next(turns)
        return carry(pool, slot, task_id)

    began = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as threads:
        took = list(threads.map(one, ids))
    rate = number / (time.perf_counter() - began)
    return [claim for claim, _ in took], [whole for _, whole in took], rate


def beats(pool: Pool, slots: list[SlotIdentity], rounds: int) -> list[float]:
    """One heartbeat of an idle slot after the other."""
    beat = partial(pool.store.slots.beat, task_id=None, run_id=None, lease_ms=LEASE_MS, progress="")
    return [timed_ms(partial(beat, slot)) for slot in itertools.islice(itertools.cycle(slots), rounds)]


def at(world: World, table: Table, count: int, number: int, first: dict[str, list[float]]) -> None:
    """Everything with so many slots; `first` holds the figures of the smallest fleet."""
    with Pool.open(world.config()) as pool, redis.Redis.from_url(world.redis.url) as line:
        slots = [identity(one) for one in range(count)]
        for slot in slots:
            pool.store.slots.register_slot(slot, lease_ms=LEASE_MS)
        flow(pool, slots, 100)  # warms connections and scripts
        used, memory = cpu_s([world.redis.pid]), line.info("memory")["used_memory"]
        claims, wholes, rate = flow(pool, slots, number)
        server_ms = (cpu_s([world.redis.pid]) - used) * 1000 / number
        size = (line.info("memory")["used_memory"] - memory) / number
        series = {"claim": claims, "claim, start and finish": wholes, "heartbeat": beats(pool, slots, 200),
                  "status": [timed_ms(pool.status) for _ in range(50)]}  # fmt: skip
    smallest = not first
    first.update({} if first else series)
    for name, samples in series.items():
        flat = median(samples) / median(first[name]) < 1.25
        aim = {} if smallest else {"floor": first[name], "floor_is": "the smallest fleet", "aim": "flat", "met": flat}
        table.add(f"{name}, {count:,} slots", samples, "ms", **aim)  # type: ignore[arg-type]
    table.add(f"tasks a second, {THREADS} threads, {count:,} slots", rate, "/s", more_is_better=True)
    table.add(f"server's processor a task, {count:,} slots", server_ms, "ms")
    table.add(f"Redis memory a task, {count:,} slots", size, "bytes")


def main() -> None:
    short = quick("a simulated pool of up to a thousand slots")
    with World("fleet") as world, world.table() as table:
        first: dict[str, list[float]] = {}
        for count in (4, 100) if short else (4, 32, 256, 1_000):
            at(world, table, count, 300 if short else 3_000, first)


if __name__ == "__main__":
    main()
