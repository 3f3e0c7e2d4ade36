from typing import Any

import pytest

from workers.narrate import LINE_CHARS, is_synthetic, narrate


def system(subtype: str, **fields: Any) -> dict[str, Any]:
    return {"type": "system", "subtype": subtype, **fields}


def told(event: dict[str, Any]) -> list[tuple[str, str]]:
    return [(line.kind, line.text) for line in narrate(event, {})]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (system("init", claude_code_version="2.1.330", model="m", permissionMode="plan"), "claude 2.1.330, m, plan"),
        (system("model_fallback", original_model="a", fallback_model="b"), "Model fallback a to b"),
        (system("informational", content="note\x1b[0m"), "note"),
        (system("compact_boundary"), "The conversation was compacted"),
        (
            system("api_retry", attempt=1, max_retries=2, retry_delay_ms=1500, error_status=None),
            "The API failed: no answer; try 1 of 2 in 1.5 s",
        ),
    ],
)
def test_what_the_program_does_is_told_in_words(event: dict[str, Any], expected: str) -> None:
    assert [text for _, text in told(event)] == [expected]


@pytest.mark.parametrize("event", [{}, {"type": "unknown"}, system("task_started"), {"type": ["x"]}, {"type": "user"}])
def test_events_that_say_nothing_to_a_person_give_no_line(event: dict[str, Any]) -> None:
    assert told(event) == []


def test_a_call_is_told_by_its_most_telling_argument_else_by_all() -> None:
    def call(given: dict[str, Any]) -> dict[str, Any]:
        return {"type": "assistant", "message": {"content": [{"type": "tool_use", "name": "T", "input": given}]}}

    assert told(call({"description": "d", "command": "ls"})) == [("tool", "ls")]
    assert told(call({"a": 1})) == [("tool", '{"a":1}')]
    assert told(call({})) == [("tool", "")]


def test_a_result_in_parts_is_joined_and_other_media_named() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image"}]
    event = {"type": "user", "message": {"content": [{"type": "tool_result", "content": parts, "is_error": True}]}}
    assert told(event) == [("tool_result", "a\n[image]")]
    assert narrate(event, {})[0].data == {"is_error": True}


def test_names_of_calls_are_forgotten_with_their_results() -> None:
    tools = {"t1": "Bash"}
    content = [{"type": "tool_result", "tool_use_id": "t1", "content": "x" * 9999}]
    (line,) = narrate({"type": "user", "message": {"content": content}}, tools)
    assert (line.tool, len(line.text), tools) == ("Bash", LINE_CHARS, {})


def test_a_message_of_the_program_itself_is_known() -> None:
    assert is_synthetic({"is_api_error_message": True})
    assert is_synthetic({"message": {"model": "<synthetic>"}})
    assert not is_synthetic({"message": {"model": "claude-x"}})
