"""The labelled cases, and how answers to them are judged."""

from __future__ import annotations

import difflib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from claude_pool.models.route import AutoHint, Route
from claude_pool.models.task import ErrorCode, TaskError, TaskResult, TaskState
from claude_pool.routing import without_asking
from claude_pool.routing_prompt import EXAMPLES
from claude_pool.testing import routes
from claude_pool.testing.routes import Answer, Case

CASES = routes.load()
THREE = Case(
    id="x", route=Route.PARALLEL, domain="code", language="en", task="Do one, two and three.", least=3, most=3,
    keys=("one", "two", "three"),
)  # fmt: skip
TWO = THREE.evolve(route=Route.CHAIN, least=2, most=2, keys=("one", "two"))


def answered(route: str, *prompts: str, run: int = 1, case: str = "x", **more: Any) -> Answer:
    plan = {
        "route": route,
        "reason": "r",
        "confidence": 0.9,
        "parts": [{"name": f"p{number}", "prompt": text} for number, text in enumerate(prompts)],
        **more,
    }
    result = TaskResult(task_id="t-0000000000", state=TaskState.COMPLETED, structured_output=plan, cost_usd=0.001)
    return Answer(case=case, run=run, seconds=2.0, result=result)


# -- the cases


def test_there_are_enough_cases_of_every_kind_in_several_domains_and_languages() -> None:
    assert len(CASES) >= 200
    assert len({case.id for case in CASES}) == len(CASES)
    assert min(Counter(case.route for case in CASES).values()) >= 60
    assert len({case.domain for case in CASES}) >= 8
    assert len({case.language for case in CASES}) >= 10
    assert sum(case.language != "en" for case in CASES) >= 60


def test_no_case_is_one_of_the_prompts_examples_or_another_case_in_other_words() -> None:
    shown = [task.casefold() for task, _ in EXAMPLES]
    texts = [case.task.casefold() for case in CASES]
    assert len(set(texts)) == len(texts)
    near = [
        (text, example)
        for text in texts
        for example in shown
        if difflib.SequenceMatcher(None, text, example).quick_ratio() > 0.9
        and difflib.SequenceMatcher(None, text, example).ratio() > 0.6
    ]
    assert near == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_label_is_consistent_with_itself(case: Case) -> None:
    cut = case.route is not Route.SINGLE
    assert (case.least >= 2) == cut
    assert case.least <= case.most
    assert bool(case.keys) == cut
    assert without_asking(case.task, AutoHint()) is None
    if case.route is Route.PARALLEL:
        assert len(case.keys) == case.least == case.most
    if case.gather:
        assert case.route is Route.PARALLEL


# -- judging


def test_a_right_cut_that_breaks_no_rule_is_clean() -> None:
    score = routes.judge(THREE, answered("parallel", "Do one.", "Do two.", "Do three."))
    assert score.right
    assert score.faults == ()
    assert routes.judge(TWO, answered("chain", "Do one.", "Do two with {previous_output}.")).faults == ()


@pytest.mark.parametrize(
    ("prompts", "fault"),
    [
        (("Do one and two.", "Do three."), "number of parts"),
        (("Do one.", "Do two.", "Do four."), "a demand is in no part"),
        (("Do one.", "Do two.", "Do three, not one."), "a demand is in several parts"),
        (("Do one.", "Do two, as above.", "Do three."), "a part leans on another"),
        (("Do one, two and three. ", "Do two.", "Do three."), "a part is the whole task"),
    ],
)
def test_rules_find_what_is_wrong_with_a_cut(prompts: tuple[str, ...], fault: str) -> None:
    assert fault in routes.judge(THREE, answered("parallel", *prompts)).faults


def test_steps_in_the_wrong_order_and_gathers_that_miss_or_were_not_asked_for_are_faults() -> None:
    assert routes.judge(TWO, answered("chain", "Do two.", "Do one.")).faults == ("order of the steps",)
    cut = ("parallel", "Do one.", "Do two.", "Do three.")
    assert routes.judge(THREE, answered(*cut, gather="Join.")).faults == ("a gather that nobody asked for",)
    assert routes.judge(THREE.evolve(gather=True), answered(*cut)).faults == ("no gather",)


def test_whatever_is_no_plan_is_wrong_also_where_the_fallback_would_be_right() -> None:
    single = THREE.evolve(route=Route.SINGLE, least=0, most=0, keys=())
    error = TaskError(code=ErrorCode.EXECUTION, message="no")
    failed = Answer(case="x", result=TaskResult(task_id="t-1", state=TaskState.FAILED, error=error))
    prose = Answer(case="x", result=TaskResult(task_id="t-1", state=TaskState.COMPLETED, output="I think: single!"))
    for answer in (failed, prose, None):
        score = routes.judge(single, answer)
        assert score.said == routes.ERROR
        assert not score.right
        assert score.why


def test_a_summary_counts_runs_errors_and_agreement() -> None:
    other = TWO.evolve(id="y", language="de")
    answers = [
        answered("parallel", "one", "two", "three"),
        answered("single", run=2),
        answered("chain", "one", "two", case="y"),
    ]
    scores = routes.judge_all([THREE, other], answers, runs=2)
    found = routes.summary(scores)
    assert found.accuracy == 0.5
    assert found.agreement == 0
    assert found.confusion["parallel"] == {"single": 1, "parallel": 1, "chain": 0, "error": 0}
    assert found.confusion["chain"]["error"] == 1, "a run without an answer"
    assert found.by_language == {"de": 0.5, "en": 0.5}
    assert found.cost_usd == pytest.approx(0.003)
    assert found.always_single == 0
    shown = routes.table(found)
    assert "50.0%" in shown
    assert "SIMULATED" not in shown
    assert {one["said"] for one in routes.document(scores)["wrong"]} == {"single", "error"}


def test_a_simulated_models_answers_are_named_as_such() -> None:
    answer = answered("parallel", "one", "two", "three")
    scores = [routes.judge(THREE, answer.evolve(result=answer.result.evolve(simulated=True)))]
    assert routes.table(routes.summary(scores)).startswith("SIMULATED MODEL")


def test_a_recording_is_read_as_it_was_written(tmp_path: Path) -> None:
    answers = [answered("chain", "eins", "zwei — ✓", run=run) for run in (1, 2)]
    path = tmp_path / "recording.jsonl"
    path.write_text("".join(routes.line_of(answer) + "\n" for answer in answers))
    assert routes.recorded(path) == answers


@pytest.mark.parametrize(("right", "of"), [(0, 10), (10, 10), (150, 200)])
def test_the_interval_holds_the_share_and_stays_between_0_and_1(right: int, of: int) -> None:
    low, high = routes.wilson(right, of)
    assert 0 <= low <= right / of <= high <= 1
    assert high - low > 0
