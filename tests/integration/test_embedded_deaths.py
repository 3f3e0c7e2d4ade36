"""The private Redis when its users leave, and when users, server, keeper or all of them are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Self

import pytest
import redis

from claude_pool import embedded
from claude_pool.config import PoolConfig
from claude_pool.embedded import Lease, acquire, running, stop
from claude_pool.errors import Unreachable
from workers import proctable

pytestmark = pytest.mark.redis

LINGER_S = 0.2

USER = """
import sys
from pathlib import Path
from claude_pool.config import PoolConfig
from claude_pool.embedded import acquire
lease = acquire(PoolConfig(home=Path(sys.argv[1]), name=sys.argv[2], redis_linger_s=float(sys.argv[3])))
print(flush=True)
sys.stdin.read()
"""
"""A program that uses the server until its stdin ends."""


@pytest.fixture
def config(pool_home: Path, pool_name: str) -> Iterator[PoolConfig]:
    config = PoolConfig(home=pool_home, name=pool_name, redis_linger_s=LINGER_S)
    yield config
    stop(config, force=True)


def client(lease: Lease) -> redis.Redis:
    return redis.Redis.from_url(lease.url, decode_responses=True)


def server_pid(config: PoolConfig) -> int:
    info = running(config)
    assert info is not None
    return info.pid


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that waits for its new parent does not, once the last of its threads is gone.

    Until then it holds its files, and with them its locks.
    """
    return proctable.look_up(pid) is not None


def eventually(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.01)


def everything(config: PoolConfig) -> tuple[int, int]:
    """Server and keeper."""
    info = running(config)
    assert info is not None
    assert info.keeper_pid is not None
    return info.pid, info.keeper_pid


def kill_all(config: PoolConfig) -> None:
    pids = everything(config)
    for pid in reversed(pids):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(map(alive, pids)))


# --- leaving ----------------------------------------------------------------------------------------------------


def test_when_the_last_user_leaves_no_process_is_left(config: PoolConfig) -> None:
    one, two = acquire(config), acquire(config)
    pids = everything(config)
    one.close()
    assert all(map(alive, pids))
    two.close()
    two.close()
    eventually(lambda: not any(map(alive, pids)))
    assert running(config) is None


def test_a_killed_user_does_not_hold_the_server(config: PoolConfig) -> None:
    argv = [sys.executable, "-c", USER, str(config.home), config.name, str(LINGER_S)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdout
        user.stdout.readline()
        pids = everything(config)
        user.kill()
    eventually(lambda: not any(map(alive, pids)))


def test_a_forked_child_keeps_the_lease_that_its_parent_has_closed(config: PoolConfig) -> None:
    lease = acquire(config)
    pids = everything(config)
    gate, opener = os.pipe()
    child = os.fork()
    if not child:
        os.close(opener)
        os.read(gate, 1)
        os._exit(0)
    os.close(gate)
    lease.close()
    with pytest.raises(BlockingIOError):
        embedded.fcntl.flock(
            lock := os.open(config.pool_dir / "redis" / "users.lock", os.O_RDWR),
            embedded.fcntl.LOCK_EX | embedded.fcntl.LOCK_NB,
        )
    os.close(lock)
    assert all(map(alive, pids))
    os.close(opener)
    os.waitpid(child, 0)
    eventually(lambda: not any(map(alive, pids)))


def test_a_user_who_comes_while_the_server_leaves_gets_a_server_that_stays(config: PoolConfig) -> None:
    config = config.model_copy(update={"redis_linger_s": 0})
    for number in range(15):
        with acquire(config) as lease, closing(client(lease)) as connected:
            assert connected.incr("visits") == number + 1
    eventually(lambda: running(config) is None)


def test_down_ends_the_server_under_its_users_who_can_start_it_again(config: PoolConfig) -> None:
    with acquire(config) as lease:
        with closing(client(lease)) as connected:
            connected.set("key", "kept")
        pids = everything(config)
        assert stop(config)
        assert not any(map(alive, pids))
        assert not stop(config)
        lease.ensure()
        with closing(client(lease)) as connected:
            assert connected.get("key") == "kept"


def test_down_with_force_ends_even_what_does_not_move(config: PoolConfig) -> None:
    with acquire(config):
        server, keeper = everything(config)
        os.kill(keeper, signal.SIGSTOP)
        with pytest.raises(Unreachable, match="does not end"):
            stop(config, wait_s=0.2)
        assert stop(config, force=True, wait_s=0.2)
        assert not alive(server)
        assert not alive(keeper)


# --- dying ------------------------------------------------------------------------------------------------------


def test_a_killed_server_is_started_again_with_its_data(config: PoolConfig) -> None:
    with acquire(config) as lease, closing(client(lease)) as connected:
        connected.set("key", "kept")
        server, keeper = everything(config)
        os.kill(server, signal.SIGKILL)
        eventually(lambda: (info := running(config)) is not None and info.pid != server)
        lease.ensure()
        assert connected.get("key") == "kept"
        assert everything(config)[1] == keeper


def test_a_killed_keeper_takes_its_server_along_and_ensure_starts_both(config: PoolConfig) -> None:
    with acquire(config) as lease, closing(client(lease)) as connected:
        connected.set("key", "kept")
        before = everything(config)
        os.kill(before[1], signal.SIGKILL)
        eventually(lambda: not any(map(alive, before)))
        assert running(config) is None
        lease.ensure()
        assert connected.get("key") == "kept"
        assert not set(before) & set(everything(config))


def test_a_server_that_outlived_its_keeper_is_ended_before_another_one_starts(config: PoolConfig) -> None:
    """A stopped process does not hear the kernel's TERM: the nearest thing on Linux to a server without its keeper."""
    with acquire(config) as lease, closing(client(lease)) as connected:
        connected.set("key", "kept")
        server, keeper = everything(config)
        os.kill(server, signal.SIGSTOP)
        os.kill(keeper, signal.SIGKILL)
        eventually(lambda: not alive(keeper))
        assert server_pid(config) == server
        info = running(config)
        assert info is not None
        assert info.keeper_pid is None
        with acquire_in_background(config) as result:
            eventually(lambda: (found := running(config)) is not None and found.keeper_pid is not None)
            assert server_pid(config) == server
            os.kill(server, signal.SIGCONT)
            assert result() == 0
        assert server_pid(config) != server
        assert connected.get("key") == "kept"


def test_what_was_acknowledged_survives_the_death_of_everything_at_once(config: PoolConfig) -> None:
    with acquire(config) as lease, closing(client(lease)) as connected:
        for number in range(200):
            connected.rpush("acknowledged", number)
        kill_all(config)
    with acquire(config) as lease, closing(client(lease)) as connected:
        assert connected.llen("acknowledged") == 200


def append_only_file(config: PoolConfig) -> Path:
    return next((config.pool_dir / "redis" / "appendonlydir").glob("*.incr.aof"))


def test_an_append_only_file_whose_tail_was_cut_off_loses_the_last_write_only(config: PoolConfig) -> None:
    with acquire(config) as lease, closing(client(lease)) as connected:
        connected.set("one", "1")
        connected.set("two", "2")
        kill_all(config)
    data = append_only_file(config)
    data.write_bytes(data.read_bytes()[:-5])
    with acquire(config) as lease, closing(client(lease)) as connected:
        assert (connected.get("one"), connected.get("two")) == ("1", None)


def test_a_damaged_append_only_file_is_reported_with_the_servers_own_words_and_left_alone(config: PoolConfig) -> None:
    with acquire(config) as lease, closing(client(lease)) as connected:
        connected.set("one", "1")
        connected.set("two", "2")
        kill_all(config)
    data = append_only_file(config)
    damaged = data.read_bytes().replace(b"*3\r\n$3\r\nSET\r\n$3\r\none", b"?????????????????????", 1)
    data.write_bytes(damaged)
    with pytest.raises(Unreachable, match=r"(?s)exit code 1, 5 times in a row.*Bad file format.*redis\.log") as caught:
        acquire(config)
    assert caught.value.exit_code == 3
    assert data.read_bytes() == damaged
    eventually(lambda: running(config) is None)


class acquire_in_background:  # noqa: N801 - reads as the function that it stands for
    """`acquire` in a forked child; `result()` gives its exit code."""

    def __init__(self, config: PoolConfig) -> None:
        self._child = os.fork()
        if not self._child:
            code = 1
            try:
                acquire(config)
                code = 0
            finally:
                os._exit(code)
        self._code: int | None = None

    def __call__(self) -> int:
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])
        return self._code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self()
