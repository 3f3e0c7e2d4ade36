"""Who is alive, who descends from whom, and signals that reach nobody else."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers import proctable
from workers.proctable import Proc

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"], env={"A": "1", "MARK": "m"}, start_new_session=True) as process:
        yield process
        process.kill()


def test_a_living_process_is_found_and_a_zombie_is_not(sleeper: subprocess.Popen[bytes]) -> None:
    found = proctable.look_up(sleeper.pid)
    assert found is not None
    assert (found.ppid, found.sid) == (os.getpid(), sleeper.pid)
    assert proctable.table()[sleeper.pid] == found
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert proctable.look_up(sleeper.pid) is None


def test_a_process_whose_first_thread_ended_is_alive() -> None:
    script = (
        "import ctypes, threading, time, sys; threading.Thread(target=time.sleep, args=(1000,)).start();"
        "print(flush=True); ctypes.CDLL(None).pthread_exit(None)"
    )
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        deadline = time.monotonic() + 10
        while "Z" not in (state := _state(process.pid)):
            assert time.monotonic() < deadline, state
        assert proctable.look_up(process.pid) is not None
        process.kill()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_name_full_of_brackets_and_blanks_confuses_nobody(tmp_path: Path) -> None:
    program = tmp_path / "a) S 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "1000"]) as process:
        found = proctable.look_up(process.pid)
        assert found is not None
        assert found.ppid == os.getpid()
        process.kill()


def test_the_environment_is_matched_by_whole_entries(sleeper: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while not proctable.carries(sleeper.pid, b"MARK=m"):  # until its exec, it still has our environment
        assert time.monotonic() < deadline
    assert proctable.carries(sleeper.pid, b"A=1")
    for other in (b"MARK=", b"ARK=m", b"MARK=mm", b"A"):
        assert not proctable.carries(sleeper.pid, other)
    assert not proctable.carries(1 << 30, b"A=1")


def test_a_number_that_is_used_again_is_not_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    now = proctable.look_up(sleeper.pid)
    assert now is not None
    before = now._replace(start_ticks=now.start_ticks - 1)
    assert not proctable.send(before, signal.SIGKILL)
    assert not proctable.send(Proc(1 << 22, 1, 1, 1), signal.SIGKILL)
    assert sleeper.poll() is None
    assert proctable.send(now, signal.SIGKILL)
    assert sleeper.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("old", ["no pidfd_open", "ENOSYS"])
def test_without_pidfds_the_start_time_is_still_looked_at(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, old: str
) -> None:
    if old == "ENOSYS":
        monkeypatch.setattr(os, "pidfd_open", _refuse)
    else:
        monkeypatch.delattr(os, "pidfd_open")
    now = proctable.look_up(sleeper.pid)
    assert now is not None
    assert not proctable.send(now._replace(start_ticks=0), signal.SIGKILL)
    assert proctable.send(now, signal.SIGKILL)
    assert sleeper.wait(10) == -signal.SIGKILL


def _refuse(_: int) -> int:
    raise OSError(38, "not here")


def test_descendants_and_ancestors_survive_a_circle() -> None:
    procs = {pid: Proc(pid, 1, ppid, 1) for pid, ppid in {2: 1, 3: 2, 4: 3, 5: 1, 8: 9, 9: 8}.items()}
    assert {proc.pid for proc in proctable.descendants(procs, [2])} == {3, 4}
    assert {proc.pid for proc in proctable.descendants(procs, [8])} == {8, 9}
    assert proctable.ancestors(procs, 4) == {4, 3, 2}
    assert proctable.ancestors(procs, 8) == {8, 9}


WALKERS = """
import os, time
end = time.monotonic() + 30
for _ in range(4):
    if os.fork() == 0:
        os.write(1, b".")
        while time.monotonic() < end:  # walks on in its child and leaves; never more than a few of them are alive
            time.sleep(0.01)
            if os.fork():
                os._exit(0)
            os.setsid()
        os._exit(0)
time.sleep(30)
"""


def test_processes_that_go_on_in_their_children_are_caught() -> None:
    mark = f"MARK={uuid.uuid4()}"
    name, _, value = mark.partition("=")
    argv = [sys.executable, "-I", "-S", "-c", WALKERS]
    with subprocess.Popen(argv, env={name: value}, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.read(4) == b"...."
        killed, left = proctable.exterminate(lambda: _carriers(mark), timeout_s=20)
        ended, _, _ = select.select([process.stdout], [], [], 5)
        assert ended, "somebody lives and holds the other end"
        assert process.stdout.read() == b""
    assert killed >= 5
    assert left == 0


def _carriers(mark: str) -> set[Proc]:
    return {proc for proc in proctable.table().values() if proctable.carries(proc.pid, mark.encode())}
