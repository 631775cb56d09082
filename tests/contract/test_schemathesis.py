"""Schemathesis asks every operation with every role's key: good and bad requests, made of the document alone."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import requests
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from pipeline.api.app import create_app
from pipeline.api.trying import Trials
from pipeline.flow.deliver import Outcome, OutgoingRequest
from tests.api.parts import NOW_MS, memory_parts
from tests.authz.matrix import DOCUMENT, ROLES, World

pytestmark = pytest.mark.contract

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = {"platform_admin": 24}
"""How many requests of each operation; for other roles so many:"""
FEW = 4
BATCHES = {"sendEvents"}
"""What takes the good parts of a bad body, and says so with 207."""
OPERATIONS = {
    one["operationId"]: (method.upper(), path)
    for path, methods in DOCUMENT["paths"].items()
    for method, one in methods.items()
}
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)


class Answering:
    """Endpoints that answer at once: what is tested here sends nothing anywhere."""

    async def send(self, request: OutgoingRequest) -> Outcome:
        """Delivered."""
        return Outcome(None, 200, (("Content-Type", "text/plain"),), b"thanks to " + request.url.encode()[:20], 1)


@dataclass(frozen=True)
class Asked:
    """The API on a port of its own, the tenants and keys in it, and a connection."""

    url: str
    world: World
    session: requests.Session


@pytest.fixture(scope="module")
def asked() -> Iterator[Asked]:
    parts = memory_parts(trials=Trials(Answering(), lambda: NOW_MS))
    world = World(parts)
    asyncio.run(world.__aenter__())
    app = create_app(replace(parts.deps, metrics=CollectorRegistry()))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener, requests.Session() as session:
        session.trust_env = False
        thread = threading.Thread(target=lambda: server.run([listener]))
        thread.start()
        yield Asked(f"http://127.0.0.1:{listener.getsockname()[1]}", world, session)
        server.should_exit = True
        thread.join()
    asyncio.run(world.__aexit__())
    parts.deps.log.close()


def cases(name: str, names: dict[str, str]) -> st.SearchStrategy[Any]:
    """Requests of an operation: good and bad ones of what is there, and of what may not be there."""
    operation = SCHEMA[OPERATIONS[name][1]][OPERATIONS[name][0]]
    known = {part: names[part] for part in re.findall(r"{(\w+)}", OPERATIONS[name][1])}
    made = [operation.as_strategy(path_parameters=known), operation.as_strategy()]
    if any(parameter.location != "path" for parameter in operation.iter_parameters()) or operation.body:
        made.append(operation.as_strategy(GenerationMode.NEGATIVE, path_parameters=known))
    return st.one_of(made)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_answer_is_as_the_document_says(asked: Asked, name: str, role: str) -> None:
    """No server error, no status, type, header or body that the document does not have; what is wrong is refused."""
    asyncio.run(asked.world._restore())
    key = asked.world.keys[role, "acme", "good"]
    asks = DOCUMENT["paths"][OPERATIONS[name][1]][OPERATIONS[name][0].lower()].get("requestBody")
    strict = asks and role == "platform_admin" and name not in BATCHES
    checks = [*CHECKS, negative_data_rejection] if strict else CHECKS

    @settings(
        max_examples=EXAMPLES.get(role, FEW),
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases(name, asked.world.names["acme"]))
    def ask(case: Any) -> None:
        case.call_and_validate(
            base_url=asked.url,
            session=asked.session,
            headers={"Authorization": f"Bearer {key}"},
            checks=checks,
        )

    ask()


def test_the_document_that_is_served_is_this_one(asked: Asked) -> None:
    """Clients get at `/openapi.json`, without a key, what has been tested here."""
    assert asked.session.get(f"{asked.url}/openapi.json").json() == DOCUMENT


def test_a_status_that_is_not_there_is_noticed(asked: Asked) -> None:
    """Where the document lacks what the API answers, the check is red."""
    lacking = {**DOCUMENT, "paths": {"/v1/tenants/{tenant}": {"get": {**_get_tenant(), "responses": {"200": {}}}}}}
    operation = schemathesis.openapi.from_dict(lacking)["/v1/tenants/{tenant}"]["GET"]
    case = operation.Case(path_parameters={"tenant": "nobody"})
    with pytest.raises(FailureGroup, match="Undocumented status code"):
        case.call_and_validate(
            base_url=asked.url,
            session=asked.session,
            headers={"Authorization": f"Bearer {asked.world.keys['platform_admin', 'acme', 'good']}"},
            checks=CHECKS,
        )


def _get_tenant() -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"]["/v1/tenants/{tenant}"]["get"]
    return found
