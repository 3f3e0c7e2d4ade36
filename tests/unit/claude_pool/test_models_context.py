from __future__ import annotations

import pytest
from pydantic import ValidationError

from claude_pool.models.context import MAX_VALUE_BYTES, ContextEntry


@pytest.mark.parametrize("key", ["", "a b", "-a", "a\n", "ä", "x" * 129])
def test_a_key_is_a_plain_short_name(key: str) -> None:
    with pytest.raises(ValidationError):
        ContextEntry(key=key, value="x")


@pytest.mark.parametrize("namespace", [" ", "a b", "-a", "x" * 65])
def test_a_namespace_is_a_tag_or_nothing(namespace: str) -> None:
    with pytest.raises(ValidationError):
        ContextEntry(key="a", value="x", namespace=namespace)


def test_a_value_is_measured_in_bytes() -> None:
    assert ContextEntry(key="a", value="x" * MAX_VALUE_BYTES)
    with pytest.raises(ValidationError, match="at most 65,536"):
        ContextEntry(key="a", value="ä" * (MAX_VALUE_BYTES // 2 + 1))
