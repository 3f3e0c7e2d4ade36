"""Output that a reader must survive: garbage, huge lines, torn characters, floods. Then the script goes on."""

from __future__ import annotations

import json
import time

from claude_pool.testing import fake_shapes as shapes

TYPE_CHECKING = False  # spares the fake the 3 ms that importing typing costs, in every run
if TYPE_CHECKING:
    from claude_pool.testing.fake_script import Step
    from claude_pool.testing.fake_turn import Turn

_GARBAGE = (
    b"Warning: something a library printed",
    b'{"type":"assistant","message":{"con',
    b"null",
    b"[1, 2, 3]",
    b'"a string"',
    b'{"no_type": true}',
    b'{"type": 7}',
    b"\r",
    b"",
    b'{"type":"result"',
    b"}{",
)
_MIB = 1 << 20


def garbage(turn: Turn, step: Step) -> bool:
    """`n=` lines (default all kinds once) that are no events: half JSON, JSON of other types, blanks, a lone CR."""
    for number in range(step.whole("n", len(_GARBAGE))):
        turn.pipes.write(_GARBAGE[number % len(_GARBAGE)] + b"\n")
    return False


def binary(turn: Turn, step: Step) -> bool:
    """`bytes=` (default 4096) of every value from 0 to 255 (so NUL, invalid UTF-8, newlines), then a newline."""
    size = step.whole("bytes", 4096)
    turn.pipes.write((bytes(range(256)) * (size // 256 + 1))[:size] + b"\n")
    return False


def ansi(turn: Turn, step: Step) -> bool:
    """A line of terminal control sequences, and an answer that holds some."""
    turn.pipes.write(b"\x1b[2J\x1b[31mred\x1b[0m\x1b]0;title\x07\n")
    turn.say(step.text("text", "\x1b[1mbold\x1b[0m \x07bell"))
    return False


def huge(turn: Turn, step: Step) -> bool:
    """One line of `mb=` MiB (default 1): an answer, or with `broken` no JSON at all."""
    body = b"x" * (step.whole("mb", 1) * _MIB)
    if step.has("broken"):
        turn.pipes.write(body + b"\n")
    else:
        turn.say(body.decode())
    return False


def split(turn: Turn, step: Step) -> bool:
    """An answer written `size=` bytes at a time (default 1), so that characters of several bytes are torn."""
    text = step.text("text", "naïve — 東京 🚀 end")
    event = turn.event(shapes.assistant({"type": "text", "text": text}, turn.options.model, "msg_split"))
    line = json.dumps(event, ensure_ascii=False).encode() + b"\n"
    size, pause_s = max(1, step.whole("size", 1)), step.number("pause", 0.0002)
    for at in range(0, len(line), size):
        turn.pipes.write(line[at : at + size])
        time.sleep(pause_s)
    return False


def inject(turn: Turn, step: Step) -> bool:
    """A `rate_limit_event` in the middle of another event's line, as the real CLI was once seen to do."""
    text = step.text("text", "the torn answer")
    event = turn.event(shapes.assistant({"type": "text", "text": text}, turn.options.model, "msg_torn"))
    line = json.dumps(event).encode()
    info = shapes.rate_limit("allowed", time.time() + 3600, "five_hour")
    inner = json.dumps(turn.event({"type": "rate_limit_event", "rate_limit_info": info})).encode()
    middle = line.index(b'"content"') + 4
    turn.pipes.write(line[:middle] + inner + b"\n" + line[middle:] + b"\n")
    return False


def flood(turn: Turn, step: Step) -> bool:
    """`mb=` MiB (default 10) of answers of 64 KiB each."""
    for _ in range(step.whole("mb", 10) * 16):
        turn.say("y" * 65_000)
    return False


def stderr(turn: Turn, step: Step) -> bool:
    """`text=` on stderr, or `mb=` MiB of it."""
    turn.pipes.write(step.text("text", "fake claude: a word on stderr").encode() + b"\n", fd=2)
    for _ in range(step.whole("mb") * 16):
        turn.pipes.write(b"e" * ((1 << 16) - 1) + b"\n", fd=2)
    return False


NOISE = {
    "garbage": garbage,
    "binary": binary,
    "ansi": ansi,
    "huge": huge,
    "split": split,
    "inject": inject,
    "flood": flood,
    "stderr": stderr,
}
