import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from claude_pool.models.base import to_micros, to_usd
from claude_pool.models.run import ModelUsage, RunFacts, StopCause, Usage
from claude_pool.models.task import TaskState

COUNTS = st.integers(0, 2**40)
USAGES = st.builds(
    Usage, input_tokens=COUNTS, output_tokens=COUNTS, cache_read_tokens=COUNTS, cache_write_tokens=COUNTS
)


@given(USAGES, USAGES)
def test_usages_add_up_field_by_field(one: Usage, other: Usage) -> None:
    both = one + other
    assert both == other + one
    assert both.cache_write_tokens == one.cache_write_tokens + other.cache_write_tokens
    assert one + Usage() == one


def test_a_run_of_which_nothing_is_known_is_neither_a_success_nor_free_of_doubt() -> None:
    facts = RunFacts()
    assert not facts.has_result
    assert not facts.cost_known
    assert facts.stopped is StopCause.NONE


def test_facts_survive_json() -> None:
    facts = RunFacts(
        output="x",
        structured_output={"a": [1, None]},
        has_structured_output=True,
        model_usage={"m": ModelUsage(cost_usd=1)},
    )
    assert RunFacts.model_validate_json(facts.model_dump_json()) == facts


def test_money_that_is_no_number_is_refused() -> None:
    for absurd in (float("nan"), float("inf")):
        with pytest.raises(ValidationError):
            RunFacts(cost_usd=absurd)


def test_evolving_keeps_the_rest_and_checks_the_change() -> None:
    facts = RunFacts(output="x").evolve(stopped=StopCause.TIMEOUT)
    assert (facts.output, facts.stopped) == ("x", StopCause.TIMEOUT)
    with pytest.raises(ValidationError):
        facts.evolve(stopped="bored")
    with pytest.raises(ValidationError):
        facts.evolve(unheard_of=1)


@given(st.integers(0, 10**15))
def test_whole_micro_dollars_survive_the_way_to_dollars_and_back(micros: int) -> None:
    assert to_micros(to_usd(micros)) == micros


@pytest.mark.parametrize(
    ("usd", "micros"), [(0.1, 100_000), (0.0000005, 1), (0.00000049, 0), (1e-9, 0), (2.675, 2_675_000)]
)
def test_dollars_are_rounded_half_up_as_they_are_written(usd: float, micros: int) -> None:
    assert to_micros(usd) == micros


def test_exactly_three_states_are_final() -> None:
    assert {state for state in TaskState if state.final} == {"completed", "failed", "cancelled"}
