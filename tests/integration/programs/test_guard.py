"""The guard's own program: what it says on its socket, and its end when nobody listens any more."""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workers import guard, proctable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="trees are found by /proc")


class Line:
    """The raw other end of a guard."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        argv = [sys.executable, "-I", "-S", "-E", guard.__file__, str(theirs.fileno())]
        self.process = subprocess.Popen(argv, pass_fds=[theirs.fileno()], env={}, cwd="/", start_new_session=True)
        theirs.close()
        self.socket = ours
        self.socket.settimeout(30)
        self.lines = ours.makefile("r")

    def order(self, **order: Any) -> None:
        self.socket.sendall(json.dumps(order).encode() + b"\n")

    def spawn(self, number: int, *argv: str, run: str = "", **more: Any) -> None:
        order = {"do": "spawn", "id": number, "argv": argv, "env": {"PATH": os.defpath, "R": run}, "cwd": "/"}
        null = os.open(os.devnull, os.O_RDWR)
        data = json.dumps({**order, "mark": f"R={run}", "until": None, **more}).encode() + b"\n"
        rights = array.array("i", [null] * 3)
        # in two pieces: an order may arrive in any
        self.socket.sendmsg([data[:7]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        self.socket.sendall(data[7:])
        os.close(null)

    def heard(self) -> dict[str, Any]:
        return json.loads(self.lines.readline())

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.close()
    assert line.process.wait(20) == 0


def marked(run: str) -> list[int]:
    return [pid for pid in proctable.table() if proctable.carries(pid, f"R={run}".encode())]


def test_it_reports_start_and_end(line: Line) -> None:
    line.spawn(1, "sh", "-c", "exit 3")
    started = line.heard()
    assert started["spawned"] == 1
    assert started["pid"] > 0
    ended = line.heard()
    assert {name: ended[name] for name in ("exit", "code", "signal", "left", "stuck", "cause")} == {
        "exit": 1, "code": 3, "signal": None, "left": 0, "stuck": 0, "cause": ""
    }  # fmt: skip


def test_it_reports_why_nothing_was_started_and_leaks_nothing(line: Line) -> None:
    before = None
    for number in range(5):
        line.spawn(number, "/nowhere/at/all")
        failed = line.heard()
        assert (failed["failed"], failed["errno"], failed["where"]) == (number, 2, "exec")
        files = len(list(Path(f"/proc/{line.process.pid}/fd").iterdir()))
        assert files == (before or files)
        before = files


def test_it_names_what_was_left_behind_but_not_endlessly(line: Line) -> None:
    run = str(uuid.uuid4())
    line.spawn(1, "sh", "-c", "for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do setsid sleep 1000 & done", run=run)
    assert line.heard()["spawned"] == 1
    ended = line.heard()
    assert ended["left"] >= 15
    assert len(ended["names"]) == guard.NAMED
    assert set(ended["names"]) <= {"sleep", "setsid", "sh"}
    assert marked(run) == []


def test_orders_for_a_child_that_is_gone_are_ignored(line: Line) -> None:
    line.spawn(1, "true")
    assert line.heard()["spawned"] == 1
    assert line.heard()["exit"] == 1
    for what in ("lease", "terminate", "kill"):
        line.order(do=what, id=1, until=0)
    line.spawn(2, "true")
    assert line.heard()["spawned"] == 2


def test_when_its_slot_hangs_up_it_kills_everything_and_leaves(line: Line) -> None:
    runs = [str(uuid.uuid4()) for _ in range(2)]
    for number, run in enumerate(runs):
        line.spawn(number, "sh", "-c", "trap '' TERM; setsid sleep 1000 & while :; do sleep 0.05; done", run=run)
        assert line.heard()["spawned"] == number
    line.close()
    assert line.process.wait(20) == 0
    assert marked(runs[0]) == marked(runs[1]) == []


def test_a_child_asks_the_kernel_to_die_before_its_slot(line: Line) -> None:
    line.spawn(1, "sleep", "1000")
    pid = line.heard()["pid"]
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == int(guard.OOM_SCORE)
    line.order(do="kill", id=1)
    assert line.heard()["cause"] == "kill"


def test_nonsense_from_the_slot_ends_it_and_with_it_the_cli(line: Line) -> None:
    line.spawn(1, "sleep", "1000")
    pid = line.heard()["pid"]
    line.socket.sendall(b"this is no order\n")
    assert line.process.wait(20) == 0
    assert proctable.look_up(pid) is None
