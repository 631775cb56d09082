"""Replays that a command orders: begun, followed to their end, and shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli import _course, _output
from pipeline.cli._options import path
from pipeline.cli._output import Format
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.http.rest import Rest

PARTLY = 3
_MASK = "…"

Detach = Annotated[bool, typer.Option("--detach", help="Do not wait for its end.")]


def begin(api: Rest, where: str, body: dict[str, Any], output: Format, *, detach: bool) -> None:
    """Order a replay at `where`, and follow it to its end; raises as `to_its_end` does."""
    started = api.post(where, body)
    if gap := started.get("gap"):
        _output.aside(f"warning: {missing(gap)}")
    if detach:
        show_replay(started, output)
        follow = _output.command(f"replays show {started['id']} --follow")
        _output.aside(f"it runs: `{follow}`")
        return
    _tell_secret(started["target"])
    to_its_end(api, started, output)


def to_its_end(api: Rest, replay: dict[str, Any], output: Format) -> None:
    """Follow it until it rests, and show it. Raises `PipelineError` if it fails; exit code 3 if it is stopped."""
    where = path("replays", replay["id"])
    ended = _course.followed(replay, lambda: api.get(where))
    show_replay(ended, output)
    match ended["state"]:
        case "failed":
            raise PipelineError(f"replay {ended['id']} has failed: {(ended['progress'] or {}).get('error')}")
        case "paused" | "cancelled":
            raise typer.Exit(PARTLY)


def _tell_secret(target: dict[str, Any] | None) -> None:
    """What was generated for this replay's URL: it is masked in all that is shown later."""
    secret = ((target or {}).get("auth") or {}).get("secret", _MASK)
    if _MASK not in secret:
        _output.aside(f"the secret is {secret}: keep it now, it is not shown again")


def show_replay(replay: dict[str, Any], output: Format) -> None:
    """For people without what stands twice, and the window as `--offsets` takes it."""
    if output is Format.TABLE:
        rest = {name: value for name, value in replay.items() if name != "progress"}
        replay = {**rest, "window": spans(replay["window"]), **_reached(replay["progress"])}
    _output.record(replay, output)


def _reached(progress: dict[str, Any] | None) -> dict[str, Any]:
    """How far it is, but for what is unknown, and when that was told."""
    hidden = {"partitions", "reached", "updated_at"}
    told = {name: value for name, value in (progress or {}).items() if name not in hidden and value is not None}
    return {"reached": _course.percent(progress), **told} if progress else {}


def spans(window: list[dict[str, int]]) -> str:
    """A window as `--offsets` takes it."""
    return " ".join(f"{span['partition']}:{span['from']}-{span['to']}" for span in window)


def missing(gap: dict[str, Any]) -> str:
    """What retention has taken, in words."""
    count = "some records" if gap["records"] is None else f"{gap['records']:,} records"
    still = f"; the oldest that is there came at {gap['oldest_at']}" if gap["oldest_at"] else ""
    return f"retention has taken {count} of partitions {_output.cell(gap['partitions'])}{still}"
