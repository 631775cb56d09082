"""Every operation, every role, and {own, foreign tenant, no key, revoked key}."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.api.parts import memory_parts
from tests.authz.matrix import DOCUMENT, Operation, World, operations, violations

pytestmark = [pytest.mark.authz, pytest.mark.asyncio(loop_scope="module")]

OPERATIONS = operations(DOCUMENT)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    parts = memory_parts()
    async with World(parts) as made:
        yield made
    parts.deps.log.close()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
async def test_an_operation_is_for_whom_the_document_says(world: World, operation: Operation) -> None:
    """Its least role and those above reach it, in their own tenant; nobody else, and a refusal changes nothing."""
    assert await violations(world, operation) == []
