"""A router that reads events again for an operator's own group: what it may not be told."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Command

pytestmark = pytest.mark.replay


@pytest.mark.parametrize(
    "told",
    [
        ("router", "--group", "mine"),
        ("router", "--to", "deliveries-replay"),
        ("sender", "--group", "mine", "--to", "deliveries-replay"),
    ],
)
def test_a_group_and_where_it_writes_to_go_together(command: Command, told: tuple[str, ...]) -> None:
    """A group of one's own on the flow's way would double what is live, and other roles have no such way."""
    assert "--group and --to are the router's" in command.refused("run", *told)


def test_the_flow_s_own_groups_are_not_to_be_used(command: Command) -> None:
    """Whoever names one would take its partitions away from the flow."""
    said = command.refused("run", "router", "--group", "pipeline-router", "--to", "deliveries-replay")
    assert "names with pipeline- are the flow's own" in said
