import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from claude_pool.text import clean, ending, excerpt, one_line, shorten, storable

ANY_TEXT = st.text(st.characters(), max_size=200) | st.text(
    "\x1b[]0;31m\x07\\\x9b\x9dP_^X ab\r\n\u202e\u200b", max_size=60
)


@given(ANY_TEXT)
@example("\x1b]0;title")
@example("\x1b\x1b[31m[31m")
def test_nothing_that_a_terminal_obeys_survives_cleaning(text: str) -> None:
    cleaned = clean(text)
    assert not [char for char in cleaned if unicodedata.category(char) == "Cc" and char not in "\n\t"]
    assert not [
        char for char in cleaned if unicodedata.bidirectional(char) in {"LRE", "RLE", "LRO", "RLO", "LRI", "RLI"}
    ]
    cleaned.encode()


@given(ANY_TEXT)
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@pytest.mark.parametrize(
    ("dirty", "expected"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("a\x1b]0;owned\x07b", "ab"),
        ("a\x1b]52;c;ZXZpbA==\x1b\\b", "ab"),
        ("a\x1b]8;;http://x\x07link\x1b]8;;\x07", "alink"),
        ("a\x1bPq\x1b\\b", "ab"),
        ("50%\r100%\r\ndone", "50%\n100%\ndone"),
        ("user\u202egnp.exe", "usergnp.exe"),
        ("in\u200bvis\u00adible\ufeff", "invisible"),
        ("tag\U000e0041\U000e0042", "tag"),
        ("bell\x07 back\x08 del\x7f c1\x85end", "bell back del c1\nend"),
        ("half \ud83d pair", "half \ufffd pair"),
        ("keeps\ttabs\nand ümläuts 日本 🎉", "keeps\ttabs\nand ümläuts 日本 🎉"),
    ],
)
def test_known_tricks_are_removed_and_honest_text_is_kept(dirty: str, expected: str) -> None:
    assert clean(dirty) == expected


def test_an_unclosed_control_string_does_not_swallow_the_text_behind_it() -> None:
    assert clean("\x1b]0;never closed\nthe answer") == "0;never closed\nthe answer"


@given(ANY_TEXT, st.integers(1, 50))
def test_a_line_is_one_line_and_within_its_limit(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert "\n" not in line


@given(ANY_TEXT, st.integers(2, 50))
def test_excerpts_keep_the_beginning_and_endings_the_end(text: str, limit: int) -> None:
    assert len(excerpt(text, limit)) <= limit
    assert len(ending(text, limit)) <= limit


def test_a_cut_is_visible() -> None:
    assert shorten("abcdef", 4) == "abc…"
    assert ending("first\nlast words", 6) == "…words"
    assert excerpt("first words\nlast", 6) == "first…"


@given(st.text(st.characters()))
def test_storable_text_can_be_encoded_and_keeps_its_length(text: str) -> None:
    kept = storable(text)
    kept.encode()
    assert len(kept) == len(text)
    assert "\x00" not in kept
