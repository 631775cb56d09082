"""`pipeline webhooks`: who gets which events, where."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli import _output, _trial
from pipeline.cli._options import DataDir, Key, Limit, Output, Tenant, Url, Webhook, path, rest
from pipeline.cli._order import Detach, begin
from pipeline.cli._output import Format
from pipeline.cli._times import FORMS, rfc3339
from pipeline.cli.filters import Filter, Projection, written
from pipeline.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Who gets which events, where.")

COLUMNS = ("id", "name", "url", "events", "components", "status", "updated_at")
_COUNTING_S = 600.0
"""All events since a time are read for it."""
SECRET_VARIABLE = "PIPELINE_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable

Target = Annotated[str | None, typer.Option("--url", help="Where events are sent.", show_default=False)]
Name = Annotated[str | None, typer.Option(help="What it is for; the title.", show_default=False)]
Events = Annotated[
    list[str] | None, typer.Option("--event", help="An event type, prefix* or *; may be repeated.", show_default=False)
]
Components = Annotated[
    list[str] | None, typer.Option("--component", help="A whole component; may be repeated.", show_default=False)
]
Headers = Annotated[
    list[str] | None,
    typer.Option("--header", help="'Name: value', sent along; no value takes it away.", show_default=False),
]
Rate = Annotated[float | None, typer.Option(help="Requests per second at most.", show_default=False)]
MaxInFlight = Annotated[int | None, typer.Option(help="Requests at a time at most.", show_default=False)]
AuthType = Annotated[str | None, typer.Option(help="How requests prove who sent them.", show_default=False)]
Secret = Annotated[
    str | None,
    typer.Option(
        help=f"The secret, where it is yours to choose. [env: {SECRET_VARIABLE}, which other users cannot see]",
        show_default=False,
    ),
]
Algorithm = Annotated[str | None, typer.Option(help="Which kind of secret to generate.", show_default=False)]
Username = Annotated[str | None, typer.Option(help="For basic authentication.", show_default=False)]
Password = Annotated[str | None, typer.Option(help=f"Its password. [env: {SECRET_VARIABLE}]", show_default=False)]
ClientCertificate = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="For mutual TLS: a PEM chain; '' takes it away.", show_default=False),
]
ClientKey = Annotated[str | None, typer.Option(metavar="FILE", help="Its private key (PEM).", show_default=False)]


@app.command("list")
def list_(
    tenant: Tenant,
    *,
    output: Output = Format.TABLE,
    limit: Limit = 200,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """The tenant's webhooks, newest first."""
    with rest(url, key, data_dir) as api:
        _output.rows(api.all(_path(tenant), limit), COLUMNS, output)


@app.command()
def show(
    tenant: Tenant,
    webhook: Webhook,
    *,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """One webhook; secrets are masked."""
    with rest(url, key, data_dir) as api:
        _output.record(api.get(_path(tenant, webhook)), output)


@app.command()
def create(
    tenant: Tenant,
    *,
    target: Target = None,
    name: Name = None,
    event: Events = None,
    component: Components = None,
    header: Headers = None,
    rate: Rate = None,
    max_in_flight: MaxInFlight = None,
    filter_: Filter = None,
    projection: Projection = None,
    auth_type: AuthType = None,
    secret: Secret = None,
    algorithm: Algorithm = None,
    username: Username = None,
    password: Password = None,
    client_certificate: ClientCertificate = None,
    client_key: ClientKey = None,
    inactive: Annotated[bool, typer.Option("--inactive", help="Made, but not switched on.")] = False,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Make a webhook. A secret that is generated is shown this once."""
    auth = auth_of(type=auth_type, secret=secret, algorithm=algorithm, username=username, password=password)
    plain = _given(url=target, name=name, events=event, components=component, rate=rate, max_in_flight=max_in_flight)
    certificate = _certificate(client_certificate, client_key)
    body = {**plain, **written(filter_, projection), **_headers(header), **auth, **certificate}
    if inactive:
        body["active"] = False
    with rest(url, key, data_dir) as api:
        _output.record(api.post(_path(tenant), body), output)


@app.command()
def update(
    tenant: Tenant,
    webhook: Webhook,
    *,
    target: Target = None,
    name: Name = None,
    event: Events = None,
    component: Components = None,
    header: Headers = None,
    rate: Rate = None,
    max_in_flight: MaxInFlight = None,
    filter_: Filter = None,
    projection: Projection = None,
    auth_type: AuthType = None,
    secret: Secret = None,
    algorithm: Algorithm = None,
    username: Username = None,
    password: Password = None,
    client_certificate: ClientCertificate = None,
    client_key: ClientKey = None,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Change what is given; all else stays, a secret too."""
    auth = auth_of(type=auth_type, secret=secret, algorithm=algorithm, username=username, password=password)
    plain = _given(url=target, name=name, events=event, components=component, rate=rate, max_in_flight=max_in_flight)
    body = {**plain, **written(filter_, projection), **_headers(header), **auth}
    body |= _certificate(client_certificate, client_key)
    if not body:
        raise UsageError("nothing to change: give an option such as --url or --event")
    with rest(url, key, data_dir) as api:
        _output.record(api.patch(_path(tenant, webhook), body), output)


@app.command()
def activate(
    tenant: Tenant,
    webhook: Webhook,
    *,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Switch it on."""
    with rest(url, key, data_dir) as api:
        _output.record(api.post(_path(tenant, webhook, "activate")), output)


@app.command()
def deactivate(
    tenant: Tenant,
    webhook: Webhook,
    *,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Switch it off."""
    with rest(url, key, data_dir) as api:
        _output.record(api.post(_path(tenant, webhook, "deactivate")), output)


@app.command("test")
def try_(
    tenant: Tenant,
    webhook: Webhook,
    *,
    type_: Annotated[
        str | None, typer.Option("--type", help="Which example; the first that it wants.", show_default=False)
    ] = None,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Send it an example, up to three times, and say what came of it; exit code 1 if it failed."""
    with rest(url, key, data_dir) as api:
        result = _trial.follow(api.follow(_path(tenant, webhook, "test"), _given(type=type_)))
    _trial.show(result, output)
    raise typer.Exit(result["outcome"] != _trial.SUCCESS)


@app.command()
def recover(
    tenant: Tenant,
    webhook: Webhook,
    *,
    since: Annotated[str, typer.Option(help=f"Since when: {FORMS}.", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and send nothing.")] = False,
    detach: Detach = False,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Send what it has missed, as a replay: events that failed there, were skipped, or never routed to it."""
    body, where = {"since": rfc3339("--since", since), "dry_run": dry_run}, _path(tenant, webhook, "recover")
    with rest(url, key, data_dir) as api:
        if dry_run:
            _output.record(api.post(where, body, _COUNTING_S), output)
        else:
            begin(api, where, body, output, detach=detach)


@app.command("rotate-secret")
def rotate_secret(
    tenant: Tenant,
    webhook: Webhook,
    *,
    secret: Secret = None,
    algorithm: Algorithm = None,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Replace the secret; says until when the old one signs along."""
    body = auth_of(secret=secret, algorithm=algorithm).get("auth", {})
    with rest(url, key, data_dir) as api:
        _output.record(api.post(_path(tenant, webhook, "rotate-secret"), body), output)


@app.command()
def delete(tenant: Tenant, webhook: Webhook, url: Url = None, key: Key = None, data_dir: DataDir = None) -> None:
    """Remove it; what was delivered stays in the log."""
    with rest(url, key, data_dir) as api:
        api.delete(_path(tenant, webhook))
    _output.aside(f"webhook {webhook} of {tenant} is removed")


def _path(tenant: str, *more: str) -> str:
    return path("tenants", tenant, "webhooks", *more)


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, [])}


def auth_of(**fields: str | None) -> dict[str, Any]:
    """The `auth` of the body. The variable stands for the password beside a username, else for the secret."""
    given = _given(**fields)
    hidden = os.environ.get(SECRET_VARIABLE)
    if hidden is not None:
        given.setdefault("password" if "username" in given else "secret", hidden)
    return {"auth": given} if given else {}


def _headers(lines: list[str] | None) -> dict[str, Any]:
    if not lines:
        return {}
    parts = [line.partition(":") for line in lines]
    if wrong := next((line for line, (name, colon, _) in zip(lines, parts, strict=True) if not (name and colon)), None):
        raise UsageError(f"--header {wrong!r}: write 'Name: value'")
    return {"headers": {name.strip(): value.strip() or None for name, _, value in parts}}


def _certificate(certificate: str | None, key: str | None) -> dict[str, Any]:
    if certificate == "" and key is None:
        return {"client_certificate": None}
    files = (("certificate", "--client-certificate", certificate), ("private_key", "--client-key", key))
    given = {field: _text(option, name) for field, option, name in files if name is not None}
    return {"client_certificate": given} if given else {}


def _text(option: str, name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{option} {name!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{option} {name!r}: this is no PEM, which is text") from error
