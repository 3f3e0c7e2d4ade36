"""Whatever a client sends, a tool answers in words: never a bare error, never one of the protocol, never a break."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp import Client

from claude_pool.pool import Pool
from mcp_server.counter import Counter
from mcp_server.server import build
from mcp_server.tools.arguments import Schema, schema_of
from mcp_server.tools.catalogue import CATALOGUE

CALLABLE = [one for one in CATALOGUE if one.name != "pool_drain"]
_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _fitting(schema: Schema) -> st.SearchStrategy[Any]:
    """Values of the type that the schema names."""
    if not schema:
        return _anything
    if "anyOf" in schema:
        return st.one_of(*map(_fitting, schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "string": st.text(max_size=20) | st.sampled_from(["t-0000000000", "0-0", "haiku", "[", "{"]),
        "integer": st.integers(-1, 300),
        "number": st.floats(-1, 1, allow_nan=False),
        "boolean": st.booleans(),
        "object": st.dictionaries(st.text(max_size=8), _anything, max_size=3),
    }
    if schema.get("type") == "array":
        return st.lists(_fitting(schema["items"]), max_size=3)
    return kinds[schema["type"]]


@st.composite
def _call(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    one = draw(st.sampled_from(CALLABLE))
    properties: Schema = (one.parameters or schema_of(one.arguments))["properties"]
    names = draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else []
    arguments = {name: draw(_anything | _fitting(properties[name])) for name in names}
    arguments |= draw(st.just({}) | st.dictionaries(st.text(max_size=8), _anything, max_size=1))
    for patience in {"wait_s"} & properties.keys() | ({"timeout_s"} if one.name == "pool_wait" else set()):
        arguments[patience] = 0
    return one.name, arguments


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_no_arguments_break_a_tool(mode: str, counter: Counter, pool: Pool, worker: Any) -> None:
    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(calls=st.lists(_call(), min_size=1, max_size=8))
    def fuzz(calls: list[tuple[str, dict[str, Any]]]) -> None:
        anyio.run(_carry_out, counter, mode, calls)

    fuzz()


async def _carry_out(counter: Counter, mode: str, calls: list[tuple[str, dict[str, Any]]]) -> None:
    hurried = counter.config.model_copy(update={"route_timeout_s": 0.01})  # nobody takes a routing call here
    fresh = Counter(hurried, submitter=counter.submitter, pool=await counter.pool())
    async with Client(build(fresh), mode=mode, read_timeout_seconds=30) as client:
        for name, arguments in calls:
            answer = await client.call_tool(name, arguments)  # the client checks the structure against the schema
            text = answer.content[0].text
            if answer.is_error:
                assert "internal_error" not in text, (name, arguments, text)
                assert not text.rstrip(".").endswith(f"Error executing tool {name}")
                assert ": " in text
            else:
                assert answer.structured_content is not None
