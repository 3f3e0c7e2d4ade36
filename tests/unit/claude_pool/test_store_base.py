from __future__ import annotations

import inspect
import re

import pytest

from claude_pool.config import PoolConfig
from claude_pool.models.context import ContextStore
from claude_pool.models.parcel import ParcelStore
from claude_pool.store import base, fake_store
from claude_pool.testing.contracts import CONTRACTS

FACETS = {
    "tasks": base.TaskStore,
    "house": base.Housekeeping,
    "slots": base.SlotStore,
    "events": base.EventStore,
    "logs": base.LogStore,
    "pool": base.PoolStore,
    "reviews": base.ReviewStore,
    "graph": base.GraphStore,
    "parcels": ParcelStore,
    "context": ContextStore,
}


def methods(protocol: type) -> dict[str, inspect.Signature]:
    return {name: inspect.signature(value) for name, value in vars(protocol).items() if not name.startswith("_")}


@pytest.mark.parametrize("facet", FACETS)
def test_the_redis_store_has_every_method_with_the_same_arguments(facet: str) -> None:
    made = getattr(fake_store(PoolConfig(name="p")), facet)
    for name, wanted in methods(FACETS[facet]).items():
        given = inspect.signature(getattr(type(made), name))
        assert given.parameters.keys() == wanted.parameters.keys(), name
        assert {key: value.default for key, value in given.parameters.items()} == {
            key: value.default for key, value in wanted.parameters.items()
        }, name


def test_a_store_has_a_place_for_each_facet() -> None:
    assert list(FACETS) == list(base.Store.__dataclass_fields__)


def test_each_promise_is_checked_and_each_check_is_promised() -> None:
    promised = set(re.findall(r"^(S\d+) ", base.__doc__ or "", re.MULTILINE))
    assert promised == {contract.promise for contract in CONTRACTS}
