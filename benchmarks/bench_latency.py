"""From `submit` to the CLI's first instruction, and to the result, on an idle pool.

Spawn is when a `claude` of /bin/sh has begun to run and has written to a FIFO. The floor of the way there is a bare
Celery message whose task writes to the same FIFO, and a bare start of the same program. Nothing is started ahead here:
a spare is spawned before anybody submits.
"""

from __future__ import annotations

import subprocess
from functools import partial

import bare_celery
import redis
from harness import Bell, World, alternate, median, quick, timed_ms

from claude_pool.testing.node import TestNode


def main() -> None:
    rounds = 40 if quick("submit to spawn and to result") else 150
    with World("latency") as world, world.table() as table:
        bell = Bell(world.folder / "bell")
        program = world.instant(bell.path)
        line = redis.Redis.from_url(world.redis.url)
        config = world.config(claude=program, warm="off")
        with world.node(config) as node, bare_celery.workers(world.redis.url, 1) as app:
            send = partial(app.send_task, queue="bare", ignore_result=True)
            ids: list[str] = []

            def submit() -> None:
                ids.append(node.pool.submit("hello").task_id)

            def spawned() -> float:
                took = bell.heard(submit)
                node.pool.wait(ids[-1:], timeout_s=30)  # the pool is idle again before the next round
                return took

            def told() -> float:
                return bell.heard(lambda: send("bare.tell", [str(bell.path)]))

            def bare_start() -> float:
                process: list[subprocess.Popen[bytes]] = []
                took = bell.heard(
                    lambda: process.append(
                        subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
                    )
                )
                process[0].communicate(b"\n\n")
                return took

            def round_trip() -> float:
                def there_and_back() -> None:
                    send("bare.noop", ["x"])
                    line.brpop([bare_celery.DONE], timeout=10)

                return timed_ms(there_and_back)

            spawn_ms, tell_ms, start_ms, trip_ms = alternate(rounds, spawned, told, bare_start, round_trip)
            table.add("bare Redis round trip", [timed_ms(line.ping) for _ in range(200)], "ms")
            table.add("bare Celery message, there", tell_ms, "ms")
            table.add("bare Celery round trip", trip_ms, "ms")
            table.add("bare start of the CLI (/bin/sh)", start_ms, "ms")
            over = [mine - floor for mine, floor in zip(spawn_ms, trip_ms, strict=True)]
            table.add("submit to spawn", spawn_ms, "ms", floor=trip_ms, floor_is="bare Celery round trip")
            table.add("submit to spawn, over a bare Celery round trip", over, "ms",
                      aim="median < 10 ms", met=median(over) < 10)  # fmt: skip
        results(world, table, rounds // 2)


def results(world: World, table: object, rounds: int) -> None:
    """Submit to result, with the instant CLI and with the fake one."""
    for what, program in (("instant CLI (/bin/sh)", world.instant()), ("fake CLI", world.fake)):
        with world.node(world.config(claude=program)) as node:
            mine, bare = alternate(
                rounds, lambda node=node: timed_ms(lambda: finished(node)),
                lambda program=program: timed_ms(lambda: bare_celery.run_cli(str(program))),
            )  # fmt: skip
        table.add(f"submit to result, {what}", mine, "ms", floor=bare, floor_is="the bare CLI")


def finished(node: TestNode) -> None:
    assert node.pool.run("hello", wait_s=30).output


if __name__ == "__main__":
    main()
