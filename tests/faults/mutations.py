"""Mutations of bytes, text, JSON, arrays, archives, Parquet files and tensors.

Every function takes the random numbers of its input, so that an input is made again from
its seed and its number.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from faults import thrift

INTEGERS = (
    0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 1000, 32767, 32768, 65535, 65536, 10**6,
    2**31 - 1, 2**31, 2**32 - 1, 2**32, 10**12, 2**53, 2**62, 2**63 - 1,
    -1, -2, -128, -(2**31), -(2**63),
)  # fmt: skip
PIECES = (
    b"\x00", b"\xff", b"\n", b"\r", b"\r\n", b",", b";", b"\t", b'"', b'""', b"'", b"|",
    b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x1b[2J", b"\x1b]0;x\x07", b"\xc3",
    b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x80\xae", b"NaN", b"nan", b"inf",
    b"-inf", b"1e999", b"-1e-999", b"1,5", b"1.234.567,8", b"0x10", b"1_000", b"=1+1",
    b"@x", b"$1,000", b"50%", b"(3)", b"1/2/2020", b"2020-02-30", b"25:61", b"true",
    b"NA", b"#N/A", b"sep=;", b"None", b"\\N", b"-0", b"+5", b"1e5", b"9" * 400,
    b"\xe2\x88\x925", b"\xc2\xa05", b"\xd9\xa1", b"1e", b".", b"-", b" ", b"\x0b",
    b"\x0c", b"\x1c", b"\x85", b"\xe2\x80\xa8", b">=90", b"<5", b"1-2", b"5+",
)  # fmt: skip


def of_bytes(rng: Random, content: bytes, most: int = 4) -> bytes:
    """Return bytes with some of them flipped, replaced, inserted, removed or repeated."""
    data = bytearray(content)
    for _ in range(rng.randint(1, most)):
        if not data:
            return bytes(data)
        at = rng.randrange(len(data))
        length = min(1 << rng.randrange(8), len(data) - at)
        kind = rng.randrange(9)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = rng.choice(PIECES)
        elif kind == 4:
            data[at:at] = data[at : at + length] * rng.choice((1, 1, 2, 50))
        elif kind == 5:
            data[at : at + length] = rng.randbytes(length)
        elif kind == 6:
            del data[at:]
        elif kind == 7:
            size = rng.choice((2, 4, 8))
            number = rng.choice(INTEGERS) % 256**size
            data[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))
        else:
            other = rng.randrange(len(data))
            data[at : at + length] = data[other : other + length]
    return bytes(data)


# Text


def of_text(rng: Random, content: bytes) -> bytes:
    """Return CSV text with lines, cells, quotes, line ends or its encoding changed."""
    for _ in range(rng.randint(1, 3)):
        content = rng.choice(_OF_TEXT)(rng, content)
    return content


def _lines(rng: Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    kind = rng.randrange(5)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines[at:at] = [lines[at]] * rng.choice((1, 2, 30))
    elif kind == 2:
        lines[at] = b""
    elif kind == 3:
        rng.shuffle(lines)
    else:
        lines[at:at] = [rng.choice((b"", b"sep=;", b"#comment", b" ", b",,", b'"'))]
    return b"\n".join(lines)


def _cells(rng: Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    mark = rng.choice((b",", b",", b";", b"\t"))
    cells = lines[at].split(mark)
    place = rng.randrange(len(cells))
    kind = rng.randrange(5)
    if kind == 0:
        del cells[place]
    elif kind == 1:
        cells[place:place] = [rng.choice(PIECES)] * rng.choice((1, 1, 2, 40))
    elif kind == 2:
        cells[place] = b'"' + cells[place] + rng.choice((b'"', b"", b'""', b'" '))
    else:
        cells[place] = rng.choice(PIECES)
    lines[at] = mark.join(cells)
    return b"\n".join(lines)


def _column(rng: Random, content: bytes) -> bytes:
    """Change the same cell of every line."""
    lines = [line.split(b",") for line in content.split(b"\n")]
    place, piece = rng.randrange(8), rng.choice(PIECES)
    ahead = rng.random() < 0.5
    for cells in lines[rng.randrange(2) :]:
        if place < len(cells):
            parts = (piece, cells[place]) if ahead else (cells[place], piece)
            cells[place] = b"".join(parts) if rng.random() < 0.9 else piece
    return b"\n".join(b",".join(cells) for cells in lines)


def _ends(rng: Random, content: bytes) -> bytes:
    return content.replace(
        b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"\n\r", b"\x0b"))
    )


def _marks(rng: Random, content: bytes) -> bytes:
    mark = rng.choice((b";", b"\t", b"|", b" ", b",,", b"a", b"\x00"))
    return content.replace(b",", mark, rng.choice((-1, 1, 5)))


def _encoding(rng: Random, content: bytes) -> bytes:
    text = content.decode("utf-8", "replace")
    name = rng.choice(
        ("utf-16", "utf-16-le", "utf-32", "latin-1", "utf-8-sig", "cp1252")
    )
    return text.encode(name, "replace")


def _names(rng: Random, content: bytes) -> bytes:
    head, _, rest = content.partition(b"\n")
    names = head.split(b",")
    at = rng.randrange(len(names))
    names[at] = rng.choice((b"", names[0], b" ", b"1", b"x" * 5000, *PIECES))
    return b",".join(names) + b"\n" + rest


_OF_TEXT: Sequence[Callable[[Random, bytes], bytes]] = (
    _lines, _cells, _cells, _column, _ends, _marks, _encoding, _names, of_bytes,
)  # fmt: skip


def packed(rng: Random, content: bytes) -> bytes:
    """Return content as gzip, damaged or in several members in some cases."""
    whole = gzip.compress(content, 1, mtime=0)
    kind = rng.randrange(8)
    if kind == 0:
        return of_bytes(rng, whole)
    if kind == 1:
        return whole + gzip.compress(content, 1, mtime=0)
    if kind == 2:
        return whole + rng.choice((b"\0" * 20, b"junk", whole[:12]))
    if kind == 3 and rng.random() < 0.02:
        return gzip.compress(content + b"1,2,3\n" * 10**7, 1, mtime=0)
    return whole


# JSON

WRONG: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 10**6, 2**63, 10**400, 0.5, -0.0, 1e308, "", "x",
    "1", "a" * 3000, "\x1b[2J", "\ud800", "factorize", "train", [], [[]], [None],
    {}, {"kind": "array"}, {"kind": "array", "dtype": "<f8", "items": [1]},
    {"kind": "array", "dtype": "|O", "items": 5}, [0.5, "x"], {"a": {"b": []}},
)  # fmt: skip


def of_value(rng: Random, value: Any) -> Any:
    """Return a JSON value with one part removed, renamed, repeated or of another type."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return _wrong(rng, value)
    if isinstance(value, dict):
        name = rng.choice(list(value))
        if rng.random() < 0.2:
            rest = {n: x for n, x in value.items() if n != name}
            kind = rng.randrange(3)
            if kind == 1:
                rest[name + "x"] = value[name]
            elif kind == 2:
                rest[rng.choice(list(value))] = value[name]
            return rest
        return {**value, name: of_value(rng, value[name])}
    at = rng.randrange(len(value))
    if rng.random() < 0.2:
        times = rng.choice((0, 0, 2, 20))
        return [*value[:at], *[value[at]] * times, *value[at + 1 :]]
    return [*value[:at], of_value(rng, value[at]), *value[at + 1 :]]


def _wrong(rng: Random, value: Any) -> Any:
    kind = rng.randrange(6)
    if kind == 0 and isinstance(value, int | float) and not isinstance(value, bool):
        return rng.choice(INTEGERS) * rng.choice((1, 1, 0.5))
    if kind == 1 and isinstance(value, str):
        at = rng.randrange(len(value) + 1)
        return (
            value[:at] + rng.choice(("x", "", "\0", "\x1b[2J", "é")) + value[at + 1 :]
        )
    if kind == 2:
        for _ in range(rng.choice((1, 3, 200))):
            value = [value] if rng.random() < 0.5 else {"a": value}
        return value
    return rng.choice(WRONG)


def of_json(rng: Random, content: bytes) -> bytes:
    """Return JSON text with values or bytes changed."""
    kind = rng.randrange(20)
    if kind < 3:
        return of_bytes(rng, content)
    if kind == 3:
        deep = rng.choice((b"[", b'{"a":', b"-", b"1")) * rng.choice((1000, 10**5))
        at = content.find(b":", rng.randrange(len(content))) + 1
        return deep if rng.random() < 0.3 else content[:at] + deep + content[at:]
    try:
        value = json.loads(content)
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            value = of_value(rng, value)
        return json.dumps(value).encode()
    except (ValueError, RecursionError):
        return of_bytes(rng, content)


# Arrays and archives

_TYPES = (
    "<f8", ">f8", "<f4", "<f2", "<i8", "|i1", "|u1", "|b1", "<c16", "|O", "<U5", "|S3",
    "<M8[ns]", "<m8[s]", "|V8", "<f16", "<U0", "|V0", "i9", "", "x", "<M8", "<U2147483647",
)  # fmt: skip
_SHAPES = (
    "()", "(0,)", "(0, 0)", "(0, 1000000000000)", "(1000000000000, 0)", "(-1, 3)",
    "(3, -1)", "(2, 3)", "(3, 2)", "(6,)", "(1, 2, 3)", "(True, 3)", "(2.0, 3)", "(3", "[2,3]",
    "(4611686018427387904, 4)", "(18446744073709551616, 0)", "(10, 1000000000000)", "None",
    "(" + "1, " * 40 + ")", "(" * 500 + ")" * 500, "('a', 2)", "(2, 3)\\x00", "2",
)  # fmt: skip


def of_array(rng: Random, content: bytes) -> bytes:
    """Return a .npy file with its header or its bytes changed."""
    kind = rng.randrange(6)
    if kind == 0 or len(content) < 12:
        return of_bytes(rng, content)
    length = struct.unpack("<H", content[8:10])[0]
    header, rest = content[10 : 10 + length], content[10 + length :]
    if kind == 1:
        header = of_bytes(rng, header, 2)
        return content[:8] + struct.pack("<H", len(header) % 65536) + header + rest
    if kind == 2:
        size = rng.choice((0, 1, 10, length - 1, length + 8, 65535))
        return content[:8] + struct.pack("<H", size) + header + rest
    parts = {"descr": "'<f8'", "fortran_order": "False", "shape": "(2, 3)"}
    try:
        found = eval(header, {"__builtins__": {}})
        parts = {name: repr(value) for name, value in found.items()}
    except Exception:  # a header that was damaged before
        pass
    if kind == 3:
        parts["descr"] = repr(rng.choice(_TYPES))
    elif kind == 4:
        parts["shape"] = rng.choice(_SHAPES)
    else:
        wrong = (
            "True",
            "1",
            "'x'",
            "None",
            "[('a', '<f8'), ('b', '<i4')]",
            "1e999",
            "{",
        )
        parts[rng.choice([*parts, "more"])] = rng.choice(wrong)
    text = (
        "{" + ", ".join(f"'{name}': {value}" for name, value in parts.items()) + "}\n"
    )
    version = rng.choice((b"\x01\x00",) * 8 + (b"\x02\x00", b"\x03\x00", b"\x09\x01"))
    form = "<H" if version == b"\x01\x00" else "<I"
    size = struct.pack(form, len(text) % 65536)
    return content[:6] + version + size + text.encode() + rest


def of_archive(rng: Random, content: bytes) -> bytes:
    """Return a .npz file with members changed, or the bytes of the archive."""
    kind = rng.randrange(8)
    if kind < 2:
        return of_bytes(rng, content)
    members = _members(content)
    if kind == 2:
        return _zipped(rng, members, _with_sizes(rng))
    names = list(members)
    name = rng.choice(names)
    if kind == 3:
        members[rng.choice((*names, "x.npy", "../x.npy", "table.npy", ""))] = (
            members.pop(name)
        )
    elif kind == 4:
        del members[name]
    elif kind == 5 and rng.random() < 0.02:
        members[name] = members[name] + bytes(10**7) * rng.choice((1, 30))
    else:
        members[name] = of_array(rng, members[name])
    return _zipped(rng, members)


def _members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return {name: file.read(name) for name in file.namelist()}


def _with_sizes(rng: Random) -> Callable[[bytes], bytes]:
    """Return a function that changes sizes in the directory of an archive."""

    def changed(content: bytes) -> bytes:
        data = bytearray(content)
        mark = rng.choice((b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"))
        at = content.find(mark)
        places = {
            b"PK\x01\x02": (10, 16, 20, 24, 28, 30, 42),
            b"PK\x03\x04": (8, 14, 18, 22),
        }
        place = at + rng.choice(places.get(mark, (8, 10, 12, 16)))
        number = rng.choice(INTEGERS) % 2**32
        data[place : place + 4] = number.to_bytes(4, "little")
        return bytes(data)

    return changed


def _zipped(
    rng: Random,
    members: dict[str, bytes],
    changed: Callable[[bytes], bytes] | None = None,
) -> bytes:
    stream = io.BytesIO()
    method = rng.choice(
        (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, 12)
    )
    with zipfile.ZipFile(stream, "w", method) as file:
        for name, member in members.items():
            file.writestr(zipfile.ZipInfo(name), member, method)
    content = stream.getvalue()
    return content if changed is None else changed(content)


# Parquet


def of_parquet(rng: Random, content: bytes) -> bytes:
    """Return a Parquet file with values of its footer or bytes of its pages changed."""
    kind = rng.randrange(6)
    length = int.from_bytes(content[-8:-4], "little")
    if kind == 0 or len(content) < 12 + length:
        return of_bytes(rng, content)
    data, footer = content[4 : -8 - length], content[-8 - length : -8]
    if kind == 1:
        data = of_bytes(rng, data)
    elif kind == 2:
        footer = of_bytes(rng, footer, 2)
    elif kind == 3:
        at = rng.randrange(min(60, len(data)))  # the header of the first page
        data = data[:at] + of_bytes(rng, data[at : at + 1]) + data[at + 1 :]
    else:
        tree = thrift.parsed(footer)
        for _ in range(rng.choice((1, 1, 2))):
            thrift.mutate(rng, tree, INTEGERS)
        footer = thrift.written(tree)
    return content[:4] + data + footer + len(footer).to_bytes(4, "little") + b"PAR1"


# Tensors


def of_tensors(rng: Random, content: bytes) -> bytes:
    """Return a safetensors file with its header, its facts or its data changed."""
    kind = rng.randrange(10)
    if kind < 2 or len(content) < 8:
        return of_bytes(rng, content)
    size = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + size], content[8 + size :]
    if kind == 2:
        number = rng.choice(INTEGERS) % 2**64
        return number.to_bytes(8, "little") + header + data
    if kind == 3:
        data = of_bytes(rng, data)
    else:
        try:
            found = json.loads(header)
            if kind < 7 and "facts" in found.get("__metadata__", {}):
                facts = of_value(rng, json.loads(found["__metadata__"]["facts"]))
                found["__metadata__"]["facts"] = json.dumps(facts)
            elif kind == 7:
                found = _tensor_changed(rng, found)
            else:
                found = of_value(rng, found)
            header = json.dumps(found).encode()
        except (ValueError, AttributeError, TypeError):
            header = of_bytes(rng, header)
    return len(header).to_bytes(8, "little") + header + data


def _tensor_changed(rng: Random, header: dict[str, Any]) -> dict[str, Any]:
    """Change type, shape or place of one tensor, so that the file remains readable."""
    names = [name for name in header if name != "__metadata__"]
    if not names:
        return header
    name = rng.choice(names)
    one = dict(header[name])
    if rng.random() < 0.5:
        one["shape"] = rng.choice(
            (
                one["shape"][::-1],
                [1, *one["shape"]],
                [0],
                [],
                [2**40, 0],
                one["shape"][:1],
            )
        )
    else:
        same = {"F64": "I64", "I64": "F64", "F32": "I32", "I32": "F32", "I8": "BOOL"}
        one["dtype"] = same.get(one["dtype"], "U8")
    if rng.random() < 0.3:  # under another name
        return {**{n: x for n, x in header.items() if n != name}, f"{name}x": one}
    return {**header, name: one}


def deflated_bomb(size: int) -> bytes:
    """Return a gzip file of `size` zero bytes, compressed without holding them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(2**20)
    parts = [packer.compress(block) for _ in range(size // 2**20)]
    return b"".join([*parts, packer.flush()])
