from __future__ import annotations

import uuid

import pytest

from claude_pool.ids import KINDS, ids_from, kind_of, new_id, new_run_id


@pytest.mark.parametrize(("letter", "kind"), KINDS.items())
def test_an_id_says_what_it_is_of(letter: str, kind: str) -> None:
    assert kind_of(new_id(letter)) == kind


def test_ids_use_every_letter_of_the_alphabet_and_do_not_meet() -> None:
    made = [new_id("t") for _ in range(2000)]
    assert len(set(made)) == len(made)
    assert set("".join(one[2:] for one in made)) == set("0123456789abcdefghjkmnpqrstvwxyz")


def test_a_run_id_is_a_uuid4() -> None:
    assert uuid.UUID(new_run_id()).version == 4


@pytest.mark.parametrize(
    "text", ["", "t", "t-", "t-123", "x-0123456789", "t-012345678i", "T-0123456789", "t-0123456789\n", " t-0123456789"]
)
def test_what_is_no_id_is_of_no_kind(text: str) -> None:
    assert kind_of(text) is None


def test_ids_of_a_key_are_always_the_same_and_those_of_another_or_of_another_kind_are_not() -> None:
    def some(key: str | None, kind: str = "chain") -> list[str]:
        ids = ids_from(key, kind=kind)
        return [ids("c"), ids("t"), ids("t")]

    assert some("a") == some("a")
    assert all(kind_of(one) for one in some("a"))
    different = [*some("a"), *some("b"), *some("a", "fan-out"), *some(None), *some(None)]
    assert len(set(different)) == len(different)
