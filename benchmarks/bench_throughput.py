"""Tasks a second with an instant CLI and with the fake one, beside bare Celery tasks that run the same program.

At each number of slots three things take turns: the pool, as many bare Celery workers (the pool's settings, a task that
runs the CLI with `subprocess` and reads its output), and as many loops that only run the CLI. Bare Celery tasks that do
nothing at all are shown as well: between them and the pool lies the price of starting a process.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import bare_celery
import redis
from harness import World, alternate, median, quick

from claude_pool.pool import Pool


def by_pool(pool: Pool, number: int) -> float:
    requests = [pool.request("hello") for _ in range(number)]
    began = time.perf_counter()
    ids = [answer.task_id for answer in pool.submit_many(requests)]
    waited = pool.wait(ids, timeout_s=120)
    took = time.perf_counter() - began
    assert len(waited.finished) == number, f"{len(waited.finished)} of {number} finished"
    return number / took


def by_celery(url: str, number: int, task: str, *arguments: str) -> float:
    line = redis.Redis.from_url(url)
    app = bare_celery.app_of(url)
    began = time.perf_counter()
    for _ in range(number):
        app.send_task(task, list(arguments), queue="bare", ignore_result=True)
    for _ in range(number):
        assert line.brpop([bare_celery.DONE], timeout=60) is not None
    took = time.perf_counter() - began
    line.close()
    app.close()
    return number / took


def by_loops(program: Path, at_once: int, number: int) -> float:
    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as loops:
        list(loops.map(lambda _: bare_celery.run_cli(str(program)), range(number)))
    return number / (time.perf_counter() - began)


def main() -> None:
    short = quick("tasks a second")
    rounds, counts = (2, (1, 2)) if short else (4, (1, 4, 16))
    with World("throughput") as world, world.table() as table:
        url = world.redis.url
        for what, program in (("fake CLI", world.fake), ("instant CLI", world.instant())):
            for slots in counts:
                number = 40 if what == "fake CLI" else 80
                with (
                    world.node(world.config(claude=program, slots=slots)) as node,
                    bare_celery.workers(url, slots),
                ):
                    mine, celery, loops, nothing = alternate(
                        rounds,
                        partial(by_pool, node.pool, number),
                        partial(by_celery, url, number, "bare.spawn", str(program)),
                        partial(by_loops, program, slots, number),
                        partial(by_celery, url, number, "bare.noop", "x"),
                        warm_up=1,
                    )
                name = f"{what}, {slots} {'slot' if slots == 1 else 'slots'}"
                ratio = median(mine) / median(celery)
                table.add(f"tasks a second, {name}", mine, "/s", floor=celery, more_is_better=True,
                          floor_is="bare Celery tasks that run it", aim=">= 0.8", met=ratio >= 0.8)  # fmt: skip
                table.add("  bare loops of it", mine, "/s", floor=loops, more_is_better=True,
                          floor_is=f"{slots} bare loops")  # fmt: skip
                table.add("  bare Celery tasks that do nothing", nothing, "/s", more_is_better=True)


if __name__ == "__main__":
    main()
