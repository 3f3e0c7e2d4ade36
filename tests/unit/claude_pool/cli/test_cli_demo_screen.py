"""What the audience sees."""

from __future__ import annotations

import io
from typing import Any

import pytest

from claude_pool.cli.demo_screen import Screen, overlap, timeline
from claude_pool.pool import Pool


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_every_plain_line_says_which_model_it_is(pool: Pool, slot: Any) -> None:
    stream = io.StringIO()
    task_id = pool.submit("Say hello", title="Greeting").task_id
    with Screen(stream, simulated=True) as screen:
        screen.update([pool.get(task_id)], pool.slots())
        screen.update([pool.get(task_id)], pool.slots())
        slot.start(task_id)
        screen.update([pool.get(task_id)], pool.slots())
        screen.say("one\n\ntwo")
    lines = stream.getvalue().splitlines()
    assert all(line.startswith("[simulated model]") for line in lines)
    assert [("pending" in line, "running" in line) for line in lines[:2]] == [(True, False), (False, True)]
    assert "slot-0@host-a" in lines[1]
    assert len(lines) == 5


@pytest.mark.parametrize(("simulated", "label"), [(True, "simulated model"), (False, "real model")])
def test_every_picture_says_which_model_it_is(
    pool: Pool, slot: Any, simulated: bool, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    stream = Terminal()
    task_id = pool.submit("Say hello", title="Greeting").task_id
    slot.start(task_id)
    with Screen(stream, simulated=simulated) as screen:
        screen.update([pool.get(task_id)], pool.slots())
    assert f"claude-pool demo · {label}" in stream.getvalue()
    assert "Greeting" in stream.getvalue()
    assert "0 of 1 task done" in stream.getvalue()


def test_a_patch_is_coloured_on_a_terminal_only_and_clean() -> None:
    plain, colour = io.StringIO(), Terminal()
    Screen(plain, simulated=True).patch("+new\x1b[2J\n-old\n")
    Screen(colour, simulated=True).patch("+new\x1b[2J\n")
    assert plain.getvalue() == "    +new\n    -old\n"
    assert colour.getvalue() == "    \x1b[32m+new\x1b[0m\n"


@pytest.mark.parametrize(
    ("spans", "ms"),
    [
        ({}, 0),
        ({"a": [(0, 10)], "b": [(10, 20)]}, 0),
        ({"a": [(0, 10)], "b": [(5, 20)]}, 5),
        ({"a": [(0, 10), (12, 20)], "b": [(8, 14)]}, 4),
    ],
)
def test_overlap_is_the_time_that_two_slots_worked_at_once(spans: dict[str, list[tuple[int, int]]], ms: int) -> None:
    assert overlap(spans) == ms


def test_the_timeline_has_one_bar_a_slot_on_one_scale() -> None:
    first, second, scale = timeline({"a": [(0, 500)], "b": [(500, 1000)]}, width=20)
    assert first.split(maxsplit=1)[1].startswith("|=========")
    assert second.index("|") == first.index("|") + 10
    assert scale.endswith("1.0 s")
    assert timeline({}) == []
