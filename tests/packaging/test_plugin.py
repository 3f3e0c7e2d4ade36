"""The Claude Code plugin and the registry's entry: the tools they name exist, and the real client takes them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from claude_pool import __version__
from claude_pool.config import PoolConfig
from mcp_server.tools.catalogue import CATALOGUE

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "plugin"
TOOL = "mcp__plugin_pool_pool__"
TEXTS = sorted(path for path in PLUGIN.rglob("*.md") if path.name != "README.md")
TOOLS = {one.name for one in CATALOGUE}


def front_matter(path: Path) -> dict[str, Any]:
    _, head, _ = path.read_text().split("---\n", 2)
    return yaml.safe_load(head)


def listed(path: Path) -> list[str]:
    head = front_matter(path)
    return [name.strip() for name in head.get("allowed-tools", head.get("tools", "")).split(",") if name.strip()]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_every_tool_that_is_spoken_of_exists(path: Path) -> None:
    spoken = set(re.findall(r"\bpool_[a-z_]+\b", path.read_text()))
    assert spoken <= TOOLS


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_a_command_or_agent_may_use_what_it_tells_the_model_to_use_and_decides_nothing(path: Path) -> None:
    allowed = {name.removeprefix(TOOL) for name in listed(path) if name.startswith(TOOL)}
    if path.name == "SKILL.md":
        assert not allowed
        return
    assert allowed
    assert allowed <= TOOLS
    unasked = {"pool_approve_result", "pool_reject_result", "pool_merge", "pool_cancel", "pool_drain"}
    assert not allowed & unasked, "the client asks the user before these"


def test_what_is_loaded_into_every_session_is_short() -> None:
    descriptions = [front_matter(path)["description"] for path in TEXTS]
    assert all(40 <= len(text) <= 300 for text in descriptions)
    assert sum(map(len, descriptions)) <= 1000


def test_versions_and_names_agree_everywhere() -> None:
    manifest = json.loads((PLUGIN / ".claude-plugin" / "plugin.json").read_text())
    market = json.loads((ROOT / ".claude-plugin" / "marketplace.json").read_text())
    registry = json.loads((ROOT / "server.json").read_text())
    assert manifest["version"] == registry["version"] == registry["packages"][0]["version"] == __version__
    assert [(one["name"], ROOT / one["source"]) for one in market["plugins"]] == [(manifest["name"], PLUGIN)]
    assert f"mcp-name: {registry['name']}" in (ROOT / "README.md").read_text(), "what the registry looks for"
    assert len(registry["description"]) <= 100, "the registry's limit"
    settings = {f"CLAUDE_POOL_{name.upper()}" for name in PoolConfig.model_fields}
    assert {one["name"] for one in registry["packages"][0]["environmentVariables"]} <= settings
    (server,) = json.loads((PLUGIN / ".mcp.json").read_text())["mcpServers"]
    assert f"mcp__plugin_{manifest['name']}_{server}__" == TOOL


@pytest.mark.claude
@pytest.mark.parametrize("target", [PLUGIN, ROOT], ids=["plugin", "marketplace"])
def test_the_real_client_finds_nothing_wrong(target: Path, claude_binary: Path, claude_env: dict[str, str]) -> None:
    argv = [claude_binary, "plugin", "validate", "--strict", target]
    done = subprocess.run(argv, env=claude_env, capture_output=True, check=False, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.claude
@pytest.mark.slow
def test_the_real_client_loads_all_of_it_and_connects_to_its_server(
    claude_binary: Path, claude_env: dict[str, str], pool_home: Path, pool_name: str, tmp_path: Path
) -> None:
    env = {
        **claude_env,
        "PATH": f"{Path(sys.executable).parent}:{claude_env['PATH']}",
        "CLAUDE_POOL_HOME": str(pool_home),
        "CLAUDE_POOL_NAME": pool_name,
    }

    def run(*words: str) -> str:
        argv = [claude_binary, "--plugin-dir", PLUGIN, *words]
        return subprocess.run(
            argv,
            env=env,
            cwd=tmp_path,
            capture_output=True,
            check=True,
            timeout=90,
            stdin=subprocess.DEVNULL,
            text=True,
        ).stdout

    told = run("-p", "[[reply:hello]]", "--output-format", "stream-json", "--verbose")
    first = next(event for event in map(json.loads, told.splitlines()) if event.get("subtype") == "init")
    assert {"pool:fan-out", "pool:chain", "pool:review", "pool:status"} <= set(first["slash_commands"])
    assert "pool:coordinate" in first["skills"]
    assert "pool:pool-reviewer" in first["agents"]
    assert [one["name"] for one in first["mcp_servers"]] == ["plugin:pool:pool"]
    assert re.search(r"^plugin:pool:pool: claude-pool-mcp --slots 4 - \S+ Connected$", run("mcp", "list"), re.MULTILINE)
