"""The doctor on this machine: what it sees of a real git, a real Redis and a real disk."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from claude_pool import doctor
from claude_pool.config import PoolConfig
from claude_pool.doctor import diagnose
from claude_pool.embedded import acquire, running, stop
from claude_pool.models.pool import Finding


def of(findings: list[Finding], name: str) -> Finding:
    """The one finding of that name."""
    (found,) = [finding for finding in findings if finding.name == name]
    return found


@pytest.fixture
def config(pool_home: Path, pool_name: str) -> PoolConfig:
    return PoolConfig(home=pool_home / "home", name=pool_name, redis_linger_s=0)


@pytest.mark.redis
def test_looking_changes_nothing_and_starts_nothing(config: PoolConfig) -> None:
    findings = diagnose(config, {})
    assert "is started when it is needed" in of(findings, "redis").detail
    assert "can be made" in of(findings, "home").detail
    assert not config.home.exists()
    assert running(config) is None


def test_all_that_a_pool_needs_is_looked_at_and_whatever_is_not_well_says_what_to_do(config: PoolConfig) -> None:
    findings = diagnose(config, {})
    names = {"python", "git", "redis", "claude", "sign-in", "home", "disk", "repository", "workers", "settings"}
    assert names <= {found.name for found in findings}
    assert all(found.hint for found in findings if found.health != "ok")
    assert of(findings, "python").detail.startswith(f"Python {sys.version.split()[0]}")


@pytest.mark.redis
def test_a_private_server_that_runs_is_told_with_its_process(config: PoolConfig) -> None:
    try:
        with acquire(config):
            info = running(config)
            assert info is not None
            assert f"process {info.pid}" in of(diagnose(config, {}), "redis").detail
    finally:
        stop(config, force=True)


def test_a_machine_without_anything_is_told_all_of_it_at_once(
    config: PoolConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("claude_pool.embedded_binary.bundled", lambda: None)
    monkeypatch.setattr("claude_pool.binary.bundled_claude", lambda: None)
    findings = diagnose(config.model_copy(update={"repo": tmp_path / "none"}), {})
    errors = {found.name: found.hint for found in findings if found.health == "error"}
    assert {"git", "redis", "claude", "sign-in", "repository"} <= set(errors)
    assert all(errors.values())


def test_a_key_is_told_by_its_name_and_never_by_its_value(config: PoolConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary-value")
    findings = diagnose(config, {})
    assert "ANTHROPIC_API_KEY" in of(findings, "sign-in").detail
    assert not any("canary" in found.detail + found.hint for found in findings)


def test_a_repository_is_tried_with_git(config: PoolConfig, scratch_repo: Path, tmp_path: Path) -> None:
    def repository(path: Path) -> Finding:
        return of(diagnose(config.model_copy(update={"repo": path}), {}), "repository")

    assert repository(scratch_repo).health == "ok"
    empty = tmp_path / "empty"
    subprocess.run(["git", "init", "-q", str(empty)], check=True)
    assert "no commit" in repository(empty).detail
    (tmp_path / "plain").mkdir()
    assert "no usable repository" in repository(tmp_path / "plain").detail


def test_a_home_that_cannot_be_written_to_is_an_error(config: PoolConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = of(diagnose(config.model_copy(update={"home": tmp_path / "file"}), {}), "home")
    assert (found.health, bool(found.hint)) == ("error", True)


def test_one_look_that_fails_does_not_hide_the_others(config: PoolConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_config: PoolConfig) -> None:
        msg = "unforeseen"
        raise ValueError(msg)

    monkeypatch.setattr(doctor, "find_claude", broken)
    findings = diagnose(config, {})
    assert (of(findings, "claude").health, of(findings, "python").health) == ("error", "ok")
    assert "unforeseen" in of(findings, "claude").detail


@pytest.mark.redis
def test_a_server_by_url_is_asked_what_it_would_lose(config: PoolConfig, private_redis: Any) -> None:
    def details() -> list[str]:
        findings = diagnose(config.model_copy(update={"redis_url": private_redis.url}), {})
        return [f"{found.health}: {found.detail}" for found in findings if found.name == "redis"]

    (only,) = details()
    assert only.startswith("ok: Redis ")
    private_redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    private_redis.command("CONFIG", "SET", "appendfsync", "everysec")
    _, evicts, forgets = details()
    assert evicts.startswith("error: maxmemory-policy is allkeys-lru")
    assert forgets.startswith("warning: appendfsync is everysec")


def test_a_server_by_url_that_is_not_there_is_an_error_without_its_password(config: PoolConfig) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"redis://:canary@127.0.0.1:{unused.getsockname()[1]}/0"
        found = of(diagnose(config.model_copy(update={"redis_url": url}), {}), "redis")
    assert (found.health, bool(found.hint)) == ("error", True)
    assert "canary" not in found.detail + found.hint
