"""Chains and fan-outs: what one step after another costs, and ten thousand branches handed in.

Step to step is from one step's answer to the next one's start, in a chain of ten steps of an instant CLI; its floor is
a bare run of that CLI.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import bare_celery
import redis
from harness import Table, World, alternate, quick, timed_ms

from claude_pool.pool import Pool
from claude_pool.testing.node import TestNode

STEPS: Final = 10


def chain_ms(node: TestNode) -> float:
    """Milliseconds a step of a chain, of which each step is an instant CLI."""
    steps = [{"name": f"s{number}", "prompt": "hello"} for number in range(STEPS)]

    def run() -> None:
        chain_id = node.pool.submit_chain(steps).chain_id
        assert not node.pool.wait([chain_id], timeout_s=60).timed_out

    return timed_ms(run) / STEPS


def chains(world: World, table: Table, rounds: int) -> None:
    program = world.instant()
    with world.node(world.config(claude=program, slots=2)) as node:
        step, bare = alternate(
            rounds, partial(chain_ms, node), lambda: timed_ms(lambda: bare_celery.run_cli(str(program)))
        )
    table.add(f"one step of a chain of {STEPS}", step, "ms", floor=bare, floor_is="a bare run of the CLI")
    over = [mine - floor for mine, floor in zip(step, bare, strict=True)]
    table.add("step to step, without the CLI's own time", over, "ms")


def fan_outs(world: World, table: Table, number: int) -> None:
    prompts = [f"Look at file {one}." for one in range(number)]
    with Pool.open(world.config()) as pool, redis.Redis.from_url(world.redis.url) as line:
        took = timed_ms(lambda: pool.fan_out(prompts)) / 1000
        with line.pipeline(transaction=False) as pipe:
            for prompt in prompts:
                pipe.lpush("bench:floor", prompt)
            floor = timed_ms(pipe.execute) / 1000
        line.delete("bench:floor")
    table.add(f"fan-out of {number:,} branches, handed in", took, "s", floor=floor,
              floor_is="as many LPUSH in one pipeline", aim="< 5 s", met=took < 5)  # fmt: skip


def main() -> None:
    short = quick("chains and fan-outs")
    with World("graph") as world, world.table() as table:
        chains(world, table, 4 if short else 15)
        fan_outs(world, table, 2_000 if short else 10_000)


if __name__ == "__main__":
    main()
