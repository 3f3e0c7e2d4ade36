"""What all records share: frozen, closed to unknown fields, cheap to change a copy of."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

MICROS = 1_000_000
"""Money is stored as whole micro-dollars: sums of floats drift, a ledger must not."""


class Record(BaseModel):
    """A frozen value; `evolve` makes a changed and validated copy."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null", allow_inf_nan=False)

    def evolve(self, **changes: Any) -> Self:
        """A copy with these fields changed, validated like a new one."""
        return self.model_validate({**{name: getattr(self, name) for name in self.model_fields_set}, **changes})


def to_micros(usd: float) -> int:
    """Dollars to whole micro-dollars, half up."""
    return int((Decimal(str(usd)) * MICROS).to_integral_value(ROUND_HALF_UP))


def to_usd(micros: int) -> float:
    """Whole micro-dollars to dollars."""
    return micros / MICROS


def explain(error: ValidationError) -> str:
    """What is wrong with an input, in a sentence a person or a model can act on; unknown fields by name."""

    def one(loc: tuple[int | str, ...], kind: str, message: str, value: Any) -> str:
        name = ".".join(str(part) for part in loc) or "input"
        if kind == "extra_forbidden":
            return f"there is no field {name!r}"
        shown = repr(value)
        return f"{name}: {message[:1].lower()}{message[1:]} (got {shown if len(shown) <= 80 else shown[:77] + '...'})"

    return (
        "; ".join(
            one(e["loc"], e["type"], e["msg"].removeprefix("Value error, "), e["input"])
            for e in error.errors(include_url=False)
        )
        + "."
    )
