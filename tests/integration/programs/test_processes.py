"""Other programs: bounded, clean, and gone when they should be."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_pool import processes

ENV = {"PATH": os.environ["PATH"]}


def sh(script: str, **options: object) -> processes.Completed:
    return processes.run(["sh", "-c", script], env=ENV, **options)  # pyright: ignore[reportArgumentType]


def wait_for(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "condition never came true"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_both_outputs_and_the_exit_code_come_back() -> None:
    done = sh("echo out; echo err >&2; exit 7")
    assert (done.text, done.error_text, done.code, done.ok) == ("out\n", "err\n", 7, False)


def test_the_program_sees_exactly_the_environment_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_POOL_SECRET", "leak")
    done = processes.run(["env"], env={"PATH": os.environ["PATH"], "ONLY": "this"})
    assert sorted(done.text.split()) == sorted([f"PATH={os.environ['PATH']}", "ONLY=this"])


def test_megabytes_of_input_and_output_pass_at_the_same_time() -> None:
    data = os.urandom(1 << 20) * 3
    done = processes.run(["cat"], env=ENV, stdin=data, max_output=len(data))
    assert done.stdout == data
    assert not done.truncated


def test_a_program_that_does_not_read_its_input_does_not_hang_us() -> None:
    assert processes.run(["true"], env=ENV, stdin=b"x" * (4 << 20)).ok


def test_output_beyond_the_limit_is_dropped_and_said_so() -> None:
    done = sh("head -c 300000 /dev/zero", max_output=1000)
    assert (len(done.stdout), done.truncated, done.ok) == (1000, True, True)


def test_a_program_that_outlives_its_time_is_killed_with_its_group() -> None:
    done = sh("echo $$; sleep 1000 & echo $!; wait", timeout_s=0.3)
    assert done.timed_out
    assert done.code == -signal.SIGKILL
    pids = [int(line) for line in done.text.split()]
    assert len(pids) == 2
    for pid in pids:
        wait_for(lambda pid=pid: gone(pid))


def test_a_background_child_that_holds_the_pipe_neither_delays_nor_survives_the_call() -> None:
    done = sh("sleep 1000 & echo $!", timeout_s=60)
    assert done.ok
    wait_for(lambda: gone(int(done.text)))


def test_a_program_that_closes_its_outputs_is_still_waited_for() -> None:
    assert sh("exec >&- 2>&-; sleep 0.2; exit 3").code == 3


def test_a_missing_program_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError):
        processes.run(["/nowhere/at-all"], env=ENV)


def test_end_gives_a_program_time_and_then_takes_its_group_down() -> None:
    polite = processes.start(["sleep", "1000"], env=ENV)
    assert processes.end(polite) == -signal.SIGTERM
    stubborn = processes.start(
        ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"], env=ENV, stdout=processes.PIPE
    )
    assert stubborn.stdout is not None
    with stubborn.stdout as ready:
        ready.readline()
        assert processes.end(stubborn, grace_s=0.2) == -signal.SIGKILL


def test_end_leaves_a_reaped_programs_number_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    done = processes.start(["true"], env=ENV)
    done.wait()
    monkeypatch.setattr(os, "killpg", lambda *_: pytest.fail("signalled a number that may be a stranger's"))
    assert processes.end(done) == 0


def test_a_detached_program_writes_its_log_in_its_own_session_and_is_reaped(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "program.log"
    script = "import os; print(os.getsid(0) == os.getpid(), sorted(os.environ))"
    pid = processes.spawn_detached([sys.executable, "-I", "-S", "-c", script], env={"A": "1"}, log=log)
    wait_for(lambda: not Path(f"/proc/{pid}").exists())
    assert "True" in log.read_text()
    assert "'A'" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
