"""`pipeline receiver`: an endpoint on this machine that verifies and prints what it gets."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from functools import partial
from typing import Annotated

import typer

from pipeline.cli import _output
from pipeline.cli._until_told import until_told
from pipeline.errors import UsageError
from pipeline.http.receiver import Expectation, Receiver, Script
from pipeline.profiles import PROFILES, Profile, Scheme

app = typer.Typer()

_SHOWN = 160


@app.command()
def receiver(  # noqa: PLR0917 - Typer's options
    profile: Annotated[str, typer.Option(help="The product whose rule is checked: see `pipeline profiles list`.")],
    secret: Annotated[
        str,
        typer.Option(envvar="PIPELINE_RECEIVER_SECRET", help="The webhook's secret, as it was shown when it was made."),
    ] = "",
    username: Annotated[str, typer.Option(help="For HTTP Basic.")] = "",
    password: Annotated[
        str, typer.Option(envvar="PIPELINE_RECEIVER_PASSWORD", help="For HTTP Basic.", show_default=False)
    ] = "",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: any free one.")] = 0,
    path: Annotated[str, typer.Option(help="Where webhooks come to.")] = "/",
    status: Annotated[int, typer.Option(min=200, max=599, help="What verified requests are answered with.")] = 200,
    *,
    tls: Annotated[bool, typer.Option("--tls", help="HTTPS, with a certificate of its own.")] = False,
) -> None:
    """Listen on 127.0.0.1, verify each request, print a line for it; until Ctrl-C (exit code 130) or SIGTERM (0)."""
    if profile not in PROFILES:
        raise UsageError(f"there is no profile {profile!r}: {', '.join(PROFILES)}")
    given = {"secret": secret, "username": username, "password": password}
    expectation = _expectation(PROFILES[profile], {name: text for name, text in given.items() if text}, status)
    whole = path if path.startswith("/") else f"/{path}"
    raise typer.Exit(until_told(partial(_listen, whole, expectation, port, tls=tls)))


async def _listen(path: str, expectation: Expectation, port: int, *, tls: bool) -> int:
    async with Receiver({path: expectation}, tls=tls, on_request=_print, port=port) as listening:
        _output.aside(f"listening on {listening.url(path)} for {expectation.profile.title} ({expectation.auth_type})")
        if listening.ca_file:
            _output.aside(f"its certificate's authority, for PIPELINE_EGRESS_CA: {listening.ca_file}")
        await asyncio.Event().wait()
    return 0


def _expectation(profile: Profile, secrets: dict[str, str], status: int) -> Expectation:
    """The product's scheme that these secrets are for. Raises `UsageError` where they do not fit."""
    scheme = next((scheme for scheme in profile.schemes if _fits(scheme, secrets)), None)
    if scheme is None:
        wanted = " or ".join(_options(scheme) for scheme in profile.schemes)
        raise UsageError(f"{profile.title} is checked with {wanted}")
    if (refusal := scheme.refusal(secrets)) and not _verifies(scheme, secrets):
        raise UsageError(f"--{refusal[0]}: {refusal[1]}")
    return Expectation(profile, scheme.name, secrets, Script(status=status))


def _fits(scheme: Scheme, secrets: dict[str, str]) -> bool:
    names = {field.name for field in scheme.fields}
    required = {field.name for field in scheme.fields if field.required}
    return required <= secrets.keys() <= names


def _verifies(scheme: Scheme, secrets: dict[str, str]) -> bool:
    """Whether requests can be checked with these: a public key can check what it could not sign."""
    now = time.time()
    headers = {"webhook-id": "msg_0", "webhook-timestamp": str(int(now)), "webhook-signature": "v1a,AAAA"}
    try:
        scheme.verify(headers, b"{}", secrets, now)
    except ValueError:
        return False
    return True


def _options(scheme: Scheme) -> str:
    return " and ".join(f"--{field.name}" for field in scheme.fields) or "no secret"


def _print(_path: str, reason: str | None, webhook_id: str, body: bytes) -> None:
    """One line: when, which, believed or why not, and how the body begins."""
    text = " ".join(body.decode(errors="replace").split())
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    now = dt.datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]
    _output.text(f"{now} {webhook_id or '-'} {f'REFUSED: {reason}' if reason else 'verified'} {shown}")
