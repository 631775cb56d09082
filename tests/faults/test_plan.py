"""The plan of a run: what the seed decides."""

from __future__ import annotations

import pytest

from pipeline.faults import Control, Faults
from pipeline.settings import Settings
from tests.faults.plan import DURING_REPLAY, POINTS, ROLES, Kind, faults

LOCAL = Settings(bootstrap_servers="127.0.0.1:9092")


def test_a_seed_is_one_plan() -> None:
    """The same seed gives the same faults, so that an interrupted run can be continued; another gives others."""
    assert faults(7, 40) == faults(7, 40) != faults(8, 40)


@pytest.mark.parametrize("kills", [1, 2, 6, 50, 300])
def test_as_many_kills_as_asked_for(kills: int) -> None:
    """The faults of a plan kill exactly so often."""
    assert sum(fault.kills for fault in faults(3, kills)) == kills


def test_a_long_run_kills_every_role_at_every_point() -> None:
    """In 300 kills each role has its share, dies at each of its points, and every other fault is there too."""
    plan = faults(11, 300)
    died = {(fault.role, fault.point.partition(":")[0]) for fault in plan if fault.kind is Kind.POINT}
    assert died == {(role, point) for role in ROLES for point in POINTS[role]}
    assert {fault.kind for fault in plan} == set(Kind)
    shares = [sum(fault.kills for fault in plan if (fault.role or "broker") == role) for role in (*ROLES, "broker")]
    assert min(shares) >= 30


def test_every_point_is_one() -> None:
    """The product knows every point of the plan."""
    for fault in faults(11, 300):
        if fault.point:
            asked = Faults.of(LOCAL, {"PIPELINE_FAULTS": "1", "PIPELINE_FAIL_AT": fault.point})
            assert asked.point is not None


@pytest.mark.parametrize("control", list(Control))
def test_a_control_has_its_own_faults(control: Control) -> None:
    """Each control gets faults that show it, once if nothing else is said."""
    assert 1 <= sum(fault.kills for fault in faults(1, 0, control)) <= 12


@pytest.mark.replay
def test_a_replay_s_run_kills_the_replayer_too() -> None:
    """It has its share of the kills, at random and at each of its points, and every point is one."""
    plan = faults(11, 300, None, DURING_REPLAY)
    own = [fault for fault in plan if fault.role == "replayer"]
    assert {fault.point.partition(":")[0] for fault in own if fault.kind is Kind.POINT} == set(POINTS["replayer"])
    assert sum(fault.kills for fault in own) >= 30
    assert {fault.slot for fault in own} == {0}
    assert all(faults(seed, 1, None, DURING_REPLAY)[0].role == "replayer" for seed in range(9))
    for fault in own:
        if fault.point:
            asked = Faults.of(LOCAL, {"PIPELINE_FAULTS": "1", "PIPELINE_FAIL_AT": fault.point})
            assert asked.point is not None
