"""An event's data against the catalogue's JSON Schema of its type (draft 2020-12): all that is wrong, and where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend

from pipeline.api.problems import FieldError, pointer
from pipeline.profiles import PROFILES, Profile

MAX_FAULTS = 20
"""So many are told."""
MAX_ITEMS = 1_000
"""So many elements of a list are looked at: 256 KiB of short ones would take a second."""

_NOUNS = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "an integer",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a text",
}


def faults(profile: Profile, event_type: str, data: Any, at: str) -> list[FieldError]:
    """What is wrong with the data, whose JSON pointer is `at`. No message repeats what was sent."""
    if event_type not in profile.catalogue.by_name:  # of an open catalogue: the type is the customer's own
        return []
    told: dict[FieldError, None] = {}
    for error in _validator(profile.name, event_type).iter_errors(data):
        told |= dict.fromkeys(_told(error, at))
        if len(told) >= MAX_FAULTS:
            break
    return list(told)[:MAX_FAULTS]


def _items(validator: Any, items: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "array"):
        for place, element in enumerate(islice(instance, MAX_ITEMS)):
            yield from validator.descend(element, items, path=place)


_Validator = extend(Draft202012Validator, {"items": _items})  # type: ignore[no-untyped-call]


@cache
def _validator(profile: str, event_type: str) -> Validator:
    """Made once for each type of each catalogue."""
    made: Validator = _Validator(PROFILES[profile].catalogue.schema(event_type))
    return made


def _told(error: Any, at: str) -> Iterable[FieldError]:
    """`error` is a `ValidationError`, whose parts are unset only before it is raised."""
    here = at + pointer(error.absolute_path)
    match error.validator:
        case "required":
            missing = (name for name in error.validator_value if name not in error.instance)
            return [FieldError(here + pointer([name]), "required", "This field is required") for name in missing]
        case "additionalProperties":
            others = islice((name for name in error.instance if name not in error.schema["properties"]), MAX_FAULTS)
            return [FieldError(here + pointer([name]), "unknown", "There is no such field") for name in others]
        case "type":
            types = error.validator_value
            nouns = " or ".join(_NOUNS[name] for name in ([types] if isinstance(types, str) else types))
            return [FieldError(here, "type", f"This must be {nouns}")]
    return [FieldError(here, str(error.validator), f"This breaks the rule {error.validator} of its type's schema")]
