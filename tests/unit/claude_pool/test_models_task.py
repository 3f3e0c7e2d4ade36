"""When a task is over, when it waits for somebody, and who its slot is."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from claude_pool.lifecycle import MOVES
from claude_pool.models.options import TaskOptions
from claude_pool.models.pool import slot_id
from claude_pool.models.task import Task, TaskRequest, TaskState


def task(state: TaskState, until_ms: int | None = None) -> Task:
    return Task(
        id="t-0", state=state, title="", options=TaskOptions(), created_ms=0, since_ms=0, queue="q", until_ms=until_ms
    )


@pytest.mark.parametrize("state", TaskState)
def test_a_state_is_final_exactly_when_nothing_leads_out_of_it(state: TaskState) -> None:
    assert state.final == (not any(state in moves for moves in MOVES.values()))


@pytest.mark.parametrize(
    ("state", "until_ms", "waits", "settled"),
    [
        (TaskState.PENDING_REVIEW, None, True, True),
        (TaskState.PARKED, None, True, True),
        (TaskState.PARKED, 1, False, False),
        (TaskState.PENDING, None, False, False),
        (TaskState.RUNNING, None, False, False),
        (TaskState.COMPLETED, None, False, True),
        (TaskState.CANCELLED, None, False, True),
    ],
)
def test_a_waiter_stops_at_the_end_or_where_somebody_has_to_act(
    state: TaskState, until_ms: int | None, waits: bool, settled: bool
) -> None:
    assert (task(state, until_ms).waits_for_somebody, task(state, until_ms).settled) == (waits, settled)


@pytest.mark.parametrize("fields", [{"prompt": ""}, {"prompt": "x", "title": "x" * 201}, {"prompt": "x\x00"}])
def test_a_request_that_could_not_be_asked_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        TaskRequest.model_validate(fields)


def test_a_slots_name_tells_its_number_and_its_node() -> None:
    assert slot_id(3, "host-a") == "slot-3@host-a"
