"""Text for people: what a model or a program wrote, made safe to show on a terminal and short enough to carry.

Escape sequences, control characters, text-direction overrides and invisible characters are removed at the source, so
that no later sink has to remember it; the raw bytes stay in the run's log file only. Everything here takes any string,
also one with lone surrogates, and never fails.
"""

from __future__ import annotations

import re
from typing import Final

ELLIPSIS: Final = "…"

_SEQUENCES = re.compile(
    # control strings (OSC, DCS, SOS, PM, APC) with their content, when they are closed
    r"(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"
    # control sequences such as colours and cursor moves
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    # two-character escapes, and any escape that is left
    r"|\x1b[ -/]*[0-~]?"
)
_LINE_ENDS = re.compile(r"\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_UNSEEN = re.compile(
    r"[\x00-\x08\x0e-\x1f\x7f-\x9f"  # C0 without tab and line end, DEL, C1
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # soft hyphen, fillers, direction mark
    r"\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"  # tags and further selectors
)
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_BLANKS = re.compile(r"\s+")


def storable(text: str) -> str:
    """The same text with lone surrogates and NULs replaced: it can be encoded, stored and sent, and is not cleaned."""
    return _SURROGATES.sub("\ufffd", text).replace("\x00", "\ufffd")


def clean(text: str) -> str:
    """The text with its lines and tabs, and nothing in it that a terminal would obey or hide. Idempotent."""
    seen = _LINE_ENDS.sub("\n", _SEQUENCES.sub("", text))
    return _SURROGATES.sub("\ufffd", _UNSEEN.sub("", seen))


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, the last one an ellipsis when something was cut."""
    return text if len(text) <= limit else text[: limit - 1] + ELLIPSIS


def one_line(text: str, limit: int = 200) -> str:
    """One clean line of at most `limit` characters, for titles, progress and tables."""
    # a title needs the beginning only; eight times the limit leaves room for what cleaning removes
    head = shorten(text, max(8 * limit, 4096))
    return shorten(_BLANKS.sub(" ", clean(head)).strip(), limit)


def excerpt(text: str, limit: int = 2000) -> str:
    """Clean text of at most `limit` characters that keeps its lines and its beginning."""
    return shorten(clean(shorten(text, 8 * limit)).strip(), limit)


def ending(text: str, limit: int = 2000) -> str:
    """Clean text of at most `limit` characters that keeps its end, where errors are told."""
    tail = clean(text[-8 * limit :]).strip()
    return tail if len(tail) <= limit else ELLIPSIS + tail[1 - limit :]
