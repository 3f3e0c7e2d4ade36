from __future__ import annotations

import re

from claude_pool import keys
from claude_pool.keys import Keys, queue_of_node, queue_of_slot
from claude_pool.store.lua import FOLDER, PARTS, names


def test_every_key_begins_with_the_pools_name() -> None:
    assert Keys(pool="p")("task", "t-1") == "p:task:t-1"
    assert Keys(pool="p").broker_prefix() == "p:mq:"


def test_queues_are_told_apart() -> None:
    assert len({keys.QUEUE, queue_of_node("tasks"), queue_of_slot("tasks")}) == 3


def test_the_key_map_names_every_kind_of_key_the_scripts_use() -> None:
    mapped = set(re.findall(r"^ +<P>:(\w+)", keys.__doc__ or "", re.MULTILINE))
    texts = "\n".join((FOLDER / f"{name}.lua").read_text() for name in (*PARTS, *names()))
    used = set(re.findall(r"P \.\. ':(\w+)", texts))
    assert used - {"nodes", "slots"} <= mapped
    assert mapped - used - {"mq", "log"} <= {"node", "slot", "tag"}
