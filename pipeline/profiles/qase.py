"""Qase: what happens in a project's test management. Event names as its public reference has them."""

from __future__ import annotations

from pipeline.profiles import _retry
from pipeline.profiles._body import project_event
from pipeline.profiles._catalogue import Catalogue, Component, EventType
from pipeline.profiles._credentials import SecretHeader
from pipeline.profiles._profile import FormField, PlanIn, Profile, Refusals
from pipeline.profiles._rules import actor_is_integer, data_is_object
from pipeline.profiles._schemas import BOOLEAN, INTEGER, OBJECT, STRING, Schema, each, listing, or_null, record

_TEXT, _NUMBER = or_null(STRING), or_null(INTEGER)
_PERSON = record("", each(STRING, "email name"))
_ENTITY = {"id": INTEGER, "title": STRING, "description": _TEXT}
_THING = record("id", _ENTITY)
_CASE = record(
    "id",
    _ENTITY,
    each(_TEXT, "preconditions postconditions"),
    each(_NUMBER, "suite_id milestone_id"),
    steps=listing(OBJECT),
)
_SUITE = record("id", _ENTITY, preconditions=_TEXT, parent_id=_NUMBER)
_PLAN = record("id", _ENTITY, cases=listing(OBJECT))
_SHARED_STEP = record("", each(STRING, "hash title"), steps=listing(OBJECT))
_RUN_DATA = record("id", _ENTITY, cases_count=INTEGER)
_COUNTED = record("id", each(INTEGER, "id cases passed failed blocked skipped untested"))
_ADDED = record("id", id=INTEGER, cases=listing(INTEGER))
_LINK = record("id", id=INTEGER, status=BOOLEAN, url=_TEXT)
_REVIEW_DATA = record(
    "id",
    _ENTITY,
    each(STRING, "project status comment"),
    each(_PERSON, "reviewer created_by updated_by merged_by declined_by commented_by"),
    case_id=INTEGER,
    data=OBJECT,
    approves=listing(_PERSON),
)

_VERBS = {"created": "Create", "updated": "Update", "deleted": "Delete", "cloned": "Clone"}


def _entity(component: str, entity: str, noun: str, verbs: str, data: Schema) -> Component:
    return Component(
        component,
        tuple(EventType(f"{entity}.{verb}", f"{_VERBS[verb]} {noun}", data=data) for verb in verbs.split()),
    )


_RUN = Component(
    "Test Runs",
    (
        EventType("run.started", "Test run start", data=_RUN_DATA),
        EventType("run.aborted", "Test run aborted", data=_COUNTED),
        EventType("run.updated", "Test cases added to run", data=_ADDED),
        EventType("run.deleted", "Delete test run", data=_RUN_DATA),
        EventType("run.completed", "Complete test run", data=_COUNTED),
        EventType("run.report_changed", "Public link turned on", data=_LINK),
    ),
)
_DEFECT = Component(
    "Defects",
    (
        EventType("defect.created", "Create defect", data=_THING),
        EventType("defect.resolved", "Resolve defect", data=_THING),
        EventType("defect.deleted", "Delete defect", data=_THING),
    ),
)
_REVIEW = Component(
    "Reviews",
    (
        EventType("review.created", "Create test review", data=_REVIEW_DATA),
        EventType("review.updated", "Update test review", data=_REVIEW_DATA),
        EventType("review.approval_status_changed", "Approval status change", data=_REVIEW_DATA),
        EventType("review.reviewer_added", "Reviewer added", data=_REVIEW_DATA),
        EventType("review.reviewer_removed", "Reviewer removed", data=_REVIEW_DATA),
        EventType("review.merged", "Merge test review", data=_REVIEW_DATA),
        EventType("review.reopened", "Reopen test review", data=_REVIEW_DATA),
        EventType("review.commented", "Comment test review", data=_REVIEW_DATA),
        EventType("review.declined", "Decline test review", data=_REVIEW_DATA),
        EventType("review.deleted", "Delete test review", data=_REVIEW_DATA),
    ),
)

QASE = Profile(
    name="qase",
    title="Qase",
    tenant_noun="project",
    catalogue=Catalogue(
        (
            _entity("Test Cases", "case", "test case", "created updated deleted cloned", _CASE),
            _entity("Test Suites", "suite", "test suite", "created updated deleted cloned", _SUITE),
            _entity("Test Plans", "plan", "test plan", "created updated deleted", _PLAN),
            _entity("Shared Steps", "shared_step", "shared step", "created updated deleted", _SHARED_STEP),
            _entity("Milestones", "milestone", "milestone", "created updated deleted", _THING),
            _entity("Custom Fields", "custom_field", "custom field", "created updated deleted", _THING),
            _RUN,
            _DEFECT,
            _REVIEW,
        )
    ),
    form=(
        FormField("name", "Title", required=True, help="A name for your webhook."),
        FormField("url", "Endpoint", "url", required=True, help="A URL on your side that the public web can reach."),
        FormField("auth.secret", "Secret", "secret", help="Text that is sent as the X-Qase-Secret header."),
        FormField(
            "events", "Events", "events", required=True, help="What sends a request to the endpoint: at least one."
        ),
    ),
    schemes=(SecretHeader("qase_secret", "X-Qase-Secret"),),
    body=project_event,
    rules=(data_is_object, actor_is_integer),
    retry=_retry.STANDARD,
    name_required=True,
    preconditions=(
        PlanIn(
            ("startup", "business", "enterprise"),
            "Webhooks are available in Startup, Business, and Enterprise subscriptions.",
        ),
    ),
    refusals=Refusals(name="A webhook needs a title."),
)
