"""Every Redis key and wire name of a pool, in one place.

All keys begin with the pool's name, so that pools can share a server. `<P>` below is that name.

    <P>:meta                    hash    epoch, schema, created_ms, accepting, born, moves
    <P>:events                  stream  one entry per transition, capped: verb, subject, state, was, run_id, slot …
    <P>:task:<id>               hash    the record; fields in store/codec.py
    <P>:runs:<id>               list    JSON, one per run of the task
    <P>:log:<id>                stream  readable lines of the task's runs, capped
    <P>:state:<state>           zset    task ids by the time they came into the state (ms)
    <P>:index                   zset    all task ids in the order of their creation
    <P>:tag:<tag>               zset    task ids in the order of their creation
    <P>:leases                  zset    task ids of claimed and running tasks by lease deadline (ms)
    <P>:due                     zset    parked task ids by the time they wake (ms)
    <P>:waits:<what>            zset    parked task ids by creation; what is `budget:<scope>`, `breaker:<account>`,
                                        `session:<session id>`, `after:<task>`
    <P>:bells                   zset    pending task ids by when the doorbell is to be rung again (ms)
    <P>:session:<session id>    hash    holder, node, began, cost of a conversation of the CLI; expires
    <P>:name:<name>             string  the session id that a task's `name:<name>` stands for; expires
    <P>:reviews                 zset    tasks that wait for their review by when somebody was last told (ms)
    <P>:graphs:<id>             hash    a chain or fan-out: what was asked, where it stands
    <P>:kids:<id>               list    its tasks, in order
    <P>:over                    zset    graphs that are over by the time they ended (ms)
    <P>:stopping                zset    graphs whose tasks are being cancelled
    <P>:deadlines               zset    graphs with a time limit by when it ends (ms)
    <P>:parcel:<name>           hash    facts and data of what travels between nodes; expires. `branch:<name>`,
                                        `session:<id>`
    <P>:parcels                 zset    their names by when they were sent (ms)
    <P>:parcel_sizes            hash    their sizes, and under the empty name the sum
    <P>:context                 hash    `<namespace> <key>` → when it was set, and its JSON
    <P>:context_old:<field>     list    the values it had before, the latest first
    <P>:context_bytes           string  size of all current values
    <P>:idem:<hash>             string  task id and request hash of an idempotency key; expires
    <P>:slots                   zset    slot ids by lease deadline (ms)
    <P>:busy                    set     ids of slots that run something
    <P>:slot:<slot id>          hash    the slot's record
    <P>:wake:<name>             stream  rings a node whose orders changed, a slot that is asked for something
    <P>:nodes                   zset    node names by lease deadline (ms)
    <P>:node:<name>             hash    the node's record and its orders
    <P>:leader                  string  who keeps house: incarnation; expires
    <P>:ledger:<scope>          hash    limit, reserved, spent in micro-dollars; scope `pool` or an id
    <P>:breaker:<account>       hash    state, code, until, message, opened_ms, failures, probe …
    <P>:mq:…                            Celery's own queues
"""

from __future__ import annotations

from typing import Final

from claude_pool.models.base import Record

TASK_NAME: Final = "claude_pool.run"
"""Wire name of the only Celery task; no module path ever travels."""

SCHEMA: Final = 1
"""Version of the records in the store. A node with another one is refused."""

PROTOCOL: Final = 1
"""Version of what workers and store say to each other."""

QUEUE: Final = "tasks"
"""The queue that every slot listens to."""


def queue_of_node(node: str) -> str:
    """The queue that only the slots of one node listen to."""
    return f"node.{node}"


def queue_of_slot(slot: str) -> str:
    """The queue that only one slot listens to."""
    return f"slot.{slot}"


class Keys(Record):
    """The keys of one pool."""

    pool: str

    def __call__(self, *parts: str) -> str:
        """`keys("task", id)` is `<P>:task:<id>`."""
        return ":".join((self.pool, *parts))

    def broker_prefix(self) -> str:
        """Put before all of Celery's keys."""
        return f"{self.pool}:mq:"
