"""What slots cost that do nothing: memory, start, processor time.

Memory is the proportional set size, so that pages that forked slots share are counted once in all. "Own" is the slot's
process; its guard, a program of its own, is counted apart. Processor time is of all processes of the node together, and
what its Redis used meanwhile is said as well.
"""

from __future__ import annotations

import re
import time
from datetime import datetime

from harness import Table, World, cpu_s, pss_mb, quick

from claude_pool.testing.node import TestNode, children_of, command_line, descendants_of, until

_READY = re.compile(r"^(\S+ \S+) . \S+ is ready$", re.MULTILINE)


def parts(node: TestNode) -> tuple[list[int], list[int]]:
    """The pids of slots and of guards."""
    slots = [slot.pid for slot in node.pool.slots()]
    guards = [pid for slot in slots for pid in children_of(slot) if b"guard.py" in command_line(pid)]
    return slots, guards


def measure(world: World, table: Table, count: int, idle_s: float) -> None:
    with world.node(world.config(slots=1, max_slots=256)) as node:
        one_more = [scaled(node, number) for number in (2, 3, 4, 5)]
        many = scaled(node, count)
        node.await_slots(count)
        time.sleep(2)
        slots, guards = parts(node)
        everything = [node.pid, *descendants_of(node.pid)]
        others = [pid for pid in everything if pid not in slots and pid not in guards]
        own = pss_mb(slots) / count
        table.add(f"memory of an idle slot, {count} slots", own, "MB", aim="<= 20 MB of its own", met=own <= 20)
        table.add(f"  its guard, {count} slots", pss_mb(guards) / count, "MB")
        table.add(f"  supervisor and housekeeper, {count} slots", pss_mb(others), "MB")
        table.add("one more slot, from the order until it hears", one_more, "ms")
        per_slot = many / (count - 5)
        table.add(f"{count - 5} more slots, each", per_slot, "ms", aim="<= 60 ms", met=per_slot <= 60)
        used, server, began = cpu_s(everything), cpu_s([world.redis.pid]), time.monotonic()
        time.sleep(idle_s)
        elapsed = time.monotonic() - began
        table.add(f"idle processor time, {count} slots", (cpu_s(everything) - used) / elapsed * 100, "% of a core")
        table.add("  its Redis", (cpu_s([world.redis.pid]) - server) / elapsed * 100, "% of a core")


def scaled(node: TestNode, count: int) -> float:
    """Milliseconds from the order until so many slots hear."""
    asked = time.time()
    node.pool.scale(count)
    until(lambda: len(_READY.findall(node.log())) >= count, f"{count} slots that hear")
    last = _READY.findall(node.log())[-1]
    moment = datetime.strptime(last, "%Y-%m-%d %H:%M:%S,%f")  # noqa: DTZ007 - the log's local time, as time.time's
    return (moment.timestamp() - asked) * 1000


def main() -> None:
    short = quick("what idle slots cost")
    with World("slots") as world, world.table() as table:
        for count in (20,) if short else (20, 50):
            measure(world, table, count, 5 if short else 20)


if __name__ == "__main__":
    main()
