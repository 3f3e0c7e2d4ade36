from __future__ import annotations

import re

import pytest

from claude_pool.lifecycle import as_lua
from claude_pool.store.client import fake_client
from claude_pool.store.codec import FACTS, RECORD
from claude_pool.store.lua import FOLDER, PARTS, SETTLING, names, script


def test_every_script_that_settles_exists() -> None:
    assert set(names()) >= SETTLING


@pytest.mark.parametrize("name", names())
def test_a_script_knows_the_lifecycle_from_the_one_table(name: str) -> None:
    assert f"local MOVES = {as_lua()}\n" in script(name, flags=False).text


@pytest.mark.parametrize("flags", [True, False])
@pytest.mark.parametrize("name", names())
def test_only_what_settles_may_run_on_a_full_server(name: str, flags: bool) -> None:
    text = script(name, flags=flags).text
    assert text.startswith("#!lua flags=allow-oom\n") is (flags and name in SETTLING)
    assert text.startswith("redis.call('DEL'") is (not flags and name in SETTLING)


@pytest.mark.parametrize("name", names())
def test_a_script_opens_with_what_it_is(name: str) -> None:
    first = (FOLDER / f"{name}.lua").read_text().splitlines()[0]
    assert re.match(rf"-- {name}\b", first), first


def test_states_are_set_in_one_place_only() -> None:
    setters = [
        path.stem
        for path in FOLDER.glob("*.lua")
        if re.search(r"changes\.state\s*=|'HSET', task_key\(id\), 'state'", path.read_text())
    ]
    assert sorted(setters) == ["lib"]


def test_no_script_names_a_field_that_is_not_read() -> None:
    known = {*FACTS, "id"}
    texts = "\n".join((FOLDER / f"{name}.lua").read_text() for name in (*PARTS, *names()))
    used = set(re.findall(r"\bt\.(\w+)\b", texts))
    assert used <= known | {"event_id"}


def test_the_names_of_fields_are_each_used_once() -> None:
    assert len(set(FACTS)) == len(FACTS)
    assert len(set(RECORD)) == len(RECORD)
    assert not {"prompt", "result", "feedback"} & {*FACTS, *RECORD}


def test_an_illegal_move_is_refused_by_the_script_itself() -> None:
    client = fake_client(pool="p")
    client._quick.hset("p:task:t-1", mapping={"state": "completed"})
    client._quick.zadd("p:due", {"t-1": 1})
    assert client.call("due", 10) == []
    assert client._quick.hget("p:task:t-1", "state") == "completed"
