"""Writers' schemas: parsed with what they refer to, and how bytes are read by them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import fastavro
from fastavro import _read_py as patient
from fastavro.schema import SchemaParseException

from pipeline.errors import Undecodable

_PARTS = frozenset({"type", "fields", "items", "values"})
"""Where a schema holds others."""


@dataclass(frozen=True, slots=True)
class Written:
    """A writer's schema twice: as numbers for our own records, with logical types for foreign ones.

    Values of a `recursive` one can be nested without end.
    """

    plain: Any
    logical: Any
    recursive: bool = False


def parsed(schemas: Sequence[Any]) -> Written | None:
    """The last of these, which may refer to those before it; None if it cannot be read by."""
    try:
        logical = _in_turn(schemas)
        return Written(_in_turn(map(without_logical_types, schemas)), logical, any(map(_holds_itself, schemas)))
    except (SchemaParseException, ValueError, KeyError, TypeError):
        return None


def without_logical_types(schema: Any) -> Any:
    """The schema of the same bytes whose values are left as the numbers they are."""
    match schema:
        case dict():
            return {key: without_logical_types(value) for key, value in schema.items() if key != "logicalType"}
        case list():
            return [without_logical_types(item) for item in schema]
    return schema


def read(body: memoryview, writer: Any, reader: Any = None, *, recursive: bool = False) -> Any:
    """One value, all of `body`. Raises `Undecodable`.

    What fastavro raises on bytes that lie is not a closed set; whatever it is, the record cannot be read. On a value
    nested some thousand deep its compiled reader ends the process (no C stack is left); its Python one raises.
    """
    source = io.BytesIO(body)
    try:
        value = (patient if recursive else fastavro).schemaless_reader(source, writer, reader)
    except Exception as error:
        raise Undecodable("undecodable", f"the Avro body cannot be read: {type(error).__name__}") from error
    if rest := len(body) - source.tell():
        raise Undecodable("undecodable", f"{rest} bytes follow the record")
    return value


def _in_turn(schemas: Iterable[Any]) -> Any:
    named: dict[str, Any] = {}
    last = None
    for schema in schemas:
        last = fastavro.parse_schema(schema, named)
    return last


def _holds_itself(schema: Any, around: frozenset[str] = frozenset()) -> bool:
    """Whether a record's fields lead back to it. Names are compared without their namespaces: some may only seem to."""
    match schema:
        case str():
            return schema.rpartition(".")[2] in around
        case list():
            return any(_holds_itself(item, around) for item in schema)
        case dict():
            if "fields" in schema:
                around |= {schema["name"].rpartition(".")[2]}
            return any(_holds_itself(part, around) for name, part in schema.items() if name in _PARTS)
    return False
