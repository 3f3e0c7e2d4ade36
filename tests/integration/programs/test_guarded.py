"""The guard seen from its slot: starting, ending, leases, and what is left when either of the two is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from claude_pool.errors import CliError
from workers import proctable
from workers.guarded import Child, Guard, boottime_s

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="trees are found by /proc")


def wait_for(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "condition never came true"
        time.sleep(0.01)


def open_files(pid: int | None) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def marked(env: Mapping[str, str]) -> list[int]:
    mark = f"CLAUDE_POOL_RUN={env['CLAUDE_POOL_RUN']}".encode()
    return [pid for pid in proctable.table() if proctable.carries(pid, mark)]


@pytest.fixture
def env() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "CLAUDE_POOL_RUN": str(uuid.uuid4())}


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard.start(mark={"CLAUDE_POOL_NAME": f"test-{uuid.uuid4()}"}) as guard:
        yield guard
    assert not guard.alive


def sh(guard: Guard, env: Mapping[str, str], script: str, **options: float) -> Child:
    return guard.spawn(["sh", "-c", script], env, "/", **options)


def read(child: Child) -> str:
    """All of its standard output, to the end."""
    os.close(child.stdin)
    os.close(child.stderr)
    with os.fdopen(child.stdout) as stdout:
        return stdout.read()


def first_line(child: Child) -> str:
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(child.stdout, 1)
    return line.decode().strip()


def test_a_child_talks_through_its_streams_and_its_exit_is_told(guard: Guard, env: dict[str, str]) -> None:
    child = sh(guard, env, "read line; echo out $line; echo err >&2; exit 7")
    os.write(child.stdin, b"in\n")
    assert os.read(child.stdout, 100) == b"out in\n"
    assert os.read(child.stderr, 100) == b"err\n"
    facts = guard.wait_exit(20)
    child.close()
    assert facts is not None
    assert (facts.code, facts.signal, facts.started, facts.left_behind) == (7, None, True, 0)
    assert facts.max_rss_kb is not None
    assert facts.max_rss_kb > 0
    assert facts.cpu_s is not None


def test_a_child_sees_its_own_environment_and_nothing_else_of_ours(
    guard: Guard, env: dict[str, str], tmp_path: Path
) -> None:
    script = (
        "import os, signal; fds = os.listdir('/proc/self/fd'); print(sorted(os.environ), os.getcwd(), len(fds), "
        "os.getsid(0) == os.getpid(), signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)"
    )
    child = guard.spawn([sys.executable, "-I", "-S", "-c", script], env, str(tmp_path))
    said = read(child).replace("'LC_CTYPE', ", "")  # the interpreter's own doing
    assert guard.wait_exit(20)
    # the fourth descriptor is the listing itself
    assert said == f"['CLAUDE_POOL_RUN', 'PATH'] {tmp_path} 4 True True\n"


def test_an_environment_of_a_megabyte_and_long_arguments_arrive_whole(guard: Guard, env: dict[str, str]) -> None:
    env |= {f"BIG_{n}": "x" * 100_000 for n in range(10)}
    child = guard.spawn(
        ["sh", "-c", 'printf %s "$1" | wc -c; printf %s "$BIG_9" | wc -c', "sh", "y" * 120_000], env, "/"
    )
    assert read(child).split() == ["120000", "100000"]
    assert guard.wait_exit(20)


@pytest.mark.parametrize(
    ("argv", "cwd", "why"),
    [
        (["/nowhere/claude"], "/", "No such file"),
        (["/etc/passwd"], "/", "Permission denied"),
        (["sh"], "/nowhere/at/all", "working directory"),
        (["sh", "-c", "x" * 200_000], "/", "too long"),
    ],
)
def test_a_cli_that_can_not_be_executed_says_why_and_the_guard_goes_on(
    guard: Guard, env: dict[str, str], argv: list[str], cwd: str, why: str
) -> None:
    with pytest.raises(CliError, match=why):
        guard.spawn(argv, env, cwd)
    child = sh(guard, env, "echo fine")
    assert read(child) == "fine\n"
    assert guard.wait_exit(20)


def test_death_by_signal_is_told_as_a_signal(guard: Guard, env: dict[str, str]) -> None:
    child = sh(guard, env, "kill -SEGV $$")
    facts = guard.wait_exit(20)
    child.close()
    assert facts is not None
    assert (facts.code, facts.signal) == (None, signal.SIGSEGV)


def test_terminate_reaches_the_cli_alone_and_lets_it_clean_up(guard: Guard, env: dict[str, str]) -> None:
    child = sh(guard, env, "trap 'echo bye; exit 143' TERM; echo ready; while :; do sleep 0.05; done")
    assert first_line(child) == "ready"
    guard.terminate()
    assert read(child) == "bye\n"
    facts = guard.wait_exit(20)
    assert facts is not None
    assert facts.code == 143


def test_what_a_cli_leaves_behind_is_gone_before_its_exit_is_told(guard: Guard, env: dict[str, str]) -> None:
    script = "sleep 1000 & setsid sleep 1000 & (setsid sh -c \"trap '' TERM; while :; do sleep 0.1; done\" &) ; echo ok"
    child = sh(guard, env, script)
    assert first_line(child) == "ok"
    facts = guard.wait_exit(20)
    child.close()
    assert facts is not None
    assert facts.code == 0
    assert facts.left_behind >= 3
    assert marked(env) == []


def test_an_orphan_that_cleared_its_environment_is_found_as_well(guard: Guard, env: dict[str, str]) -> None:
    child = sh(guard, env, "(env -i setsid sh -c 'echo $$; exec sleep 1000' &) ; exit 0")
    pid = int(first_line(child))
    facts = guard.wait_exit(20)
    child.close()
    assert facts is not None
    assert facts.left_behind == 1
    assert proctable.look_up(pid) is None


def test_kill_ends_a_whole_tree_that_ignores_everything(guard: Guard, env: dict[str, str]) -> None:
    stubborn = "trap '' TERM INT HUP; while :; do sleep 0.05; done"
    child = sh(
        guard, env, f'setsid sh -c "{stubborn}" & sh -c "{stubborn}" & {stubborn.replace("while", "echo ok; while")}'
    )
    assert first_line(child) == "ok"
    guard.kill()
    facts = guard.wait_exit(20)
    child.close()
    assert facts is not None
    assert facts.signal == signal.SIGKILL
    assert marked(env) == []
    ended = guard.poll_exit()
    assert ended is not None
    assert (ended.cause, ended.stuck) == ("kill", 0)


def test_a_lease_that_passes_kills_the_tree(guard: Guard, env: dict[str, str]) -> None:
    child = sh(guard, env, "setsid sleep 1000 & echo ok; sleep 1000", deadline=boottime_s() + 0.3)
    facts = guard.wait_exit(20)
    child.close()
    ended = guard.poll_exit()
    assert facts is not None
    assert facts.signal == signal.SIGKILL
    assert ended is not None
    assert ended.cause == "lease"
    assert marked(env) == []


def test_a_renewed_lease_lets_it_live_and_no_lease_is_no_limit(guard: Guard, env: dict[str, str]) -> None:
    first_deadline = boottime_s() + 0.3
    child = sh(guard, env, "read line; exit 0", deadline=first_deadline)
    guard.renew(boottime_s() + 1000)
    wait_for(lambda: boottime_s() > first_deadline + 0.2)
    guard.renew(None)
    assert guard.wait_exit(0.1) is None
    os.write(child.stdin, b"go\n")
    facts = guard.wait_exit(20)
    child.close()
    assert facts is not None
    assert facts.code == 0


def test_a_lease_that_passed_before_the_start_lets_nothing_run(guard: Guard, env: dict[str, str]) -> None:
    guard.renew(boottime_s() - 1)
    child = sh(guard, env, "sleep 1000")
    assert guard.wait_exit(20) is not None
    child.close()
    ended = guard.poll_exit()
    assert ended is not None
    assert ended.cause == "lease"


def test_a_guard_that_is_killed_takes_everything_with_it_and_the_next_run_gets_a_new_one(
    guard: Guard, env: dict[str, str]
) -> None:
    child = sh(
        guard, env, "setsid sleep 1000 & (env -i setsid sleep 1000 &); (nohup sleep 1000 &) ; echo ok; sleep 1000"
    )
    assert first_line(child) == "ok"
    old = guard.pid
    assert old is not None
    below = [proc.pid for proc in proctable.descendants(proctable.table(), [old])]
    assert len(below) >= 4
    os.kill(old, signal.SIGKILL)
    facts = guard.wait_exit(20)
    child.close()
    assert facts is not None
    assert facts.signal == signal.SIGKILL
    assert [pid for pid in below if proctable.look_up(pid)] == []
    assert marked(env) == []
    again = sh(guard, env, "echo again")
    assert guard.pid != old
    assert read(again) == "again\n"
    assert guard.wait_exit(20)


def test_a_guard_that_was_stopped_is_killed_when_it_does_not_kill(
    guard: Guard, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.guarded._KILL_S", 0.3)
    child = sh(guard, env, "setsid sleep 1000 & echo ok; sleep 1000")
    assert first_line(child) == "ok"
    assert guard.pid is not None
    os.kill(guard.pid, signal.SIGSTOP)
    guard.kill()
    assert guard.wait_exit(20) is not None
    child.close()
    assert marked(env) == []


def test_two_children_at_a_time_are_told_apart(guard: Guard, env: dict[str, str]) -> None:
    spare_env = env | {"CLAUDE_POOL_RUN": str(uuid.uuid4())}
    working = sh(guard, env, "(env -i setsid sleep 1000 &) ; setsid sleep 1000 & echo ok; read line")
    spare = sh(guard, spare_env, "sleep 1000 & echo ok; read line; exit 3")
    assert first_line(working) == first_line(spare) == "ok"
    os.write(working.stdin, b"\n")
    facts = guard.wait_exit(20, working)
    assert facts is not None
    assert facts.left_behind == 2
    assert marked(env) == []
    assert len(marked(spare_env)) == 2
    os.write(spare.stdin, b"\n")
    facts = guard.wait_exit(20, spare)
    assert facts is not None
    assert facts.code == 3
    working.close()
    spare.close()


def test_closing_the_guard_ends_what_still_runs(env: dict[str, str]) -> None:
    with Guard.start(mark={}) as guard:
        child = sh(guard, env, "setsid sleep 1000 & echo ok; sleep 1000")
        assert first_line(child) == "ok"
    child.close()
    assert marked(env) == []
    assert not guard.alive


def test_signals_that_stop_other_programs_do_not_stop_the_guard(guard: Guard, env: dict[str, str]) -> None:
    assert guard.pid is not None
    child = sh(guard, env, "read line; exit 0")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP):
        os.kill(guard.pid, number)
    os.write(child.stdin, b"\n")
    facts = guard.wait_exit(20)
    child.close()
    assert facts is not None
    assert facts.code == 0


def test_what_this_process_started_before_the_guard_outlives_a_guard_that_is_killed(env: dict[str, str]) -> None:
    older = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        time.sleep(2 / os.sysconf("SC_CLK_TCK"))  # ages are told in ticks
        with Guard.start(mark={}) as guard:
            child = sh(guard, env, "setsid sleep 1000 & echo ok; sleep 1000")
            assert first_line(child) == "ok"
            assert guard.pid is not None
            os.kill(guard.pid, signal.SIGKILL)
            assert guard.wait_exit(20)
            child.close()
        assert marked(env) == []
        assert older.poll() is None
    finally:
        older.kill()
        older.wait()


def test_many_runs_leave_no_descriptor_and_no_zombie(guard: Guard, env: dict[str, str]) -> None:
    before, theirs = open_files(os.getpid()), 0
    for turn in range(30):
        child = sh(guard, env, "(sleep 0 &) ; exit 0")
        assert guard.wait_exit(20)
        child.close()
        if turn == 5:
            theirs = open_files(guard.pid)
    assert open_files(os.getpid()) == before
    assert open_files(guard.pid) == theirs
    children = Path(f"/proc/{guard.pid}/task/{guard.pid}/children")
    wait_for(lambda: not children.exists() or children.read_text() == "")
