"""Foreign schemas and bytes that are made to hurt: each is refused, in bounded time and memory."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fastavro
import fastavro.utils
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Undecodable
from pipeline.kafka import bounds, cloudevents
from pipeline.kafka.writers import parsed, read

MIB = 1024 * 1024
WITHIN_S, WITHIN_BYTES = 5.0, 50 * MIB
ENDLESS = b"\x80\x80\x80\x80\x80\x80\x20"
"""A block of 2^40 items."""


def array(items: Any) -> Any:
    return {"type": "array", "items": items}


def record(name: str, *types: Any) -> Any:
    return {"type": "record", "name": name, "fields": [{"name": f"f{n}", "type": t} for n, t in enumerate(types)]}


def doubling(levels: int) -> Any:
    """A record that holds two of the next kind, and so on: 2^levels nulls of no bytes at all."""
    inner: Any = record("R0", "null", "null")
    for level in range(1, levels):
        inner = record(f"R{level}", inner, f"R{level - 1}")
    return inner


def nested(levels: int) -> Any:
    schema: Any = "int"
    for _ in range(levels):
        schema = array(schema)
    return schema


def number(value: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", value)
    return out.getvalue()


def decimal(precision: int, scale: int) -> Any:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


WIDE = record("Wide", *(["null"] * 1_000), "boolean")
TREE = record("Tree", array("Tree"))
CHAIN = record("Chain", ["null", "Chain"])
BOMBS: dict[str, tuple[Any, bytes]] = {
    "an endless list of nulls": (array("null"), ENDLESS),
    "an endless list of nulls, counted backwards": (array("null"), b"\xff\xff\xff\xff\xff\xff\x1f\x00"),
    "an endless list of records of nothing": (array(record("Empty")), ENDLESS),
    "an endless list of fixed of no size": (array({"type": "fixed", "name": "F", "size": 0}), ENDLESS),
    "lists of lists of nulls": (array(array("null")), b"\x02" + b"\xfe\xff\x7f" * 300_000),
    "a thousand fields for a byte": (array(WIDE), number(MIB) + bytes(MIB)),
    "a dictionary for a byte": (array(record("B", "boolean")), number(MIB) + bytes(MIB) + b"\0"),
    "a list for a byte": (array(array("int")), number(MIB) + bytes(MIB) + b"\0"),
    "a record that doubles": (doubling(40), b""),
    "a text longer than the record": ("string", number(2**40) + b"x"),
    "a text of negative length": ("string", number(-5) + b"x"),
    "bytes longer than the record": ("bytes", number(2**62) + b"x"),
    "a map longer than the record": ({"type": "map", "values": "null"}, ENDLESS),
    "a fixed longer than the record": ({"type": "fixed", "name": "F", "size": 2**40}, b"x"),
    "a number without an end": ("long", b"\xff" * MIB),
    "a tree nested a million deep": (TREE, b"\x02" * MIB),
    "a chain nested a million deep": (CHAIN, b"\x02" * MIB),
    "a text that is not UTF-8": ("string", b"\x04\xff\xfe"),
    "a branch beyond a union of 1000": ([record(f"U{n}", "int") for n in range(1_000)], number(1_000) + b"\0"),
    "a symbol beyond an enum": ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x08"),
    "a date beyond all dates": ({"type": "int", "logicalType": "date"}, number(2**31 - 1)),
    "a decimal of 8 million bits": (decimal(1_000, 0), number(MIB) + b"\x7f" * MIB),
    "hundred megabytes of text": ("string", number(100 * MIB) + bytes(100 * MIB)),
    "not a number": ("double", b"\x00\x00\x00\x00\x00\x00\xf8\x7f"),
    "infinity in a list": (array("float"), b"\x02\x00\x00\x80\x7f\x00"),
    "minus infinity in a map": ({"type": "map", "values": "double"}, b"\x02\x02k\0\0\0\0\0\0\xf0\xff\0"),
}
NO_SCHEMAS: dict[str, Any] = {
    "nothing": None,
    "a number": 7,
    "a name that nobody gave": "Missing",
    "no name": {"type": "record", "fields": []},
    "a name that is a number": {"type": "record", "name": 7, "fields": []},
    "fields that are a number": {"type": "record", "name": "R", "fields": 7},
    "a field that is a text": {"type": "record", "name": "R", "fields": ["f"]},
    "an enum without symbols": {"type": "enum", "name": "E"},
    "lists nested a hundred thousand deep": nested(100_000),
    "a decimal of 10^9 digits": decimal(10**9, 10**9),
    "a decimal of scale 10^9": decimal(10, 10**9),
    "a decimal whose precision is a text": decimal(10, 2) | {"precision": "10"},
}


@contextmanager
def bounded() -> Iterator[None]:
    """What is done inside takes little time, and the process's peak of memory grows by little."""
    before, started = _memory("VmRSS"), time.perf_counter()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    yield
    assert time.perf_counter() - started < WITHIN_S
    assert _memory("VmHWM") - before < WITHIN_BYTES


def _memory(what: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = [line for line in lines if line.startswith(what)]
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("name", BOMBS)
def test_bytes_that_are_made_to_hurt(name: str) -> None:
    """A value that would take endless memory, time or stack, or has no JSON, is unreadable within bounds."""
    schema, body = BOMBS[name]
    writer = parsed([schema])
    assert writer is not None
    with bounded(), pytest.raises(Undecodable):
        cloudevents.plain_json(read(memoryview(body), writer, logical=True))


@pytest.mark.parametrize("name", NO_SCHEMAS)
def test_schemas_that_are_made_to_hurt(name: str) -> None:
    """What is no schema, or would read values without end, is as a schema that is not there."""
    with bounded():
        assert parsed([NO_SCHEMAS[name]]) is None


@pytest.mark.parametrize("name", ["an endless list of nulls", "a thousand fields for a byte", "a record that doubles"])
def test_a_bomb_in_a_field_that_is_skipped(name: str) -> None:
    """What our own schema would skip is bounded too."""
    schema, body = BOMBS[name]
    writer = parsed([record("Foreign", schema)])
    assert writer is not None
    reader = fastavro.parse_schema({"type": "record", "name": "Foreign", "fields": []})
    with bounded(), pytest.raises(Undecodable):
        read(memoryview(body), writer, reader)


def test_a_large_honest_record_is_read() -> None:
    """A record near the topic's limit, with many small parts, is read."""
    schema = array(record("Line", "string", ["null", "double"], {"type": "map", "values": "long"}))
    value = [{"f0": "a line's text", "f1": 0.5, "f2": {"n": n}} for n in range(25_000)]
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    writer = parsed([schema])
    assert writer is not None
    assert len(out.getvalue()) > MIB // 2
    assert read(memoryview(out.getvalue()), writer) == value


def test_a_deep_honest_record_is_read() -> None:
    """A value nested a hundred deep in its own kind is read."""
    writer = parsed([CHAIN])
    assert writer is not None
    assert json.dumps(read(memoryview(b"\x02" * 100 + b"\0"), writer)).count("f0") == 101


LEAVES = st.sampled_from(["null", "boolean", "int", "long", "float", "double", "string", "bytes"])
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(array),
        inner.map(lambda values: {"type": "map", "values": values}),
        st.lists(LEAVES, min_size=1, max_size=3, unique=True),
        st.lists(inner, max_size=3).map(lambda types: record("R", *types)),
    ),
    max_leaves=6,
)


def distinct(schema: Any, counter: list[int]) -> Any:
    """The schema with a name of its own for each record."""
    match schema:
        case {"fields": fields}:
            counter[0] += 1
            name = f"R{counter[0]}"
            return {**schema, "name": name, "fields": [{**f, "type": distinct(f["type"], counter)} for f in fields]}
        case dict():
            return {key: distinct(value, counter) if key != "type" else value for key, value in schema.items()}
    return schema


@given(SCHEMAS)
def test_the_walk_ends_where_the_record_ends(schema: Any) -> None:
    """Whatever the schema and the value, the walk over its bytes goes as far as the reader does."""
    schema = distinct(schema, [0])
    writer = parsed([schema])
    assert writer is not None
    (value,) = fastavro.utils.generate_many(fastavro.parse_schema(schema), 1)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    walk = bounds.Walk(memoryview(out.getvalue()))
    writer.skip(walk)
    assert walk.at == len(out.getvalue())
