"""Events told apart by their headers."""

from __future__ import annotations

import pytest

from pipeline.ports import UNREADABLE
from pipeline.workers.sifting import Sieve, Tally, decoded, named
from tests.workers.parts import read

pytestmark = pytest.mark.replay

OWN = (("tenant", b"acme"), ("type", b"order.paid"))
CLOUD = (("ce_specversion", b"1.0"), ("ce_type", b"order.sent"), ("ce_tenant", b"shop"))


@pytest.mark.parametrize(
    ("tenant", "types", "passing"),
    [
        (None, (), ("acme order.paid", "shop order.sent", "shop invoice.paid")),
        ("shop", (), ("shop order.sent", "shop invoice.paid")),
        (None, ("order.*",), ("acme order.paid", "shop order.sent")),
        (None, ("order.paid", "invoice.*"), ("acme order.paid", "shop invoice.paid")),
        ("shop", ("*",), ("shop order.sent", "shop invoice.paid")),
        ("nobody", (), ()),
    ],
)
def test_a_sieve_lets_a_tenants_events_of_the_types_pass(
    tenant: str | None, types: tuple[str, ...], passing: tuple[str, ...]
) -> None:
    """No tenant is every tenant, no types are all types, and `prefix*` is all that begin so."""
    sieve = Sieve.of(tenant, types)
    events = ("acme order.paid", "shop order.sent", "shop invoice.paid")
    assert tuple(one for one in events if sieve(*one.split())) == passing


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        (OWN, (b"acme", b"order.paid")),
        ((("traceparent", b"x"), *OWN[::-1]), (b"acme", b"order.paid")),
        (CLOUD, (b"shop", b"order.sent")),
        ((*OWN, *CLOUD), (b"shop", b"order.sent")),
        ((*OWN, *CLOUD[:2]), None),
        (OWN[:1], None),
        ((), None),
        (UNREADABLE, None),
    ],
    ids=["own", "among others", "CloudEvent", "both", "CloudEvent without a tenant", "no type", "none", "unreadable"],
)
def test_the_headers_that_count_are_those_that_the_codec_reads(
    headers: tuple[tuple[str, bytes], ...], names: tuple[bytes, bytes] | None
) -> None:
    """Of a CloudEvent its own attributes alone, of any other record the pipeline's own; else nothing is known."""
    assert named(headers) == names


@pytest.mark.parametrize("names", [(b"", b"a"), (b"a", None), (b"\xff", b"a")])
def test_names_that_are_no_text_tell_nothing(names: tuple[bytes | None, bytes | None]) -> None:
    """Empty, missing or not UTF-8: the record itself must say."""
    assert decoded(names) is None


def test_only_what_the_headers_exclude_is_skipped() -> None:
    """A record that does not tell is not skipped: it is decoded, and asked again."""
    sieve = Sieve.of("acme", ("order.*",))
    skipped = [sieve.skips(read("events", headers=headers)) for headers in (OWN, CLOUD, OWN[:1], (), UNREADABLE)]
    assert skipped == [False, True, False, False, False]


def test_tallies_add_up() -> None:
    """Numbers are summed, times are the widest."""
    tally = Tally(1, 10, 5, 7)
    tally.add(Tally(2, 20, 3, 6))
    assert tally == Tally(3, 30, 3, 7)
