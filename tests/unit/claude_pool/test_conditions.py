from typing import Any

import pytest

from claude_pool.conditions import check_condition, holds
from claude_pool.errors import InvalidRequest
from claude_pool.templates import Scope

VALUES: dict[str, Any] = {
    "steps.review.verdict": "approved",
    "steps.review.n": 3,
    "steps.review.ok": True,
    "steps.review.tags": ["a", "b"],
    "steps.review.nothing": None,
    "steps.review.text": " 3.0 ",
    "steps.review.map": {"key": 1},
    "previous_output": "NEEDS WORK: or 1 == 1",
    "args.mode": "quick",
    "args.empty": " ",
}


@pytest.mark.parametrize(
    "text",
    [
        '{steps.review.verdict} == "approved"',
        "{steps.review.verdict} == 'approved'",
        '{steps.review.verdict} != "rejected"',
        "{steps.review.n} > 2 and {steps.review.n} <= 3",
        "{steps.review.text} == 3",
        '{steps.review.n} == "3"',
        "{steps.review.ok}",
        "{steps.review.ok} == true",
        '{steps.review.ok} == "true"',
        "{steps.review.nothing} == null",
        "not {steps.review.nothing}",
        "not {args.empty}",
        '{steps.review.tags} contains "a"',
        '{steps.review.map} contains "key"',
        '{previous_output} contains "NEEDS"',
        '{args.mode} == "slow" or {steps.review.n} == 3',
        'not ({args.mode} == "slow" or {steps.review.n} == 4)',
        "true or false and false",
        '"a\\"b" == "a\\"b"',
    ],
)
def test_it_holds(text: str) -> None:
    assert holds(text, VALUES.__getitem__)


@pytest.mark.parametrize(
    "text",
    [
        '{steps.review.verdict} == "rejected"',
        "{steps.review.verdict} > 3",
        "{steps.review.nothing}",
        "{args.empty}",
        "{previous_output} == 1",
        "not {args.mode}",
        "(true or true) and false",
        '{steps.review.tags} contains "c"',
    ],
)
def test_it_does_not_hold(text: str) -> None:
    assert not holds(text, VALUES.__getitem__)


@pytest.mark.parametrize(
    "text",
    ["", "{args.mode} ==", "== 1", "(true", "true)", "true false", "a == 1", "1 & 2", "{args.mode", "not", "true and",
     "__import__('os')", "not " * 60 + "true"],
)  # fmt: skip
def test_what_can_not_be_read_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="can't be read"):
        holds(text, VALUES.__getitem__)


def test_markers_of_a_condition_are_checked_as_those_of_prompts() -> None:
    scope = Scope(args=frozenset({"mode"}), steps={"review": frozenset({"verdict"})})
    assert check_condition('{args.mode} == "x"', scope, where="w") == {"args.mode"}
    with pytest.raises(InvalidRequest, match="no argument"):
        check_condition('{args.made} == "x"', scope, where="w")
