"""The floor: a bare Celery worker with the pool's settings and none of its work. Started by the benchmarks.

bare_celery.py REDIS_URL     hears `noop` (pushes its argument onto the list `bare:done`), `tell` (writes a byte to a
                             FIFO) and `spawn` (runs a CLI with one prompt on its stdin, then as `noop`)
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import time
import uuid
import warnings
from collections.abc import Generator
from typing import Any

import redis
from celery import Celery, signals

from claude_pool.broker import make_app

POOL = "bare"
DONE = "bare:done"
READY = "bare:ready"
_numbers = itertools.count()


def cli_argv(program: str, session_id: str) -> list[str]:
    """A CLI's command line, as far as the fakes look at it."""
    return [program, "-p", "--input-format=stream-json", "--output-format=stream-json", "--verbose",
            f"--session-id={session_id}"]  # fmt: skip


PROMPT = b'{"type":"user","message":{"role":"user","content":"hello"},"parent_tool_use_id":null,"session_id":""}\n'


def run_cli(program: str) -> None:
    """One bare run of a CLI, its output read."""
    done = subprocess.run(
        cli_argv(program, str(uuid.uuid4())),
        input=PROMPT, capture_output=True, check=True,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
    )  # fmt: skip
    assert b'"result"' in done.stdout


def app_of(url: str) -> Celery:
    return make_app(POOL, url)


@contextlib.contextmanager
def workers(url: str, number: int) -> Generator[Celery]:
    """So many bare workers, and the application to send to them."""
    line = redis.Redis.from_url(url)
    line.delete(DONE, READY)
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    running = [subprocess.Popen([sys.executable, __file__, url], env=env, cwd="/") for _ in range(number)]
    try:
        for _ in running:
            if line.blpop([READY], timeout=30) is None:
                raise TimeoutError("a bare worker does not start")
        time.sleep(0.2)
        yield app_of(url)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
        line.close()


def main(url: str) -> None:
    app = app_of(url)
    line = redis.Redis.from_url(url)

    def noop(token: str) -> None:
        line.lpush(DONE, token)

    def tell(path: str) -> None:
        descriptor = os.open(path, os.O_WRONLY)
        os.write(descriptor, b"\n")
        os.close(descriptor)

    def spawn(program: str) -> None:
        run_cli(program)
        line.lpush(DONE, program)

    def ready(**_: Any) -> None:
        line.lpush(READY, "1")

    for body in (noop, tell, spawn):
        app.task(name=f"bare.{body.__name__}", acks_late=True, ignore_result=True)(body)
    signals.setup_logging.connect(lambda **_: None, weak=False)
    signals.worker_ready.connect(ready, weak=False)
    warnings.filterwarnings("ignore", message="(?s).*superuser privileges.*")
    app.Worker(
        hostname=f"bare-{os.getpid()}", pool="threads", concurrency=1, queues=["bare"], quiet=True,
        without_gossip=True, without_mingle=True, loglevel="ERROR",
    ).start()  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1])
