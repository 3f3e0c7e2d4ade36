"""Slots and nodes over Redis: who is there, by leases; what they are asked to be; the bells that wake them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from claude_pool.errors import NotFound, Refused, SlotTaken, StoreReset
from claude_pool.keys import PROTOCOL, SCHEMA
from claude_pool.models.pool import (
    Node,
    NodeIdentity,
    NodeMode,
    NodeOrders,
    Slot,
    SlotIdentity,
    SlotState,
)
from claude_pool.store import codec
from claude_pool.store.base import Beat
from claude_pool.store.client import Client


class RedisSlots:
    """`SlotStore` over Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def register_slot(self, slot: SlotIdentity, *, lease_ms: int) -> None:
        fields = {"node": slot.node, "number": str(slot.number), "pid": str(slot.pid), "boot_id": slot.boot_id}
        answer = self._client.call("register_slot", slot.slot_id, slot.incarnation, lease_ms, *codec.flat(fields))
        if not answer:
            raise SlotTaken(f"A live slot is already called {slot.slot_id}.")

    def beat(
        self, slot: SlotIdentity, *, task_id: str | None, run_id: str | None, lease_ms: int, progress: str
    ) -> Beat:
        line = codec.one_line(progress, codec.REASON_CHARS)
        epoch = self._client.epoch or ""
        fenced, cancel, leaving, moves = self._client.call(
            "beat", slot.slot_id, slot.incarnation, lease_ms, epoch, task_id or "", run_id or "", line
        )
        self._client.saw(moves)
        return Beat(fenced=fenced == 1, cancel=cancel or None, leaving=leaving == 1)

    def leave(self, slot: SlotIdentity) -> None:
        self._client.call("leave_slot", slot.slot_id, slot.incarnation)

    def bury(self, slot_id: str, pid: int) -> bool:
        return bool(self._client.call("bury_slot", slot_id, pid))

    def slots(self) -> list[Slot]:
        living, errored = self._client.call("slots")
        found = {name: _slot(name, codec.pairs(fields)) for name, fields in living}
        for node, reasons in errored:
            for name, reason in json.loads(reasons or "{}").items():
                found[name] = _errored(name, node, reason)
        return sorted(found.values(), key=lambda slot: (slot.node, slot.number))

    def order_slot(self, slot_id: str) -> None:
        if not self._client.call("order_slot", slot_id):
            raise NotFound(f"There is no slot {slot_id!r}.")

    def register_node(self, node: NodeIdentity, *, lease_ms: int) -> NodeOrders:
        if node.protocol != PROTOCOL:
            raise Refused(f"This node speaks protocol {node.protocol}, the pool {PROTOCOL}.")
        fields = {
            "identity": node.model_dump_json(),
            "mode": str(NodeMode.RUN),
            "slots": str(node.slots),
            "min_slots": str(node.min_slots),
            "max_slots": str(node.max_slots),
            "simulated": "1" if node.simulated else "",
        }
        answer = self._client.call(
            "register_node", node.node, node.incarnation, lease_ms, SCHEMA, node.host, *codec.flat(fields)
        )
        if answer[0] == "taken":
            raise SlotTaken(f"A live node on another host is already called {node.node}.")
        if answer[0] == "schema":
            raise Refused(f"The store's records have version {answer[1]}, this node knows version {SCHEMA}.")
        return _orders(answer[1])

    def beat_node(self, node: NodeIdentity, *, lease_ms: int, errored: Mapping[str, str]) -> NodeOrders | None:
        reasons = json.dumps(dict(errored)) if errored else ""
        answer = self._client.call(
            "beat_node", node.node, node.incarnation, lease_ms, reasons, self._client.epoch or ""
        )
        if answer == ["reset"]:
            raise StoreReset
        return _orders(answer[1]).evolve(store_seen=self._client.saw(answer[0])) if answer else None

    def leave_node(self, node: NodeIdentity) -> None:
        self._client.call("leave_node", node.node, node.incarnation)

    def order_node(
        self, node: str, *, mode: NodeMode | None = None, slots: int | None = None, deadline_ms: int | None = None
    ) -> NodeOrders:
        wanted = ("" if value is None else str(value) for value in (mode, slots, deadline_ms))
        answer = self._client.call("order_node", node, *wanted)
        if not answer:
            raise NotFound(f"There is no node {node!r}.")
        return _orders(answer)

    def nodes(self) -> list[Node]:
        found: list[Node] = []
        for identity, mode, slots, deadline_ms, alive in self._client.call("nodes"):
            who = NodeIdentity.model_validate_json(identity)
            orders = _orders((mode, slots, deadline_ms))
            found.append(Node(identity=who, orders=orders, alive=alive == 1))
        return found

    def await_orders(self, name: str, *, seen: str, block_ms: int) -> str:
        if not seen:
            return self._client.last_id("wake", name)
        rung = self._client.read_stream("wake", name, after=seen, limit=100, block_ms=block_ms)
        return rung[-1][0] if rung else seen


def _orders(values: Sequence[str | None]) -> NodeOrders:
    mode, slots, deadline_ms = values
    return NodeOrders(mode=NodeMode(mode), slots=int(slots or 0), deadline_ms=int(deadline_ms) if deadline_ms else None)


def _slot(name: str, fields: Mapping[str, Any]) -> Slot:
    busy, leaving = "task_id" in fields, fields.get("leaving") == "1"
    state = SlotState.LEAVING if leaving else SlotState.BUSY if busy else SlotState.IDLE
    known = ("node", "number", "pid", "task_id", "run_id", "since_ms", "tasks_done")
    return Slot.model_validate(
        {"slot_id": name, "state": state, **{field: fields[field] for field in known if field in fields}}
    )


def _errored(name: str, node: str, reason: str) -> Slot:
    number = name.removeprefix("slot-").partition("@")[0]
    return Slot(
        slot_id=name, node=node, number=int(number) if number.isdigit() else 0, state=SlotState.ERRORED, reason=reason
    )
