"""The load of the process level: what tasks the clients hand in, by seed; their answers are known beforehand."""

from __future__ import annotations

import random
from typing import Final

from chaosrig import quick
from claude_pool.models.options import TaskOptions
from claude_pool.models.task import TaskRequest

KINDS: Final = {
    "quick": "[[fake:ok text={key}]]",
    "ok": "[[fake:ok text={key} cost={cost}]]",
    "slow": "[[fake:say text=hm cost=0.02]] [[fake:slow s={seconds} every=0.1]] [[fake:ok text={key} cost={cost}]]",
    "crash": "[[fake:say text=working cost=0.02]] [[fake:signal times=1]] [[fake:ok text={key} cost={cost}]]",
    "cut": "[[fake:say text=working cost=0.01]] [[fake:cut times=1]] [[fake:ok text={key}]]",
    "no-result": "[[fake:say text=working cost=0.01]] [[fake:no-result times=1]] [[fake:ok text={key}]]",
    "api": "[[fake:api status=529 times=1]] [[fake:ok text={key} cost={cost}]]",
    "silent": "[[fake:say text=working cost=0.02]] [[fake:silent s=60 times=1]] [[fake:ok text={key}]]",
    "tree": "[[fake:say text=working]] [[fake:tree n=1 ignore-term]] [[fake:ok text={key}]]",
    "turns": "[[fake:max-turns]]",
    "poison": "[[fake:say text=working cost=0.01]] [[fake:signal]]",
}

MOSTLY_QUICK: Final = {
    "quick": 900,
    "ok": 20,
    "slow": 40,
    "crash": 10,
    "cut": 5,
    "no-result": 5,
    "api": 6,
    "silent": 3,
    "tree": 3,
    "turns": 5,
    "poison": 2,
}
"""For ten thousand tasks."""

MIXED: Final = {
    "quick": 600,
    "ok": 60,
    "slow": 150,
    "crash": 40,
    "cut": 30,
    "no-result": 20,
    "api": 30,
    "silent": 15,
    "tree": 15,
    "turns": 20,
    "poison": 10,
}
"""For a short run."""


def requests(rng: random.Random, number: int, mix: dict[str, int]) -> tuple[list[TaskRequest], dict[str, str]]:
    """So many tasks, and the answer of each by its key."""
    made = [_request(rng, f"key-{n:06d}", rng.choices(list(mix), list(mix.values()))[0]) for n in range(number)]
    return made, {str(one.idempotency_key): str(one.idempotency_key) for one in made}


def _request(rng: random.Random, key: str, kind: str) -> TaskRequest:
    prompt = KINDS[kind].format(key=key, cost=rng.randint(1, 50) / 1000, seconds=round(rng.uniform(0.3, 1.5), 1))
    on_lost = rng.choices(["resume", "restart", "hold", "fail"], [85, 10, 2, 3])[0]
    options = TaskOptions(
        model=quick.MODEL if kind == "quick" else None,
        on_lost=on_lost,
        max_attempts=3 if on_lost == "restart" else 1,
        max_crashes=rng.choice([3, 5]),
        max_continuations=20,
        silence_timeout_s=1.0 if kind == "silent" else None,
        priority=rng.randint(0, 4),
    )
    return TaskRequest(prompt=prompt, options=options, idempotency_key=key)
