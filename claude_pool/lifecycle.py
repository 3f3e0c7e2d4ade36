"""The life of a task: one table of legal moves, and nothing else.

    blocked ──unblock──▶ pending ──claim──▶ claimed ──start──▶ running ──complete──▶ completed
                           ▲  ▲               │                 │  │ ╲
                           │  └───release─────┘                 │  │  ╲──review──▶ pending_review ──approve──▶ completed
                           │  └───retry / lose (resume)─────────┘  │                   │
                           └──wake── parked ◀──park / hold─────────┘     reject ───────┘ (back to pending)

`claimed` and `running` differ on purpose: until `start` is durable no process exists, so a loss is free. The store's
scripts get this very table, and refuse a move that is not in it; the page in the documentation is drawn from it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from claude_pool.models.task import TaskState

S = TaskState


class Verb(StrEnum):
    """What can happen to a task. Each is the `verb` of one event on the stream."""

    SUBMIT = "submit"
    UNBLOCK = "unblock"
    CLAIM = "claim"
    RELEASE = "release"
    START = "start"
    COMPLETE = "complete"
    REVIEW = "review"
    APPROVE = "approve"
    REJECT = "reject"
    RETRY = "retry"
    PARK = "park"
    WAKE = "wake"
    LOSE = "lose"
    FAIL = "fail"
    CANCEL = "cancel"


MOVES: Final[dict[Verb, dict[TaskState, frozenset[TaskState]]]] = {
    Verb.UNBLOCK: {S.BLOCKED: frozenset({S.PENDING})},
    Verb.CLAIM: {S.PENDING: frozenset({S.CLAIMED})},
    Verb.RELEASE: {S.CLAIMED: frozenset({S.PENDING})},
    Verb.START: {S.CLAIMED: frozenset({S.RUNNING})},
    # a late result of a lost run that nobody took over yet is taken from pending or parked: it is paid for
    Verb.COMPLETE: {
        S.RUNNING: frozenset({S.COMPLETED}),
        S.PENDING: frozenset({S.COMPLETED}),
        S.PARKED: frozenset({S.COMPLETED}),
    },
    Verb.REVIEW: {
        S.RUNNING: frozenset({S.PENDING_REVIEW}),
        S.PENDING: frozenset({S.PENDING_REVIEW}),
        S.PARKED: frozenset({S.PENDING_REVIEW}),
    },
    Verb.APPROVE: {S.PENDING_REVIEW: frozenset({S.COMPLETED})},
    Verb.REJECT: {S.PENDING_REVIEW: frozenset({S.PENDING})},
    Verb.RETRY: {S.RUNNING: frozenset({S.PENDING})},
    Verb.PARK: {state: frozenset({S.PARKED}) for state in (S.PENDING, S.CLAIMED, S.RUNNING)},
    Verb.WAKE: {S.PARKED: frozenset({S.PENDING})},
    Verb.LOSE: {S.CLAIMED: frozenset({S.PENDING}), S.RUNNING: frozenset({S.PENDING, S.PARKED, S.FAILED, S.CANCELLED})},
    Verb.FAIL: {
        state: frozenset({S.FAILED})
        for state in (S.BLOCKED, S.PENDING, S.CLAIMED, S.RUNNING, S.PARKED, S.PENDING_REVIEW)
    },
    Verb.CANCEL: {
        state: frozenset({S.CANCELLED})
        for state in (S.BLOCKED, S.PENDING, S.CLAIMED, S.RUNNING, S.PARKED, S.PENDING_REVIEW)
    },
}
"""verb → state before → states it may lead to. What is not here is refused by the store."""

BORN_AS: Final = frozenset({S.PENDING, S.BLOCKED, S.PARKED})
"""States a task may be submitted in."""


def may(verb: Verb, state: TaskState, to: TaskState) -> bool:
    """Whether `verb` may take a task from `state` to `to`."""
    return to in MOVES.get(verb, {}).get(state, frozenset())


def as_lua() -> str:
    """The table as a Lua literal: `{["claim"]={["pending"]={["claimed"]=true}}, …}`."""

    def states(targets: frozenset[TaskState]) -> str:
        return "{" + ",".join(f'["{state}"]=true' for state in sorted(targets)) + "}"

    def froms(moves: dict[TaskState, frozenset[TaskState]]) -> str:
        return "{" + ",".join(f'["{state}"]={states(targets)}' for state, targets in moves.items()) + "}"

    return "{" + ",".join(f'["{verb}"]={froms(moves)}' for verb, moves in MOVES.items()) + "}"


def as_markdown() -> str:
    """The table as a page of the documentation shows it: one row per verb and state."""
    rows = [
        f"| `{verb}` | `{state}` | {', '.join(f'`{to}`' for to in sorted(targets))} |"
        for verb, moves in MOVES.items()
        for state, targets in moves.items()
    ]
    return "\n".join(("| verb | from | to |", "|---|---|---|", *rows))
