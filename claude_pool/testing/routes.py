"""Routes: how well tasks are cut, measured over labelled cases. Pure: whoever asks a model hands in its answers.

Duties: the cases that ship with the package; the score of an answer, by the same code that a pool decides with; one
summary of many. An answer that is no plan counts as wrong, and so does a missing one, however lucky falling back to a
single task would have been. Besides the route, a cut is judged by rules: number of parts, every demand in one part, no
part that leans on another, a gather where one was asked for. Rules can't see whether a prompt is good.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from claude_pool.models.base import Record
from claude_pool.models.route import AutoHint, AutoRoute, Route
from claude_pool.models.task import TaskResult
from claude_pool.routing import decide

CASES: Final = Path(__file__).with_name("route_cases.jsonl")
ERROR: Final = "error"
_LEANS: Final = re.compile(
    r"\b(as (described )?above|see above|the other (parts?|tasks?|workers?)|the (previous|first|second) (part|task)"
    r"|same as (part|task) \d)\b",
    re.IGNORECASE,
)


class Case(Record):
    """A task, and how people who know the rules would cut it."""

    id: str
    route: Route
    domain: str
    language: str
    task: str
    least: int = 0
    most: int = 0
    """Parts of a good cut; 0 for a single task."""
    keys: tuple[str, ...] = ()
    """Words that a good cut has: of a parallel one each in exactly one part, of a chain in this order."""
    gather: bool = False


class Answer(Record):
    """What a routing call brought for a case; a line of a recording."""

    case: str
    run: int = 1
    seconds: float = 0.0
    result: TaskResult


class Score(Record):
    """One answer, judged."""

    case: Case
    run: int
    said: str
    """A route, or `error`."""
    why: str = ""
    faults: tuple[str, ...] = ()
    """Of a cut of the right kind: rules that it breaks."""
    cost_usd: float = 0.0
    seconds: float = 0.0
    simulated: bool = False

    @property
    def right(self) -> bool:
        return self.said == self.case.route


def load(path: Path = CASES) -> tuple[Case, ...]:
    """The labelled cases in a file, one JSON object a line."""
    return tuple(Case.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines() if line)


def recorded(path: Path) -> list[Answer]:
    """The answers in a recording."""
    return [Answer.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def line_of(answer: Answer) -> str:
    """An answer as a line of a recording."""
    return json.dumps(answer.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False)


def judge(case: Case, answer: Answer | None, run: int = 1) -> Score:
    """The score of an answer; of none, when the call brought nothing at all."""
    if answer is None:
        return Score(case=case, run=run, said=ERROR, why="there is no answer")
    plan = decide(case.task, AutoHint(), answer.result)
    said = ERROR if plan.fallback else plan.route.value
    right = said == case.route
    return Score(
        case=case,
        run=answer.run,
        said=said,
        why=plan.fallback or plan.reason,
        faults=tuple(_faults(case, plan)) if right and plan.route is not Route.SINGLE else (),
        cost_usd=answer.result.cost_usd,
        seconds=answer.seconds,
        simulated=answer.result.simulated,
    )


def judge_all(cases: Sequence[Case], answers: Iterable[Answer], *, runs: int = 1) -> list[Score]:
    """The scores of every case in every run."""
    found = {(answer.case, answer.run): answer for answer in answers}
    return [judge(case, found.get((case.id, run)), run) for case in cases for run in range(1, runs + 1)]


def _faults(case: Case, plan: AutoRoute) -> Iterable[str]:
    prompts = [part.prompt.casefold() for part in plan.parts]
    if not case.least <= len(prompts) <= case.most:
        yield "number of parts"
    places = [[number for number, text in enumerate(prompts) if key.casefold() in text] for key in case.keys]
    if not all(places):
        yield "a demand is in no part"
    if plan.route is Route.PARALLEL and any(len(place) > 1 for place in places):
        yield "a demand is in several parts"
    firsts = [place[0] for place in places if place]
    if plan.route is Route.CHAIN and firsts != sorted(firsts):
        yield "order of the steps"
    if any(_LEANS.search(part.prompt) for part in plan.parts):
        yield "a part leans on another"
    if any(case.task.casefold() in text for text in prompts):
        yield "a part is the whole task"
    if plan.route is Route.PARALLEL and bool(plan.gather) != case.gather:
        yield "no gather" if case.gather else "a gather that nobody asked for"


class Summary(Record):
    """Many scores in a few numbers. Shares are from 0 to 1, money is US dollars."""

    cases: int
    runs: int
    accuracy: float
    low: float
    high: float
    """Where the accuracy lies with 95 % confidence (Wilson), for tasks like these cases."""
    always_single: float
    """What a router would reach that never cuts: the floor."""
    agreement: float
    """Cases for which every run said the same."""
    confusion: dict[str, dict[str, int]]
    """Expected route, then what was said."""
    by_domain: dict[str, float]
    by_language: dict[str, float]
    clean_cuts: float | None
    """Share of right cuts that break no rule; None without one."""
    faults: dict[str, int]
    cost_usd: float
    median_s: float
    p95_s: float
    simulated: bool
    """Some answer came from the simulated model: then this says nothing about accuracy."""


def summary(scores: Sequence[Score]) -> Summary:
    """The numbers of a measurement. At least one score is needed."""
    right = sum(score.right for score in scores)
    said: dict[str, set[str]] = {}
    for score in scores:
        said.setdefault(score.case.id, set()).add(score.said)
    low, high = wilson(right * len(said) / len(scores), len(said))  # runs of one case are no independent evidence
    cuts = [score for score in scores if score.right and score.case.route is not Route.SINGLE]
    seconds = sorted(score.seconds for score in scores)
    columns = [*(route.value for route in Route), ERROR]
    counted = Counter((score.case.route.value, score.said) for score in scores)
    return Summary(
        cases=len(said),
        runs=max(score.run for score in scores),
        accuracy=right / len(scores),
        low=low,
        high=high,
        always_single=sum(score.case.route is Route.SINGLE for score in scores) / len(scores),
        agreement=sum(len(one) == 1 for one in said.values()) / len(said),
        confusion={route.value: {column: counted[route.value, column] for column in columns} for route in Route},
        by_domain=_shares(scores, "domain"),
        by_language=_shares(scores, "language"),
        clean_cuts=sum(not score.faults for score in cuts) / len(cuts) if cuts else None,
        faults=dict(Counter(fault for score in cuts for fault in score.faults).most_common()),
        cost_usd=sum(score.cost_usd for score in scores),
        median_s=statistics.median(seconds),
        p95_s=seconds[min(len(seconds) - 1, int(len(seconds) * 0.95))],
        simulated=any(score.simulated for score in scores),
    )


def _shares(scores: Sequence[Score], field: str) -> dict[str, float]:
    groups: dict[str, list[bool]] = {}
    for score in scores:
        groups.setdefault(getattr(score.case, field), []).append(score.right)
    return {name: sum(groups[name]) / len(groups[name]) for name in sorted(groups)}


def wilson(right: float, of: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    z, share = 1.96, right / of
    middle = share + z * z / (2 * of)
    reach = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, (middle - reach) / (1 + z * z / of)), min(1.0, (middle + reach) / (1 + z * z / of))


def table(found: Summary) -> str:
    """A summary for people."""
    columns = [*(route.value for route in Route), ERROR]
    lines = (
        ["SIMULATED MODEL: this shows that the harness works, and nothing about accuracy."] if found.simulated else []
    )
    clean = "      -" if found.clean_cuts is None else f"{found.clean_cuts:7.1%}"
    lines += [
        f"{found.cases} cases, {found.runs} run(s) each",
        f"accuracy    {found.accuracy:7.1%}   95 % between {found.low:.1%} and {found.high:.1%}",
        f"floor       {found.always_single:7.1%}   would be right if nothing were ever cut",
        f"agreement   {found.agreement:7.1%}   of the cases have the same answer in every run",
        f"clean cuts  {clean}   of the right cuts break no rule",
        f"cost        ${found.cost_usd:.4f} in all",
        f"time        median {found.median_s:.1f} s, 95 % below {found.p95_s:.1f} s",
        "",
        "expected \\ said " + "".join(f"{column:>10}" for column in columns),
    ]
    lines += [
        f"{route:<16}" + "".join(f"{row[column]:>10}" for column in columns) for route, row in found.confusion.items()
    ]
    for title, shares in (("domain", found.by_domain), ("language", found.by_language)):
        lines += ["", f"by {title}: " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items())]
    if found.faults:
        lines += ["", "faults of cuts: " + ", ".join(f"{name} {count}" for name, count in found.faults.items())]
    return "\n".join(lines)


def document(scores: Sequence[Score]) -> dict[str, Any]:
    """The summary and every wrong answer, as plain JSON values."""
    wrong = [
        {"case": score.case.id, "run": score.run, "expected": score.case.route.value, "said": score.said,
         "why": score.why}
        for score in scores if not score.right
    ]  # fmt: skip
    return {"summary": summary(scores).model_dump(mode="json"), "wrong": wrong}
