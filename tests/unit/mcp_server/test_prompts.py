"""Prompts are constants with what the user filled in."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.anyio


async def test_prompts_are_listed_and_filled_in(connect: Any) -> None:
    async with connect() as desk:
        listed = {one.name for one in (await desk.client.list_prompts()).prompts}
        dispatch = await desk.client.get_prompt("dispatch", {"goal": "test {everything}"})
        review = await desk.client.get_prompt("review", {"task_id": "t-1"})
        triage = await desk.client.get_prompt("triage")
    assert {name for name in listed if not name.startswith("skill-")} == {"dispatch", "review", "triage"}
    assert dispatch.messages[0].content.text.endswith("The goal:\ntest {everything}")
    assert "task t-1 did" in review.messages[0].content.text
    assert "pool_list_tasks" in triage.messages[0].content.text
