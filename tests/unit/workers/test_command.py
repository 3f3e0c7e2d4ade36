import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from claude_pool.config import PoolConfig
from claude_pool.errors import Refused
from claude_pool.models.options import TaskOptions
from workers.command import UNATTENDED, Launch, LaunchRequest, build_launch, interrupt_line, user_line
from workers.places import Place

RUN = "11111111-1111-4111-8111-111111111111"
SESSION = "22222222-2222-4222-8222-222222222222"
OLD = "33333333-3333-4333-8333-333333333333"


def settings_of(**values: Any) -> PoolConfig:
    return PoolConfig(home=Path("/pool"), node="n1", **values)


def launch(options: TaskOptions | None = None, *, config: PoolConfig | None = None, **changes: Any) -> Launch:
    config = config or settings_of()
    usual = {
        "binary": "/bin/claude",
        "options": options or TaskOptions(),
        "task_id": "t-0000000000",
        "run_id": RUN,
        "slot_id": "slot-0@n1",
        "session_id": SESSION,
        "place": Place.of(config, 0),
        "cwd": "/work",
        "config": config,
        "node_env": {"PATH": "/bin"},
    }
    return build_launch(LaunchRequest(**{**usual, **changes}))


def values_of(flag: str, made: Launch) -> list[str]:
    return [argument.partition("=")[2] for argument in made.argv if argument.partition("=")[0] == flag]


def test_a_plain_task_gets_streams_a_session_and_nothing_of_the_repository() -> None:
    made = launch()
    assert made.argv[:2] == ("/bin/claude", "-p")
    assert {"--input-format=stream-json", "--output-format=stream-json", "--verbose"} <= set(made.argv)
    assert {"--setting-sources=", "--strict-mcp-config", f"--session-id={SESSION}"} <= set(made.argv)
    assert made.cwd == "/work"
    assert made.files == {}


def test_every_argument_is_one_flag_with_its_value() -> None:
    options = TaskOptions(
        model="haiku",
        fallback_model="sonnet",
        effort="low",
        max_turns=7,
        allowed_tools=("Bash(git:*)", "Edit"),
        disallowed_tools=("WebFetch",),
        tools=("Read", "Bash"),
        system_prompt="--model=opus",
        json_schema={"type": "object"},
    )
    made = launch(options, cap_usd=0.5)
    assert all(argument.startswith("--") for argument in made.argv[2:])
    assert values_of("--model", made) == ["haiku"]
    assert values_of("--fallback-model", made) == ["sonnet"]
    assert values_of("--effort", made) == ["low"]
    assert values_of("--max-turns", made) == ["7"]
    assert values_of("--max-budget-usd", made) == ["0.500000"]
    assert values_of("--allowedTools", made) == ["Bash(git:*)", "Edit"]
    assert values_of("--disallowedTools", made) == [*UNATTENDED, "WebFetch"]
    assert values_of("--tools", made) == ["Read,Bash"]
    assert values_of("--append-system-prompt", made) == ["--model=opus"]
    assert [json.loads(schema) for schema in values_of("--json-schema", made)] == [{"type": "object"}]


@given(
    system_prompt=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=60),
    rules=st.lists(st.from_regex(r"[A-Za-z][^\x00-\x1f]{0,30}", fullmatch=True), max_size=4),
    model=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,20}", fullmatch=True),
    key=st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
)
@settings(max_examples=60)
def test_no_value_changes_the_structure_of_the_command(
    system_prompt: str, rules: list[str], model: str, key: str
) -> None:
    options = TaskOptions(
        model=model,
        system_prompt=system_prompt or None,
        allowed_tools=tuple(rules),
        disallowed_tools=tuple(rules),
        json_schema={"title": key},
    )
    made = launch(options)
    assert all(argument.startswith("--") for argument in made.argv[2:])
    assert values_of("--model", made) == [model]
    assert values_of("--allowedTools", made) == rules
    assert values_of("--append-system-prompt", made) == ([system_prompt] if system_prompt else [])
    assert [json.loads(schema) for schema in values_of("--json-schema", made)] == [{"title": key}]
    plain = {argument.partition("=")[0] for argument in launch(TaskOptions(model="m")).argv[1:]}
    extra = {"--allowedTools", "--append-system-prompt", "--json-schema"}
    assert {argument.partition("=")[0] for argument in made.argv[1:]} <= plain | extra


def test_no_tools_at_all_is_said_with_an_empty_value() -> None:
    assert "--tools=" in launch(TaskOptions(tools=())).argv
    assert values_of("--tools", launch()) == []


def test_a_tool_that_a_task_allows_is_not_denied_as_unattended() -> None:
    denied = values_of("--disallowedTools", launch(TaskOptions(allowed_tools=("Monitor",))))
    assert "Monitor" not in denied
    assert "ScheduleWakeup" in denied


@pytest.mark.parametrize(
    ("options", "config", "expected"),
    [
        (TaskOptions(), settings_of(), "plan"),
        (TaskOptions(isolation="worktree"), settings_of(), "acceptEdits"),
        (TaskOptions(isolation="clone"), settings_of(), "acceptEdits"),
        (TaskOptions(), settings_of(repo=Path("/repo")), "acceptEdits"),
        (TaskOptions(isolation="none"), settings_of(repo=Path("/repo")), "plan"),
        (TaskOptions(), settings_of(isolation="clone"), "acceptEdits"),
        (TaskOptions(), settings_of(permission_mode="dontAsk"), "dontAsk"),
        (TaskOptions(permission_mode="default"), settings_of(permission_mode="dontAsk"), "default"),
        (TaskOptions(permission_mode="bypassPermissions"), settings_of(allow_bypass=True), "bypassPermissions"),
    ],
)
def test_the_permission_mode_follows_task_then_pool_then_isolation(
    options: TaskOptions, config: PoolConfig, expected: str
) -> None:
    assert values_of("--permission-mode", launch(options, config=config)) == [expected]


def test_the_workspace_that_a_run_got_decides_over_what_was_asked() -> None:
    assert values_of("--permission-mode", launch(isolation="clone")) == ["acceptEdits"]


@pytest.mark.parametrize(
    ("options", "config"),
    [
        (TaskOptions(permission_mode="bypassPermissions"), settings_of()),
        (TaskOptions(), settings_of(permission_mode="bypassPermissions")),
    ],
)
def test_a_bypass_needs_the_owners_word(options: TaskOptions, config: PoolConfig) -> None:
    with pytest.raises(Refused, match="bypassPermissions is not allowed"):
        launch(options, config=config)


def test_a_resumed_session_is_named_alone_and_a_fork_gets_a_new_name() -> None:
    resumed = launch(resume=OLD)
    assert values_of("--resume", resumed) == [OLD]
    assert values_of("--session-id", resumed) == []
    forked = launch(resume=OLD, fork=True)
    assert (values_of("--resume", forked), values_of("--session-id", forked)) == ([OLD], [SESSION])
    assert "--fork-session" in forked.argv


@pytest.mark.parametrize("hostile", ["--model", "../x.jsonl", "latest", "", f"{OLD}\n"])
def test_a_session_id_that_is_none_is_refused(hostile: str) -> None:
    with pytest.raises(ValidationError):
        launch(resume=hostile)


def test_the_smaller_of_reservation_and_wish_is_the_cap() -> None:
    assert values_of("--max-budget-usd", launch(TaskOptions(max_budget_usd=2), cap_usd=0.5)) == ["0.500000"]
    assert values_of("--max-budget-usd", launch(TaskOptions(max_budget_usd=0.25), cap_usd=0.5)) == ["0.250000"]
    assert values_of("--max-budget-usd", launch(cap_usd=0.0)) == ["0.000001"]
    assert values_of("--max-budget-usd", launch()) == []


def test_servers_with_their_secrets_travel_in_a_file() -> None:
    servers = {"docs": {"type": "http", "url": "https://example.org", "headers": {"Authorization": "secret"}}}
    made = launch(TaskOptions(mcp_servers=servers))
    (path,) = values_of("--mcp-config", made)
    assert json.loads(made.files[path]) == {"mcpServers": servers}
    assert "secret" not in " ".join(made.argv)
    assert "secret" not in repr(made)


def test_a_long_system_prompt_travels_in_a_file_and_a_long_schema_is_refused() -> None:
    made = launch(TaskOptions(system_prompt="ü" * 60_000))
    (path,) = values_of("--append-system-prompt-file", made)
    assert made.files[path] == "ü" * 60_000
    with pytest.raises(Refused, match="JSON schema is"):
        launch(TaskOptions(json_schema={"title": "x" * 100_000}))


def test_a_trusted_repository_may_bring_its_settings() -> None:
    made = launch(config=settings_of(trust_repo=True))
    assert "--setting-sources=" not in made.argv
    assert "--strict-mcp-config" not in made.argv


def test_the_pools_model_is_the_default() -> None:
    assert values_of("--model", launch(config=settings_of(model="haiku"))) == ["haiku"]
    assert values_of("--model", launch(TaskOptions(model="opus"), config=settings_of(model="haiku"))) == ["opus"]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=100))
def test_a_prompt_is_one_line_of_literal_text(prompt: str) -> None:
    line = user_line(prompt, uuid=RUN)
    assert line.count(b"\n") == 1
    message = json.loads(line)
    assert message["message"] == {"role": "user", "content": prompt}
    assert (message["type"], message["uuid"], message["client_composed"]) == ("user", RUN, True)


def test_an_interrupt_names_its_request() -> None:
    request = {"subtype": "interrupt", "cancel_queued": True}
    assert json.loads(interrupt_line("stop-1")) == {
        "type": "control_request",
        "request_id": "stop-1",
        "request": request,
    }
