"""MonitorQA: audits and corrective actions. One URL in the settings, every event to it, no authentication.

An answer outside 2xx is final; only where no answer came, or came too late, is the message sent again.
"""

from __future__ import annotations

from pipeline.flow.deliver import Verdict
from pipeline.profiles._body import event_data_company
from pipeline.profiles._catalogue import Catalogue, Component, EventType
from pipeline.profiles._credentials import Nothing
from pipeline.profiles._profile import FormField, Profile, Refusals
from pipeline.profiles._retry import RetryRule, waits
from pipeline.profiles._rules import data_is_object
from pipeline.profiles._schemas import NULL, OBJECT, STRING, each, listing, or_null, record

_NAMED = record("", each(STRING, "id name"))
_AUDIT_DATA = record("auditId", auditId=STRING)
_DETAILS = record(
    "auditId",
    each(STRING, "auditId name status startedAt completedAt"),
    each(or_null(_NAMED), "template location completedBy"),
    score=or_null(OBJECT),
    sections=listing(OBJECT),
)
_ACTION = record(
    "",
    each(STRING, "id name status"),
    auditId=or_null(STRING),
    createdBy=or_null(_NAMED),
    assignees=listing(_NAMED),
)
_CHANGED = record("correctiveActionId correctiveAction", correctiveActionId=STRING, correctiveAction=_ACTION)
_GONE = record("correctiveActionId correctiveAction", correctiveActionId=STRING, correctiveAction=NULL)
_TEMPLATE_DATA = record("id name", each(STRING, "id name"))

_AUDIT = Component(
    "Audit",
    (
        EventType("AUDIT_ASSIGNED", "Audit assigned", "An audit is assigned to a user.", _AUDIT_DATA),
        EventType(
            "AUDIT_COMPLETED", "Audit completed", "An audit is completed; the data holds the audit's details.", _DETAILS
        ),
        EventType("AUDIT_DELETED", "Audit deleted", "An audit is deleted.", _AUDIT_DATA),
        EventType("AUDIT_EXPIRED", "Audit expired", "An audit is past its due date.", _AUDIT_DATA),
        EventType("AUDIT_RESCHEDULED", "Audit rescheduled", "An audit is opened again.", _AUDIT_DATA),
    ),
)
_CORRECTIVE_ACTION = Component(
    "Corrective action",
    (
        EventType(
            "CORRECTIVE_ACTION_CREATED", "Corrective action created", "A corrective action is created.", _CHANGED
        ),
        EventType("CORRECTIVE_ACTION_ASSIGNED", "Corrective action assigned", "It is assigned to a user.", _CHANGED),
        EventType(
            "CORRECTIVE_ACTION_SUBMITTED", "Corrective action submitted", "It is submitted for approval.", _CHANGED
        ),
        EventType("CORRECTIVE_ACTION_APPROVED", "Corrective action approved", "It is approved.", _CHANGED),
        EventType("CORRECTIVE_ACTION_REJECTED", "Corrective action rejected", "It is rejected.", _CHANGED),
        EventType(
            "CORRECTIVE_ACTION_DELETED",
            "Corrective action deleted",
            "It is deleted; `correctiveAction` is null.",
            _GONE,
        ),
        EventType("CORRECTIVE_ACTION_EXPIRED", "Corrective action expired", "It is past its due date.", _CHANGED),
        EventType(
            "CORRECTIVE_ACTION_UPDATED",
            "Corrective action updated",
            "It is changed, but neither its status nor its assignees.",
            _CHANGED,
        ),
    ),
)
_TEMPLATE = Component(
    "Template",
    (
        EventType("TEMPLATE_CREATED", "Template created", "A user creates a template.", _TEMPLATE_DATA),
        EventType("TEMPLATE_DELETED", "Template deleted", "A user deletes a template.", _TEMPLATE_DATA),
    ),
)

MONITORQA = Profile(
    name="monitorqa",
    title="MonitorQA",
    tenant_noun="company",
    catalogue=Catalogue((_AUDIT, _CORRECTIVE_ACTION, _TEMPLATE)),
    form=(
        FormField(
            "url", "Webhook URL", "url", required=True, help="Where MonitorQA sends its notifications, all of them."
        ),
    ),
    schemes=(Nothing(),),
    body=event_data_company,
    rules=(data_is_object,),
    deadline_s=10.0,
    retry=RetryRule(waits("5s 5m 30m 2h 5h"), final=(Verdict.REJECTED, Verdict.TOO_LARGE)),
    default_events=("*",),
    chooses_events=False,
    max_webhooks=1,
    refusals=Refusals(
        second="A company has one webhook URL: change it in the settings.",
        events="MonitorQA sends every event to the webhook URL: events cannot be chosen.",
    ),
)
