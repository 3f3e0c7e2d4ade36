"""The list of verbs and what is imported for one of them."""

from __future__ import annotations

import pytest

from claude_pool.cli.app import GROUPS, VERBS, build, function_name

PROMISED = {"up", "down", "worker", "mcp", "doctor", "config", "demo", "run", "submit", "wait", "result", "list",
            "chain", "fan-out", "status", "logs", "cancel", "scale", "drain"}  # fmt: skip


def test_the_promised_verbs_are_there() -> None:
    assert set(VERBS) >= PROMISED


def test_one_verb_is_built_alone_and_an_unknown_one_brings_all() -> None:
    assert [command.name for command in build("status").registered_commands] == ["status"]
    app = build("frobnicate")
    groups = {group.typer_instance.info.name for group in app.registered_groups if group.typer_instance}
    assert {command.name for command in app.registered_commands} | groups == set(VERBS)
    assert groups == set(GROUPS)


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_and_functions_have_the_same_names(verb: str) -> None:
    assert function_name(verb).rstrip("_") == verb.replace("-", "_")
