"""A distributed job queue whose workers run the Claude CLI: the public door.

    with Pool.open() as pool:
        result = pool.run("Summarise README.md in one sentence.")
        print(result.output, result.cost_usd)

Everything that a program may rely on is in `__all__`; whatever is not may change without notice. A name is imported
when it is first used, so that `import claude_pool` costs nothing and one record does not bring Redis with it.
"""

# The imports below are for type checkers alone; at run time the door imports nothing, so that there is no cycle.
# pyright: reportImportCycles=false

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from claude_pool._version import __version__

if TYPE_CHECKING:
    from claude_pool.config import PoolConfig
    from claude_pool.errors import (
        BudgetRefused,
        CliError,
        Conflict,
        Fenced,
        InvalidRequest,
        InvalidSettings,
        KeyReused,
        NotFound,
        PoolDrained,
        PoolError,
        Refused,
        Shadowed,
        SlotTaken,
        StoreFull,
        StoreReset,
        Unreachable,
        WorkspaceError,
    )
    from claude_pool.models.chain import ChainIsolation, ChainOptions, ChainProgress, ChainResult, ChainStep
    from claude_pool.models.events import LogEntry, TaskEvent
    from claude_pool.models.fanout import FanOut, FanOutResult, StepFailurePolicy
    from claude_pool.models.options import TaskOptions
    from claude_pool.models.pool import DrainSummary, Node, PoolStatus, Slot
    from claude_pool.models.run import ModelUsage, RunFacts, Usage
    from claude_pool.models.task import (
        ErrorCode,
        ParkedFor,
        RunRecord,
        Task,
        TaskDetail,
        TaskError,
        TaskResult,
        TaskState,
    )
    from claude_pool.pool import Pool

__all__ = [
    "BudgetRefused",
    "ChainIsolation",
    "ChainOptions",
    "ChainProgress",
    "ChainResult",
    "ChainStep",
    "CliError",
    "Conflict",
    "DrainSummary",
    "ErrorCode",
    "FanOut",
    "FanOutResult",
    "Fenced",
    "InvalidRequest",
    "InvalidSettings",
    "KeyReused",
    "LogEntry",
    "ModelUsage",
    "Node",
    "NotFound",
    "ParkedFor",
    "Pool",
    "PoolConfig",
    "PoolDrained",
    "PoolError",
    "PoolStatus",
    "Refused",
    "RunFacts",
    "RunRecord",
    "Shadowed",
    "Slot",
    "SlotTaken",
    "StepFailurePolicy",
    "StoreFull",
    "StoreReset",
    "Task",
    "TaskDetail",
    "TaskError",
    "TaskEvent",
    "TaskOptions",
    "TaskResult",
    "TaskState",
    "Unreachable",
    "Usage",
    "WorkspaceError",
    "__version__",
]

_HOMES: Final = {
    "Pool": "pool",
    "PoolConfig": "config",
    **dict.fromkeys(("ChainIsolation", "ChainOptions", "ChainProgress", "ChainResult", "ChainStep"), "models.chain"),
    **dict.fromkeys(("FanOut", "FanOutResult", "StepFailurePolicy"), "models.fanout"),
    "LogEntry": "models.events",
    "TaskEvent": "models.events",
    "TaskOptions": "models.options",
    **dict.fromkeys(("DrainSummary", "Node", "PoolStatus", "Slot"), "models.pool"),
    **dict.fromkeys(("ModelUsage", "RunFacts", "Usage"), "models.run"),
    **dict.fromkeys(
        ("ErrorCode", "ParkedFor", "RunRecord", "Task", "TaskDetail", "TaskError", "TaskResult", "TaskState"),
        "models.task",
    ),
}
"""Where each name lives; the rest of `__all__` is in `errors`."""

if not TYPE_CHECKING:  # a type checker sees the imports above, and so still finds a misspelt name

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
