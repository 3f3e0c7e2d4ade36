import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from claude_pool.models.options import MAX_PROMPT_BYTES, TaskOptions
from claude_pool.models.task import TaskRequest


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"inner": value}
    return value


def test_nothing_needs_to_be_chosen() -> None:
    options = TaskOptions()
    assert options.model is None
    assert options.permission_mode is None
    assert (options.on_lost, options.max_attempts, options.session) == ("resume", 1, "fresh")


def test_an_unknown_field_is_refused_by_its_name() -> None:
    with pytest.raises(ValidationError, match="modell"):
        TaskOptions.model_validate({"modell": "haiku"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "--help"),
        ("model", "a b"),
        ("model", ""),
        ("fallback_model", "-x"),
        ("effort", "extreme"),
        ("permission_mode", "yolo"),
        ("max_turns", 0),
        ("max_budget_usd", 0),
        ("max_budget_usd", float("nan")),
        ("max_budget_usd", float("inf")),
        ("timeout_s", -1),
        ("system_prompt", "nul\x00"),
        ("system_prompt", "half \ud83d"),
        ("allowed_tools", ("--x",)),
        ("allowed_tools", ("Bash\n",)),
        ("tools", ("",)),
        ("tags", ("no blanks",)),
        ("tags", tuple(f"t{n}" for n in range(33))),
        ("env", ("A=B",)),
        ("env", ("1A",)),
        ("base_ref", "--upload-pack=x"),
        ("session", "continue:nobody"),
        ("session", "name:../x"),
        ("on_lost", "shrug"),
        ("priority", 5),
        ("mcp_servers", {"a b": {}}),
        ("mcp_servers", {"a": "command"}),
        ("json_schema", nested(70)),
        ("json_schema", {"x": float("nan")}),
        ("json_schema", {"x": "\ud83d"}),
        ("json_schema", {"x": object()}),
    ],
)
def test_what_can_not_be_carried_out_is_refused_with_the_field(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refusal:
        TaskOptions.model_validate({field: value})
    assert {error["loc"][0] for error in refusal.value.errors()} == {field}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "claude-opus-4-8[1m]"),
        ("model", "us.anthropic.claude:0/x@latest"),
        ("allowed_tools", ("Bash(git log:*)", "mcp__server__tool", "Edit(/src/**)")),
        ("session", "fork:t-0000000000"),
        ("session", "name:nightly"),
        ("base_ref", "HEAD~3"),
        ("tools", ()),
        ("json_schema", nested(60)),
        ("mcp_servers", {"docs": {"type": "http", "url": "https://example.org"}}),
    ],
)
def test_what_users_write_is_taken(field: str, value: Any) -> None:
    assert getattr(TaskOptions.model_validate({field: value}), field) == value


def test_options_survive_json() -> None:
    options = TaskOptions(model="haiku", allowed_tools=("Edit",), json_schema={"type": "object"}, tools=())
    assert TaskOptions.model_validate_json(options.model_dump_json()) == options


def test_options_can_not_be_changed_but_evolved() -> None:
    options = TaskOptions(model="haiku")
    with pytest.raises(ValidationError, match="frozen"):
        options.model = "opus"  # pyright: ignore[reportAttributeAccessIssue]
    assert options.evolve(effort="low") == TaskOptions(model="haiku", effort="low")
    with pytest.raises(ValidationError):
        options.evolve(effort="extreme")


@pytest.mark.parametrize("prompt", ["", "  \n", "nul\x00", "half \udc00"])
def test_a_prompt_that_no_model_could_be_asked_is_refused(prompt: str) -> None:
    with pytest.raises(ValidationError):
        TaskRequest(prompt=prompt)


def test_a_prompt_is_refused_by_its_bytes_not_its_characters() -> None:
    TaskRequest(prompt="x" * MAX_PROMPT_BYTES)
    with pytest.raises(ValidationError, match="8 MiB"):
        TaskRequest(prompt="ü" * (MAX_PROMPT_BYTES // 2 + 1))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=40))
def test_any_other_prompt_reaches_the_model_unchanged(prompt: str) -> None:
    if prompt.strip():
        assert TaskRequest.model_validate_json(TaskRequest(prompt=prompt).model_dump_json()).prompt == prompt


def test_every_option_is_described_for_those_who_read_its_schema() -> None:
    properties = json.loads(json.dumps(TaskOptions.model_json_schema()))["properties"]
    assert [name for name, about in properties.items() if not about.get("description")] == []
