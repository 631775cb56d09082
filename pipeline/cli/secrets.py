"""`pipeline secrets`: the deployment's encryption keys."""

from __future__ import annotations

import base64
import os
import re
import secrets
from typing import Annotated, Any

import typer

from pipeline.cli import _output
from pipeline.cli._options import DataDir, Key, Output, Url, rest
from pipeline.cli._output import Format
from pipeline.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="The deployment's encryption keys.")

COLUMNS = ("id", "seals", "known", "tenants")
PARTLY = 3
_KEY_BYTES = 32
_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@app.command("new-key")
def new_key(
    key_id: Annotated[str, typer.Option("--id", help="What it is called; made up when not given.")] = "",
) -> None:
    """Make an encryption key: one line `id:base64`, as PIPELINE_ENCRYPTION_KEYS takes it. Nothing else is changed."""
    name = key_id or f"k-{secrets.token_hex(4)}"
    if not _KEY_ID.fullmatch(name):
        raise UsageError("--id: up to 64 letters, digits, '-', '_' and '.'")
    _output.text(f"{name}:{base64.b64encode(os.urandom(_KEY_BYTES)).decode()}")


@app.command()
def status(output: Output = Format.TABLE, url: Url = None, key: Key = None, data_dir: DataDir = None) -> None:
    """Each key, and how many tenants' keys it has sealed. One that has sealed none any more may be removed."""
    with rest(url, key, data_dir) as api:
        found = api.get("/v1/secrets")
    _output.rows(found["keys"], COLUMNS, output)
    if found["unreadable"]:
        _output.aside(f"{found['unreadable']} tenants' records cannot be read: nothing can be said of them")


@app.command()
def rotate(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing: only count.")] = False,
    step: Annotated[int, typer.Option(min=1, max=1000, help="How many tenants' keys with each request.")] = 200,
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Re-seal by the first key what the others have sealed; deliveries go on meanwhile.

    In this order: add the new key behind the old one in PIPELINE_ENCRYPTION_KEYS and restart every API and sender
    process; put it first, and restart them; rotate; remove the old one. What was cut short is begun again: what is
    done is skipped. Exit code 3 when some could not be re-sealed.
    """
    done, failed, last = 0, list[dict[str, Any]](), dict[str, Any]()
    with rest(url, key, data_dir) as api:
        after: str | None = None
        while True:
            last = api.post("/v1/secrets/rotate", {"dry_run": dry_run, "limit": step, "after": after})
            done, failed, after = done + last["resealed"], failed + last["failed"], last["next"]
            if last["resealed"]:
                _output.aside(f"re-sealed {done}, {last['left']} left")
            if after is None:
                break
    told = {"key": last["key"], "resealed": done, "left": last["left"], "failed": failed, "keys": last["keys"]}
    if output is Format.TABLE:
        _output.rows(last["keys"], COLUMNS, output)
    else:
        _output.record(told, output)
    if not (done or failed or last["left"]):
        _output.aside("nothing to re-seal: the first key in PIPELINE_ENCRYPTION_KEYS has sealed all there is")
    for one in failed:
        _output.aside(f"{one['tenant']}: {one['reason']}")
    if failed:
        raise typer.Exit(PARTLY)
