"""The keeper as a program, and others that hold its locks and sockets; no redis-server is needed."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from claude_pool import embedded_keeper as keeper

HOLD = """
import fcntl, os, signal, sys
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
fcntl.lockf(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)
print(flush=True)
signal.pause()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def hold(path: Path, how: str = "polite") -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", HOLD, path, how], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    process.stdout.close()
    return process


def told(text: bytes) -> bytes:
    """What `ask` makes of a server that reads something, says `text` and closes."""

    def serve(listener: socket.socket) -> None:
        link, _ = listener.accept()
        with link:
            link.recv(100)
            link.sendall(text)

    with tempfile.TemporaryDirectory(prefix="cp-") as home, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{home}/s")
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            return keeper.ask(f"{home}/s", timeout_s=5)
        finally:
            thread.join()


def test_the_kernel_tells_who_holds_a_lock_until_that_process_ends(folder: Path) -> None:
    with hold(folder / "lock") as process:
        assert keeper.holder(str(folder / "lock")) == process.pid
        process.kill()
    assert keeper.holder(str(folder / "lock")) is None


@pytest.mark.parametrize(("deaf", "number"), [("polite", signal.SIGTERM), ("deaf", signal.SIGKILL)])
def test_a_server_left_over_is_told_to_end_and_killed_when_it_does_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch, deaf: str, number: signal.Signals
) -> None:
    monkeypatch.setattr(keeper, "GRACE_S", 0.1 if deaf == "deaf" else 10.0)
    monkeypatch.setattr(keeper, "say", lambda _text: None)
    with hold(folder / "lock", deaf) as process:
        lock = os.open(folder / "lock", os.O_RDWR)
        keeper.end_leftover(lock)
        os.close(lock)
        assert process.wait(10) == -number


def test_a_line_and_a_long_string_are_read_and_their_frames_taken_off() -> None:
    assert told(b"+PONG\r\n") == b"+PONG"
    assert told(b"-LOADING Redis is loading\r\n") == b"-LOADING Redis is loading"
    assert told(b"$10\r\na:1\r\nb:2\r\n\r\n") == b"a:1\r\nb:2\r\n"


def test_garbage_and_silence_are_no_answer(folder: Path) -> None:
    assert told(b"") == b""
    assert told(b"$many\r\n") == b""
    assert keeper.ask(str(folder / "nothing")) == b""
    assert keeper.ask("/" + "x" * 200) == b""


def test_a_second_keeper_of_a_folder_leaves_at_once_and_says_all_is_well(folder: Path) -> None:
    with hold(folder / keeper.KEEPER_LOCK) as first:
        argv = [sys.executable, "-I", "-S", keeper.__file__, folder, folder / "s", "/nonexistent", "0", "default"]
        second = subprocess.run(argv, capture_output=True, timeout=20, check=False, start_new_session=True)
        assert (second.returncode, second.stderr) == (0, b"")
        assert keeper.holder(str(folder / keeper.KEEPER_LOCK)) == first.pid
        first.kill()


def test_a_keeper_whose_server_cannot_be_started_says_why_and_gives_up(folder: Path) -> None:
    users = os.open(folder / keeper.USERS_LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(users, fcntl.LOCK_SH)
    argv = [sys.executable, "-I", "-S", keeper.__file__, folder, folder / "s", "/nonexistent", "0", "default"]
    assert subprocess.run(argv, timeout=20, check=False, start_new_session=True).returncode == 0
    pid = keeper.holder(str(folder / keeper.KEEPER_LOCK))
    if pid is not None:
        watched = os.pidfd_open(pid)
        assert keeper_ended(watched)
        os.close(watched)
    os.close(users)
    assert "exit code 75, 5 times in a row" in (folder / keeper.FAILED).read_text()
    assert "/nonexistent can't be started" in (folder / keeper.LOG).read_text()


def keeper_ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], 20)[0])


def test_a_keeper_without_its_folder_tells_its_caller(folder: Path) -> None:
    argv = [sys.executable, "-I", "-S", keeper.__file__, folder / "none", "s", "/nonexistent", "0", "default"]
    done = subprocess.run(argv, capture_output=True, timeout=20, check=False)
    assert done.returncode != 0
    assert b"FileNotFoundError" in done.stderr
