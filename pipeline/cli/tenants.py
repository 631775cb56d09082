"""`pipeline tenants`: the products' customers."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli import _output
from pipeline.cli._options import DataDir, Key, Limit, Output, Tenant, Url, path, rest
from pipeline.cli._output import Format
from pipeline.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="The products' customers.")

COLUMNS = ("id", "name", "profile", "plan", "programs", "created_at")
Plan = Annotated[str | None, typer.Option(help="The plan, where the product has some.", show_default=False)]
Programs = Annotated[
    int | None, typer.Option(help="How many programs, where the product has some.", show_default=False)
]

EventsPerSecond = Annotated[
    int | None,
    typer.Option(min=0, help="How many it may send over REST; 0 for no limit.", show_default=False),
]
Validation = Annotated[
    str | None,
    typer.Option(help="Of events' data over REST, against the catalogue: off, warn or enforce.", show_default=False),
]


@app.command("list")
def list_(
    *, output: Output = Format.TABLE, limit: Limit = 200, url: Url = None, key: Key = None, data_dir: DataDir = None
) -> None:
    """All tenants, newest first."""
    with rest(url, key, data_dir) as api:
        _output.rows(api.all("/v1/tenants", limit), COLUMNS, output)


@app.command()
def show(
    tenant: Tenant, output: Output = Format.TABLE, url: Url = None, key: Key = None, data_dir: DataDir = None
) -> None:
    """One tenant."""
    with rest(url, key, data_dir) as api:
        _output.record(api.get(path("tenants", tenant)), output)


@app.command()
def create(
    tenant: Tenant,
    *,
    profile: Annotated[str, typer.Option(help="The product: see `pipeline profiles list`.", show_default=False)],
    name: Annotated[str | None, typer.Option(help="Its name; the id, when not given.", show_default=False)] = None,
    plan: Plan = None,
    programs: Programs = None,
    validation: Validation = None,
    events_per_second: EventsPerSecond = None,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Make a tenant; its id is yours to choose."""
    more = _given(plan=plan, programs=programs, validation=validation, limits=_limits(events_per_second))
    body = {"id": tenant, "name": name or tenant, "profile": profile, **more}
    with rest(url, key, data_dir) as api:
        _output.record(api.post("/v1/tenants", body), output)


@app.command()
def update(
    tenant: Tenant,
    *,
    name: Annotated[str | None, typer.Option(help="Its name.", show_default=False)] = None,
    plan: Annotated[str | None, typer.Option(help="Its plan; '' for none.", show_default=False)] = None,
    programs: Programs = None,
    validation: Validation = None,
    events_per_second: EventsPerSecond = None,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Change a tenant."""
    more = _given(plan=plan, programs=programs, validation=validation, limits=_limits(events_per_second))
    body = {**_given(name=name), **more}
    if not body:
        raise UsageError("nothing to change: give --name, --plan, --programs, --validation or --events-per-second")
    if plan == "":
        body["plan"] = None
    with rest(url, key, data_dir) as api:
        _output.record(api.patch(path("tenants", tenant), body), output)


@app.command()
def delete(tenant: Tenant, url: Url = None, key: Key = None, data_dir: DataDir = None) -> None:
    """Remove a tenant, its webhooks, keys and rows in the delivery log; says what stays, and for how long."""
    with rest(url, key, data_dir) as api:
        gone = api.delete(path("tenants", tenant))
    rows = "its rows follow" if gone["rows"] is None else f"{gone['rows']} rows"
    _output.aside(f"tenant {tenant} is removed: {gone['webhooks']} webhooks, {gone['keys']} keys, {rows}")
    _output.aside(gone["secrets"])
    for one in gone["stays"]:
        days = "as long as the deployment runs" if one["days"] is None else f"up to {one['days']} days"
        _output.aside(f"stays in {one['topic']}, {days}: {one['holds']}")


def _limits(events_per_second: int | None) -> dict[str, int | None] | None:
    return None if events_per_second is None else {"events_per_second": events_per_second or None}


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
