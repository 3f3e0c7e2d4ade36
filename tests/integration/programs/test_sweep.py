"""The sweep takes every orphan of its own node, and nobody else's anything."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from claude_pool.config import PoolConfig
from workers import proctable
from workers.guarded import Guard
from workers.places import Place
from workers.sweep import clear_leftovers, find_marked, sweep

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc")

Start = Callable[..., int]


def alive(pid: int) -> bool:
    return proctable.look_up(pid) is not None


@pytest.fixture
def pool() -> str:
    return "sweep-" + secrets.token_hex(4)


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def begin(script: str = "exec sleep 1000", **env: str) -> int:
        marks = {f"CLAUDE_POOL_{name.upper()}": value for name, value in env.items()}
        process = subprocess.Popen(
            ["sh", "-c", "echo; " + script],
            env={"PATH": os.environ["PATH"], **marks},
            start_new_session=True,
            stdout=subprocess.PIPE,
        )
        assert process.stdout
        process.stdout.readline()
        started.append(process)
        return process.pid

    yield begin
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout
        process.stdout.close()


def test_orphans_of_a_run_are_killed_with_all_below_them(start: Start, pool: str) -> None:
    orphan = start("env -i sleep 1000 & exec sleep 1000", name=pool, node="n1", run="r1")
    deadline = time.monotonic() + 10
    while not (below := proctable.descendants(proctable.table(), [orphan])):
        assert time.monotonic() < deadline
    assert set(sweep(pool, "n1")) >= {orphan, *(proc.pid for proc in below)}
    assert not alive(orphan)
    assert not any(alive(proc.pid) for proc in below)
    assert sweep(pool, "n1") == []


def test_strangers_other_pools_other_nodes_and_kept_runs_are_left_alone(start: Start, pool: str) -> None:
    spared = [
        start(),
        start(name=pool, node="n1"),
        start(name=pool, node="n2", run="r1"),
        start(name=pool + "2", node="n1", run="r1"),
        start(name=pool, node="n1", run="kept"),
    ]
    taken = start(name=pool, node="n1", run="r1")
    assert sweep(pool, "n1", keep={"kept"}) == [taken]
    assert all(alive(pid) for pid in spared)


def test_runs_of_a_slot_that_lives_are_left_alone(pool: str) -> None:
    marks = {"CLAUDE_POOL_NAME": pool, "CLAUDE_POOL_NODE": "n1"}
    with Guard.start(mark=marks) as guard:
        child = guard.spawn(
            ["sleep", "1000"], {"PATH": os.environ["PATH"], **marks, "CLAUDE_POOL_RUN": str(uuid.uuid4())}, "/"
        )
        child.close()
        assert sweep(pool, "n1") == []
        assert alive(child.pid)


@pytest.mark.parametrize(
    "owner",
    ["1:0", "999999999:1", "nonsense", f"{os.getpid()}:12"],
    ids=["pid 1", "no such pid", "nonsense", "pid reused"],
)
def test_a_guard_whose_slot_is_gone_is_killed(start: Start, pool: str, owner: str) -> None:
    guard = start(
        "sleep 1000 & trap '' TERM; while :; do sleep 0.1; done", name=pool, node="n1", role="guard", owner=owner
    )
    assert guard in sweep(pool, "n1")
    assert not alive(guard)


def test_whoever_sweeps_from_inside_a_run_does_not_kill_itself_or_what_it_stands_on(pool: str) -> None:
    program = (
        "import os, subprocess, sys; from workers.sweep import sweep;"
        "other = subprocess.Popen(['sleep', '1000'], start_new_session=True);"
        f"print(sweep({pool!r}, 'n1') == [other.pid], other.wait())"
    )
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "CLAUDE_POOL_NAME": pool,
        "CLAUDE_POOL_NODE": "n1",
        "CLAUDE_POOL_RUN": "r1",
    }
    shell = ["sh", "-c", '"$0" -c "$1"; echo survived', sys.executable, program]
    done = subprocess.run(shell, env=env, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "True -9\nsurvived\n", done.stderr


def test_find_marked_only_looks(start: Start, pool: str) -> None:
    orphan = start(name=pool, node="n1", run="r1")
    assert [proc.pid for proc in find_marked(pool, "n1")] == [orphan]
    assert alive(orphan)


def test_leftover_sockets_files_and_locks_go_and_what_links_lead_to_stays(tmp_path: Path) -> None:
    place = Place.of(PoolConfig(home=tmp_path, name="p", node="n1"), 0)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    (place.tmp / "cc-socks").mkdir(parents=True)
    (place.tmp / "link").symlink_to(precious)
    (place.tmp / "broken").symlink_to(tmp_path / "nowhere")
    (place.config / "sessions").mkdir(parents=True)
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name in (f"{dead.pid}.json", f"{os.getpid()}.json", "notes.json"):
        (place.config / "sessions" / name).touch()
    with contextlib.chdir(place.tmp), socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
    assert clear_leftovers(place) == 5
    assert list(place.tmp.iterdir()) == []
    assert (precious / "file").read_text() == "kept"
    left = sorted(entry.name for entry in (place.config / "sessions").iterdir())
    assert left == sorted([f"{os.getpid()}.json", "notes.json"])


def test_a_slot_that_never_ran_has_nothing_to_clear(tmp_path: Path) -> None:
    assert clear_leftovers(Place.of(PoolConfig(home=tmp_path, name="p", node="n1"), 0)) == 0
