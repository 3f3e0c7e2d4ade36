"""What all records share, and how a wrong input is explained."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from claude_pool.models.base import MICROS, Record, explain, to_micros, to_usd


class Part(Record):
    n: int = Field(default=0, ge=0)


class Whole(Record):
    name: str = ""
    cost_usd: float = 0.0
    parts: tuple[Part, ...] = ()


def problem(**fields: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate(fields)
    return explain(caught.value)


def test_a_record_can_not_be_changed_and_its_copy_is_checked() -> None:
    record = Whole(name="a", parts=(Part(n=1),))
    with pytest.raises(ValidationError):
        record.name = "b"  # type: ignore[misc]
    copy = record.evolve(name="b")
    assert (record.name, copy.name, copy.parts) == ("a", "b", (Part(n=1),))
    with pytest.raises(ValidationError):
        record.evolve(cost_usd="much")
    with pytest.raises(ValidationError):
        record.evolve(colour="red")


def test_what_was_chosen_stays_told_apart_from_defaults_in_a_copy() -> None:
    assert Whole(name="a").evolve(cost_usd=1.0).model_fields_set == {"name", "cost_usd"}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_money_is_a_number(number: float) -> None:
    with pytest.raises(ValidationError):
        Whole(cost_usd=number)


def test_each_wrong_field_is_named_with_what_was_given() -> None:
    told = problem(cost_usd="much", colour="red", parts=[{"n": -1}])
    assert "there is no field 'colour'" in told
    assert "cost_usd: input should be a valid number" in told
    assert "(got 'much')" in told
    assert "parts.0.n: input should be greater than or equal to 0 (got -1)" in told
    assert told.endswith(".")


def test_a_long_wrong_value_is_cut() -> None:
    told = problem(cost_usd="x" * 1000)
    assert len(told) < 200
    assert "...)" in told


@pytest.mark.parametrize(
    ("usd", "micros"), [(0.1, 100_000), (0.0000005, 1), (0.00000049, 0), (1e6, 10**12), (0.07, 70_000)]
)
def test_dollars_become_whole_micros_half_up(usd: float, micros: int) -> None:
    assert to_micros(usd) == micros


@given(st.integers(0, 10**15))
def test_micros_survive_the_way_to_dollars_and_back(micros: int) -> None:
    assert to_micros(to_usd(micros)) == micros
    assert to_usd(MICROS) == 1.0
