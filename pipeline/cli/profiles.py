"""`pipeline profiles`: the products."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli import _output
from pipeline.cli._options import DataDir, Key, Output, Url, path, rest
from pipeline.cli._output import Format

app = typer.Typer(no_args_is_help=True, help="The products.")

COLUMNS = ("name", "title", "tenant_noun")


@app.command("list")
def list_(output: Output = Format.TABLE, url: Url = None, key: Key = None, data_dir: DataDir = None) -> None:
    """All products."""
    with rest(url, key, data_dir) as api:
        _output.rows(api.get("/v1/profiles")["items"], COLUMNS, output)


@app.command()
def show(
    profile: Annotated[str, typer.Argument(help="The product's name.", show_default=False)],
    *,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """One product: its form, its events and its rules."""
    with rest(url, key, data_dir) as api:
        found = api.get(path("profiles", profile))
    if output is Format.TABLE:
        _output.record(_brief(found), output)
        _output.rows(_types(found["events"]), ("event", "title", "component"), output)
    else:
        _output.record(found, output)


def _brief(profile: dict[str, Any]) -> dict[str, Any]:
    fields = [field["label"] + (" (required)" if field["required"] else "") for field in profile["form"]]
    return {
        "name": profile["name"],
        "title": profile["title"],
        "tenant is": profile["tenant_noun"],
        "form": fields,
        "auth": [scheme["type"] for scheme in profile["auth"]],
        "may exist if": [condition["message"] for condition in profile["preconditions"]],
        "webhooks at most": profile["limits"]["webhooks"],
        "attempts": profile["delivery"]["attempts"],
        "deadline s": profile["delivery"]["deadline_s"],
        "events": "any type besides these" if profile["events"]["open"] else "these",
    }


def _types(events: dict[str, Any]) -> list[dict[str, Any]]:
    listed = [(kind, component["name"]) for component in events["components"] for kind in component["types"]]
    others = [(kind, None) for kind in events["examples"]]
    return [{"event": kind["name"], "title": kind["title"], "component": name} for kind, name in listed + others]
