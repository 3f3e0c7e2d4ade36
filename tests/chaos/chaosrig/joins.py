"""The checker's view of chains and fan-outs: who may begin when, what a join waits for, how a whole ends.

order          a step begins when the one before has ended, a gather when all branches have; in the stream and in the
               ledger of what was executed
joins          nobody's turn comes twice; a whole ends once, and as its children say
no_loss        what was promised is there, and comes to its end
results        a completed whole gives the answer that its steps, one after the other, must have made
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from chaosrig.history import History
from claude_pool.models.graph import Whole
from claude_pool.models.task import TaskState
from claude_pool.testing.ledger import Execution

Found = Iterator[tuple[str, str, str]]


class Turns:
    """When each task, chain and fan-out began and ended, as places in the stream of events."""

    def __init__(self, history: History) -> None:
        self.begun: defaultdict[str, list[int]] = defaultdict(list)
        self.ended: defaultdict[str, list[int]] = defaultdict(list)
        self.asked: set[str] = set()
        for at, event in enumerate(history.events):
            if event.was is TaskState.BLOCKED and event.verb in {"unblock", "start"}:
                self.begun[event.subject].append(at)
            if event.state is not None and event.state.final:
                self.ended[event.subject].append(at)
            if event.verb == "cancel" and event.state is None:
                self.asked.add(event.subject)


def check_joins(history: History, by_task: dict[str, list[Execution]]) -> Found:
    """Everything about chains and fan-outs."""
    turns = Turns(history)
    yield from _promised(history)
    for whole in history.wholes.values():
        yield from _ended(history, whole, turns)
        yield from _once(whole, turns, by_task)
        for first, second in _in_order(whole):
            yield from _after(history, first, second, turns, by_task)


def _in_order(whole: Whole) -> Iterator[tuple[str, str]]:
    """Who has to wait for whom."""
    if whole.id.startswith("c-"):
        yield from pairwise(whole.children)
    elif whole.gather is not None:
        yield from ((child, whole.gather) for child in whole.children)


def _tasks_of(history: History, id_: str) -> Iterator[str]:
    whole = history.wholes.get(id_)
    if whole is None:
        yield id_
        return
    for child in (*whole.children, *([whole.gather] if whole.gather else [])):
        yield from _tasks_of(history, child)


def _after(history: History, first: str, second: str, turns: Turns, by_task: dict[str, list[Execution]]) -> Found:
    for begun in turns.begun[second]:
        if not turns.ended[first] or turns.ended[first][0] > begun:
            yield "order", second, f"its turn came before {first} had ended"
    before = [one for id_ in _tasks_of(history, first) for one in by_task.get(id_, [])]
    behind = [one for id_ in _tasks_of(history, second) for one in by_task.get(id_, [])]
    if before and behind and min(one.start_s for one in behind) < max(one.seen_s for one in before):
        yield "order", second, f"was executed while {first} still was"


def _once(whole: Whole, turns: Turns, by_task: dict[str, list[Execution]]) -> Found:
    for child in (*whole.children, *([whole.gather] if whole.gather else [])):
        if len(turns.begun[child]) > 1:
            yield "joins", child, f"its turn came {len(turns.begun[child])} times"
        if by_task.get(child) and not turns.begun[child]:
            yield "joins", child, "was executed, and its turn never came"


def _ended(history: History, whole: Whole, turns: Turns) -> Found:
    if not whole.state.final:
        if whole.waiting is None:
            yield "no_loss", whole.id, f"never ended: {whole.state}, {whole.ended} of {whole.total}"
        return
    if len(turns.ended[whole.id]) != 1:
        yield "joins", whole.id, f"{len(turns.ended[whole.id])} final events"
    states = [_state(history, child) for child in (*whole.children, *([whole.gather] if whole.gather else []))]
    well = all(state is TaskState.COMPLETED for state in states)
    if whole.state is TaskState.COMPLETED and not well:
        yield "joins", whole.id, f"completed, and its children are {sorted({str(state) for state in states})}"
    if whole.state is TaskState.FAILED and well:
        yield "joins", whole.id, "failed, and all its children completed"
    if whole.state is TaskState.CANCELLED and whole.parent is None and whole.id not in turns.asked:
        yield "joins", whole.id, "cancelled, and nobody asked for it"
    if whole.state is TaskState.COMPLETED and whole.id in turns.asked:
        yield "joins", whole.id, "a cancel was accepted, and it completed"


def _state(history: History, id_: str) -> TaskState:
    return history.wholes[id_].state if id_ in history.wholes else history.task(id_).state


def _promised(history: History) -> Found:
    by_key: defaultdict[str, set[str]] = defaultdict(set)
    for one in history.graphs:
        if one.outcome != "ok":
            continue
        by_key[one.key].add(one.task_id)
        if one.task_id not in history.wholes:
            yield "no_loss", one.task_id, "acknowledged, and not in the store"
        elif history.wholes[one.task_id].state is TaskState.COMPLETED:
            given = _answer(history, one.task_id)
            if given != history.answers[one.key]:
                yield "results", one.task_id, f"answered {given[:80]!r} instead of {history.answers[one.key][:80]!r}"
    for key, ids in by_key.items():
        if len(ids) > 1:
            yield "idempotent", key, f"one key, {len(ids)} graphs: {sorted(ids)}"
    unanswered = {one.key for one in history.graphs} - set(by_key)
    promised = {id_ for ids in by_key.values() for id_ in ids}
    roots = {whole.id for whole in history.wholes.values() if whole.parent is None}
    if len(roots - promised) > len(unanswered):
        yield "idempotent", min(roots - promised), "a graph that nobody asked for"


def _answer(history: History, id_: str) -> str:
    whole = history.wholes.get(id_)
    if whole is not None:
        return _answer(history, whole.gather or whole.children[-1])
    result = history.tasks[id_].result
    return result.output if result else ""
