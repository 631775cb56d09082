from __future__ import annotations

import pytest

from pipeline.flow.subscription import Auth, Subscription
from pipeline.profiles import PROFILES, Profile, examples

COUNTS = {"standard": 0, "monitorqa": 15, "inspectorio": 2, "qase": 39, "monithq": 8, "bugbounty": 3}


def _webhook(events: tuple[str, ...] = (), components: tuple[str, ...] = ()) -> Subscription:
    return Subscription("demo", "wh_1", "https://x.example/", events, Auth("none"), components=components)


def _matched(profile: Profile, webhook: Subscription) -> set[str]:
    return {name for name in profile.catalogue.by_name if profile.wants(webhook, name)}


def test_the_products_are_these() -> None:
    """Six profiles, by these names and with this many events each."""
    assert {name: len(profile.catalogue.by_name) for name, profile in PROFILES.items()} == COUNTS


def test_no_type_is_listed_twice_and_each_can_be_read() -> None:
    """Every type stands in one component and has a title."""
    for profile in PROFILES.values():
        kinds = [kind for component in profile.catalogue.components for kind in component.types]
        assert len({kind.name for kind in kinds}) == len(kinds)
        assert all(kind.title for kind in kinds)


def test_every_event_has_an_example_and_every_example_is_one() -> None:
    """The examples are the catalogue's events, one each, at least 60 in all, and their profiles take them."""
    for profile in PROFILES.values():
        known = examples(profile.name)
        assert [profile.refusal(example.event("demo", "e", 0)) for example in known] == [None] * len(known)
        if profile.catalogue.by_name:
            assert {kind.example for kind in profile.catalogue.by_name.values()} == {f"{e.type}.json" for e in known}
    assert sum(len(examples(name)) for name in PROFILES) >= 60
    assert len(examples("standard")) >= 3


def test_a_webhook_gets_what_it_asked_for() -> None:
    """Exact types, prefixes, everything, and whole components, alone or together."""
    qase = PROFILES["qase"]
    cases = {f"case.{verb}" for verb in ("created", "updated", "deleted", "cloned")}
    assert _matched(qase, _webhook(("case.created",))) == {"case.created"}
    assert _matched(qase, _webhook(("case.*",))) == cases
    assert len(_matched(qase, _webhook(("*",)))) == 39
    assert len(_matched(qase, _webhook((), ("Reviews",)))) == 10
    assert len(_matched(qase, _webhook(("defect.created", "s*"), ("Reviews",)))) == 1 + 7 + 10
    assert _matched(qase, _webhook(("case",))) == set()
    assert _matched(qase, _webhook()) == set()


def test_a_prefix_may_end_anywhere() -> None:
    """`in*` matches every type that begins so, `invoice.*` needs the full stop."""
    standard = PROFILES["standard"]
    assert standard.wants(_webhook(("in*",)), "invoice.paid")
    assert standard.wants(_webhook(("invoice.*",)), "invoice.paid")
    assert not standard.wants(_webhook(("invoice.*",)), "invoices.paid")
    assert not standard.wants(_webhook(("invoice.*",)), "invoice")


def test_monitorqa_sends_everything_unasked() -> None:
    """Its webhook has no choice of events: it names none and gets all 15."""
    assert len(_matched(PROFILES["monitorqa"], _webhook())) == 15


@pytest.mark.parametrize(
    ("name", "events", "components"),
    [
        ("standard", ("invoice.paid", "invoice.*", "*", "invo*"), ()),
        ("qase", ("case.created", "review.*"), ("Defects",)),
        ("qase", (), ("Test Runs",)),
        ("monitorqa", (), ()),
        ("monitorqa", ("*",), ()),
        ("inspectorio", (), ("Report",)),
    ],
)
def test_choices_that_can_be_made(name: str, events: tuple[str, ...], components: tuple[str, ...]) -> None:
    """What matches something, or is the product's default, is allowed."""
    assert PROFILES[name].choice_refusal(events, components) is None


@pytest.mark.parametrize(
    ("name", "events", "components", "words"),
    [
        ("standard", (), (), "Select at least one event"),
        ("standard", ("a b",), (), "'a b'"),
        ("standard", ("a b*",), (), "'a b*'"),
        ("standard", ("*.paid",), (), "'*.paid'"),
        ("standard", ("a",), ("Report",), "'Report'"),
        ("qase", ("case.opened",), (), "'case.opened'"),
        ("qase", ("case.opened*",), (), "'case.opened*'"),
        ("qase", (), ("Test Case",), "Test Cases, Test Suites"),
        ("inspectorio", (), (), "Select at least 1 event"),
        ("monitorqa", ("AUDIT_ASSIGNED",), (), "cannot be chosen"),
        ("monitorqa", (), ("Audit",), "cannot be chosen"),
    ],
)
def test_choices_that_cannot_be_made(
    name: str, events: tuple[str, ...], components: tuple[str, ...], words: str
) -> None:
    """An empty choice, or one that can never match, is refused with words that name it."""
    assert words in (PROFILES[name].choice_refusal(events, components) or "")
