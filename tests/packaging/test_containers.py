"""The compose file and what its containers run. No Docker engine is needed: the same commands run as processes."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ENTRY = ROOT / "scripts" / "container-entry"
BIN = ROOT / ".venv" / "bin"


def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def commands() -> list[list[str]]:
    """Every command line of ours in the compose file and the Dockerfile."""
    found = [service["command"] for service in compose()["services"].values()]
    found += [service["healthcheck"]["test"][1:] for service in compose()["services"].values()]
    found += [
        re.findall(r'"([^"]+)"', line) for line in (ROOT / "Dockerfile").read_text().splitlines() if line[:4] == "CMD "
    ]
    ours = [command[command.index(name) :] for command in found for name in ("claude-pool",) if name in command]
    assert len(ours) >= 3
    return ours


def entry(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], **env}
    return subprocess.run([ENTRY, *argv], env=clean, capture_output=True, text=True, timeout=30, check=False)


def test_every_service_has_a_health_check_and_a_pinned_image() -> None:
    for name, service in compose()["services"].items():
        assert "healthcheck" in service, name
        assert re.search(r":\d+\.\d+\.\d+", service["image"]), name
    assert all(
        re.fullmatch(r"FROM python:\d+\.\d+\.\d+-\S+( AS \w+)?", line)
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("FROM")
    )


def test_the_image_has_the_version_of_the_project_and_no_user_root() -> None:
    version = re.search(r'__version__ = "(.+)"', (ROOT / "claude_pool" / "_version.py").read_text())
    assert version is not None
    assert compose()["services"]["worker"]["image"] == f"claude-pool:{version[1]}"
    assert "\nUSER pool\n" in (ROOT / "Dockerfile").read_text()


def test_secrets_are_files_that_git_and_the_image_never_see() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert not re.search(r"(?i)(password|key|token)\s*[:=]\s*[\"']?[A-Za-z0-9+/=_-]{16,}[\"']?\s*$", text, re.MULTILINE)
    assert all(set(secret) == {"file"} for secret in compose()["secrets"].values())
    assert "secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert (ROOT / ".dockerignore").read_text().startswith("*\n")


def test_what_the_image_copies_exists_and_is_let_through() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
                assert source in allowed, source


@pytest.mark.parametrize("command", commands(), ids=shlex.join)
def test_a_command_of_the_containers_exists_with_its_options(command: list[str]) -> None:
    verb = next((word for word in command[1:] if not word.startswith("-")), None)
    argv = [str(BIN / command[0]), *([verb] if verb else []), "--help"]
    told = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "COLUMNS": "200"}
    )
    assert told.returncode == 0, told.stderr
    for option in (word for word in command if word.startswith("--")):
        assert option in told.stdout


def test_the_entry_turns_secret_files_into_variables_and_an_address(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-test\n")
    (tmp_path / "password").write_text("s3cret\n")
    (tmp_path / "empty").write_text("")
    done = entry(
        "env",
        ANTHROPIC_API_KEY_FILE=str(tmp_path / "key"),
        CLAUDE_CODE_OAUTH_TOKEN_FILE=str(tmp_path / "empty"),
        REDIS_PASSWORD_FILE=str(tmp_path / "password"),
        REDIS_HOST="redis",
    )
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert seen["ANTHROPIC_API_KEY"] == "sk-test"
    assert seen["CLAUDE_POOL_REDIS_URL"] == "redis://:s3cret@redis:6379/0"
    assert "REDIS_PASSWORD" not in seen
    assert "CLAUDE_CODE_OAUTH_TOKEN" not in seen


def test_an_address_that_was_given_is_left_alone(tmp_path: Path) -> None:
    url = "rediss://user:p@elsewhere:6380/2"
    (tmp_path / "url").write_text(url)
    assert f"CLAUDE_POOL_REDIS_URL={url}\n" in entry("env", CLAUDE_POOL_REDIS_URL=url, REDIS_HOST="redis").stdout
    assert f"CLAUDE_POOL_REDIS_URL={url}\n" in entry("env", CLAUDE_POOL_REDIS_URL_FILE=str(tmp_path / "url")).stdout


def test_a_secret_that_cannot_be_used_stops_the_container_with_the_reason(tmp_path: Path) -> None:
    gone = entry("env", ANTHROPIC_API_KEY_FILE=str(tmp_path / "gone"))
    assert (gone.returncode, gone.stdout) == (3, "")
    assert "ANTHROPIC_API_KEY_FILE" in gone.stderr
    (tmp_path / "password").write_text("a@b/c")
    odd = entry("env", REDIS_PASSWORD_FILE=str(tmp_path / "password"), REDIS_HOST="redis")
    assert (odd.returncode, odd.stdout) == (2, "")
    assert "a@b/c" not in odd.stderr


def test_the_redis_of_the_compose_file_is_durable_and_wants_its_password(
    tmp_path: Path, require: Callable[[str], None]
) -> None:
    """Its very command, with paths and port of this test."""
    require("redis-server")
    (tmp_path / "password").write_text("s3cret")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = compose()["services"]["redis"]["command"][2].replace("$$", "$")
    script = script.replace("/run/secrets/redis_password", str(tmp_path / "password"))
    script = script.replace("dir /data", f"dir {tmp_path}\nport {port}\nbind 127.0.0.1")
    server = subprocess.Popen(["sh", "-c", script], stdout=subprocess.DEVNULL, start_new_session=True)
    client = ["redis-cli", "-p", str(port)]

    def ask(*words: str, password: str = "s3cret") -> str:
        env = {"PATH": os.environ["PATH"], "REDISCLI_AUTH": password}
        return subprocess.run(
            [*client, *words], env=env, capture_output=True, text=True, timeout=10, check=False
        ).stdout

    try:
        deadline = time.monotonic() + 20
        while "PONG" not in ask("ping"):
            assert time.monotonic() < deadline, "the server did not answer"
            time.sleep(0.02)
        assert "NOAUTH" in ask("ping", password="") or "PONG" not in ask("ping", password="wrong")
        settings = {
            name: ask("config", "get", name).split()[-1] for name in ("appendonly", "appendfsync", "maxmemory-policy")
        }
        assert settings == {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
    finally:
        ask("shutdown", "nosave")
        server.wait(20)


def test_docker_compose_itself_accepts_the_file(tmp_path: Path) -> None:
    """Where the client has the plugin; it is no part of what the project needs."""
    known = shutil.which("docker") and subprocess.run(
        ["docker", "compose", "version"], capture_output=True, check=False
    )
    if not known or known.returncode != 0:
        pytest.skip("this docker client has no compose plugin")
    done = subprocess.run(
        ["docker", "compose", "-f", ROOT / "docker-compose.yml", "config", "-q"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
