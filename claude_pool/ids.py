"""Identifiers: short enough to be cheap in a model's context, random enough never to meet.

A task is `t-` and ten characters of Crockford's base 32 (50 random bits); the store refuses an id that exists, so a
collision costs one retry and nothing else. A run is a uuid4, because the CLI wants its session ids in that form and a
fence must not be guessable from a counter that a failover could turn back.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
import uuid
from collections.abc import Callable

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PATTERN = re.compile(r"(?P<kind>[tcfq])-[0-9a-hjkmnp-tv-z]{10}")

KINDS = {"t": "task", "c": "chain", "f": "fan-out", "q": "question"}
"""What an id's first letter says."""


def new_id(kind: str) -> str:
    """A fresh id such as `t-8f3k2m9q0d`; `kind` is one of the letters in `KINDS`."""
    return f"{kind}-" + "".join(_ALPHABET[byte & 31] for byte in secrets.token_bytes(10))


def ids_from(key: str | None, *, kind: str) -> Callable[[str], str]:
    """A source of ids like `new_id`; of a kind and a key always the same ones, so that a repeated call meets itself."""
    if key is None:
        return new_id
    numbers = itertools.count()

    def derived(letter: str) -> str:
        digest = hashlib.sha256(f"{kind}\0{key}\0{next(numbers)}".encode()).digest()
        return f"{letter}-" + "".join(_ALPHABET[byte & 31] for byte in digest[:10])

    return derived


def new_run_id() -> str:
    """A fresh run id, incarnation or session id: a uuid4 in its usual spelling."""
    return str(uuid.uuid4())


def kind_of(identifier: str) -> str | None:
    """`task`, `chain`, `fan-out` or `question`; None for a string that is no id of ours."""
    match = _PATTERN.fullmatch(identifier)
    return KINDS[match["kind"]] if match else None
