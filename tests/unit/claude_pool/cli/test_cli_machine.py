"""mcp, doctor, config."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from claude_pool.cli import machine
from claude_pool.config import PoolConfig
from claude_pool.models.pool import Finding

Cli = Callable[..., Any]


def test_config_shows_every_setting_with_its_origin(cli: Cli, monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    (place / "claude-pool.toml").write_text('model = "haiku"\n')
    monkeypatch.setenv("CLAUDE_POOL_SLOTS", "7")
    settings = cli("config", "--json").document["settings"]
    assert set(settings) == set(PoolConfig.model_fields)
    assert settings["slots"] == {"value": 7, "origin": "CLAUDE_POOL_SLOTS"}
    assert settings["model"] == {"value": "haiku", "origin": str(place / "claude-pool.toml")}
    assert settings["lease_s"]["origin"] == "default"
    plain = cli("config").out
    assert [name for name in PoolConfig.model_fields if name not in plain] == []


def test_config_never_shows_a_password(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_POOL_REDIS_URL", "rediss://ada:s3cret@redis.example:6379/0")
    for answer in (cli("config"), cli("config", "--json")):
        assert "s3cret" not in answer.out
        assert "rediss://***@redis.example:6379/0" in answer.out


@pytest.mark.parametrize(("health", "code"), [("ok", 0), ("warning", 0), ("error", 1)])
def test_doctor_ends_with_1_only_for_an_error(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, health: Any, code: int
) -> None:
    found = [Finding(name="git", health=health, detail="what", hint="do this")]
    monkeypatch.setattr("claude_pool.doctor.diagnose", lambda *_settings: found)
    assert cli("doctor").code == code
    answer = cli("doctor", "--json")
    assert (answer.code, answer.document["healthy"]) == (code, code == 0)
    assert answer.document["findings"][0]["hint"] == "do this"


def test_the_printed_mcp_entry_starts_this_very_installation(cli: Cli) -> None:
    entry = cli("mcp", "--print-config", "--slots", "4").document["mcpServers"]["claude-pool"]
    assert os.access(entry["command"], os.X_OK)
    assert Path(entry["command"]).is_absolute()
    assert entry["args"] == ["mcp", "--slots", "4"]


def test_mcp_starts_the_program_by_name(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []

    def load(name: str) -> Any:
        return SimpleNamespace(main=lambda argv: called.append((name, argv)) or 3)

    monkeypatch.setattr(machine, "load_program", load)
    assert cli("mcp", "--slots", "4").code == 3
    assert called == [("mcp_server.main", ["--slots", "4"])]
