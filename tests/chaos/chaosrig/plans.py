"""What virtual runs do: plans in the prompt's words, and the facts that a real runner would have gathered of them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Final

from claude_pool.models.options import TaskOptions
from claude_pool.models.run import ExitFacts, RateLimit, RunFacts, StopCause
from claude_pool.models.task import TaskRequest

KINDS: Final = {
    "ok": 40, "slow": 34, "api": 8, "crash": 6, "cut": 4, "silent": 3, "turns": 2, "limit": 0.15, "login": 0.05,
    "poison": 2,
}  # fmt: skip
"""How often each kind of task comes, by weight."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a task's runs do: `times` failures of its kind, then an answer that costs this many micro-dollars."""

    kind: str
    steps: int
    micros: int
    times: int

    @property
    def prompt(self) -> str:
        return f"plan {self.kind} {self.steps} {self.micros} {self.times}"


def plan_of(prompt: str) -> Plan:
    """Back from the prompt."""
    _, kind, steps, micros, times = prompt.split()
    return Plan(kind, int(steps), int(micros), int(times))


def request(rng: random.Random, key: str) -> TaskRequest:
    """A task at random."""
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    steps = rng.randint(20, 60) if kind == "slow" else rng.randint(1, 6)
    plan = Plan(kind, steps, rng.randint(100, 90_000), 99 if kind == "poison" else rng.randint(1, 2))
    on_lost = rng.choices(["resume", "restart", "hold", "fail"], [80, 12, 3, 5])[0]
    options = TaskOptions(
        on_lost=on_lost,
        max_attempts=rng.choice([1, 2, 3]) if on_lost == "restart" else 1,
        max_crashes=rng.choice([3, 3, 5]),
        max_budget_usd=rng.uniform(0.3, 1.0) if rng.random() < 0.4 else None,
        priority=rng.randint(0, 4),
    )
    return TaskRequest(prompt=plan.prompt, options=options, idempotency_key=key)


_STOPPED: Final = {
    "silent": StopCause.SILENCE,
    "cancelled": StopCause.CANCELLED,
    "fenced": StopCause.FENCED,
}
_TOLD: Final[dict[str, dict[str, Any]]] = {
    "api": {"terminal_reason": "api_error", "api_error_status": 529, "saw_output": False},
    "turns": {"subtype": "error_max_turns", "terminal_reason": "max_turns"},
    "budget": {"subtype": "error_max_budget_usd", "terminal_reason": "budget_exhausted"},
    "login": {"api_error_category": "authentication_failed", "api_error_status": 401},
}


def facts(kind: str, *, answer: str, session_id: str, paid: int, total: int, now_ms: int) -> RunFacts:
    """How a run of this kind ended: `paid` and the session's `total` are micro-dollars, known from its result line."""
    told = RunFacts(
        session_id=session_id, saw_init=True, saw_output=paid > 0, has_result=True, cost_known=True,
        cost_usd=paid / 1e6, session_cost_usd=total / 1e6, exit=ExitFacts(code=0),
    )  # fmt: skip
    if kind == "ok":
        return told.evolve(subtype="success", terminal_reason="completed", output=answer)
    if kind == "limit":
        resets = RateLimit(resets_at=now_ms / 1000 + 90)
        return told.evolve(is_error=True, api_error_category="usage_limit_reached", rate_limit=resets)
    if kind in _STOPPED:
        return told.evolve(is_error=True, terminal_reason="aborted_streaming", stopped=_STOPPED[kind])
    if kind in _TOLD:
        return told.evolve(is_error=True, **_TOLD[kind])
    return died(kind, session_id=session_id, paid=paid)


def died(kind: str, *, session_id: str, paid: int) -> RunFacts:
    """A run that said nothing of its end: what it spent is estimated, on the high side, from what was seen."""
    exit_ = ExitFacts(code=0) if kind == "cut" else ExitFacts(signal=9)
    return RunFacts(
        session_id=session_id, saw_init=True, saw_output=paid > 0, cost_usd=paid * 1.5 / 1e6, exit=exit_,
        stopped=StopCause.FENCED if kind == "lease" else StopCause.NONE,
    )  # fmt: skip
