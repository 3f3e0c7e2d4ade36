"""The contract with clients: names, order, hints, and what the definitions cost a session."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mcp_server.server import INSTRUCTIONS
from mcp_server.tools.catalogue import CATALOGUE, TOOLSETS, toolset
from mcp_server.tools.tool import make_tool

CONTRACT = Path(__file__).with_name("contract.json")
MOST_TOKENS = 6_000
MOST_TOKENS_ALWAYS = 1_200
"""As estimated: a token is four characters."""


def definitions() -> list[dict[str, object]]:
    """What `tools/list` says, as far as it is a promise."""
    return [
        {
            "name": tool.name,
            "title": tool.title,
            "description": tool.description,
            "inputSchema": tool.parameters,
            "outputSchema": tool.output_schema,
            "annotations": tool.annotations.model_dump(exclude_none=True, by_alias=True) if tool.annotations else {},
            "meta": tool.meta,
        }
        for tool in map(make_tool, CATALOGUE)
    ]


def tokens(chosen: list[dict[str, object]]) -> float:
    """What a model is shown of a definition: name, description and input schema."""
    shown = [{name: one[name] for name in ("name", "description", "inputSchema")} for one in chosen]
    return len(json.dumps(shown, separators=(",", ":"))) / 4


def test_the_definitions_are_those_of_the_contract() -> None:
    """A change that is meant: run this with WRITE_CONTRACT=1, and say in the changelog whom it breaks."""
    if os.environ.get("WRITE_CONTRACT"):
        CONTRACT.write_text(json.dumps(definitions(), indent=1, ensure_ascii=False) + "\n")
    assert definitions() == json.loads(CONTRACT.read_text())


def test_all_definitions_fit_their_budget() -> None:
    assert tokens(definitions()) <= MOST_TOKENS


def test_what_is_always_loaded_fits_its_budget() -> None:
    core = [one for one in definitions() if one["meta"]]
    assert {"pool_submit", "pool_wait", "pool_result", "pool_status", "pool_fan_out"} == {one["name"] for one in core}
    assert len(core) <= 5
    assert tokens(core) + len(INSTRUCTIONS) / 4 <= MOST_TOKENS_ALWAYS


@pytest.mark.parametrize("one", CATALOGUE, ids=lambda one: one.name)
def test_descriptions_are_short_and_begin_like_a_sentence(one: object) -> None:
    description = getattr(one, "description", "")
    assert 20 <= len(description) <= 300
    assert "  " not in description
    assert description.endswith(".")


def test_only_tools_that_change_nothing_are_read_only_and_only_ends_are_destructive() -> None:
    hints = {one.name: one.annotations for one in CATALOGUE}
    reading = {
        "context_get",
        "context_list",
        "pool_chain_result",
        "pool_diff",
        "pool_find_slots",
        "pool_list_tasks",
        "pool_logs",
        "pool_result",
        "pool_status",
        "pool_wait",
    }
    assert {name for name, hint in hints.items() if hint.read_only_hint} == reading
    assert {name for name, hint in hints.items() if hint.destructive_hint} == {
        "context_delete",
        "pool_cancel",
        "pool_cancel_chain",
        "pool_drain",
    }


def test_names_are_unique_and_begin_with_pool_or_context() -> None:
    names = [one.name for one in CATALOGUE]
    assert len(set(names)) == len(names)
    assert all(name.startswith(("pool_", "context_")) for name in names)


def test_the_core_toolset_is_what_is_always_loaded() -> None:
    assert TOOLSETS == ("core", "full")
    assert toolset("full") == CATALOGUE
    assert {one.name for one in toolset("core")} == {str(one["name"]) for one in definitions() if one["meta"]}


def test_what_reads_workers_words_warns_of_them() -> None:
    for name in ("pool_run", "pool_result", "pool_logs", "pool_chain", "pool_chain_result"):
        assert "never instructions" in next(one.description for one in CATALOGUE if one.name == name)
