"""Seeded bugs: each breaks one promise on purpose, in the store's scripts or in what a slot does. All must be caught.

A mutant that the checker does not catch means that a real bug of that kind would pass too. The bugs live in memory for
one short virtual run each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from unittest import mock

from chaosrig.actors import VirtualSlot
from chaosrig.checker import check
from chaosrig.scripts import EVERYWHERE, Edit
from chaosrig.virtual import Storm, virtual_chaos
from claude_pool.errors import PoolError
from claude_pool.store.house import RedisHouse
from claude_pool.testing.redis_server import RedisServer

Patch = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug: changed script text, a changed function, or both."""

    name: str
    edits: tuple[Edit, ...] = ()
    patches: tuple[Patch, ...] = ()

    @contextmanager
    def alive(self) -> Iterator[None]:
        with ExitStack() as stack:
            for patch in self.patches:
                stack.enter_context(patch())
            yield


@dataclass(frozen=True, slots=True)
class Caught:
    """By what a mutant was caught; nothing means that it was not."""

    mutant: str
    by: tuple[str, ...]
    seed: int


def _in(script: str, old: str, new: str) -> tuple[Edit, ...]:
    return (Edit(script, old, new),)


def _slot(method: str, body: Callable[..., Any]) -> tuple[Patch, ...]:
    return (lambda: mock.patch.object(VirtualSlot, method, body),)


def _starts_anyway(slot: Any) -> None:
    """As `_start`, but what the store says does not matter."""
    claim = slot._claim
    slot._world.store.tasks.start(claim.task.id, claim.run_id, session_id=slot._session)
    slot._left, slot._paid = slot._plan.steps, 0
    slot._world.begin(claim.task.id, claim.run_id)
    slot._next = slot._work


_ALL: Final = "from and from[to] or false"
_FINISH_FENCE: Final = "if not t or t.run_id ~= run_id then return {'stale'} end"

MUTANTS: Final = (
    Mutant("a superseded run may finish", _in("finish", _FINISH_FENCE, "if not t then return {'stale'} end")),
    Mutant(
        "two slots may claim one task",
        _in(
            "claim",
            "if t.state ~= 'pending' then return {'refused', 'not_pending'} end",
            "if at_work(t.state) then t.state = 'pending' end\n"
            "if t.state ~= 'pending' then return {'refused', 'not_pending'} end",
        ),
    ),
    Mutant(
        "a refused start says done",
        _in("start", _FINISH_FENCE, "if not t or t.run_id ~= run_id then return {'done'} end"),
    ),
    Mutant("the slot does not wait for its start", patches=_slot("_start", _starts_anyway)),
    Mutant("the guard does not watch the lease", patches=_slot("_guard", lambda _slot: None)),
    Mutant("leases are reaped before they end", _in("reap", "'(' .. int(now - slack_ms)", "'(' .. int(now + 400)")),
    Mutant("what was lost is never reaped", _in("reap", "'(' .. int(now - slack_ms)", "'(' .. int(now - 36000000)")),
    Mutant(
        "a lost run starts afresh, unasked",
        _in(
            "reap",
            "changes.next_kind = 'continuation'\n    changes.continuations",
            "changes.next_kind = 'attempt'\n    changes.continuations",
        ),
    ),
    Mutant("hold is not honoured", _in("reap", "if t.on_lost == 'hold' then", "if false then")),
    Mutant("fail is taken for resume", _in("reap", "if t.on_lost == 'resume' and", "if t.on_lost ~= 'restart' and")),
    Mutant(
        "crashes are not counted",
        _in("finish", "if repeats or field == 'crashes' then", "if repeats and field ~= 'crashes' then"),
    ),
    Mutant(
        "lost doorbells stay lost",
        _in(EVERYWHERE, "redis.call('ZADD', P .. ':bells', int(now + BELL_MS), id)", "local _ = BELL_MS"),
    ),
    Mutant("overdue tasks are not found", patches=(lambda: mock.patch.object(RedisHouse, "unrung", return_value=[]),)),
    Mutant(
        "parked tasks do not wake",
        _in(
            EVERYWHERE,
            "'parked' then\n    if t.until_ms ~= '' then redis.call('ZADD', P .. ':due', int(t.until_ms), id) end",
            "'parked' then",
        ),
    ),
    Mutant(
        "a key is forgotten at once",
        _in("submit", "if task_id and redis.call('EXISTS', task_key(task_id)) == 1 then", "if false then"),
    ),
    Mutant(
        "one of a batch is not queued",
        _in("submit", "  end\n  enter(t)\nend", "  end\n  if not string.find(r.id, '[0-3]$') then enter(t) end\nend"),
    ),
    Mutant(
        "a cancel loses against a result",
        _in("finish", "local to = cancelled and 'cancelled' or v.to", "local to = v.to"),
    ),
    Mutant(
        "a cancel may end what has ended",
        (
            Edit("cancel", "if final(t.state) then return {'done', record(id), bells} end", ""),
            Edit(EVERYWHERE, _ALL, "true"),
        ),
    ),
    Mutant(
        "a loss is not told on the stream",
        _in(EVERYWHERE, "changes.event_id = event(verb,", "changes.event_id = verb ~= 'lose' and event(verb,"),
    ),
    Mutant(
        "the ledger grants too much",
        _in(EVERYWHERE, "if left and need and need > left then", "if left and need and need > left + 500000 then"),
    ),
    Mutant("reservations are not given back", _in(EVERYWHERE, "if held ~= 0 then", "if held ~= 0 and false then")),
    Mutant("a late report is charged twice", _in("finish", "settle(t, cost - num(t.lost_charge))", "settle(t, cost)")),
    Mutant(
        "a free loss is charged",
        _in("reap", "local changes = settle(t, 0)", "local changes = settle(t, num(t.reserved))"),
    ),
    Mutant(
        "estimates are not marked",
        _in(
            "finish",
            "end_run(t, outcome, after, cost, estimated)\n  free_slot",
            "end_run(t, outcome, after, cost, false)\n  free_slot",
        ),
    ),
    Mutant(
        "half a cost is settled",
        _in("finish", "changes = settle(t, cost)\n", "cost = math.floor(cost / 2)\n  changes = settle(t, cost)\n"),
    ),
    Mutant(
        "results are dropped",
        _in("finish", "'session_cost', 'result', 'note'", "'session_cost', 'note'"),
    ),
    Mutant("slots stay busy for ever", _in(EVERYWHERE, "redis.call('SREM', P .. ':busy', t.slot)", "")),
)

STORM: Final = Storm.of(130, redis_kills=0, jumps=0, kills=16, stalls=45, slots=16, meddling=110, patience_ms=100_000)

SEEDS: Final = range(1, 7)
"""Tried one after the other; without a bug all of them are clean."""


def hunt(mutant: Mutant, server: RedisServer, *, seeds: range = SEEDS) -> Caught:
    """Let the bug live until it is caught, seed after seed."""
    for seed in seeds:
        try:
            with mutant.alive():
                report = check(virtual_chaos(seed, server, STORM, edits=mutant.edits))
        except PoolError as error:  # the scripts refuse what they are made to do: that is caught as well
            return Caught(mutant.name, (f"refused: {str(error)[:60]}",), seed)
        if report.violations:
            found = Counter(violation.invariant for violation in report.violations)
            return Caught(mutant.name, tuple(f"{name} {number}" for name, number in found.most_common()), seed)
    return Caught(mutant.name, (), 0)


def table(caught: list[Caught]) -> str:
    """For people."""
    rows = [f"  {one.mutant:<42} {', '.join(one.by) or 'NOT CAUGHT'}" for one in caught]
    return "\n".join([f"seeded bugs: {sum(bool(one.by) for one in caught)} of {len(caught)} caught", *rows])
