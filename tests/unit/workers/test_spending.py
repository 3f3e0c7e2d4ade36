from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from workers.spending import PESSIMISTIC_USD_PER_MILLION, Spending

MILLION = 1_000_000


def share(cost: float) -> dict[str, Any]:
    return {"model_usage_since_last_result": {"m": {"inputTokens": 5, "costUSD": cost}}}


def test_the_shares_of_all_results_are_this_runs_cost() -> None:
    spending = Spending(10.0)
    spending.result({"total_cost_usd": 10.25, **share(0.25)})
    spending.result({"total_cost_usd": 10.75, **share(0.5)})
    facts = spending.facts()
    assert (facts["cost_usd"], facts["cost_known"], facts["session_cost_usd"]) == (0.75, True, 10.75)
    assert facts["model_usage"]["m"].input_tokens == 10


def test_one_missing_share_makes_the_difference_count() -> None:
    spending = Spending(1.0)
    spending.result({"total_cost_usd": 1.25, **share(0.25)})
    spending.result({"total_cost_usd": 2.0})
    assert (spending.facts()["cost_usd"], spending.facts()["cost_known"]) == (1.0, True)


def test_a_negative_share_is_not_believed() -> None:
    spending = Spending(0.0)
    spending.result({"total_cost_usd": 0.5, **share(-3.0)})
    assert (spending.facts()["cost_usd"], spending.facts()["cost_known"]) == (0.5, True)


def test_a_message_that_comes_in_blocks_is_counted_once_with_its_largest_figures() -> None:
    spending = Spending(0.0)
    for output in (1, MILLION, 5):
        spending.message({"id": "m1", "usage": {"input_tokens": MILLION, "output_tokens": output}})
    facts = spending.facts()
    assert (facts["usage"].input_tokens, facts["usage"].output_tokens) == (MILLION, MILLION)
    assert (
        facts["cost_usd"] == PESSIMISTIC_USD_PER_MILLION["input_tokens"] + PESSIMISTIC_USD_PER_MILLION["output_tokens"]
    )
    assert not facts["cost_known"]


def test_cumulative_figures_by_model_are_used_for_a_fresh_session_only() -> None:
    event = {"total_cost_usd": 2.0, "modelUsage": {"m": {"inputTokens": 7, "costUSD": 2.0}}}
    fresh, resumed = Spending(0.0), Spending(1.0)
    for spending in (fresh, resumed):
        spending.result(event)
    assert fresh.facts()["usage"].input_tokens == 7
    assert resumed.facts()["model_usage"] == {}


@given(st.floats(), st.floats(allow_nan=False, allow_infinity=False), st.floats())
def test_no_figures_make_a_cost_negative_or_infinite(total: float, before: float, cost: float) -> None:
    spending = Spending(before)
    spending.result({"total_cost_usd": total, **share(cost)})
    facts = spending.facts()
    assert 0 <= facts["cost_usd"] <= 1_000_000
    assert 0 <= facts["session_cost_usd"] <= 1_000_000
