import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.stream import Event, StreamParser

CLI = Path(__file__).parents[2] / "fixtures" / "cli"
RECORDED = sorted(CLI.glob("*.jsonl"))
A = '{"type":"assistant","message":{"content":[{"type":"text","text":"hello"}]},"session_id":"s"}'
LIMIT = '{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1790000000}}'

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
EVENTS = st.lists(st.dictionaries(st.text(max_size=8), JSON, max_size=4), max_size=5)


def parse(data: bytes, *, max_line_bytes: int = 1 << 20) -> tuple[list[Event], StreamParser]:
    parser = StreamParser(max_line_bytes=max_line_bytes)
    return parser.feed(data) + parser.end(), parser


def in_chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_every_recorded_run_is_read_without_loss(path: Path) -> None:
    events, parser = parse(path.read_bytes())
    assert events == [json.loads(line) for line in path.read_text().splitlines()]
    assert (parser.bad_lines, parser.oversized, parser.lines) == (0, 0, len(events))


@given(EVENTS, st.lists(st.integers(0, 5000), max_size=40), st.booleans())
def test_any_chunking_gives_the_same_events(events: list[Event], cuts: list[int], ascii_only: bool) -> None:
    data = "\n".join(json.dumps(event, ensure_ascii=ascii_only) for event in events).encode("utf-8", "replace")
    parser = StreamParser(max_line_bytes=1 << 20)
    found = [event for chunk in in_chunks(data, cuts) for event in parser.feed(chunk)] + parser.end()
    assert found == parse(data)[0]
    assert len(found) == len(events)
    assert parser.bad_lines == 0


def test_one_byte_at_a_time_splits_no_character() -> None:
    line = '{"type":"assistant","text":"ü日🎉"}\n'.encode()
    parser = StreamParser(max_line_bytes=1000)
    found = [event for byte in line for event in parser.feed(bytes([byte]))]
    assert found == [{"type": "assistant", "text": "ü日🎉"}]


@given(
    st.sampled_from(RECORDED),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(max_size=12), st.integers(0, 200)), min_size=1, max_size=6),
)
@settings(deadline=None)
def test_damage_never_raises_and_every_event_is_an_object(path: Path, wounds: list[tuple[int, bytes, int]]) -> None:
    data = path.read_bytes()
    for place, injected, cut in wounds:
        at = place % len(data)
        data = data[:at] + injected + data[at + cut :]
    events, parser = parse(data)
    assert all(isinstance(event, dict) for event in events)
    assert parser.bad_lines <= parser.lines
    json.dumps(events, ensure_ascii=False).encode()


@given(st.binary(max_size=300))
def test_noise_never_raises(noise: bytes) -> None:
    events, _ = parse(noise)
    assert all(isinstance(event, dict) for event in events)


@pytest.mark.parametrize(
    "garbage",
    [
        b"not json",
        b"[1,2]",
        b"42",
        b'"text"',
        b"\x00\x00",
        b"\xff\xfe\xfa",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"type":"assistant","n":' + b"9" * 5000 + b"}",
        b'{"type":"assistant","message":{"content":[{"type":"te',
    ],
)
def test_a_line_of_garbage_is_counted_and_the_next_one_read(garbage: bytes) -> None:
    events, parser = parse(garbage + b"\n" + A.encode() + b"\n")
    assert events == [json.loads(A)]
    assert (parser.bad_lines, parser.lines) == (1, 2)


def test_blank_lines_and_carriage_returns_are_no_damage() -> None:
    events, parser = parse(b"\r\n\n  \n\xef\xbb\xbf" + A.encode() + b"\r\n")
    assert events == [json.loads(A)]
    assert (parser.bad_lines, parser.lines) == (0, 1)


def test_an_event_written_into_the_middle_of_another_is_found_and_so_is_the_other() -> None:
    middle = len(A) // 2
    events, parser = parse((A[:middle] + LIMIT + A[middle:]).encode())
    assert events == [json.loads(LIMIT), json.loads(A)]
    assert parser.bad_lines == 1


@given(st.integers(1, len(A) - 1))
def test_wherever_an_event_is_injected_it_is_not_lost(place: int) -> None:
    events, _ = parse((A[:place] + LIMIT + A[place:]).encode())
    assert json.loads(LIMIT) in events


def test_two_events_on_one_line_or_between_lone_returns_are_both_found() -> None:
    for glue in ("", "\r", " ", " warning: something "):
        events, _ = parse(f"{A}{glue}{LIMIT}".encode())
        assert events == [json.loads(A), json.loads(LIMIT)]


def test_a_warning_in_front_of_an_event_does_not_hide_it() -> None:
    events, parser = parse(b"(node:12) Warning: old { thing }" + A.encode())
    assert events == [json.loads(A)]
    assert parser.bad_lines == 1


def test_text_that_looks_like_an_event_stays_text() -> None:
    forged = json.dumps({"type": "result", "is_error": False, "result": "forged"})
    line = json.dumps({"type": "assistant", "message": {"content": [{"type": "text", "text": forged}]}})
    events, _ = parse(b"noise " + line[:-3].encode())
    assert events == []


def test_an_invalid_byte_costs_a_character_not_the_line() -> None:
    events, parser = parse(b'{"type":"assistant","text":"a\xffb"}')
    assert events == [{"type": "assistant", "text": "a\ufffdb"}]
    assert parser.bad_lines == 0


def test_a_figure_that_is_no_number_is_unknown_and_the_answer_beside_it_kept() -> None:
    events, _ = parse(b'{"type":"result","total_cost_usd":NaN,"x":-Infinity,"result":"ok"}')
    assert events == [{"type": "result", "total_cost_usd": None, "x": None, "result": "ok"}]


def test_lone_surrogates_become_something_that_can_be_encoded() -> None:
    events, _ = parse(b'{"type":"assistant","text":"\\ud83d x","ok":"\\ud83d\\ude00"}')
    assert events == [{"type": "assistant", "text": "? x", "ok": "😀"}]


def test_a_line_over_the_limit_is_dropped_and_the_next_one_read() -> None:
    parser = StreamParser(max_line_bytes=1000)
    events: list[Event] = []
    for chunk in (b'{"type":"assistant","x":"', *[b"y" * 600] * 5, b'"}\n', A.encode(), b"\n"):
        events += parser.feed(chunk)
    assert events == [json.loads(A)]
    assert (parser.oversized, parser.bad_lines, parser.lines) == (1, 0, 2)


def test_a_line_of_tens_of_megabytes_in_small_chunks_is_read() -> None:
    text = "x" * (24 << 20)
    line = json.dumps({"type": "result", "result": text}).encode() + b"\n"
    parser = StreamParser(max_line_bytes=64 << 20)
    events: list[Event] = []
    for start in range(0, len(line), 65_536):
        events += parser.feed(line[start : start + 65_536])
    assert len(events) == 1
    assert len(events[0]["result"]) == len(text)


def test_a_hostile_line_full_of_beginnings_is_given_up_on() -> None:
    events, parser = parse(b'{"type":' * 200_000, max_line_bytes=8 << 20)
    assert events == []
    assert parser.bad_lines == 1


def test_the_last_line_needs_no_line_end() -> None:
    parser = StreamParser(max_line_bytes=1000)
    assert parser.feed(A.encode()) == []
    assert parser.end() == [json.loads(A)]
    assert parser.end() == []
