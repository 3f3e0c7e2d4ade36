from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.fields import count_of, json_of, list_of, map_of, maps_of, money_of, number_of, text_of

ANYTHING = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.none()), st.just({}))


@given(ANYTHING)
def test_every_reader_takes_any_value(value: Any) -> None:
    holder = {"x": value}
    assert isinstance(map_of(holder, "x"), dict)
    assert isinstance(list_of(holder, "x"), list)
    assert isinstance(text_of(holder, "x"), str | None)
    assert count_of(holder, "x") >= 0
    assert (money_of(holder, "x") or 0) >= 0


def test_what_is_missing_is_empty() -> None:
    assert (text_of({}, "x"), map_of({}, "x"), list_of({}, "x"), count_of({}, "x"), number_of({}, "x")) == (
        None,
        {},
        [],
        0,
        None,
    )


def test_only_the_objects_of_a_list_are_taken() -> None:
    assert maps_of({"x": [1, {"a": 1}, "b", None, {}]}, "x") == [{"a": 1}, {}]


@pytest.mark.parametrize("value", [True, "1", float("nan"), float("inf"), 10**400])
def test_what_is_no_finite_number_is_none(value: Any) -> None:
    assert number_of({"x": value}, "x") is None


def test_json_that_can_not_be_carried_is_none() -> None:
    deep: list[Any] = []
    for _ in range(2000):
        deep = [deep]
    assert json_of(deep) is None
    assert json_of("half \ud83d") is None
    assert json_of(float("nan")) is None
    assert json_of({"a": [1, "x", None]}) == {"a": [1, "x", None]}
