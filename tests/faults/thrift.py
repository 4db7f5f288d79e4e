"""The compact protocol of Thrift, in which the footer of a Parquet file is written.

A value is a list ``[type, value]``: of a struct, the value is a list of ``[id, type,
value]``; of a list, ``[element type, values]``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def byte(self) -> int:
        self.at += 1
        return self.content[self.at - 1]

    def varint(self) -> int:
        number, shift = 0, 0
        while True:
            byte = self.byte()
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number

    def zigzag(self) -> int:
        number = self.varint()
        return (number >> 1) ^ -(number & 1)

    def value(self, kind: int) -> Any:
        scalars: dict[int, Any] = {
            TRUE: lambda: True,
            FALSE: lambda: False,
            BYTE: self.byte,
            I16: self.zigzag,
            I32: self.zigzag,
            I64: self.zigzag,
            DOUBLE: lambda: struct.unpack("<d", self.piece(8))[0],
            BINARY: lambda: self.piece(self.varint()),
            LIST: self.items,
            SET: self.items,
            STRUCT: self.fields,
        }
        return scalars[kind]()

    def piece(self, size: int) -> bytes:
        self.at += size
        return self.content[self.at - size : self.at]

    def items(self) -> list[Any]:
        head = self.byte()
        size, inner = head >> 4, head & 15
        size = self.varint() if size == 15 else size
        if inner in (TRUE, FALSE):
            return [inner, [self.byte() for _ in range(size)]]
        return [inner, [self.value(inner) for _ in range(size)]]

    def fields(self) -> list[Any]:
        fields, last = [], 0
        while head := self.byte():
            step, inner = head >> 4, head & 15
            last = last + step if step else self.zigzag()
            fields.append([last, inner, self.value(inner)])
        return fields


def parsed(content: bytes) -> list[Any]:
    """Return the struct at the beginning of some bytes as a tree."""
    return _Reader(content).value(STRUCT)


def _varint(number: int) -> bytes:
    number &= 2**64 - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _zigzag(number: int) -> bytes:
    return _varint((number << 1) ^ (number >> 63))


def written(value: Any, kind: int = STRUCT) -> bytes:
    """Return a tree as bytes."""
    writers: dict[int, Any] = {
        TRUE: lambda _: b"",
        FALSE: lambda _: b"",
        BYTE: lambda number: bytes([number & 255]),
        DOUBLE: lambda number: struct.pack("<d", number),
        BINARY: lambda piece: _varint(len(piece)) + piece,
        LIST: _items,
        SET: _items,
        STRUCT: _fields,
    }
    return writers.get(kind, _zigzag)(value)


def _items(value: list[Any]) -> bytes:
    inner, items = value
    size = len(items)
    head = bytes([min(size, 15) << 4 | inner]) + (_varint(size) if size > 14 else b"")
    if inner in (TRUE, FALSE):
        return head + bytes(items)
    return head + b"".join(written(item, inner) for item in items)


def _fields(value: list[Any]) -> bytes:
    parts, last = [], 0
    for number, kind, item in value:
        inner = kind
        if kind in (TRUE, FALSE):
            inner = TRUE if item else FALSE
        step = number - last
        short = 0 < step < 16
        parts.append(bytes([(step if short else 0) << 4 | inner]))
        parts += [] if short else [_zigzag(number)]
        parts.append(written(item, inner))
        last = number
    return b"".join(parts) + b"\0"


def _places(fields: list[Any]) -> Iterator[tuple[list[Any], int]]:
    """Yield each field of a tree, and those below it, as its list and position."""
    for at, (_, kind, value) in enumerate(fields):
        yield fields, at
        if kind == STRUCT:
            yield from _places(value)
        elif kind in (LIST, SET) and value[0] == STRUCT:
            for item in value[1]:
                yield from _places(item)


def mutate(rng: Random, tree: list[Any], integers: Sequence[int]) -> None:
    """Change one field of a tree: its number, its value, its presence, its length."""
    places = list(_places(tree))
    if not places:
        return
    fields, at = rng.choice(places)
    number, kind, value = fields[at]
    choice = rng.randrange(8)
    if choice == 0:
        del fields[at]
    elif choice == 1:
        fields.insert(at, [number, kind, value])
    elif kind in (BYTE, I16, I32, I64):
        near = value + rng.choice((-1, 1, 8, -8))
        fields[at][2] = rng.choice((near, rng.choice(integers), value * 2))
    elif kind in (LIST, SET):
        items = value[1]
        if items:
            place = rng.randrange(len(items))
            items[place : place + 1] = [items[place]] * rng.choice((0, 2, 3))
    elif kind == BINARY:
        place = rng.randrange(len(value) + 1)
        piece = rng.choice((b"", b"\0", b"\xff", b"x", b"\x1b[2J", b"y" * 300))
        fields[at][2] = value[:place] + piece + value[place + rng.randrange(2) :]
    elif kind in (TRUE, FALSE):
        fields[at][2] = not value
