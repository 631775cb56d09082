"""The stories: what a customer of each product does, from its page, in the page's own order and words."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping

from pipeline.http.receiver import Script
from tests.http.endpoints import closed_port
from tests.providers.story import TIME, TIME_S, Story, removed, sent_again, switched, tested
from tests.providers.system import eventually
from tests.providers.ways import Json, Way

UNAVAILABLE = "Webhooks are available in Startup, Business, and Enterprise subscriptions."
KEPT = {"rate": 50.0, "headers": {"X-Team": "billing"}}
"""What a webhook may have besides its product's own fields."""


def standard(story: Story) -> None:
    """A product without a page: the Standard Webhooks specification, any type, a secret that is rotated."""
    owner = story.role("admin")
    with story.refused("You must be an admin to configure webhooks."):
        story.role("manager").create(story.tenant, url=story.url, events=["*"])
    with story.refused("Select at least one event."):
        owner.create(story.tenant, url=story.url)
    with story.refused("'a b' matches no event type"):
        owner.create(story.tenant, url=story.url, events=["a b"])
    made = owner.create(story.tenant, url=story.url, events=["invoice.*", "order.shipped"])
    webhook, secret = made["id"], made["auth"]["secret"]
    assert (made["status"], secret[:6]) == ("active", "whsec_")
    story.expect("standard_webhooks", {"secret": secret})
    assert tested(story, owner, webhook, "invoice.paid")["type"] == "invoice.paid"
    got, body = story.delivered("order.shipped")
    assert body == {
        "type": "order.shipped",
        "timestamp": "2025-11-05T10:30:00.000Z",
        "data": story.data("order.shipped"),
    }
    assert got.headers["webhook-id"].startswith("msg_")
    story.unheard("contact.created")
    sent_again(story, "invoice.paid")
    story.move("second")
    story.expect("standard_webhooks", {"secret": secret})
    changed = owner.update(story.tenant, webhook, url=story.url, name="Billing", events=["contact.*"], **KEPT)
    assert (changed["name"], changed["events"], changed["rate"]) == ("Billing", ["contact.*"], 50.0)
    got, _ = story.delivered("contact.created")
    assert got.headers["x-team"] == "billing"
    switched(story, owner, webhook, "contact.created")
    removed(story, owner, webhook, "contact.created")


def monitorqa(story: Story) -> None:
    """Settings → Integration: one URL for every event. What is not 2xx is final; what gets no answer is not."""
    owner = story.role("admin")
    with story.refused("You must be an admin to configure webhooks."):
        story.role("viewer").create(story.tenant, url=story.url)
    with story.refused("events cannot be chosen"):
        owner.create(story.tenant, url=story.url, events=["AUDIT_ASSIGNED"])
    made = owner.create(story.tenant, url=story.url)
    assert (made["id"], made["status"], made["events"], made["auth"]) == ("default", "active", ["*"], {"type": "none"})
    with story.refused("A company has one webhook URL: change it in the settings."):
        owner.create(story.tenant, url=story.url)
    story.expect("none")
    company = {"id": story.tenant, "name": f"{story.tenant} Ltd"}
    tested(story, owner, "default", "AUDIT_ASSIGNED")
    for kind in ("AUDIT_COMPLETED", "CORRECTIVE_ACTION_DELETED", "TEMPLATE_CREATED"):
        got, body = story.delivered(kind)
        assert body == {"event": kind, "data": story.data(kind), "company": company}
    assert story.data("CORRECTIVE_ACTION_DELETED")["correctiveAction"] is None
    assert "authorization" not in got.headers
    story.answers(Script(status=500))
    story.send("AUDIT_DELETED")
    failed = story.logged(story.last, "failed")
    assert [(one["verdict"], one["next"]["reason"]) for one in failed["attempts"]] == [("rejected", "rejected")]
    assert len(story.requests) == 1
    owner.update(story.tenant, "default", url=f"http://127.0.0.1:{closed_port()}/")
    story.send("AUDIT_EXPIRED")
    failed = story.logged(story.last, "failed")
    assert [one["verdict"] for one in failed["attempts"]] == ["connect"] * 6
    story.move("second")
    story.expect("none")
    with story.refused("events cannot be chosen"):
        owner.update(story.tenant, "default", events=["AUDIT_ASSIGNED"])
    assert owner.update(story.tenant, "default", url=story.url, **KEPT)["url"] == story.url
    switched(story, owner, "default", "TEMPLATE_DELETED")
    removed(story, owner, "default", "TEMPLATE_DELETED")


def inspectorio(story: Story) -> None:
    """Configuration → Webhooks: name, URL, at least one event or a whole component, Basic on and off; exactly 200."""
    owner, form = story.role("owner"), {"name": "Slack Webhook", "url": story.url, "components": ["Report"]}
    _inspectorio_refuses(story, owner, form)
    made = owner.create(story.tenant, **form)
    webhook = made["id"]
    assert (made["status"], made["events"], made["components"], made["auth"]) == (
        "active",
        [],
        ["Report"],
        {"type": "none"},
    )
    story.expect("none")
    assert tested(story, owner, webhook, "report.created")["eventName"] == "An Inspection report is uploaded"
    got, body = story.delivered("report.file_ready")
    message = body.pop("messageId")
    assert body == {
        "eventCode": "report.file_ready",
        "eventName": "An Inspection report file is ready to view",
        "payload": story.data("report.file_ready"),
    }
    assert (message[:3], message[17]) == ("wh-", "1"), "a version-1 UUID"
    assert "authorization" not in got.headers
    account = {"username": "qrm", "password": "pässword"}
    assert owner.update(story.tenant, webhook, auth=account)["auth"] == {**account, "type": "basic", "password": "…"}
    story.expect("basic", account)
    story.move("second")
    story.expect("basic", account)
    owner.update(story.tenant, webhook, name="Reports", url=story.url, **KEPT)
    got, _ = story.delivered("report.created")
    assert got.headers["authorization"] == "Basic " + base64.b64encode("qrm:pässword".encode()).decode()
    assert owner.update(story.tenant, webhook, auth={"type": "none"})["auth"] == {"type": "none"}
    story.expect("none")
    got, _ = story.delivered("report.created")
    assert "authorization" not in got.headers
    sent_again(story, "report.created", 3)
    story.answers(Script(status=204))
    story.send("report.created")
    failed = story.logged(story.last, "failed")
    assert [one["status_code"] for one in failed["attempts"]] == [204] * 4, "exactly 200 counts, three repeats"
    story.answers()
    switched(story, owner, webhook, "report.created")
    removed(story, owner, webhook, "report.created")


def _inspectorio_refuses(story: Story, owner: Way, form: Json) -> None:
    with story.refused("Webhooks are configured by an admin or the account owner."):
        story.role("manager").create(story.tenant, **form)
    with story.refused("Webhook Name is mandatory."):
        owner.create(story.tenant, url=story.url, events=["report.created"])
    with story.refused("Select at least 1 event for your webhook."):
        owner.create(story.tenant, name="n", url=story.url)
    with story.refused("'Rapport' is not a component"):
        owner.create(story.tenant, **{**form, "components": ["Rapport"]})
    with story.refused("'report.burned' matches no event type"):
        owner.create(story.tenant, name="n", url=story.url, events=["report.burned"])
    with story.refused("Password is required"):
        owner.create(story.tenant, **form, auth={"username": "qrm"})


def qase(story: Story) -> None:
    """Project settings → Webhooks: on a plan that has them; title, endpoint, events, a secret that is sent as it is."""
    owner, secret = story.role("admin"), "the text of their own: 123"
    form = {"name": "CI", "url": story.url, "events": ["shared_step.*", "case.created"], "auth": {"secret": secret}}
    with story.refused(UNAVAILABLE):
        owner.create(story.tenant, **form)
    story.admin.change_tenant(story.tenant, plan="startup")
    _qase_refuses(story, owner, form)
    made = owner.create(story.tenant, **form)
    webhook = made["id"]
    assert (made["status"], made["name"], secret in str(made)) == ("active", "CI", False)
    story.expect("qase_secret", {"secret": secret})
    assert tested(story, owner, webhook, "case.created")["project_code"] == story.tenant
    got, body = story.delivered("shared_step.created")
    assert body == {
        "event_name": "shared_step.created",
        "timestamp": TIME_S,
        "payload": story.data("shared_step.created"),
        "team_member_id": 40,
        "project_code": story.tenant,
    }
    assert got.headers["x-qase-secret"] == secret
    sent_again(story, "case.created")
    story.move("second")
    story.expect("qase_secret", {"secret": secret})
    owner.update(story.tenant, webhook, name="Reports", url=story.url, events=["run.completed"], **KEPT)
    got, _ = story.delivered("run.completed")
    assert (got.headers["x-qase-secret"], got.headers["x-team"]) == (secret, "billing")
    switched(story, owner, webhook, "run.completed")
    _downgraded(story, owner, webhook, "run.completed")
    got, _ = story.delivered("run.completed")
    assert got.headers["x-qase-secret"] == secret
    removed(story, owner, webhook, "run.completed")


def _qase_refuses(story: Story, owner: Way, form: Json) -> None:
    with story.refused("You must be an admin to configure webhooks."):
        story.role("viewer").create(story.tenant, **form)
    with story.refused("A webhook needs a title."):
        owner.create(story.tenant, **{name: value for name, value in form.items() if name != "name"})
    with story.refused("Select at least one event."):
        owner.create(story.tenant, **{**form, "events": []})
    with story.refused("'case.burned' matches no event type"):
        owner.create(story.tenant, **{**form, "events": ["case.burned"]})


def _downgraded(story: Story, owner: Way, webhook: str, kind: str) -> None:
    """On a plan without webhooks they are suspended; nothing is deleted; on a better one they go on as they were."""
    story.admin.change_tenant(story.tenant, plan="free")
    (held,) = owner.listed(story.tenant)
    assert (held["id"], held["status"], held["active"]) == (webhook, "suspended", True)
    assert held["state"]["reason"] == UNAVAILABLE
    story.unheard(kind)
    for what in ("test", "activate"):
        with story.refused(UNAVAILABLE):
            owner.act(story.tenant, webhook, what)
    story.admin.change_tenant(story.tenant, plan="enterprise")
    assert {**held, "status": "active", "state": {**held["state"], "reason": None}} == owner.show(story.tenant, webhook)


def monithq(story: Story) -> None:
    """Endpoint, events, a secret that signs the raw body: the page's receivers check it so. Exactly 200 counts."""
    owner = story.role("admin")
    with story.refused("You must be an admin to configure webhooks."):
        story.role("manager").create(story.tenant, url=story.url, components=["Site"])
    with story.refused("Select at least one event."):
        owner.create(story.tenant, url=story.url)
    with story.refused("'site_burned' matches no event type"):
        owner.create(story.tenant, url=story.url, events=["site_burned"])
    with story.refused("'Sites' is not a component"):
        owner.create(story.tenant, url=story.url, components=["Sites"])
    made = owner.create(story.tenant, url=story.url, components=["Site"], events=["incident_created"])
    webhook, secret = made["id"], made["auth"]["secret"]
    assert (made["status"], made["components"], len(bytes.fromhex(secret))) == ("active", ["Site"], 32)
    story.expect("monithq_hmac", {"secret": secret})
    assert tested(story, owner, webhook, "incident_created")["event"] == "incident_created"
    _, body = story.delivered("site_down")
    assert body == {"event": "site_down", "timestamp": TIME, "data": story.data("site_down")}
    story.unheard("incident_resolved")
    sent_again(story, "site_up")
    story.move("second")
    story.expect("monithq_hmac", {"secret": secret})
    changed = owner.update(story.tenant, webhook, url=story.url, name="Pager", events=["incident_resolved"], **KEPT)
    assert changed["auth"]["secret"] == f"…{secret[-4:]}"
    story.delivered("incident_resolved")
    switched(story, owner, webhook, "site_degraded")
    removed(story, owner, webhook, "site_degraded")


def bugbounty(story: Story) -> None:
    """Admin panel → Integrations → Webhook notifications: one per business unit, over HTTPS; *Test configuration*."""
    form, manager = {"url": story.url, "events": ["report.created", "comment.created"]}, story.role("manager")
    story.expect("standard_webhooks", {"secret": "whsec_" + base64.b64encode(bytes(32)).decode()})
    with story.refused("You must have at least one program in your Business Unit to configure a webhook."):
        manager.create(story.tenant, **form)
    story.admin.change_tenant(story.tenant, programs=1)
    _bugbounty_refuses(story, manager, form)
    made = manager.create(story.tenant, **form)
    assert (made["id"], made["status"]) == ("default", "active")
    assert story.requests == (), "configuring sends nothing"
    with story.refused("A business unit can only have one webhook integration at a time."):
        story.role("owner").create(story.tenant, **form)
    secret = {"secret": made["auth"]["secret"]}
    story.expect("standard_webhooks", secret)
    _failing_test(story, manager)
    _, body = story.delivered("comment.created")
    data = story.data("comment.created")
    assert body == {"type": "comment.created", "timestamp": "2025-11-05T10:30:00.000Z", "data": data}
    eventually(lambda: manager.show(story.tenant, "default")["state"]["error"] is None)
    tested(story, manager, "default", "report.created")
    sent_again(story, "report.created")
    story.move("second")
    story.expect("standard_webhooks", secret)
    manager.update(story.tenant, "default", url=story.url, events=["report.assessed"], **KEPT)
    story.delivered("report.assessed")
    switched(story, manager, "default", "report.assessed")
    removed(story, manager, "default", "report.assessed")
    again = manager.create(story.tenant, **{**form, "url": story.move("third")})
    assert (again["id"], again["version"], again["auth"]["secret"] != made["auth"]["secret"]) == ("default", 1, True)
    story.expect("standard_webhooks", {"secret": again["auth"]["secret"]})
    story.delivered("report.created")


def _bugbounty_refuses(story: Story, manager: Way, form: Json) -> None:
    with story.refused("You must be a Business Unit Owner or a Business Unit Manager"):
        story.role("viewer").create(story.tenant, **form)
    with story.refused("The provided URL must be in HTTPS."):
        manager.create(story.tenant, **{**form, "url": story.url.replace("https:", "http:")})
    with story.refused("Select at least one event."):
        manager.create(story.tenant, url=story.url)
    with story.refused("'report.burned' matches no event type"):
        manager.create(story.tenant, url=story.url, events=["report.burned"])


def _failing_test(story: Story, manager: Way) -> None:
    """Three attempts by itself; then the error's class and what to do, also on the configuration."""
    story.answers(Script(status=500))
    failed = manager.act(story.tenant, "default", "test")
    assert (failed["outcome"], [one["status_code"] for one in failed["attempts"]]) == ("server_error", [500] * 3)
    assert len({one.webhook_id for one in story.requests}) == 1
    error = manager.show(story.tenant, "default")["state"]["error"]
    assert (error["outcome"], error["advice"]) == ("server_error", failed["advice"])
    story.answers()


STORIES: Mapping[str, Callable[[Story], None]] = {
    story.__name__: story for story in (standard, monitorqa, inspectorio, qase, monithq, bugbounty)
}
