"""Chains and fan-outs for the process level, by seed, with an answer that proves how they came about.

Each step of a chain answers what it was given and one `+`, so that the last answer counts the steps; a gather answers
for its fan-out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from chaosrig import quick

PATIENT = {"on_lost": "resume", "max_crashes": 12, "max_continuations": 40, "max_infra_retries": 40}
"""Options of all their tasks: what is lost is resumed until it is done, so that a failure is a finding."""

_HURT = (
    "[[fake:say text=hm cost=0.01]] [[fake:slow s=0.4 every=0.1]]",
    "[[fake:say text=working cost=0.02]] [[fake:signal times=1]]",
    "[[fake:say text=working]] [[fake:cut times=1]]",
    "[[fake:api status=529 times=1]]",
)


@dataclass(frozen=True, slots=True)
class Shape:
    """One chain (`steps`) or fan-out (`branches`)."""

    key: str
    answer: str
    tasks: int
    steps: tuple[dict[str, Any], ...] = ()
    branches: tuple[dict[str, Any], ...] = ()
    gather: str | None = None
    max_parallel: int | None = None


def shapes(rng: random.Random, number: int) -> list[Shape]:
    """So many, of both kinds."""
    return [(_chain if rng.random() < 0.5 else _fan_out)(rng, f"graph-{n:05d}") for n in range(number)]


def _ask(rng: random.Random, answer: str) -> dict[str, Any]:
    """A prompt with that answer, plain or with something that goes wrong first."""
    if rng.random() < 0.9:
        return {"prompt": f"[[fake:ok text={answer}]]", "options": {"model": quick.MODEL}}
    return {"prompt": f"{rng.choice(_HURT)} [[fake:ok text={answer}]]"}


def _chain(rng: random.Random, key: str) -> Shape:
    steps = list[dict[str, Any]]()
    tasks = 0
    for number in range(rng.randint(3, 7)):
        answer = "{previous_output}+" if number else key
        if number and rng.random() < 0.2:
            branches = [_ask(rng, f"b{branch}") for branch in range(rng.randint(2, 4))]
            gather = f"[[fake:ok text={answer}]] {{branches}}"
            steps.append({"name": f"s{number}", "fan_out": {"branches": branches, "gather": gather}})
            tasks += len(branches)
        else:
            steps.append({"name": f"s{number}", **_ask(rng, answer)})
        tasks += 1
    return Shape(key, key + "+" * (len(steps) - 1), tasks, steps=tuple(steps))


def _fan_out(rng: random.Random, key: str) -> Shape:
    branches = tuple(_ask(rng, f"{key}.{branch}") for branch in range(rng.randint(4, 10)))
    gather = f"[[fake:ok text={key}]] {{branches}}"
    most = rng.choice([None, None, 2, 3])
    return Shape(key, key, len(branches) + 1, branches=branches, gather=gather, max_parallel=most)
