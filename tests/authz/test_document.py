"""The document from which the matrix is derived: whole, and as the products ask for it."""

from __future__ import annotations

import pytest
from fastapi.routing import APIRoute

from pipeline.api.app import create_app
from pipeline.flow.access import Role
from tests.api.parts import memory_parts
from tests.authz.matrix import ANYBODYS, DOCUMENT, KEYED, ROLES, SOMEBODYS, WITHIN, operations

pytestmark = pytest.mark.authz

OPERATIONS = operations(DOCUMENT)
OPEN = {"/healthz", "/readyz", "/metrics"}
"""What is asked without a key."""
READS = {"testFilter", "testWebhookFilter"}
"""What is asked with a body and changes nothing."""
DELIVERIES = {"recoverWebhook"}
"""What is done with a webhook's deliveries, and leaves its configuration as it is."""


def test_every_operation_is_in_the_document() -> None:
    """Nothing that needs a key is left out of the document, and so of the matrix."""
    routes = create_app(memory_parts().deps).routes
    served = {
        (method, route.path_format) for route in routes if isinstance(route, APIRoute) for method in route.methods or ()
    }
    asked = {(operation.method, operation.path) for operation in OPERATIONS}
    assert {place for place in served if place[1].startswith(KEYED)} == asked
    assert served - asked == {("GET", path) for path in OPEN}
    assert all(DOCUMENT["paths"][path]["get"]["security"] == [] for path in OPEN & set(DOCUMENT["paths"]))
    assert len(OPERATIONS) == len(asked)


def test_every_operation_says_who_may_do_it() -> None:
    """The least role is one of the roles, and the matrix knows whose every parameter of a path is."""
    assert {operation.least for operation in OPERATIONS} <= set(ROLES) == {role.value for role in Role}
    for operation in OPERATIONS:
        assert operation.parameters <= SOMEBODYS | ANYBODYS | WITHIN, operation.path
        assert "tenant" in operation.parameters or not operation.parameters & WITHIN, operation.path


def test_a_viewer_changes_nothing() -> None:
    """What a viewer may do reads."""
    assert {one.id for one in OPERATIONS if one.least == "viewer" and one.method != "GET"} == READS


def test_the_product_has_a_say_in_what_configures() -> None:
    """Whatever changes a webhook needs the least role of its tenant's product as well."""
    webhooks = {one for one in OPERATIONS if "webhooks" in one.path}
    changing = {one.id for one in webhooks if one.method != "GET"} - READS - DELIVERIES
    assert {one.id for one in OPERATIONS if one.configures} == changing
