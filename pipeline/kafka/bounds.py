"""How much memory a record will take, found out before it is decoded.

A few bytes of Avro can stand for gigabytes: a list of 2^40 items that take no bytes each, a record of a thousand such
fields. So bytes that a schema could blow up are walked over first, at a cost for each value, and refused where the
sum is more than any honest record needs. Nothing is built on the way.

Source of the encoding: the Avro specification 1.12, "Binary encoding".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import Undecodable

MEMORY = 32 * 1024 * 1024
"""Bytes that one decoded record may take, counted as Python's values are sized."""

LIGHT = 512
"""A light schema makes at most this many bytes of memory of each byte of the record, and `_AT_LEAST` more."""
_AT_LEAST = 1024 * 1024
_LIGHT_BYTES, _DECIMAL_BYTES = (MEMORY - _AT_LEAST) // LIGHT, 4096
"""A record of a light schema that is no longer than this needs no walk; with decimals, of which long ones cost time."""

PRECISION = 1_000
"""Digits of a decimal, at most: beyond any product's. The time to write one grows with the square of its digits."""

_DEEPEST = 200
"""Levels of records in their own kind; JSON of more than 254 levels is not written either."""
_VALUE, _ENTRY, _HOLDER = 40, 160, 240
"""Memory of a number with its place in a list, of a map's entry with its key, of an empty list, map or record."""
_FIXED = {"null": 0, "boolean": 1, "float": 4, "double": 8}
_LONGEST_VARINT = 63

Skip = Callable[["Walk"], None]
Named = Mapping[str, Any]


@dataclass(slots=True)
class Walk:
    """Bytes, how far they have been walked over, and what memory is left."""

    body: memoryview
    at: int = 0
    memory: int = MEMORY
    depth: int = 0

    def take(self, count: int) -> None:
        """Step over so many bytes."""
        if not 0 <= count <= len(self.body) - self.at:
            raise Undecodable("undecodable", "a length in the Avro body goes beyond its end")
        self.at += count

    def spend(self, memory: int) -> None:
        """Account for a value."""
        self.memory -= memory
        if self.memory < 0:
            raise Undecodable("too_large", f"the record's values would take more than {MEMORY} bytes of memory")

    def long(self) -> int:
        """Read a number: seven bits a byte, the lowest first, zigzag."""
        value = shift = 0
        while shift <= _LONGEST_VARINT:
            if self.at >= len(self.body):
                break
            byte = self.body[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 - the bit that says: more follows
                return (value >> 1) ^ -(value & 1)
            shift += 7
        raise Undecodable("undecodable", "a number in the Avro body does not end")


def check(body: memoryview, skip: Skip) -> None:
    """Raises `Undecodable` when the decoded record would be too large or too deep, or the bytes do not fit."""
    try:
        skip(Walk(body))
    except RecursionError as error:
        raise Undecodable("undecodable", "the record is nested too deeply") from error


def skipping(schema: Any, named: Named) -> Skip:
    """What walks over one value of a schema that fastavro has parsed; `named` has the types by their full names."""
    made: dict[str, Skip] = {}
    return _skip(schema, named, made)


def _skip(schema: Any, named: Named, made: dict[str, Skip]) -> Skip:  # noqa: PLR0911 - one for each kind
    match schema:
        case list():
            return _union([_skip(branch, named, made) for branch in schema])
        case str():
            return _primitive(schema) if schema not in named else _reference(schema, named, made)
        case {"type": "array", "items": items}:
            return _array(_skip(items, named, made))
        case {"type": "map", "values": values}:
            return _map(_skip(values, named, made))
        case {"type": "record" | "error", "fields": fields}:
            return _record([_skip(field["type"], named, made) for field in fields])
        case {"type": "fixed", "size": size}:
            return _fixed(size) if schema.get("logicalType") != "decimal" else _decimal(_fixed(size))
        case {"type": "bytes", "logicalType": "decimal"}:
            return _decimal(_text)
    return _number if schema["type"] == "enum" else _skip(schema["type"], named, made)


def _reference(name: str, named: Named, made: dict[str, Skip]) -> Skip:
    """A named type, made when it is first met in a record, as it may hold itself."""

    def skip(walk: Walk) -> None:
        if name not in made:
            made[name] = _skip(named[name], named, made)
        walk.depth += 1
        if walk.depth > _DEEPEST:
            raise Undecodable("undecodable", "the record is nested too deeply")
        made[name](walk)
        walk.depth -= 1

    return skip


def _primitive(name: str) -> Skip:
    if name in _FIXED:
        return _fixed(_FIXED[name])
    return _number if name in {"int", "long"} else _text


def _number(walk: Walk) -> None:
    walk.long()
    walk.spend(_VALUE)


def _text(walk: Walk) -> None:
    size = walk.long()
    walk.take(size)
    walk.spend(2 * _VALUE + size)


def _fixed(size: int) -> Skip:
    def skip(walk: Walk) -> None:
        walk.take(size)
        walk.spend(_VALUE + size)

    return skip


def _decimal(skip: Skip) -> Skip:
    def bounded(walk: Walk) -> None:
        start = walk.at
        skip(walk)
        if walk.at - start > PRECISION:
            raise Undecodable("undecodable", f"a decimal has more than {PRECISION} digits")

    return bounded


def _record(fields: list[Skip]) -> Skip:
    memory = _HOLDER + _VALUE * len(fields)

    def skip(walk: Walk) -> None:
        walk.spend(memory)
        for field in fields:
            field(walk)

    return skip


def _union(branches: list[Skip]) -> Skip:
    def skip(walk: Walk) -> None:
        chosen = walk.long()
        if not 0 <= chosen < len(branches):
            raise Undecodable("undecodable", f"a union of {len(branches)} has no branch {chosen}")
        branches[chosen](walk)

    return skip


def _array(item: Skip) -> Skip:
    def skip(walk: Walk) -> None:
        walk.spend(_HOLDER)
        while count := _block(walk):
            for _ in range(count):
                item(walk)

    return skip


def _map(value: Skip) -> Skip:
    def skip(walk: Walk) -> None:
        walk.spend(_HOLDER)
        while count := _block(walk):
            for _ in range(count):
                _text(walk)
                walk.spend(_ENTRY)
                value(walk)

    return skip


def _block(walk: Walk) -> int:
    """How many items follow; a negative count is followed by the block's size in bytes, which is not needed.

    Every value costs memory, also one without bytes, so that no count is too large to be walked over.
    """
    count = walk.long()
    if count < 0:
        walk.long()
    return abs(count)


def harmless_bytes(schema: Any, named: Named, *, decimals: bool) -> int:
    """Up to how many bytes a record of the schema needs no walk, as it cannot take much memory or time; -1 for none.

    Those of a light schema: none of its records can take more memory than `LIGHT` bytes for each of its own, and 1 MiB.
    """
    if _excess(schema, named, {}) > _AT_LEAST:
        return -1  # a record of no bytes may be as large as any
    return _DECIMAL_BYTES if decimals else _LIGHT_BYTES


def _excess(schema: Any, named: Named, known: dict[str, float]) -> float:  # noqa: PLR0911 - one for each kind
    """The most memory that a value can take beyond `LIGHT` for each of its bytes; infinite when lists grow it.

    A type that leads back to itself is taken to be no light one.
    """
    match schema:
        case list():
            return max((_excess(branch, named, known) for branch in schema), default=0) - LIGHT
        case str() if schema in named:
            if schema not in known:
                known[schema] = float("inf")
                known[schema] = _excess(named[schema], named, known)
            return known[schema]
        case {"type": "array", "items": items}:
            return _HOLDER - LIGHT if _excess(items, named, known) <= 0 else float("inf")
        case {"type": "map", "values": values}:
            entry = _excess(values, named, known) + 2 * _VALUE + _ENTRY - LIGHT
            return _HOLDER - LIGHT if entry <= 0 else float("inf")
        case {"type": "record" | "error", "name": name, "fields": fields}:
            known.setdefault(name, float("inf"))
            own: float = _HOLDER + sum(_VALUE + _excess(field["type"], named, known) for field in fields)
            known[name] = own
            return own
        case {"type": "fixed", "size": size}:
            return float(_VALUE + size * (1 - LIGHT))
        case {"type": inner} if inner != "enum":
            return _excess(inner, named, known)
    return _VALUE - LIGHT * _FIXED.get(schema if isinstance(schema, str) else "enum", 1)
