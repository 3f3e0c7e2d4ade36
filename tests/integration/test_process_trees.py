"""Random process trees, and every way to lose one: after each of them nothing of the tree is alive.

A tree mixes sessions of their own, double forks, cleared environments, ignored signals and children that are born when
TERM comes. Every process of it writes its number down, so nothing has to be guessed; each ends by itself after a while.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from workers import proctable
from workers.guarded import Guard
from workers.sweep import sweep

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="trees are found by /proc")

TREES = 20
TRAITS = ("setsid", "double", "bare", "deaf", "late")
LIFE_S = 100
NODE = "n1"

TREE = """
import json, os, signal, sys, time
program, folder, life = sys.argv[1], sys.argv[2], int(sys.argv[4])

def note(born=""):
    signal.alarm(life)
    with open("/proc/self/stat") as file:
        start = file.read().rpartition(")")[2].split()[19]
    open(f"{folder}/{os.getpid()}.{start}{born}", "w").close()

def bear(*_):
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        note(".late")
        time.sleep(life)
        os._exit(0)

def live(spec):
    for kid in spec["kids"]:
        if os.fork() == 0:
            begin(kid)
    if "deaf" in spec["traits"]:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
    if "late" in spec["traits"]:
        signal.signal(signal.SIGTERM, bear)
    note()
    while True:
        time.sleep(life)

def begin(spec):
    if "setsid" in spec["traits"]:
        os.setsid()
    if "double" in spec["traits"] and os.fork():
        os._exit(0)
    if "bare" in spec["traits"]:
        rest = [trait for trait in spec["traits"] if trait not in ("setsid", "double", "bare")]
        spec = json.dumps({**spec, "traits": rest})
        os.execve(sys.executable, [sys.executable, "-I", "-S", program, program, folder, spec, str(life)], {})
    live(spec)

live(json.loads(sys.argv[3]))
"""

SLOT = """
import json, os, signal, sys, time
from workers.guarded import Guard, boottime_s
order = json.load(sys.stdin)
guard = Guard.start(mark={"CLAUDE_POOL_NAME": order["pool"]})
deadline = None if order["lease_s"] is None else boottime_s() + order["lease_s"]
children = [guard.spawn(argv, env, "/", deadline=deadline) for argv, env in order["runs"]]
print(guard.pid, deadline, flush=True)
print(json.dumps([guard.wait_exit(90, child).model_dump() for child in children]), flush=True)
guard.close()
"""


class Forest:
    """Trees of one test."""

    def __init__(self, folder: Path, pool: str, seed: int) -> None:
        self._random = random.Random(seed)
        self._pool = pool
        self._program = folder / "tree.py"
        self._program.write_text(TREE)
        self._folder = folder / "pids"
        self._folder.mkdir()
        self._expected = 0

    def plant(self) -> tuple[list[str], dict[str, str]]:
        """argv and environment of one more tree."""
        spec = self._spec(depth=3)
        env = {
            "PATH": os.environ["PATH"],
            "CLAUDE_POOL_NAME": self._pool,
            "CLAUDE_POOL_NODE": NODE,
            "CLAUDE_POOL_RUN": str(uuid.uuid4()),
        }
        words = [str(self._program), str(self._program), str(self._folder), json.dumps(spec), str(LIFE_S)]
        return [sys.executable, "-I", "-S", *words], env

    def grown(self) -> bool:
        return len([entry for entry in self._folder.iterdir() if entry.suffix != ".late"]) >= self._expected

    def alive(self) -> list[str]:
        pids = [tuple(map(int, entry.name.split(".")[:2])) for entry in self._folder.iterdir()]
        return [str(pid) for pid, start in pids if (now := proctable.look_up(pid)) and now.start_ticks == start]

    def _spec(self, depth: int) -> dict[str, Any]:
        self._expected += 1
        traits = self._random.sample(TRAITS, self._random.randint(0, 3))
        kids = self._random.randint(1, 2) if depth == 3 else self._random.randint(0, 2) if depth else 0
        return {"traits": traits, "kids": [self._spec(depth - 1) for _ in range(kids)]}


def wait_for(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "condition never came true"
        time.sleep(0.02)


@pytest.fixture
def forest(tmp_path: Path, pool_name: str) -> Forest:
    return Forest(tmp_path, pool_name, seed=7)


@pytest.fixture
def slot(forest: Forest, pool_name: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a slot of its own with a guard that owns all trees of the forest."""
    started: list[subprocess.Popen[str]] = []

    def start(lease_s: float | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", SLOT],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdin
        runs = [forest.plant() for _ in range(TREES)]
        process.stdin.write(json.dumps({"pool": pool_name, "lease_s": lease_s, "runs": runs}))
        process.stdin.close()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def first_words(slot: subprocess.Popen[str]) -> tuple[int, float]:
    assert slot.stdout
    guard, _, deadline = slot.stdout.readline().strip().partition(" ")
    return int(guard), float(deadline) if deadline != "None" else 0.0


@pytest.mark.parametrize("seed", range(TREES))
def test_a_kill_leaves_nothing_of_a_tree(tmp_path: Path, pool_name: str, seed: int) -> None:
    forest = Forest(tmp_path, pool_name, seed)
    with Guard.start(mark={"CLAUDE_POOL_NAME": pool_name}) as guard:
        child = guard.spawn(*forest.plant(), "/")
        child.close()
        wait_for(forest.grown)
        if seed % 2:  # half of them are asked first, so that what is born by TERM is born
            guard.terminate()
        guard.kill()
        assert guard.wait_exit(30) is not None
        assert forest.alive() == []
        ended = guard.poll_exit()
        assert ended is not None
        assert ended.stuck == 0


def test_the_end_of_a_cli_leaves_nothing_of_its_tree(tmp_path: Path, pool_name: str) -> None:
    forest = Forest(tmp_path, pool_name, seed=3)
    with Guard.start(mark={"CLAUDE_POOL_NAME": pool_name}) as guard:
        for _ in range(5):
            child = guard.spawn(*forest.plant(), "/")
            child.close()
            wait_for(forest.grown)
            os.kill(child.pid, signal.SIGKILL)
            facts = guard.wait_exit(30)
            assert facts is not None
            assert facts.left_behind >= 1
            assert forest.alive() == []


def test_a_slot_that_is_killed_leaves_nothing(forest: Forest, slot: Callable[..., subprocess.Popen[str]]) -> None:
    process = slot()
    guard, _ = first_words(process)
    wait_for(forest.grown)
    process.kill()
    wait_for(lambda: not forest.alive() and proctable.look_up(guard) is None)


def test_a_slot_that_is_stopped_beyond_its_lease_runs_nothing_any_more(
    forest: Forest, slot: Callable[..., subprocess.Popen[str]]
) -> None:
    process = slot(lease_s=12.0)
    guard, deadline = first_words(process)
    wait_for(forest.grown)
    assert forest.alive()
    assert time.clock_gettime(time.CLOCK_BOOTTIME) < deadline, "the machine was too slow for this test's lease"
    os.kill(process.pid, signal.SIGSTOP)
    wait_for(lambda: not forest.alive())
    assert proctable.look_up(guard) is not None
    os.kill(process.pid, signal.SIGCONT)
    assert process.stdout
    told = json.loads(process.stdout.readline())
    assert [facts["signal"] for facts in told] == [signal.SIGKILL] * TREES


def test_a_guard_that_is_killed_leaves_nothing(forest: Forest, slot: Callable[..., subprocess.Popen[str]]) -> None:
    process = slot()
    guard, _ = first_words(process)
    wait_for(forest.grown)
    os.kill(guard, signal.SIGKILL)
    assert process.stdout
    told = json.loads(process.stdout.readline())
    assert [facts["signal"] for facts in told] == [signal.SIGKILL] * TREES
    assert forest.alive() == []
    assert process.wait(30) == 0


def test_a_guard_that_was_stopped_when_its_slot_died_makes_up_for_it(
    forest: Forest, slot: Callable[..., subprocess.Popen[str]]
) -> None:
    process = slot()
    guard, _ = first_words(process)
    wait_for(forest.grown)
    os.kill(guard, signal.SIGSTOP)
    process.kill()
    process.wait()
    assert forest.alive()
    os.kill(guard, signal.SIGCONT)
    wait_for(lambda: not forest.alive())


def test_when_slot_and_guard_are_killed_together_the_next_sweep_finds_all_that_is_marked(
    forest: Forest, slot: Callable[..., subprocess.Popen[str]], pool_name: str
) -> None:
    """What hid its mark and its parents as well can't be told from a stranger, and a stranger is never killed."""
    process = slot()
    guard, _ = first_words(process)
    wait_for(forest.grown)
    for pid in (process.pid, guard):
        os.kill(pid, signal.SIGSTOP)
    for pid in (process.pid, guard):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: proctable.look_up(guard) is None)
    assert forest.alive()
    sweep(pool_name, NODE)
    hidden = [int(pid) for pid in forest.alive()]
    assert [pid for pid in hidden if b"CLAUDE_POOL" in proctable.environment(pid)] == []
    for pid in hidden:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not forest.alive())
