"""Tools for the pool's slots: pool_find_slots, pool_scale_up, pool_scale_down, pool_set_target_slots, pool_drain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import anyio
from pydantic import Field

from claude_pool.config import Name
from claude_pool.documents import Document, of_drain
from claude_pool.errors import PoolError
from claude_pool.models.base import Record
from claude_pool.models.pool import DrainSummary, Slot, SlotState
from mcp_server.counter import BEAT_S
from mcp_server.tools.answers import gives, slot_line
from mcp_server.tools.tool import Call, Definition

if TYPE_CHECKING:
    from claude_pool.pool import Pool

_Node = Annotated[Name | None, Field(description="default: the only one")]


class Find(Record):
    """Which slots."""

    state: SlotState | None = None
    node: Name | None = None


class Change(Record):
    """How many slots more or less."""

    count: Annotated[int, Field(ge=1, le=256)] = 1
    node: _Node = None


class Target(Record):
    """How many slots."""

    target: Annotated[int, Field(ge=0, le=256)]
    node: _Node = None


class Drain(Record):
    """Which nodes shall leave, and how."""

    nodes: Annotated[tuple[Name, ...], Field(min_length=1, max_length=256)] | None = Field(
        default=None, description="default: all"
    )
    deadline_s: Annotated[float, Field(ge=0, le=86_400)] | None = Field(
        default=None, description="checkpoint what still runs then"
    )
    now: bool = Field(default=False, description="checkpoint at once")


async def find_slots(call: Call, wanted: Find) -> Document:
    """Slots that are alive."""

    def fits(slot: Slot) -> bool:
        return wanted.state in {None, slot.state} and wanted.node in {None, slot.node}

    slots = await call.ask(lambda pool: pool.slots())
    return {"slot_list": [slot_line(slot) for slot in slots if fits(slot)]}


async def scale_up(call: Call, change: Change) -> Document:
    """More slots."""
    return {"slots": await call.ask(lambda pool: pool.scale_by(change.count, node=change.node))}


async def scale_down(call: Call, change: Change) -> Document:
    """Fewer slots; a busy one finishes first."""
    return {"slots": await call.ask(lambda pool: pool.scale_by(-change.count, node=change.node))}


async def set_target_slots(call: Call, wanted: Target) -> Document:
    """So many slots."""
    return {"slots": await call.ask(lambda pool: pool.scale(wanted.target, node=wanted.node))}


async def drain(call: Call, asked: Drain) -> Document:
    """Let nodes finish and leave, with signs of life meanwhile; what was ordered stays ordered when the call ends."""

    def leave(pool: Pool) -> DrainSummary | PoolError:
        try:
            return pool.drain(nodes=asked.nodes, deadline_s=asked.deadline_s, now=asked.now)
        except PoolError as error:  # as a value: the task group would wrap it
            return error

    await call.counter.pool()  # a pool that can't be opened is told outside the task group as well
    outcome: list[DrainSummary | PoolError] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_beat, call)
        outcome.append(await call.ask(leave))
        tasks.cancel_scope.cancel()
    if isinstance(outcome[0], PoolError):
        raise outcome[0]
    return of_drain(outcome[0])


async def _beat(call: Call) -> None:
    beat = 0
    while True:
        await anyio.sleep(BEAT_S)
        beat += 1
        await call.report(beat, "draining")


DEFINITIONS: Final = (
    Definition(
        name="pool_find_slots",
        title="Find slots",
        description="Slots that are alive, by state (idle, busy, leaving, errored) and node, with the task each runs.",
        arguments=Find,
        work=find_slots,
        gives=gives(slot_list=list),
        effect="reads",
        scope="read",
    ),
    Definition(
        name="pool_scale_up",
        title="Add slots",
        description="Add slots to a node, up to its bound. Answers with the number it will have.",
        arguments=Change,
        work=scale_up,
        gives=gives(slots=int),
        effect="changes",
        scope="admin",
        idempotent=False,
    ),
    Definition(
        name="pool_scale_down",
        title="Remove slots",
        description="Remove slots from a node; a busy one goes after its task. Answers with the number it will have.",
        arguments=Change,
        work=scale_down,
        gives=gives(slots=int),
        effect="changes",
        scope="admin",
        idempotent=False,
    ),
    Definition(
        name="pool_set_target_slots",
        title="Set the number of slots",
        description="Set a node's number of slots, within its bounds. Answers with the number it will have.",
        arguments=Target,
        work=set_target_slots,
        gives=gives(slots=int),
        effect="changes",
        scope="admin",
    ),
    Definition(
        name="pool_drain",
        title="Drain nodes",
        description=(
            "Let nodes finish what they run and leave; blocks until they are gone. What still runs at the deadline goes"
            " back to pending with its branch and session, and continues when slots are there again."
        ),
        arguments=Drain,
        work=drain,
        gives=gives(finished=list, checkpointed=list, waiting=int, slots_left=int, timed_out=bool),
        effect="ends",
        scope="admin",
    ),
)
