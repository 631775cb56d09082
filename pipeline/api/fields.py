"""The fields of a webhook's form, so described that a page can draw and fill them in for any product."""

from __future__ import annotations

from pydantic import BaseModel, Field

from pipeline.api.certificates import MAX_PEM
from pipeline.api.forms import MAX_IN_FLIGHT, MAX_RATE, MAX_SECRET
from pipeline.api.lists import MAX_NAME
from pipeline.flow.expressions import MAX_CHARACTERS
from pipeline.http.headers import MAX_VALUE
from pipeline.http.url_rules import MAX_URL
from pipeline.profiles import FormField, Profile

_MOST_CHARACTERS = {
    "text": MAX_NAME,
    "url": MAX_URL,
    "secret": MAX_SECRET,
    "password": MAX_SECRET,
    "headers": MAX_VALUE,
    "expression": MAX_CHARACTERS,
    "pem": MAX_PEM,
}
_MOST = {"rate": MAX_RATE, "max_in_flight": float(MAX_IN_FLIGHT)}

_CERTIFICATE = "Client certificate"
_EVERYWHERE = (
    FormField("rate", "Requests per second", "number", help="At most; without one, as many as the endpoint can take."),
    FormField("max_in_flight", "Requests at a time", "integer", help="At most."),
    FormField("headers", "Headers", "headers", help="Sent with every request; their values are not shown again."),
    FormField(
        "filter", "Filter", "expression", help="JMESPath over the event: only those for which it gives something."
    ),
    FormField("projection", "Projection", "expression", help="JMESPath over the event: what is sent as its data."),
    FormField(
        "client_certificate.certificate",
        "Certificate",
        "pem",
        help="For an endpoint that asks who sends: PEM, with those that lead to its root.",
        section=_CERTIFICATE,
    ),
    FormField(
        "client_certificate.private_key",
        "Private key",
        "pem",
        help="PEM, not encrypted; it is never shown.",
        section=_CERTIFICATE,
    ),
)


class FieldOut(BaseModel):
    """A field of the form: `name` is its place in the webhook's JSON, with dots; fields of a section go together."""

    name: str
    label: str
    kind: str = Field(
        description="How it is filled in: text, url, events (types, or whole components of the tree), secret, "
        "password, number, integer, headers (by name), expression, pem."
    )
    required: bool
    help: str
    section: str = Field(description="Its section, which can be switched off as a whole; empty for none.")
    auth_type: str | None = Field(
        description="The way to authenticate that it belongs to. Switched off, the first of `auth` is meant."
    )
    max_characters: int | None
    maximum: float | None


def form_of(profile: Profile) -> list[FieldOut]:
    """The product's own form, in its page's order."""
    return [_shown(profile, one) for one in profile.form]


def options_of(profile: Profile) -> list[FieldOut]:
    """What any webhook may have besides."""
    own = {one.name for one in profile.form}
    wanted = (one for one in _EVERYWHERE if one.name not in own and (profile.projects or one.name != "projection"))
    return [_shown(profile, one) for one in wanted]


def _shown(profile: Profile, one: FormField) -> FieldOut:
    return FieldOut(
        name=one.name,
        label=one.label,
        kind=one.kind,
        required=one.required,
        help=one.help,
        section=one.section,
        auth_type=_auth_type(profile, one.name),
        max_characters=_MOST_CHARACTERS.get(one.kind),
        maximum=_MOST.get(one.name),
    )


def _auth_type(profile: Profile, name: str) -> str | None:
    place, _, field = name.partition(".")
    if place != "auth":
        return None
    return next(scheme.name for scheme in profile.schemes if any(one.name == field for one in scheme.fields))
