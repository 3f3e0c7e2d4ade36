"""Shared context: what workers are told before their task, besides its prompt."""

from __future__ import annotations

from pydantic import ValidationError

from claude_pool.desks.base import Desk
from claude_pool.errors import InvalidRequest, NotFound
from claude_pool.models.base import explain
from claude_pool.models.context import ContextEntry


class ContextDesk(Desk):
    """The verbs for shared context. A run is told what is there when it starts; later changes are for later runs."""

    def context_set(self, key: str, value: str, *, namespace: str = "") -> ContextEntry:
        """Tell every task, or with `namespace` those with that tag. Raises InvalidRequest, Refused."""
        try:
            entry = ContextEntry(key=key, value=value, namespace=namespace, by=self.submitter.name[:200])
        except ValidationError as error:
            raise InvalidRequest(explain(error)) from None
        return self.store.context.put(entry)

    def context_get(self, key: str, *, namespace: str = "") -> ContextEntry:
        """Raises NotFound."""
        found = self.store.context.get(key, namespace)
        if found is None:
            raise _missing(key, namespace)
        return found

    def context_history(self, key: str, *, namespace: str = "") -> list[ContextEntry]:
        """The values that a key had before, the latest first."""
        return self.store.context.history(key, namespace)

    def context_delete(self, key: str, *, namespace: str = "") -> None:
        """Forget a key and its history. Raises NotFound."""
        if not self.store.context.delete(key, namespace):
            raise _missing(key, namespace)

    def context_list(self, *, namespace: str | None = None) -> list[ContextEntry]:
        """All of it in the order in which workers are told, or one namespace's ("" is everybody's)."""
        return [entry for entry in self.store.context.entries() if namespace in {None, entry.namespace}]


def _missing(key: str, namespace: str) -> NotFound:
    where = f" for the tag {namespace}" if namespace else ""
    return NotFound(f"There is nothing called {key!r} in the shared context{where}.")
