"""Plots of a run's rows as PNG, without any library: horizontal bars on a logarithmic scale, the floor beneath.

A picture is a list of rows of bytes, one palette index a pixel; letters are the five-by-seven font that displays of
microcontrollers have, five columns a letter.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

_PALETTE: Final = ((255, 255, 255), (40, 40, 40), (38, 98, 160), (178, 196, 214), (225, 225, 225), (176, 58, 46))
_INK, _BAR, _FLOOR, _GRID, _MISSED = 1, 2, 3, 4, 5
_FONT: Final = bytes.fromhex(
    "000000000000005f00000007000700147f147f14242a7f2a12231308646236495620500008070300001c2241000041221c002a1c7f1c2a"
    "08083e080800807030000808080808000060600020100804023e5149453e00427f400072494949462141494d331814127f10274545453"
    "93c4a49493141211109073649494936464929291e0000140000004034000000081422411414141414004122140802015909063e415d594e"
    "7c1211127c7f494949363e414141227f4141413e7f494949417f090909013e414151737f0808087f00417f41002040413f017f0814"
    "22417f404040407f021c027f7f0408107f3e4141413e7f090909063e4151215e7f09192946264949493203017f01033f4040403f1f"
    "2040201f3f4038403f63140814630304780403615949"
    "4d43007f4141410204081020004141417f0402010204404040404000030708002054547840"
    "7f2844443838444444283844442"
    "87f385454541800087e090218a4a49c787f0804047800447d40002040403d007f1028440000417f40007c0478047"
    "87c08040478384444443"
    "8fc1824241818242418fc7c080404084854545424"
    "04043f44243c4040207c1c2040201c3c4030403c44281028444c9090907c"
    "4464544c4400083641000000770000004136080002010204"
    "02"
)
_LETTER, _LINE, _LEFT, _WIDTH, _RIGHT, _BARS = 6, 34, 400, 640, 190, 9


class _Picture:
    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.rows = [bytearray(width) for _ in range(height)]

    def box(self, left: int, top: int, width: int, height: int, colour: int) -> None:
        for row in self.rows[top : top + height]:
            row[left : left + width] = bytes([colour]) * max(0, min(width, self.width - left))

    def write(self, left: int, top: int, text: str) -> None:
        for number, letter in enumerate(text):
            at = (ord(letter) - 32) * 5 if " " <= letter <= "~" else (ord("?") - 32) * 5
            for column, bits in enumerate(_FONT[at : at + 5]):
                for line in range(8):
                    if bits >> line & 1 and left + number * _LETTER + column < self.width:
                        self.rows[top + line][left + number * _LETTER + column] = _INK

    def save(self, path: Path) -> None:
        packed = zlib.compress(b"".join(b"\0" + bytes(row) for row in self.rows), 9)
        header = struct.pack(">IIBBBBB", self.width, len(self.rows), 8, 3, 0, 0, 0)
        palette = bytes(part for colour in _PALETTE for part in colour)
        chunks = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", packed), (b"IEND", b""))
        parts = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def plot(name: str, rows: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """A picture for each unit that several rows of a program have."""
    found: list[Path] = []
    by_unit = sorted((row for row in rows if row["value"] > 0), key=lambda row: row["unit"])
    for unit, group in groupby(by_unit, key=lambda row: row["unit"]):
        shown = list(group)
        if len(shown) >= 2:
            word = "".join(letter if letter.isalnum() else "-" for letter in unit).strip("-")
            found.append(folder / f"{name}-{word}.png")
            _bars(f"{name}: {unit}, logarithmic; light: the floor", shown).save(found[-1])
    return found


def _bars(title: str, rows: Sequence[dict[str, Any]]) -> _Picture:
    values = [row[kind] for row in rows for kind in ("value", "floor") if row[kind]]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 1e-9)
    high = max(high, low + 1)
    picture = _Picture(_LEFT + _WIDTH + _RIGHT, _LINE * len(rows) + 60)
    picture.write(10, 8, title)
    for power in range(low, high + 1):
        left = _LEFT + round(_WIDTH * (power - low) / (high - low))
        picture.box(left, 24, 1, _LINE * len(rows) + 8, _GRID)
        picture.write(left - 8, _LINE * len(rows) + 38, f"{10.0**power:g}")
    for number, row in enumerate(rows):
        top = 30 + number * _LINE
        picture.write(10, top + 2, row["name"][:64])
        for below, kind, colour in ((0, "value", _MISSED if row["met"] is False else _BAR), (1, "floor", _FLOOR)):
            if row[kind]:
                length = max(1, round(_WIDTH * (math.log10(row[kind]) - low) / (high - low)))
                picture.box(_LEFT, top + below * (_BARS + 1), length, _BARS, colour)
        ratio = f"  = {row['ratio']:.2f} of floor" if row["ratio"] else ""
        picture.write(_LEFT + _WIDTH + 8, top + 4, f"{row['value']:.3g}{ratio}")
    return picture
