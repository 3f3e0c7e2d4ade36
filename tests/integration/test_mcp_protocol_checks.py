"""The protocol's own checkers against the server over HTTP: the inspector's strict look at the schemas, and the
conformance suite.

Both come from npm, pinned by a lock file, and stay beside the virtual environment. The suite's scenarios that need a
demonstration server's tools are listed in `expected-failures.yml`; what is left checks transport, sessions, lists,
completion, and the defence against foreign hosts. Without Node the tests are skipped, and in CI they fail.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from claude_pool.config import PoolConfig
from claude_pool.models.task import Submitter
from claude_pool.pool import Pool
from claude_pool.store import fake_store
from mcp_server.counter import Counter
from mcp_server.http import _listen, application
from mcp_server.rights import SCOPES
from mcp_server.server import build
from mcp_server.tokens import TokenFile
from mcp_server.tools.catalogue import CATALOGUE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PINNED = Path(__file__).parents[1] / "fixtures" / "protocol"
MUST_PASS = {
    "server-initialize", "ping", "completion-complete", "tools-list", "resources-list", "prompts-list",
    "server-sse-multiple-streams", "dns-rebinding-protection",
}  # fmt: skip
OLDEST_NODE = 20
BY_NAME_ALONE = "Schema carries no validation keyword at all, so it"
"""Meant: of a task's seldom options only the name is shown, or the definitions would cost a session half as much again.
The record behind them checks them all the same, with better words."""


class Bells:
    """The broker's double."""

    def ring(self, bells: Any) -> None:
        pass

    def waiting(self, queue: str) -> int:
        return 0

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def checkers(require: Callable[[str], None]) -> Path:
    """A folder with both checkers installed; made once for each version of the lock file."""
    require("node")
    require("npm")
    version = subprocess.run(["node", "--version"], capture_output=True, check=True, text=True).stdout
    if int(version.lstrip("v").partition(".")[0]) < OLDEST_NODE:
        require(f"node {OLDEST_NODE}")
    lock = (PINNED / "package-lock.json").read_bytes()
    folder = Path(sys.prefix) / "protocol-checkers" / hashlib.sha256(lock).hexdigest()[:16]
    if not (folder / "node_modules").is_dir():
        _install(folder, require)
    for name in ("register.mjs", "hooks.mjs", "fs-shim.mjs"):
        shutil.copy(PINNED / name, folder)
    return folder


def _install(folder: Path, require: Callable[[str], None]) -> None:
    fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
    fresh.mkdir(parents=True)
    try:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(PINNED / name, fresh)
        argv = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--engine-strict=false"]
        done = subprocess.run(argv, cwd=fresh, capture_output=True, check=False, text=True)
        if done.returncode:
            require("npm registry: " + done.stderr[-300:])
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


@dataclass(frozen=True)
class Service:
    """Where the server listens, and what it lets in."""

    url: str
    token: str


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The application as it is served, Host and Origin checked; the token, which the suite can't send, is added."""
    config = PoolConfig(home=tmp_path / "home", node="n1")
    store = fake_store(config)
    store.pool.prepare(epoch=None)
    pool = Pool(config, store, Bells())
    tokens = TokenFile(config)
    token, _ = tokens.add(list(SCOPES), "checker")
    listener = _listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    counter = Counter(config, submitter=Submitter(name="checker", kind="mcp"), pool=pool)
    app = application(partial(build, counter), tokens, host="127.0.0.1", port=port)

    async def admitted(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope = {**scope, "headers": [*scope["headers"], (b"authorization", f"Bearer {token}".encode())]}
        await app(scope, receive, send)

    server = uvicorn.Server(
        uvicorn.Config(admitted, log_config=None, access_log=False, timeout_graceful_shutdown=1, ws="none")
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), name="server")
    thread.start()
    try:
        yield Service(f"http://127.0.0.1:{port}/mcp", token)
    finally:
        server.should_exit = True
        thread.join(30)
        pool.hub.close()
        store.close()
    assert not thread.is_alive()


def checked(argv: list[str], checkers: Path) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "NO_COLOR": "1"}
    return subprocess.run(argv, cwd=checkers, env=env, capture_output=True, check=False, text=True, timeout=120)


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_has_nothing_to_say_against_the_schemas(checkers: Path, service: Service, era: str) -> None:
    program = [str(checkers / "node_modules" / ".bin" / "mcp-inspector"), "--cli", service.url, "--transport", "http"]
    asked = ["--method", "tools/list", "--strict", "--protocol-era", era, "--format", "json"]
    done = checked([*program, "--header", f"Authorization: Bearer {service.token}", *asked], checkers)
    assert done.returncode == 0, done.stderr
    issues = set(re.findall(r"Issue: (.{0,50})", done.stderr))
    assert issues <= {BY_NAME_ALONE}
    listed = json.loads(done.stdout)
    tools = listed.get("tools") or listed["result"]["tools"]
    assert [tool["name"] for tool in tools] == [one.name for one in CATALOGUE]


def test_the_conformance_suite_fails_where_it_is_expected_to_and_nowhere_else(checkers: Path, service: Service) -> None:
    suite = "node_modules/@modelcontextprotocol/conformance/dist/index.js"
    program = ["node", "--import", "./register.mjs", suite, "server", "--url", service.url]
    done = checked([*program, "--expected-failures", str(PINNED / "expected-failures.yml")], checkers)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    summary = done.stdout.partition("=== SUMMARY ===")[2]
    passed = {line.split()[1].rstrip(":") for line in summary.splitlines() if line.startswith("✓")}
    assert passed >= MUST_PASS
