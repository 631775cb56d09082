"""The schemas of the records that travel, and the registry that knows them by id."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from pipeline.errors import PipelineError, Unreachable
from pipeline.settings import Settings

SUBJECTS: Mapping[str, str] = {
    "events-value": "event",
    "subscriptions-value": "subscription",
    "tenants-value": "tenant",
    "keys-value": "api_key",
    "endpoint-state-value": "endpoint_state",
    "cancels-value": "cancel",
    "webhook-tests-value": "webhook_test",
    "replays-value": "replay",
    "replay-progress-value": "replay_progress",
    "deliveries-value": "delivery",
    "retry-dlq-value": "dead_letter",
    "attempts-value": "attempt",
    "audit-value": "audit",
}
"""Subject → schema, one each (the tiers and `deliveries-replay` carry deliveries, by the id of `deliveries-value`)."""

NOT_FOUND, SERVER_ERROR = 404, 500
_NOT_THERE = range(40401, 40500)
"""The registry's own words for what it does not have: a 404 without one comes from something in front of it."""
_TIMEOUT_S = 5
"""Whoever needs an answer asks again by itself, and says meanwhile that it waits."""
_MOST_SCHEMA = 1024 * 1024
"""Characters of a schema with those that it refers to; the time to parse one grows with it."""
T = TypeVar("T")
_HERE = Path(__file__).resolve().parent.parent


@cache
def load(name: str) -> dict[str, Any]:
    """The schema `schemas/<name>.avsc`, from the source tree or from the installed package."""
    folder = next(path for path in (_HERE / "schemas", _HERE.parent / "schemas") if path.is_dir())
    loaded: dict[str, Any] = json.loads((folder / f"{name}.avsc").read_text(encoding="utf-8"))
    return loaded


def registry(settings: Settings) -> SchemaRegistryClient:
    """The client of the registry in the settings, with its credentials (`user:password`)."""
    settings.require("schema_registry")
    config: dict[str, Any] = {"url": settings.schema_registry, "timeout": _TIMEOUT_S, "max.retries": 0}
    if settings.schema_registry_auth:
        config["basic.auth.user.info"] = settings.schema_registry_auth
    if ca := settings.kafka.get("ssl.ca.location"):
        config["ssl.ca.location"] = ca
    return SchemaRegistryClient(config)


def ask(call: Callable[[], T]) -> T:
    """What the registry answers.

    Raises `Unreachable` when it does not, when the fault is its own, or when what answers is no registry;
    `SchemaRegistryError` below 500.

    Its client lets the errors of its HTTP library through, which is not ours to import: they are known by their module.
    An answer of another kind makes it stumble over what is not there.
    """
    try:
        return call()
    except SchemaRegistryError as error:
        if error.http_status_code < SERVER_ERROR:
            raise
        raise Unreachable(f"the schema registry answers {error.http_status_code}") from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise Unreachable(f"what answers is no schema registry: {type(error).__name__}") from error
    except Exception as error:
        if not type(error).__module__.startswith("httpx"):
            raise
        raise Unreachable(f"the schema registry does not answer: {str(error) or type(error).__name__}") from error


def register(settings: Settings) -> dict[str, int]:
    """Register every schema, BACKWARD compatible: subject → id. Raises `PipelineError` where the registry refuses."""
    with registry(settings) as client:
        return {subject: _register(client, subject, _schema(name)) for subject, name in SUBJECTS.items()}


def _register(client: SchemaRegistryClient, subject: str, schema: Schema) -> int:
    try:
        schema_id = ask(lambda: client.register_schema(subject, schema))
        ask(lambda: client.set_compatibility(subject, "BACKWARD"))
    except SchemaRegistryError as error:
        raise PipelineError(f"{subject}: the registry refuses the schema: {error.error_message}") from error
    return schema_id


def ids(client: SchemaRegistryClient) -> dict[str, int]:
    """Subject → the id of our schema there. Raises `PipelineError` when one is not registered, `Unreachable`."""
    return {subject: _id(client, subject, _schema(name)) for subject, name in SUBJECTS.items()}


def _id(client: SchemaRegistryClient, subject: str, schema: Schema) -> int:
    try:
        found = ask(lambda: client.lookup_schema(subject, schema)).schema_id
    except SchemaRegistryError as error:
        if not _is_not_there(error):
            raise Unreachable(f"the schema registry does not tell {subject}: {error.error_message[:200]}") from error
        raise PipelineError(
            f"{subject}: this version's schema is not registered: run `pipeline schemas register`"
        ) from error
    if not isinstance(found, int):
        raise _no_registry(client)
    return found


def written(client: SchemaRegistryClient, schema_id: int) -> list[Any] | None:
    """The schema of that id, after those that it refers to; None when there is none, or none that can be read by.

    Raises `Unreachable`, also when the registry refuses to tell (credentials, a limit) or something else answers in its
    place: then nothing is known.
    """
    try:
        texts = list(_whole(client, ask(lambda: client.get_schema(schema_id)), set()))
        return None if sum(map(len, texts)) > _MOST_SCHEMA else [json.loads(text) for text in texts]
    except SchemaRegistryError as error:
        if _is_not_there(error):
            return None
        raise Unreachable(f"the registry does not tell schema {schema_id}: {error.error_message[:200]}") from error
    except (ValueError, RecursionError):  # the text is no JSON, or is nested without end
        return None


def _whole(client: SchemaRegistryClient, schema: Schema, told: set[tuple[Any, Any]]) -> Iterator[str]:
    """The texts of what a schema refers to, each once, then its own; of what is not Avro a text that is no JSON."""
    if not isinstance(schema.schema_str, str):
        raise _no_registry(client)
    for name in schema.references or ():
        if (name.subject, name.version) not in told:
            told.add((name.subject, name.version))
            registered = ask(lambda name=name: client.get_version(name.subject, name.version))  # type: ignore[misc]
            yield from _whole(client, registered.schema, told)
    yield schema.schema_str if schema.schema_type in (None, "AVRO") else ""


def _is_not_there(error: SchemaRegistryError) -> bool:
    return error.http_status_code == NOT_FOUND and error.error_code in _NOT_THERE


def _no_registry(client: SchemaRegistryClient) -> Unreachable:
    """What was told is forgotten: the client remembers it as if it were an answer."""
    client.clear_caches()
    return Unreachable("what answers is no schema registry: it tells no schema")


def check(settings: Settings) -> list[str]:
    """What stands between our schemas and those registered, a line each: missing, or unable to read the latest."""
    with registry(settings) as client:
        return [line for subject, name in SUBJECTS.items() for line in _differences(client, subject, load(name))]


def _differences(client: SchemaRegistryClient, subject: str, own: dict[str, Any]) -> list[str]:
    try:
        latest = ask(lambda: client.get_latest_version(subject)).schema
    except SchemaRegistryError:
        return [f"! {subject}: not registered"]
    return [f"! {subject}: {reason}" for reason in incompatibilities(own, json.loads(latest.schema_str or ""))]


def incompatibilities(reader: dict[str, Any], writer: dict[str, Any]) -> list[str]:
    """Why records of `writer` cannot be read with `reader`, by Apache Avro's own checker; empty when they can."""
    checker: Any = ReaderWriterCompatibilityChecker  # untyped, and its hints are wrong
    result = checker().get_compatibility(*(avro.schema.parse(json.dumps(schema)) for schema in (reader, writer)))
    if result.compatibility is SchemaCompatibilityType.compatible:
        return []
    return [f"{where}: {message}" for where, message in zip(result.locations, result.messages, strict=False)]


def _schema(name: str) -> Schema:
    return Schema(json.dumps(load(name)), "AVRO")
