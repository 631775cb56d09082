"""JSON Schemas (draft 2020-12) of the events' data, written in a line or two each.

They say what a product's page says. What a page only shows in an example has its type here and may be missing; what
nobody says may have any type. Fields that a schema does not name are allowed: products add some.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

ANYTHING: Schema = {}
STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
NULL: Schema = {"type": "null"}
OBJECT: Schema = {"type": "object"}


def record(required: str = "", /, *groups: Mapping[str, Schema], **fields: Schema) -> Schema:
    """An object with these fields, some in groups; those that are `required`, by name, must be there."""
    named = {name: schema for group in (*groups, fields) for name, schema in group.items()}
    return {"type": "object", "properties": named, "required": required.split()}


def each(schema: Schema, names: str) -> Mapping[str, Schema]:
    """Fields that are alike."""
    return dict.fromkeys(names.split(), schema)


def exactly(**fields: Schema) -> Schema:
    """An object with all of these fields and no others."""
    return {**record(" ".join(fields), **fields), "additionalProperties": False}


def listing(items: Schema) -> Schema:
    """A list of such values."""
    return {"type": "array", "items": items}


def or_null(schema: Schema) -> Schema:
    """Such a value, or null."""
    return {**schema, "type": [schema["type"], "null"]}


def whole(schema: Schema) -> dict[str, Any]:
    """The schema as a document of its own."""
    return {"$schema": DIALECT, **schema}
