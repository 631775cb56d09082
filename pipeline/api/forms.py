"""A webhook's form: what a client may write, laid over what is there, and judged by its product's rules. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from pipeline.api.certificates import CertificateForm, merged
from pipeline.api.lists import Name, Strict
from pipeline.api.problems import FieldError, invalid
from pipeline.flow.deliver import ClientCertificate
from pipeline.flow.expressions import MAX_CHARACTERS, Fault, compiled
from pipeline.http.guard import EgressPolicy, check_url
from pipeline.http.headers import check_customer_headers
from pipeline.http.url_rules import Refusal as UrlRefusal
from pipeline.profiles import RANDOM_BYTES, Profile, Scheme
from pipeline.store.secrets import Secrets

MAX_EVENTS = 200
MAX_RATE = 10_000.0
MAX_IN_FLIGHT = 1_000
MAX_SECRET = 1024

Url = Annotated[str, StringConstraints(max_length=4096)]
EventName = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Secret = Annotated[str, StringConstraints(max_length=MAX_SECRET)]
Jmespath = Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARACTERS)]


class AuthForm(Strict):
    """How requests prove who sent them. Which fields there are depends on the type: see the profile."""

    type: str | None = Field(default=None, max_length=64, examples=["standard_webhooks"])
    secret: Secret | None = Field(default=None, description="Generated where one is needed and missing.")
    algorithm: str | None = Field(default=None, max_length=64, description="Which kind of secret to generate.")
    username: Secret | None = None
    password: Secret | None = None


class WebhookPatch(Strict):
    """A JSON merge patch (RFC 7396): what is not given stays, a secret too."""

    name: Name | None = None
    url: Url | None = Field(default=None, examples=["https://example.com/webhooks"])
    events: list[EventName] | None = Field(default=None, max_length=MAX_EVENTS, examples=[["invoice.*"]])
    components: list[EventName] | None = Field(default=None, max_length=MAX_EVENTS)
    active: bool | None = None
    rate: Annotated[float, Field(gt=0, le=MAX_RATE)] | None = Field(default=None, description="Requests per second.")
    max_in_flight: Annotated[int, Field(ge=1, le=MAX_IN_FLIGHT)] | None = None
    headers: dict[str, str | None] | None = Field(default=None, description="Sent with every request.")
    filter: Jmespath | None = Field(
        default=None,
        description="JMESPath over `{id, type, time, data, actor, subject, source}`: of the events that are wanted by "
        "their type it gets those for which the result is not null, false or empty.",
        examples=["data.amount > `100`"],
    )
    projection: Jmespath | None = Field(
        default=None,
        description="JMESPath over the same: its result is the body's `data`. Only for products that allow it.",
        examples=["{invoice: data.invoice, by: actor}"],
    )
    auth: AuthForm | None = None
    client_certificate: CertificateForm | None = None


class WebhookIn(WebhookPatch):
    """A new webhook."""

    url: Url = Field(examples=["https://example.com/webhooks"])


@dataclass(frozen=True, slots=True, repr=False)
class Draft:
    """A webhook as a person fills it in: no ids, no times, secrets in the open."""

    url: str = ""
    name: str | None = None
    events: tuple[str, ...] = ()
    components: tuple[str, ...] = ()
    active: bool = True
    rate: float | None = None
    max_in_flight: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    auth_type: str = ""
    secrets: Secrets = field(default_factory=lambda: Secrets({}))
    client_certificate: ClientCertificate | None = None
    generated: Mapping[str, str] = field(default_factory=dict)
    filter: str | None = None
    projection: str | None = None


def filled(draft: Draft, form: WebhookPatch, profile: Profile, random: Callable[[int], bytes]) -> Draft:
    """The draft with the form's fields laid over it, what the product presumes, and secrets where some are needed.

    Raises `Refusal` (422) when the way to authenticate is none of the product's.
    """
    given = form.model_fields_set
    plain = {name: _plain(name, getattr(form, name)) for name in given - {"headers", "auth", "client_certificate"}}
    headers = _merged(draft.headers, form.headers) if "headers" in given else draft.headers
    laid = replace(draft, **plain, headers=headers)
    if "client_certificate" in given:
        laid = replace(laid, client_certificate=merged(draft.client_certificate, form.client_certificate))
    if not (laid.events or laid.components):
        laid = replace(laid, events=profile.default_events)
    if not laid.auth_type:
        laid = replace(laid, auth_type=profile.schemes[0].name)
    return _authenticated(laid, form.auth, profile, random, given="auth" in given)


def judge(draft: Draft, profile: Profile, policy: EgressPolicy, found: Sequence[FieldError] = ()) -> None:
    """Raise `Refusal` (422) with all that the product or the platform does not accept, and what was `found` before."""
    errors = [*_name(draft, profile), *_url(draft, profile, policy), *_events(draft, profile), *_auth(draft, profile)]
    errors += [*_headers(draft, profile), *_certificate(draft), *unusable(draft.filter, draft.projection, profile)]
    errors += found
    if errors:
        raise invalid(errors)


def unusable(filter_: str | None, projection: str | None, profile: Profile) -> list[FieldError]:
    """What is wrong with these expressions, and where in them."""
    if projection is not None and not profile.projects:
        return [FieldError("/projection", "profile", f"{profile.title} sends its events whole: there is no projection")]
    given = {field: compiled(text) for field, text in (("/filter", filter_), ("/projection", projection)) if text}
    return [FieldError(field, "jmespath", str(made)) for field, made in given.items() if isinstance(made, Fault)]


def completed(
    scheme: Scheme, values: Mapping[str, str], algorithm: str | None, random: Callable[[int], bytes]
) -> dict[str, str]:
    """What must be generated: secrets that are needed and missing."""
    if all(values.get(one.name) for one in scheme.fields if one.required):
        return {}
    made = scheme.generate(random(RANDOM_BYTES), algorithm)
    return {name: value for name, value in made.items() if not values.get(name)}


def check_algorithm(scheme: Scheme, algorithm: str | None, secret: str | None) -> None:
    """Raise `Refusal` (422) for an algorithm that the scheme does not have, or that the secret given is not of."""
    if algorithm is None:
        return
    if algorithm not in scheme.algorithms:
        choice = ", ".join(scheme.algorithms) or "none"
        raise invalid([FieldError("/auth/algorithm", "algorithm", f"The algorithm must be one of: {choice}")])
    prefix = scheme.generate(bytes(RANDOM_BYTES), algorithm)["secret"].partition("_")[0] + "_"
    if secret and not secret.startswith(prefix):
        raise invalid([FieldError("/auth/algorithm", "algorithm", f"A secret of this algorithm begins with {prefix}")])


def _authenticated(
    draft: Draft, form: AuthForm | None, profile: Profile, random: Callable[[int], bytes], *, given: bool
) -> Draft:
    scheme = _scheme(draft, form, profile, given=given)
    values, algorithm = _values(draft, form, scheme, given=given), form.algorithm if form else None
    check_algorithm(scheme, algorithm, form.secret if form else None)
    made = completed(scheme, values, algorithm, random)
    whole = {**values, **made}
    previous = draft.secrets.previous if whole == draft.secrets.values else ()
    return replace(draft, auth_type=scheme.name, secrets=Secrets(whole, previous), generated=made)


def _scheme(draft: Draft, form: AuthForm | None, profile: Profile, *, given: bool) -> Scheme:
    """The scheme that the form names, else the first that has all fields given; taken away: the product's first."""
    names = form.model_fields_set - {"type", "algorithm"} if form else set()
    if given and form is None:
        return profile.schemes[0]
    wanted = (form.type if form else None) or _having(names, draft, profile)
    if (scheme := profile.scheme(wanted)) is None:
        choice = ", ".join(one.name for one in profile.schemes)
        raise invalid([FieldError("/auth/type", "auth_type", f"The type must be one of: {choice}")])
    known = {one.name for one in scheme.fields}
    if unknown := sorted(names - known):
        message = f"Authentication by {scheme.name} has no {unknown[0]}"
        raise invalid([FieldError(f"/auth/{unknown[0]}", "unknown", message)])
    return scheme


def _having(names: set[str], draft: Draft, profile: Profile) -> str:
    held = [scheme for scheme in profile.schemes if scheme.name == draft.auth_type]
    fits = (one.name for one in (*held, *profile.schemes) if names <= {each.name for each in one.fields})
    return next(fits, draft.auth_type)


def _values(draft: Draft, form: AuthForm | None, scheme: Scheme, *, given: bool) -> dict[str, str]:
    held = draft.secrets.values if scheme.name == draft.auth_type else {}
    if given and form is None:  # taken away: only what the scheme cannot do without stays
        return {one.name: held[one.name] for one in scheme.fields if one.required and one.name in held}
    return _merged(
        held, {one.name: getattr(form, one.name) for one in scheme.fields if form and one.name in form.model_fields_set}
    )


def _merged(held: Mapping[str, str], given: Mapping[str, str | None] | None) -> dict[str, str]:
    """RFC 7396: null takes away."""
    if given is None:
        return {}
    return {name: value for name, value in {**held, **given}.items() if value is not None}


def _plain(name: str, value: Any) -> Any:
    match value:
        case list():
            return tuple(dict.fromkeys(value))
        case None:
            return getattr(_BLANK, name)
    return value


def _name(draft: Draft, profile: Profile) -> list[FieldError]:
    missing = profile.name_required and not (draft.name or "").strip()
    return [FieldError("/name", "required", profile.refusals.name)] if missing else []


def _url(draft: Draft, profile: Profile, policy: EgressPolicy) -> list[FieldError]:
    found = check_url(draft.url, policy, https_only=profile.https_only)
    if not isinstance(found, UrlRefusal):
        return []
    own = profile.https_only and found.rule in {"https", "scheme"}
    return [FieldError("/url", found.rule, profile.refusals.https if own else found.message)]


def _events(draft: Draft, profile: Profile) -> list[FieldError]:
    refusal = profile.choice_refusal(draft.events, draft.components)
    if refusal is None:
        return []
    of_components = bool(draft.components) and (
        not profile.chooses_events or profile.catalogue.refusal((), draft.components)
    )
    return [FieldError("/components" if of_components else "/events", "events", refusal)]


def _auth(draft: Draft, profile: Profile) -> list[FieldError]:
    scheme = profile.scheme(draft.auth_type)
    refusal = scheme.refusal(draft.secrets.in_force()) if scheme else None
    if scheme is None or refusal is None:
        return []
    name, reason = refusal
    label = next((one.label for one in scheme.fields if one.name == name), name)
    return [FieldError(f"/auth/{name}", "required" if reason == "is required" else "secret", f"{label} {reason}")]


def _headers(draft: Draft, profile: Profile) -> list[FieldError]:
    scheme = profile.scheme(draft.auth_type)
    reserved = {name.lower() for name in (scheme.headers if scheme else ())}
    refused = check_customer_headers(draft.headers, reserved)
    return [FieldError(f"/headers/{name}".removesuffix("/"), "header", reason) for name, reason in refused]


def _certificate(draft: Draft) -> list[FieldError]:
    if draft.client_certificate is None or not draft.url.lower().startswith("http:"):
        return []
    return [FieldError("/client_certificate", "https", "A client certificate can only be shown to an https:// URL")]


_BLANK = Draft()
