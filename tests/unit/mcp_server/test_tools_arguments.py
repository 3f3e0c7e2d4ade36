"""The options of a task are the same everywhere, and their schema tells a model no more than it needs."""

from __future__ import annotations

import json

from claude_pool.models.options import TaskOptions
from claude_pool.models.route import AutoHint
from mcp_server.tools.arguments import EXPLAINED, NEVER_OVER_MCP, Submission, options_of, schema_of
from mcp_server.tools.catalogue import CATALOGUE

SUBMITTING = [one for one in CATALOGUE if issubclass(one.arguments, TaskOptions)]


def test_every_tool_that_submits_takes_every_option_of_a_task_and_none_of_its_own_kind() -> None:
    assert {one.name for one in SUBMITTING} >= {"pool_submit", "pool_run", "pool_submit_with_review", "pool_auto"}
    own = {"prompt", "skill", "title", "idempotency_key", "wait_s", *AutoHint.model_fields}
    own |= {
        "prompts",
        "steps",
        "chain",
        "chains",
        "args",
        "budget_usd",
        "gather",
        "policy",
        "max_parallel",
        "failure_policy",
        "wait",
    }
    for one in SUBMITTING:
        shown = (one.parameters or schema_of(one.arguments))["properties"].keys()
        assert shown - own == TaskOptions.model_fields.keys(), one.name


def test_explained_options_exist() -> None:
    assert TaskOptions.model_fields.keys() >= EXPLAINED


def test_options_that_were_not_chosen_are_left_to_the_pool() -> None:
    chosen = options_of(Submission(prompt="x", model="haiku", tags=("a",)))
    assert chosen.model_fields_set == {"model", "tags"}


def test_a_schema_has_no_noise_and_is_closed() -> None:
    for one in CATALOGUE:
        schema = one.parameters or schema_of(one.arguments)
        assert schema["additionalProperties"] is False
        for name, parameter in schema["properties"].items():
            assert "$ref" not in json.dumps(parameter)
            assert not {"title", "default", "anyOf", "pattern"} & parameter.keys(), (one.name, name)


def test_a_mode_that_is_always_refused_is_not_offered() -> None:
    assert NEVER_OVER_MCP not in json.dumps([one.parameters for one in CATALOGUE])


def test_required_arguments_come_first() -> None:
    assert next(iter(schema_of(Submission)["properties"])) == "prompt"
