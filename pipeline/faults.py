"""Where a process can be told to die, and what can be broken in it on purpose: for the loss test alone.

A process that is asked to do so (`PIPELINE_FAIL_AT=before-produce/attempts:17`, `PIPELINE_CONTROL=acks-0`) starts only
with `PIPELINE_FAULTS=1` as well and with every broker on loopback; else it refuses. All is decided when the parts are
made: a process that is asked for nothing runs the very calls that it would run without this module.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Any, ParamSpec, TypeVar, cast

from pipeline.errors import SettingsError
from pipeline.settings import PREFIX, Settings

ALLOWED, FAIL_AT, CONTROL = f"{PREFIX}FAULTS", f"{PREFIX}FAIL_AT", f"{PREFIX}CONTROL"
_PLACE = re.compile(r"([a-z-]+?)(?:/([a-z0-9-]+))?:([1-9]\d{0,8})")

P = ParamSpec("P")
T = TypeVar("T")
Call = TypeVar("Call", bound=Callable[..., Any])


class Point(StrEnum):
    """Where a process can die. A produce's points can be narrowed to topics that begin so: `after-report/retry:3`."""

    BEFORE_PRODUCE = "before-produce"
    """A record is about to be handed to the producer. `/attempts`: the endpoint has answered, nothing is written."""
    AFTER_REPORT = "after-report"
    """The broker has it and says so; nobody here knows yet. `/attempts`: the effect of `next` is still to come."""
    BEFORE_COMMIT = "before-commit"
    """Work is done, its floor is about to be committed."""
    AFTER_COMMIT = "after-commit"
    """The broker has stored a commit and says so; nobody here knows yet."""
    BEFORE_REQUEST = "before-request"
    """A sender is about to make a request."""
    AFTER_RESPONSE = "after-response"
    """The endpoint has answered; nobody here knows yet."""


class Control(StrEnum):
    """A fault built in on purpose, so that the loss test can show that it would be seen."""

    COMMIT_FIRST = "commit-first"
    """The floor passes a record when it is read, before it is sent."""
    ACKS_0 = "acks-0"
    """The producer waits for no acknowledgement."""
    SWALLOW_ERRORS = "swallow-errors"
    """A record that the broker did not take within a second counts as written."""


_PROPERTIES: Mapping[Control, Mapping[str, object]] = {
    Control.ACKS_0: {"acks": "0", "enable_idempotence": False},
    Control.SWALLOW_ERRORS: {"message_timeout_ms": 1_000},
}


@dataclass(frozen=True, slots=True)
class Faults:
    """What this process is asked to do wrong; by default nothing."""

    point: Point | None = None
    topic: str = ""
    nth: int = 1
    control: Control | None = None

    @classmethod
    def of(cls, settings: Settings, environ: Mapping[str, str] = os.environ) -> Faults:
        """What the environment asks for. Raises `SettingsError` when it may not be asked, or is no such thing."""
        asked = [name for name in (FAIL_AT, CONTROL) if environ.get(name)]
        allowed = environ.get(ALLOWED, "") == "1"
        if asked and not allowed:
            raise SettingsError(f"{asked[0]} breaks this process on purpose: it needs {ALLOWED}=1, or be removed")
        if allowed and not _all_on_loopback(settings):
            raise SettingsError(f"{ALLOWED}=1 is for a broker on loopback alone: remove it")
        return _parsed(environ.get(FAIL_AT, ""), environ.get(CONTROL, ""))

    @property
    def producer(self) -> Mapping[str, object]:
        """Properties of the producer that the control replaces."""
        return _PROPERTIES.get(self.control, {}) if self.control else {}

    def at(self, point: Point, call: Call, topic: Callable[..., str | None] | None = None) -> Call:
        """`call`; or if the process is to die there, one that kills it the nth time (among those with that topic)."""
        if point is not self.point or (self.topic and topic is None):
            return call
        left = self.nth

        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= topic is None or (topic(*args, **kwargs) or "").startswith(self.topic)
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return cast("Call", counted)

    def around(self, before: Point, after: Point, call: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """`call`; or one that dies the nth time before it is made, or when it has ended."""
        if self.point not in {before, after}:
            return call
        enter, leave = self.at(before, _pass), self.at(after, _pass)

        async def counted(*args: P.args, **kwargs: P.kwargs) -> T:
            enter()
            result = await call(*args, **kwargs)
            leave()
            return result

        return counted


def _pass() -> None:
    """A place to die at."""


def _parsed(fail_at: str, control: str) -> Faults:
    point, topic, nth = None, "", 1
    if fail_at:
        found = _PLACE.fullmatch(fail_at)
        if found is None or found[1] not in list(Point):
            raise SettingsError(f"{FAIL_AT}={fail_at!r}: write POINT[/TOPIC]:N, the points are {', '.join(Point)}")
        point, topic, nth = Point(found[1]), found[2] or "", int(found[3])
    if control and control not in list(Control):
        raise SettingsError(f"{CONTROL}={control!r}: the controls are {', '.join(Control)}")
    return Faults(point, topic, nth, Control(control) if control else None)


def _all_on_loopback(settings: Settings) -> bool:
    servers = f"{settings.bootstrap_servers},{settings.kafka.get('bootstrap.servers', '')}"
    return all(_on_loopback(server.strip().rpartition(":")[0].strip("[]")) for server in servers.split(",") if server)


def _on_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
