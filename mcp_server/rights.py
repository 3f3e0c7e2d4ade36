"""Rights: what may be asked for over MCP at all, and what a bearer token allows. Pure.

The owner's settings are the upper bound, whoever asks: a coordinator may be talked into anything by what it reads. It
can't raise the permission mode above the ceiling, use bypassPermissions, or give a task more money than the owner gives
by default; no tool changes the pool's budget. Raises Refused, with the setting that the owner could change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, Literal

from claude_pool.config import PoolConfig
from claude_pool.errors import Refused
from claude_pool.models.chain import ChainStep
from claude_pool.models.fanout import FanOut
from claude_pool.models.options import PermissionMode, TaskOptions

Scope = Literal["read", "submit", "approve", "admin"]
SCOPES: Final[tuple[Scope, ...]] = ("read", "submit", "approve", "admin")

_HIGHER: Final[dict[PermissionMode, int]] = {
    "plan": 0,
    "dontAsk": 1,
    "default": 1,
    "acceptEdits": 2,
    "auto": 3,
    "bypassPermissions": 4,
}
"""How much a mode lets a worker do without anybody's consent."""


def check_options(options: TaskOptions, config: PoolConfig) -> None:
    """Whether the owner's settings allow what a coordinator asks for. Raises Refused."""
    if options.permission_mode is not None:
        _check_mode(options.permission_mode, config)
    limit = config.task_budget_usd
    if options.max_budget_usd is not None and limit is not None and options.max_budget_usd > limit:
        raise Refused(
            f"max_budget_usd {options.max_budget_usd:g} is above this pool's limit of a task, {limit:g}.",
            hint="Ask for less; only the pool's owner can raise it (setting task_budget_usd).",
        )


def check_fan_out(fan: FanOut, config: PoolConfig) -> None:
    """The same for everything that a fan-out hands in. Raises Refused."""
    for options in (fan.options, *(branch.options for branch in fan.branches)):
        check_options(options, config)
    if fan.gather is not None:
        check_options(fan.gather.options, config)


def check_steps(steps: Iterable[ChainStep], config: PoolConfig) -> None:
    """The same for steps of a chain; where workers may change nothing, no gate may run a command. Raises Refused."""
    for step in steps:
        check_options(step.options, config)
        if step.fan_out is not None:
            check_fan_out(step.fan_out, config)
        ceiling = ceiling_of(config)
        if step.gate is not None and step.gate.command is not None and _HIGHER[ceiling] < _HIGHER["acceptEdits"]:
            raise Refused(
                f"Step {step.name!r} has a command as its gate, and this pool's ceiling is {ceiling}.",
                hint='Use gate: "review"; only the pool\'s owner can raise the ceiling (setting permission_ceiling).',
            )


def _check_mode(mode: PermissionMode, config: PoolConfig) -> None:
    if mode == "bypassPermissions":
        raise Refused(
            "permission_mode bypassPermissions can't be asked for over MCP.",
            hint="Leave it out, or grant what is needed with allowed_tools.",
        )
    ceiling = ceiling_of(config)
    if _HIGHER[mode] > _HIGHER[ceiling]:
        allowed = ", ".join(name for name, height in _HIGHER.items() if height <= _HIGHER[ceiling])
        raise Refused(
            f"permission_mode {mode} is above this pool's ceiling, {ceiling}.",
            hint=f"Choose one of {allowed}; only the pool's owner can raise it (setting permission_ceiling).",
        )


def ceiling_of(config: PoolConfig) -> PermissionMode:
    """The highest mode that may be asked for: the owner's word, else the pool's default, else acceptEdits."""
    return config.permission_ceiling or config.permission_mode or "acceptEdits"


def check_approver(config: PoolConfig) -> None:
    """Whether work may be accepted or sent back over MCP at all. Raises Refused."""
    if config.review_approvers == "person":
        raise Refused(
            "In this pool a person decides about reviews (setting review_approvers).",
            hint="Ask the user to run `claude-pool review`.",
        )


def check_scope(scope: Scope, granted: Collection[str] | None) -> None:
    """Whether the caller's token allows this. None: no token was needed, the caller is the user. Raises Refused."""
    if granted is not None and scope not in granted:
        raise Refused(
            f"Your token does not allow this: it needs the scope {scope}, and has {', '.join(sorted(granted))}.",
            hint="The pool's owner makes tokens with `claude-pool-mcp --new-token SCOPES`.",
        )
