"""Every error that claude-pool raises, as one tree.

    PoolError
    ├── InvalidRequest        what was asked for makes no sense            exit 2
    │   ├── InvalidSettings   a setting is wrong; names it and its value
    │   └── NotFound          no task, chain, slot … of that name
    ├── Unreachable           the pool's Redis can't be reached            exit 3
    │   └── StoreFull         Redis answers, but refuses writes
    ├── Refused               understood, and not done                     exit 4
    │   ├── BudgetRefused     the money could never be there
    │   ├── PoolDrained       the pool takes no new work
    │   ├── KeyReused         one idempotency key, two different requests
    │   ├── Conflict          somebody else was first, or a merge conflict
    │   ├── SlotTaken         a live slot already has that name
    │   └── StoreReset        the store is older than this process remembers
    ├── Fenced                this run was superseded; it may write nothing
    ├── WorkspaceError        the isolation that was asked for can't be had
    │   └── WorkspaceBusy     somebody else works there now; later it can be had
    ├── CliError              the `claude` binary can't be used
    └── Shadowed              another package answers to one of our names

A class's docstring is its default message. `code` is stable and meant for programs; `hint` says what to do next.
"""

from __future__ import annotations

from typing import ClassVar


class PoolError(Exception):
    """Something went wrong in the pool."""

    code: ClassVar[str] = "pool_error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        self.message = message or (self.__doc__ or self.code).strip()
        self.hint = hint
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InvalidRequest(PoolError):
    """The request is not valid."""

    code = "invalid_request"
    exit_code = 2


class InvalidSettings(InvalidRequest):
    """A setting is not valid."""

    code = "invalid_settings"


class NotFound(InvalidRequest):
    """There is nothing of that name."""

    code = "not_found"


class Unreachable(PoolError):
    """The pool's Redis can't be reached."""

    code = "unreachable"
    exit_code = 3


class StoreFull(Unreachable):
    """The pool's Redis refuses writes."""

    code = "store_full"


class Refused(PoolError):
    """The pool refuses."""

    code = "refused"
    exit_code = 4


class BudgetRefused(Refused):
    """The budget could never cover this."""

    code = "budget_refused"


class PoolDrained(Refused):
    """The pool is drained and takes no new work."""

    code = "drained"


class KeyReused(Refused):
    """That idempotency key was used for a different request."""

    code = "key_reused"


class Conflict(Refused):
    """Somebody else was first."""

    code = "conflict"


class SlotTaken(Refused):
    """A live slot already has that name."""

    code = "slot_taken"


class StoreReset(Refused):
    """The store was reset or restored from older data."""

    code = "store_reset"


class Fenced(PoolError):
    """This run was superseded by another and may write nothing."""

    code = "fenced"


class WorkspaceError(PoolError):
    """The workspace that was asked for can't be had."""

    code = "workspace"


class WorkspaceBusy(WorkspaceError):
    """Somebody else works in that directory or on that branch now."""

    code = "workspace_busy"


class CliError(PoolError):
    """The claude binary can't be used."""

    code = "cli_start"


class Shadowed(PoolError):
    """Another package answers to one of claude-pool's names."""

    code = "shadowed"
    exit_code = 3
