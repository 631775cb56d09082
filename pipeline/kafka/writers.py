"""Writers' schemas: parsed with what they refer to, and how bytes are read by them within bounds."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fastavro

from pipeline.errors import Undecodable
from pipeline.kafka.bounds import PRECISION, Skip, check, harmless_bytes, skipping

_DEEPEST = 300
"""Levels of JSON in a schema, three for each record in a record: the compiled parser's only end is the stack's."""


@dataclass(frozen=True, slots=True)
class Written:
    """A writer's schema twice: as numbers for our own records, with logical types for foreign ones.

    `skip` walks over a value's bytes: needed before a record is read that is longer than `harmless` bytes.
    """

    plain: Any
    logical: Any
    skip: Skip
    harmless: int


def parsed(schemas: Sequence[Any]) -> Written | None:
    """The last of these, which may refer to those before it; None if it cannot be read by.

    What fastavro raises for what is no schema is not a closed set; whatever it is, nothing can be read by it.
    """
    if any(map(_unfit, schemas)):
        return None
    decimals = any(_is_decimal(part) for schema in schemas for _, part in _parts(schema))
    try:
        logical, named = _in_turn(schemas)
        plain, _ = _in_turn(map(without_logical_types, schemas))
        return Written(plain, logical, skipping(logical, named), harmless_bytes(logical, named, decimals=decimals))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - see above
        return None


def without_logical_types(schema: Any) -> Any:
    """The schema of the same bytes whose values are left as the numbers they are."""
    match schema:
        case dict():
            return {key: without_logical_types(value) for key, value in schema.items() if key != "logicalType"}
        case list():
            return [without_logical_types(item) for item in schema]
    return schema


def read(body: memoryview, written: Written, reader: Any = None, *, logical: bool = False) -> Any:
    """One value, all of `body`, within bounded memory and depth. Raises `Undecodable`.

    What fastavro raises on bytes that lie is not a closed set; whatever it is, the record cannot be read.
    """
    if len(body) > written.harmless:
        check(body, written.skip)
    source = io.BytesIO(body)
    try:
        value = fastavro.schemaless_reader(source, written.logical if logical else written.plain, reader)
    except MemoryError:  # not the record's fault: what it takes has been bounded
        raise
    except Exception as error:
        raise Undecodable("undecodable", f"the Avro body cannot be read: {type(error).__name__}") from error
    if rest := len(body) - source.tell():
        raise Undecodable("undecodable", f"{rest} bytes follow the record")
    return value


def _in_turn(schemas: Iterable[Any]) -> tuple[Any, dict[str, Any]]:
    named: dict[str, Any] = {}
    last = None
    for schema in schemas:
        last = fastavro.parse_schema(schema, named)
    return last, named


def _unfit(schema: Any) -> bool:
    """Whether the schema is nested too deeply, or has decimals whose text may be without end."""
    return any(depth > _DEEPEST or _endless(part) for depth, part in _parts(schema))


def _parts(schema: Any) -> Iterator[tuple[int, Any]]:
    """The schema and all that it holds, each with its depth. No recursion: that is what is being looked for."""
    left = [(0, schema)]
    while left:
        depth, part = left.pop()
        yield depth, part
        if isinstance(part, (dict, list)) and depth <= _DEEPEST:
            left += [(depth + 1, inner) for inner in (part.values() if isinstance(part, dict) else part)]


def _is_decimal(part: Any) -> bool:
    return isinstance(part, dict) and part.get("logicalType") == "decimal"


def _endless(part: Any) -> bool:
    if not _is_decimal(part):
        return False
    digits = part.get("precision"), part.get("scale", 0)
    return not all(isinstance(count, int) and 0 <= count <= PRECISION for count in digits)
