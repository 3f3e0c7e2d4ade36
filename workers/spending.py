"""Spending: what one run cost, in dollars and tokens, from figures that may be missing, cumulative or wrong.

`total_cost_usd` and `modelUsage` of a result count a resumed session from its beginning; `usage` and
`model_usage_since_last_result` are this run's. Without any result, the tokens of the messages seen are priced high, so
that a run that died is never taken for free; `cost_known` is False then.
"""

from __future__ import annotations

from typing import Any, Final

from claude_pool.models.run import ModelUsage, Usage
from workers.fields import MOST_USD, count_of, map_of, money_of, text_of

Event = dict[str, Any]

PESSIMISTIC_USD_PER_MILLION: Final = {
    "input_tokens": 15.0,
    "output_tokens": 75.0,
    "cache_read_tokens": 1.5,
    "cache_write_tokens": 18.75,
}
"""The dearest list prices of the vendor's models so far; used only for runs that ended without a figure."""

MOST_MODELS: Final = 100

_BY_MODEL: Final = {
    "input_tokens": "inputTokens",
    "output_tokens": "outputTokens",
    "cache_read_tokens": "cacheReadInputTokens",
    "cache_write_tokens": "cacheCreationInputTokens",
}
_BY_USAGE: Final = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_input_tokens",
    "cache_write_tokens": "cache_creation_input_tokens",
}


def _usage(source: Event, names: dict[str, str]) -> Usage:
    return Usage(**{ours: count_of(source, theirs) for ours, theirs in names.items()})


def _models(source: Event) -> dict[str, ModelUsage]:
    """Per model; one whose money is missing or absurd counts its tokens and no money."""
    found: dict[str, ModelUsage] = {}
    for name in list(source)[:MOST_MODELS]:
        entry = map_of(source, name)
        label = text_of({"name": name}, "name") or "?"
        tokens = _usage(entry, _BY_MODEL)
        found[label] = ModelUsage(**tokens.model_dump(), cost_usd=money_of(entry, "costUSD") or 0.0)
    return found


def _all_priced(source: Event) -> bool:
    return all(money_of(map_of(source, name), "costUSD") is not None for name in source)


class Spending:
    """Adds up the results (and, for want of them, the messages) of one run."""

    def __init__(self, session_cost_before_usd: float) -> None:
        self._before = min(max(session_cost_before_usd, 0.0), MOST_USD)
        self._usage = Usage()
        self._models: dict[str, ModelUsage] = {}
        self._cumulative: dict[str, ModelUsage] = {}
        self._messages: dict[str, Usage] = {}
        self._total: float | None = None
        self._since_complete = True
        self._results = 0

    def message(self, message: Event) -> None:
        """An assistant message; each of its blocks comes as an event of its own and repeats the usage."""
        key = text_of(message, "id") or str(len(self._messages))
        seen = _usage(map_of(message, "usage"), _BY_USAGE)
        known = self._messages.get(key, Usage())
        self._messages[key] = Usage(**{n: max(getattr(seen, n), getattr(known, n)) for n in Usage.model_fields})

    def result(self, event: Event) -> None:
        """A result; its total replaces the one before, its own share is added."""
        self._results += 1
        self._usage += _usage(map_of(event, "usage"), _BY_USAGE)
        if (total := money_of(event, "total_cost_usd")) is not None:
            self._total = total
        self._cumulative = _models(map_of(event, "modelUsage")) or self._cumulative
        share = event.get("model_usage_since_last_result")
        if not isinstance(share, dict) or not _all_priced(map_of(event, "model_usage_since_last_result")):
            self._since_complete = False
            return
        for name, used in _models(map_of(event, "model_usage_since_last_result")).items():
            known = self._models.get(name, ModelUsage())
            tokens = Usage.__add__(used, known)
            self._models[name] = ModelUsage(**tokens.model_dump(), cost_usd=used.cost_usd + known.cost_usd)

    def facts(self) -> dict[str, Any]:
        """The fields of `RunFacts` that are about money and tokens."""
        cost, known = self._cost()
        session = self._total if self._total is not None else min(self._before + cost, MOST_USD)
        return {
            "cost_usd": cost,
            "cost_known": known,
            "session_cost_usd": session,
            "usage": self._tokens(),
            "model_usage": self._by_model(),
        }

    def _cost(self) -> tuple[float, bool]:
        if self._results and self._since_complete:
            shares = sum(used.cost_usd for used in self._models.values())
            return min(shares, MOST_USD), True
        if self._total is not None:
            return (self._total - self._before, True) if self._total >= self._before else (self._guess(), False)
        return self._guess(), False

    def _guess(self) -> float:
        seen = self._seen()
        prices = PESSIMISTIC_USD_PER_MILLION.items()
        return min(sum(getattr(seen, name) * price for name, price in prices) / 1e6, MOST_USD)

    def _seen(self) -> Usage:
        return sum(self._messages.values(), Usage())

    def _tokens(self) -> Usage:
        """Of the results; of the models where a budget ended the run and left that at zero; else of the messages."""
        by_model = sum((Usage(**_tokens_of(used)) for used in self._by_model().values()), Usage())
        return next((used for used in (self._usage, by_model) if used != Usage()), self._seen())

    def _by_model(self) -> dict[str, ModelUsage]:
        if self._models or self._since_complete:
            return self._models
        return self._cumulative if self._before == 0 else {}


def _tokens_of(used: ModelUsage) -> dict[str, int]:
    return {name: getattr(used, name) for name in Usage.model_fields}
