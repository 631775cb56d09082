from __future__ import annotations

import pytest

from pipeline.flow.deliver import Verdict
from pipeline.profiles import PROFILES, Profile
from tests.profiles.makers import answer, failure

ONLY_200 = {"inspectorio", "monithq"}


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
def test_what_acknowledges(profile: Profile, status: int) -> None:
    """Any 2xx, but for inspectorio and monithq exactly 200."""
    delivered = status == 200 or profile.name not in ONLY_200
    assert profile.judge(answer(status)) is (Verdict.DELIVERED if delivered else Verdict.REJECTED)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("status", [199, 300, 304, 400, 401, 404, 408, 418, 500, 502, 503, 504, 599])
def test_what_does_not_acknowledge(profile: Profile, status: int) -> None:
    """Any other status is a refusal by the endpoint."""
    assert profile.judge(answer(status)) is Verdict.REJECTED


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_that_is_not_followed_is_named_so(status: int) -> None:
    """Whose own rule is standard's learns that the endpoint redirects; monitorqa and inspectorio know only refusals."""
    verdicts = {name: profile.judge(answer(status)) for name, profile in PROFILES.items()}
    assert {name for name, verdict in verdicts.items() if verdict is Verdict.REJECTED} == {"monitorqa", "inspectorio"}
    assert set(verdicts.values()) == {Verdict.REJECTED, Verdict.REDIRECT}


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("verdict", [Verdict.TIMEOUT, Verdict.DNS, Verdict.TOO_LARGE, Verdict.BLOCKED])
def test_a_failure_is_its_own_verdict(profile: Profile, verdict: Verdict) -> None:
    """Where no whole answer came, the client's word stands."""
    assert profile.judge(failure(verdict)) is verdict
