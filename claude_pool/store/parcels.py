"""Parcels over Redis: what travels between nodes by the store, for so long and so much.

Branches as git bundles, transcripts of conversations. A parcel is a convenience, never the only copy: the node that
sent it has the branch and the transcript. So they expire, the oldest go when all together are too large, and a store
that is full takes none.
"""

from __future__ import annotations

import base64
import binascii
import json

from claude_pool.config import PoolConfig
from claude_pool.errors import PoolError
from claude_pool.models.parcel import Parcel
from claude_pool.store.client import Client

_DAY_MS = 86_400_000


class RedisParcels:
    """`ParcelStore` over Redis. The wire knows text only, so the bytes travel in base64."""

    def __init__(self, client: Client, config: PoolConfig) -> None:
        self._client = client
        self._config = config

    def put(self, name: str, parcel: Parcel) -> bool:
        data = base64.b64encode(parcel.data).decode()
        ttl_ms = round(self._config.branch_days * _DAY_MS)
        facts = json.dumps(parcel.facts, sort_keys=True)
        return self._client.call("parcel_put", name, facts, data, ttl_ms, self._config.parcel_total_bytes) == 1

    def facts(self, name: str) -> dict[str, str] | None:
        found = self._client.call("parcel_get", name, "")
        return _facts(name, found[0]) if found else None

    def get(self, name: str) -> Parcel | None:
        found = self._client.call("parcel_get", name, "1")
        if not found:
            return None
        try:
            return Parcel(facts=_facts(name, found[0]), data=base64.b64decode(found[1], validate=True))
        except binascii.Error as error:
            raise PoolError(f"Parcel {name} in the store can't be read: {error}") from None


def _facts(name: str, text: str) -> dict[str, str]:
    try:
        return {str(key): str(value) for key, value in json.loads(text).items()}
    except (ValueError, AttributeError) as error:
        raise PoolError(f"Parcel {name} in the store can't be read: {error}") from None
