from __future__ import annotations

import re
from pathlib import Path

import pytest

from claude_pool.lifecycle import BORN_AS, MOVES, Verb, as_lua, as_markdown, may
from claude_pool.models.task import TaskState

PAGE = Path(__file__).parents[3] / "docs" / "task-lifecycle.md"


def reachable(start: set[TaskState]) -> set[TaskState]:
    found = set(start)
    while True:
        more = {to for moves in MOVES.values() for state in found for to in moves.get(state, ())} - found
        if not more:
            return found
        found |= more


def test_a_final_state_is_never_left() -> None:
    assert [verb for verb, moves in MOVES.items() if any(state.final for state in moves)] == []


def test_every_state_can_be_reached_and_every_other_can_end() -> None:
    assert reachable(set(BORN_AS)) == set(TaskState)
    for state in TaskState:
        assert any(end.final for end in reachable({state}))


def test_every_verb_but_submit_moves_something() -> None:
    assert set(MOVES) == set(Verb) - {Verb.SUBMIT}


@pytest.mark.parametrize("state", [state for state in TaskState if not state.final])
def test_whatever_is_not_over_can_be_cancelled_and_can_fail(state: TaskState) -> None:
    assert may(Verb.CANCEL, state, TaskState.CANCELLED)
    assert may(Verb.FAIL, state, TaskState.FAILED)


def test_nothing_runs_that_was_not_claimed() -> None:
    into = {state for moves in MOVES.values() for state, targets in moves.items() if TaskState.RUNNING in targets}
    assert into == {TaskState.CLAIMED}


def test_what_is_not_in_the_table_may_not_be() -> None:
    assert not may(Verb.SUBMIT, TaskState.PENDING, TaskState.PENDING)
    assert not may(Verb.COMPLETE, TaskState.CLAIMED, TaskState.COMPLETED)


def test_the_scripts_get_the_very_table() -> None:
    text = as_lua()
    found = {
        (verb, state, to)
        for verb, moves in re.findall(r'\["(\w+)"\]=\{((?:\["\w+"\]=\{[^{}]*\},?)+)\}', text)
        for state, targets in re.findall(r'\["(\w+)"\]=\{([^{}]*)\}', moves)
        for to in re.findall(r'\["(\w+)"\]=true', targets)
    }
    assert found == {(verb, state, to) for verb, moves in MOVES.items() for state, all_ in moves.items() for to in all_}


def test_the_page_shows_the_very_table() -> None:
    assert as_markdown() in PAGE.read_text()
