"""StreamParser: the bytes of a CLI's stdout become events, whatever comes.

Duties: lines from chunks that are cut anywhere, JSON objects from lines, recovery where a line is damaged. It never
raises: a line that is no event is counted in `bad_lines`, one that is too long in `oversized`, and the next line is
read as if nothing had happened. Work and memory are linear in what is fed, the memory is bounded by the longest line.

Damage that was seen in the wild: a warning in front of an event, an event written into the middle of another, the last
line cut short. What a damaged line still holds is taken only when it begins as the CLI's own events begin and has a
type that the CLI uses: a tool's output inside an event is never mistaken for one, since its quotes are escaped there.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, cast

Event = dict[str, Any]

EVENT_TYPES: Final = frozenset(
    {"system", "assistant", "user", "result", "rate_limit_event", "stream_event", "control_response", "control_request"}
)
"""Types that are believed when they come out of a damaged line."""

_START = re.compile(
    r'\{\s*"(?:type|subtype|is_error|duration_ms|duration_api_ms|stop_reason|session_id|uuid|num_turns|result)"\s*:'
)
_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_BOM = "\ufeff"
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)
"""NaN and Infinity are no JSON; as None they are merely unknown, and the answer beside them is not lost."""


def _tidy(value: Any, text: str) -> Any:
    """Replace lone surrogates, which JSON can spell and UTF-8 can't carry."""
    if _LONE_SURROGATE.search(text) is None:
        return value
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def _whole(text: str) -> Event | None:
    """The text as one event, or None."""
    try:
        value = _tidy(_DECODER.decode(text), text)
    except (ValueError, RecursionError):
        return None
    return cast("Event", value) if isinstance(value, dict) else None


def _part(text: str, start: int) -> tuple[Event | None, int]:
    """The event that begins at `start` with its end; or None with the place where reading it failed."""
    try:
        value, end = _DECODER.raw_decode(text, start)
        event = cast("Event", _tidy(value, text[start:end]))
    except json.JSONDecodeError as error:
        return None, error.pos
    except (ValueError, RecursionError):
        return None, len(text)
    kind = event.get("type")
    return (event if isinstance(kind, str) and kind in EVENT_TYPES else None), end


def _rescue(text: str) -> list[Event]:
    """Events inside a damaged line; once one is taken out, what is left around it may be whole again."""
    found: list[Event] = []
    kept: list[str] = []
    budget = 4 * len(text) + (1 << 20)  # characters to try on, so that a hostile line can't make this quadratic
    at = rest = 0
    while budget > 0 and (match := _START.search(text, at)):
        start = match.start()
        event, end = _part(text, start)
        budget -= max(end - start, 64)
        if event is None:
            at = start + 1
            continue
        found.append(event)
        kept.append(text[rest:start])
        at = rest = end
    if found and (around := _whole("".join([*kept, text[rest:]]))) is not None:
        found.append(around)
    return found


class StreamParser:
    """Feed it chunks, get events. `lines` counts all that were not blank, `bad_lines` the damaged among them."""

    def __init__(self, *, max_line_bytes: int) -> None:
        self._max_line_bytes = max_line_bytes
        self._line = bytearray()
        self._size = 0
        self.lines = 0
        self.bad_lines = 0
        self.oversized = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that this chunk completed, in order."""
        events: list[Event] = []
        *complete, rest = chunk.split(b"\n")
        for part in complete:
            self._hold(part)
            events += self._close()
        self._hold(rest)
        return events

    def end(self) -> list[Event]:
        """The stream is over: what stands in the last, unfinished line."""
        return self._close()

    def _hold(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= self._max_line_bytes:
            self._line += part
        elif self._line:
            self._line = bytearray()

    def _close(self) -> list[Event]:
        line, size = self._line, self._size
        self._line, self._size = bytearray(), 0
        if size > self._max_line_bytes:
            self.lines += 1
            self.oversized += 1
            return []
        text = line.decode("utf-8", "replace").strip().lstrip(_BOM)
        if not text:
            return []
        self.lines += 1
        if (event := _whole(text)) is not None:
            return [event]
        self.bad_lines += 1
        return _rescue(text)
