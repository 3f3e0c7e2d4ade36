"""Chains and fan-outs: the gap between two steps, ten thousand branches, five hundred steps.

The gap is taken from one spawn of a CLI of /bin/sh to the next one, so it has the CLI's own run in it; the floor is a
bare Celery chain of the same CLI on the same Redis, measured in turn. What is above that floor is the pool's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import bare_celery
import redis
from celery import Celery, chain
from harness import Table, World, median, quick, timed_ms

from claude_pool.pool import Pool
from claude_pool.testing.graphs import done
from claude_pool.testing.hands import Hand

MB = 1 << 20
GAP_MS = 15
SUBMIT_S = 10
FULL_MB = 100


class Spawns:
    """The moments at which a CLI began."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._descriptor = os.open(path, os.O_RDWR)
        self.path = path

    def gaps_ms(self, number: int) -> list[float]:
        """From each spawn to the next, of so many that come now."""
        moments: list[float] = []
        while len(moments) < number:
            heard = len(os.read(self._descriptor, 1))
            moments += [time.perf_counter()] * heard
        return [(after - before) * 1000 for before, after in pairwise(moments)]


def main() -> None:
    few = quick("chains and fan-outs")
    with World("graph") as world, world.table() as table:
        gaps(world, table, steps=10 if few else 40, rounds=2 if few else 6)
        with Pool.open(world.config()) as pool:
            branches(pool, table, 1_000 if few else 10_000)
        with Pool.open(world.config()) as pool:
            long_chain(pool, table, (50, 500))


def gaps(world: World, table: Table, *, steps: int, rounds: int) -> None:
    spawns = Spawns(world.folder / "spawns")
    program = world.instant(spawns.path)
    mine: list[float] = []
    bare: list[float] = []
    with (
        world.node(world.config(claude=program, warm="off")) as node,
        bare_celery.workers(world.redis.url, 1) as app,
    ):
        for number in range(rounds + 1):
            took = _pool_chain(node.pool, spawns, steps), _bare_chain(app, world, spawns, program, steps)
            if number:  # the first round warms up
                mine += took[0]
                bare += took[1]
    table.add("spawn of a step to spawn of the next", mine, "ms", floor=bare, floor_is="bare Celery chain")
    over = median(mine) - median(bare)
    table.add("the same, over a bare Celery chain", over, "ms", aim=f"<= {GAP_MS} ms", met=over <= GAP_MS)


def _pool_chain(pool: Pool, spawns: Spawns, steps: int) -> list[float]:
    asked = [{"name": f"s{number}", "prompt": "go on"} for number in range(steps)]
    chain_id = pool.submit_chain(asked).chain_id
    found = spawns.gaps_ms(steps)
    pool.wait([chain_id], timeout_s=30)
    return found


def _bare_chain(app: Celery, world: World, spawns: Spawns, program: Path, steps: int) -> list[float]:
    line = redis.Redis.from_url(world.redis.url)
    links = [app.signature("bare.spawn", args=[str(program)], immutable=True, queue="bare") for _ in range(steps)]
    chain(*links).apply_async(ignore_result=True)
    found = spawns.gaps_ms(steps)
    for _ in range(steps):
        line.brpop([bare_celery.DONE], timeout=10)
    line.close()
    return found


def used_mb(pool: Pool) -> float:
    """What the pool's Redis holds."""
    return float(_raw(pool).info("memory")["used_memory"]) / MB


def _raw(pool: Pool) -> Any:
    return redis.Redis.from_url(str(pool.config.redis_url))


def branches(pool: Pool, table: Table, number: int) -> None:
    before = used_mb(pool)
    prompts = [f"look at file number {at} and say what it is for" for at in range(number)]
    began = time.perf_counter()
    fan = pool.fan_out(prompts, gather="Join: {branches}")
    took_s = time.perf_counter() - began
    held = used_mb(pool) - before
    table.add(f"{number:,} branches handed in", took_s, "s", aim=f"<= {SUBMIT_S} s", met=took_s <= SUBMIT_S)
    table.add(f"{number:,} branches in Redis", held, "MB", aim=f"< {FULL_MB} MB", met=held < FULL_MB)
    progress = [timed_ms(lambda: pool.store.graph.get(fan.fan_out_id)) for _ in range(50)]
    hand = Hand(pool.store)
    joins = 0
    began = time.perf_counter()
    for task_id in fan.task_ids:
        joins += sum(bell.task_id == fan.gather_id for bell in done(hand, task_id))
    per_branch_ms = (time.perf_counter() - began) * 1000 / number
    table.add(f"ends of {number:,} branches, each", per_branch_ms, "ms")
    table.add("joins", joins, "", aim="exactly 1", met=joins == 1)
    later = [timed_ms(lambda: pool.store.graph.get(fan.fan_out_id)) for _ in range(50)]
    table.add("where the whole is, at its end", later, "ms", floor=progress, floor_is="at its begin")
    began = time.perf_counter()
    done(hand, fan.gather_id or "")
    assert pool.fan_out_result(fan.fan_out_id).state == "completed"
    table.add("its result, all answers", time.perf_counter() - began, "s")


def long_chain(pool: Pool, table: Table, sizes: tuple[int, int]) -> None:
    few, many = sizes
    raw = _raw(pool)
    short_id, short = _handed_in(pool, raw, few)
    pool.cancel_chain(short_id)
    chain_id, long = _handed_in(pool, raw, many)
    table.add(f"a step of {many}", long, "bytes", floor=short, floor_is=f"a step of {few}", aim="O(n)",
              met=long < 1.2 * short)  # fmt: skip
    first = [_cpu_ms(lambda: pool.chain_progress(chain_id)) for _ in range(20)]
    hand = Hand(pool.store)
    ids = pool.store.graph.get(chain_id).children
    ends = [timed_ms(lambda task_id=task_id: done(hand, task_id)) for task_id in ids[:-1]]
    last = [_cpu_ms(lambda: pool.chain_progress(chain_id)) for _ in range(20)]
    table.add(
        "claim, start and end of the last 50 steps, each", ends[-50:], "ms", floor=ends[:50], floor_is="the first 50"
    )
    table.add(f"CPU of a progress at step {many}", last, "ms", floor=first, floor_is="at step 1", aim="flat",
              met=median(last) < 1.2 * median(first))  # fmt: skip


def _cpu_ms(action: Callable[[], object]) -> float:
    """Nearly all of it is reading records; the wall clock of a busy machine would hide that."""
    began = time.process_time()
    action()
    return (time.process_time() - began) * 1000


def _handed_in(pool: Pool, raw: Any, steps: int) -> tuple[str, float]:
    """A chain of so many steps, and the bytes of each in Redis."""
    before = set(raw.keys(f"{pool.config.name}:*"))
    asked = [
        {"name": f"step-{at}", "prompt": "Go on with {previous_output}" if at else "Begin."} for at in range(steps)
    ]
    chain_id = pool.submit_chain(asked).chain_id
    fresh = set(raw.keys(f"{pool.config.name}:*")) - before
    return chain_id, sum(raw.memory_usage(key, samples=0) or 0 for key in fresh) / steps


if __name__ == "__main__":
    main()
