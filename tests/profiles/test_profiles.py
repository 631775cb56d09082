from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

import pipeline
from pipeline.flow.subscription import Tenant
from pipeline.profiles import PROFILES, Profile

SOURCE = Path(pipeline.__file__).parent


def _tenant(plan: str | None = None, programs: int = 0) -> Tenant:
    return Tenant("t", "T", "p", plan=plan, programs=programs)


def test_the_rules_of_each_product() -> None:
    """Deadlines, numbers of webhooks, roles, redirects and names are the table's."""
    table = {
        p.name: (p.deadline_s, p.webhook_id, p.least_role, p.max_redirects, p.https_only, p.name_required)
        for p in PROFILES.values()
    }
    assert table == {
        "standard": (15.0, None, "admin", 0, False, False),
        "monitorqa": (10.0, "default", "admin", 0, False, False),
        "inspectorio": (60.0, None, "admin", 0, False, True),
        "qase": (15.0, None, "admin", 0, False, True),
        "monithq": (15.0, None, "admin", 0, False, False),
        "bugbounty": (15.0, "default", "manager", 5, True, False),
    }


def test_the_ways_to_authenticate() -> None:
    """Each product has its own scheme, inspectorio the choice to have none."""
    assert {p.name: [scheme.name for scheme in p.schemes] for p in PROFILES.values()} == {
        "standard": ["standard_webhooks"],
        "monitorqa": ["none"],
        "inspectorio": ["none", "basic"],
        "qase": ["qase_secret"],
        "monithq": ["monithq_hmac"],
        "bugbounty": ["standard_webhooks"],
    }


@pytest.mark.parametrize("plan", [None, "free", "Startup!", ""])
def test_qase_needs_a_plan(plan: str | None) -> None:
    """Without a startup, business or enterprise plan there are no webhooks, in the product's words."""
    unmet = PROFILES["qase"].unmet(_tenant(plan))
    assert unmet is not None
    assert unmet.rule == "plan"
    assert unmet.refusal == "Webhooks are available in Startup, Business, and Enterprise subscriptions."
    assert [PROFILES["qase"].unmet(_tenant(good)) for good in ("startup", "business", "enterprise")] == [None] * 3


def test_bugbounty_needs_a_program() -> None:
    """A business unit without a program can have no webhook, in the product's words."""
    unmet = PROFILES["bugbounty"].unmet(_tenant())
    assert unmet is not None
    assert (unmet.rule, "at least one program" in unmet.refusal) == ("programs", True)
    assert PROFILES["bugbounty"].unmet(_tenant(programs=1)) is None


@pytest.mark.parametrize("name", ["standard", "monitorqa", "inspectorio", "monithq"])
def test_other_products_ask_nothing_of_a_tenant(name: str) -> None:
    """Any tenant of theirs may have webhooks."""
    assert PROFILES[name].unmet(_tenant()) is None


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_a_form_asks_for_all_that_a_webhook_needs(profile: Profile) -> None:
    """Each form has the URL, events where they are chosen, the name where it is needed, and every scheme's fields."""
    fields = {field.name: field for field in profile.form}
    assert fields["url"].required
    assert ("events" in fields) is profile.chooses_events
    assert profile.name_required <= ("name" in fields and fields["name"].required)
    secrets = {f"auth.{field.name}" for scheme in profile.schemes for field in scheme.fields}
    assert {name for name in fields if name.startswith("auth.")} == secrets


def _asks_for_a_product(node: ast.AST) -> bool:
    """Whether this is a comparison with a product's name."""
    match node:
        case ast.Compare():
            values = [part for side in (node.left, *node.comparators) for part in ast.walk(side)]
        case ast.MatchValue():
            values = [node.value]
        case _:
            return False
    return any(isinstance(value, ast.Constant) and value.value in set(PROFILES) for value in values)


def test_a_further_product_needs_no_code_elsewhere() -> None:
    """Nothing in the code compares anything with the name of a product."""
    trees = {file: ast.parse(file.read_text(encoding="utf-8")) for file in SOURCE.rglob("*.py")}
    assert [file for file, tree in trees.items() if any(map(_asks_for_a_product, ast.walk(tree)))] == []
    assert any(map(_asks_for_a_product, ast.walk(ast.parse("if profile.name == 'qase': pass"))))


def test_a_seventh_product_is_data() -> None:
    """A product made of the same parts works without being known anywhere."""
    seventh = replace(PROFILES["standard"], name="seventh", deadline_s=3.0, https_only=True)
    secret = {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
    prepared = seventh.prepare("https://x.example/", "standard_webhooks", secret)
    assert (prepared.deadline_s, prepared.https_only) == (3.0, True)
