"""What the end of a test's request is called, and what its user is told to do."""

from __future__ import annotations

import pytest

from pipeline.api.findings import Finding, found
from pipeline.flow.deliver import Outcome, Verdict
from pipeline.profiles import PROFILES

FAILED = [verdict for verdict in Verdict if verdict not in (Verdict.DELIVERED, Verdict.SKIPPED)]
STATUSES = [*range(200, 209), *range(300, 309), *range(400, 430), 451, 499, *range(500, 512), 599]


def failed(verdict: Verdict) -> Outcome:
    return Outcome(verdict, None, (), b"", 1)


def answered(status: int) -> Outcome:
    return Outcome(None, status, (), b"", 1)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("outcome", [*map(failed, FAILED), *map(answered, STATUSES)], ids=str)
def test_every_end_has_a_class_and_one_sentence(profile: str, outcome: Outcome) -> None:
    """Whatever comes of a request, for every product, there is one of the nine classes and one finished sentence."""
    result = found(PROFILES[profile], outcome)
    assert (result.finding is Finding.SUCCESS) == (outcome.failure is None and _accepted(profile, outcome))
    assert result.advice.endswith(".")
    assert "{" not in result.advice
    assert str(outcome.status) in result.advice or outcome.status is None or result.finding is not Finding.CLIENT_ERROR


def _accepted(profile: str, outcome: Outcome) -> bool:
    return (outcome.status or 0) in PROFILES[profile].acknowledged


@pytest.mark.parametrize(
    ("profile", "outcome", "finding", "reason", "words"),
    [
        ("bugbounty", answered(204), "success", None, "nothing is left to do"),
        ("bugbounty", answered(400), "client_error", None, "refuses the request with 400"),
        ("bugbounty", answered(401), "client_error", None, "the same secret"),
        ("bugbounty", answered(404), "client_error", None, "the path of the URL"),
        ("bugbounty", answered(410), "client_error", "gone", "give its new URL"),
        ("bugbounty", answered(429), "client_error", "rate_limited", "fewer requests"),
        ("bugbounty", answered(500), "server_error", None, "fails with 500"),
        ("bugbounty", failed(Verdict.REDIRECT), "redirect_loop", None, "in a circle"),
        ("bugbounty", failed(Verdict.TIMEOUT), "timeout", None, "within 15 seconds"),
        ("inspectorio", failed(Verdict.TIMEOUT), "timeout", None, "within 60 seconds"),
        ("inspectorio", answered(204), "server_error", "unacknowledged", "answers 204, which does not count"),
        ("inspectorio", answered(302), "redirect_loop", "not_followed", "redirects (302), and redirects are not"),
        ("monithq", answered(202), "server_error", "unacknowledged", "let it answer 200"),
        ("qase", answered(301), "redirect_loop", "not_followed", "the final page"),
        ("monitorqa", answered(304), "server_error", "unacknowledged", "answers 304"),
        ("monitorqa", answered(410), "client_error", None, "410"),
        ("standard", failed(Verdict.DNS), "dns", None, "cannot be resolved"),
        ("standard", failed(Verdict.TLS), "tls", None, "certificate"),
        ("standard", failed(Verdict.CONNECT), "connect", None, "host, port and firewall"),
        ("standard", failed(Verdict.BLOCKED), "blocked", None, "one that is public"),
        ("standard", failed(Verdict.TOO_LARGE), "server_error", "too_large", "headers"),
        ("standard", failed(Verdict.PROTOCOL), "server_error", "protocol", "no HTTP"),
        ("standard", failed(Verdict.PROXY), "connect", "proxy", "not your endpoint"),
    ],
)
def test_the_classes(profile: str, outcome: Outcome, finding: str, reason: str | None, words: str) -> None:
    """4xx is the client's, 5xx the server's, a redirect that ends nowhere a loop; what else there is has its reason."""
    result = found(PROFILES[profile], outcome)
    assert (result.finding, result.reason) == (finding, reason)
    assert words in result.advice
