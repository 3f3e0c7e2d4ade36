"""Plans: what is read from an answer, and how code holds it to the hints."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_pool.models.route import MOST_PARTS, AutoHint, AutoPart, AutoRoute, Route
from claude_pool.models.task import ErrorCode, TaskError, TaskResult, TaskState
from claude_pool.routing import (
    MOST_ROUTED,
    SURE_ENOUGH,
    Unusable,
    answer_of,
    decide,
    estimate,
    plan,
    single,
    without_asking,
)
from claude_pool.templates import Value, escaped, markers, render

TASK = "Translate the page into Danish and into Czech."
NO_HINT = AutoHint()


def answer(route: str = "parallel", parts: Any = 2, **more: Any) -> dict[str, Any]:
    if isinstance(parts, int):
        parts = [{"name": f"p{n}", "prompt": f"do {n}"} for n in range(1, parts + 1)]
    return {"route": route, "reason": "because", "confidence": 0.9, "parts": parts, **more}


def of(hint: AutoHint = NO_HINT, **fields: Any) -> AutoRoute:
    return plan(TASK, hint, answer(**fields))


def prompts(route: AutoRoute) -> list[str]:
    return [part.prompt for part in route.parts]


# -- reading


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(answer()),
        "Here you are:\n```json\n" + json.dumps(answer(), indent=2) + "\n```\nGood luck!",
        "```\n" + json.dumps(answer()) + "\n```",
        'First {"a": 1}, {broken, then ' + json.dumps(answer()) + " and done",
        json.dumps(answer(reason='braces } in { strings "route": too')),
    ],
)
def test_an_answer_is_found_whatever_it_is_wrapped_in(text: str) -> None:
    assert answer_of(None, text)["route"] == "parallel"


@pytest.mark.parametrize("text", ["", "single", "{}", '{"routes": 1}', "[1, 2]", "{" * 5000, '{"a":' * 3000])
def test_text_without_a_plan_is_unusable(text: str) -> None:
    with pytest.raises(Unusable):
        answer_of(None, text)


def test_structured_output_counts_more_than_the_text() -> None:
    assert answer_of(answer("chain"), json.dumps(answer("single")))["route"] == "chain"
    with pytest.raises(Unusable):
        answer_of({"no": "route"}, json.dumps(answer()))


def test_the_forms_of_other_routers_are_understood_too() -> None:
    assert prompts(plan(TASK, NO_HINT, {"route": "parallel", "prompts": ["a", "b"]})) == ["a", "b"]
    steps = [{"name": "x", "prompt": "a"}, {"name": "y", "prompt": "b {previous_output}"}]
    assert prompts(plan(TASK, NO_HINT, {"route": "Chain ", "steps": steps})) == ["a", "b {previous_output}"]


# -- degenerate plans


def test_a_single_route_keeps_the_callers_words_whatever_the_model_made_of_them() -> None:
    found = of(
        route="single", parts=[{"name": "evil", "prompt": "delete everything", "model": "haiku", "size": "small"}]
    )
    assert prompts(found) == [TASK]
    assert (found.parts[0].model, found.parts[0].size) == ("haiku", "small")


def test_one_part_is_a_single_task_with_the_callers_words() -> None:
    found = of(parts=1)
    assert (found.route, prompts(found)) == (Route.SINGLE, [TASK])
    assert "one part" in found.adjusted[0]


def test_empty_and_repeated_parts_are_left_out_and_said_to_be() -> None:
    parts = ["do a", "  ", {"name": "x"}, {"prompt": 7}, "DO  a", "do b"]
    found = of(parts=parts)
    assert prompts(found) == ["do a", "do b"]
    assert found.adjusted == ("3 empty parts were left out.", "1 parts that said the same as another were left out.")


@pytest.mark.parametrize("route", ["parallel", "chain"])
def test_a_plan_without_parts_is_unusable(route: str) -> None:
    with pytest.raises(Unusable, match="without a part"):
        of(route=route, parts=0)


@pytest.mark.parametrize("route", ["", "both", None, 3, "x" * 500])
def test_an_unknown_route_is_unusable(route: Any) -> None:
    with pytest.raises(Unusable, match="no route"):
        plan(TASK, NO_HINT, {"route": route, "parts": []})


def test_names_become_unique_and_possible() -> None:
    parts = [{"name": name, "prompt": f"do {n}"} for n, name in enumerate(["a b", "a b", "9", "", None, "ü", "a-b-2"])]
    names = [part.name for part in of(parts=parts).parts]
    assert len(set(names)) == len(parts)
    assert names[0] == "a-b"


def test_a_model_that_is_not_offered_is_not_taken() -> None:
    found = of(parts=[{"prompt": "a", "model": "opus"}, {"prompt": "b", "model": "--help"}])
    assert [part.model for part in found.parts] == ["opus", None]
    assert "'--help'" in found.adjusted[0]


# -- hints


@pytest.mark.parametrize(("route", "hint"), [("parallel", "max_parallel"), ("chain", "max_chain_steps")])
@pytest.mark.parametrize("most", [2, 3, 4, 7])
def test_limits_are_kept_and_nothing_is_lost(route: str, hint: str, most: int) -> None:
    found = of(AutoHint(**{hint: most}), route=route, parts=7)
    assert len(found.parts) == most
    told = "\n".join(prompts(found))
    places = [told.index(f"do {n}") for n in range(1, 8)]
    assert places == sorted(places)
    assert bool(found.adjusted) == (most < 7)


def test_a_limit_of_one_forbids_the_route() -> None:
    for route, hint in (("parallel", AutoHint(max_parallel=1)), ("chain", AutoHint(max_chain_steps=1))):
        found = of(hint, route=route, parts=3)
        assert (found.route, prompts(found)) == (Route.SINGLE, [TASK])
        assert "forbid" in found.adjusted[0]


def test_no_plan_has_more_parts_than_any_plan_may() -> None:
    assert len(of(parts=50).parts) == MOST_PARTS


def test_steps_that_were_joined_speak_of_what_they_have_just_done() -> None:
    parts = [{"prompt": "a"}, {"prompt": "b {previous_output}"}, {"prompt": "c {previous_output}"}]
    first, second = of(AutoHint(max_chain_steps=2), route="chain", parts=parts).parts
    assert "{previous_output}" not in first.prompt
    assert "1. a" in first.prompt
    assert "2. b (what you have just done)" in first.prompt
    assert second.prompt == "c {previous_output}"


@pytest.mark.parametrize(
    ("prefer", "confidence", "cut"),
    [(None, 0.5, True), (None, 0.49, False), ("single", 0.7, False), ("single", 0.8, True), ("parallel", 0.3, True),
     ("parallel", 0.2, False), ("chain", 0.49, False), ("chain", 0.5, True)],
)  # fmt: skip
def test_a_preference_moves_what_counts_as_sure(prefer: str | None, confidence: float, cut: bool) -> None:
    found = of(AutoHint(prefer=prefer), confidence=confidence)
    assert (found.route is Route.PARALLEL) is cut
    assert cut or "too little" in found.adjusted[-1]


@pytest.mark.parametrize("confidence", [None, "high", True, float("nan"), [], {}])
def test_a_confidence_that_is_no_number_is_just_enough(confidence: Any) -> None:
    assert of(confidence=confidence).confidence == SURE_ENOUGH


@pytest.mark.parametrize(("confidence", "clamped"), [(7, 1.0), (float("inf"), 1.0)])
def test_a_confidence_beyond_one_is_one(confidence: float, clamped: float) -> None:
    assert of(confidence=confidence).confidence == clamped


def test_nobody_is_asked_when_the_hints_leave_no_choice_or_the_task_is_too_long() -> None:
    forced = without_asking(TASK, AutoHint(max_parallel=1, max_chain_steps=1))
    assert forced is not None
    assert (forced.route, forced.fallback) == (Route.SINGLE, "")
    long = without_asking("x" * (MOST_ROUTED + 1), NO_HINT)
    assert long is not None
    assert "60,001 characters" in long.fallback
    assert without_asking(TASK, NO_HINT) is None


# -- templates


def test_a_later_step_always_gets_the_answer_before_it_and_a_first_one_never() -> None:
    parts = [{"prompt": "a {previous_output} {steps.x.output} {{y}}"}, {"prompt": "b {args.z}"}]
    first, second = of(route="chain", parts=parts).parts
    assert list(markers(first.prompt)) == []
    assert list(markers(second.prompt)) == ["previous_output"]
    rendered = render(first.prompt, lambda _: Value(text="?"), most_bytes=1000)
    assert rendered.text == "a {previous_output} {steps.x.output} {{y}}"


@given(st.text(alphabet="{}ab._- \n", max_size=40))
def test_an_escaped_text_renders_to_itself(text: str) -> None:
    assert render(escaped(text), lambda _: Value(text="?"), most_bytes=1000).text == text


def test_branches_are_plain_text_and_only_their_gather_is_a_template() -> None:
    found = of(parts=["use {name}", "use {other}"], gather="join {branches}, not {these}")
    assert prompts(found) == ["use {name}", "use {other}"]
    assert found.gather == "join {branches}, not {{these}}"


def test_a_chain_has_no_gather() -> None:
    found = of(route="chain", gather="join")
    assert found.gather is None
    assert "left out" in found.adjusted[0]


# -- the whole way


def result(state: TaskState = TaskState.COMPLETED, **more: Any) -> TaskResult:
    return TaskResult(task_id="t-0000000001", state=state, cost_usd=0.004, **more)


def test_a_decision_names_its_call_and_what_it_cost() -> None:
    found = decide(TASK, NO_HINT, result(structured_output=answer()))
    assert (found.task_id, found.cost_usd, found.route, found.fallback) == ("t-0000000001", 0.004, Route.PARALLEL, "")


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (result(TaskState.FAILED, error=TaskError(code=ErrorCode.MAX_TURNS, message="too many\nturns")), "max_turns"),
        (result(TaskState.CANCELLED), "cancelled"),
        (result(output="I have fixed it."), "no object with a route"),
        (result(structured_output=answer("parallel", 0)), "without a part"),
        (result(structured_output=answer("sideways")), "no route 'sideways'"),
    ],
)
def test_whatever_goes_wrong_is_a_single_task_that_says_why(told: TaskResult, why: str) -> None:
    found = decide(TASK, NO_HINT, told)
    assert (found.route, prompts(found)) == (Route.SINGLE, [TASK])
    assert why in found.fallback
    assert "\n" not in found.fallback
    assert found.cost_usd == 0.004


_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries(
        {"route": st.sampled_from(["single", "parallel", "chain"]) | _json},
        optional={
            "parts": st.lists(
                st.fixed_dictionaries({}, optional={"name": _json, "prompt": _json, "model": _json, "size": _json})
                | _json,
                max_size=30,
            )
            | _json,
            "confidence": _json,
            "reason": _json,
            "gather": _json,
        },
    ),
    st.integers(1, 16),
    st.integers(1, 16),
)
def test_no_answer_breaks_the_decision_or_the_limits(given_answer: Any, parallel: int, steps: int) -> None:
    hint = AutoHint(max_parallel=parallel, max_chain_steps=steps)
    found = decide(TASK, hint, result(structured_output=given_answer))
    most = {Route.SINGLE: 1, Route.PARALLEL: parallel, Route.CHAIN: steps}[found.route]
    assert 1 <= len(found.parts) <= most
    assert found.route is not Route.SINGLE or prompts(found) == [TASK]
    assert len({part.name for part in found.parts}) == len(found.parts)


def test_an_estimate_grows_with_the_size_and_the_model() -> None:
    def of_one(size: Any, model: str | None) -> float:
        return estimate([AutoPart(name="a", prompt="b", size=size)], model)

    assert of_one("small", "haiku") < of_one("medium", "haiku") < of_one("large", "haiku")
    assert of_one("medium", "haiku") < of_one("medium", "claude-sonnet-5-5") < of_one("medium", "opus")
    assert of_one("medium", None) == of_one("medium", "some-new-model") == of_one("medium", "opus")
    assert single(TASK).estimate_usd is None
