"""The record of who changed what."""

from __future__ import annotations

from dataclasses import dataclass

TENANT_REMOVED = "deleteTenant"
"""The action by which a tenant is removed."""

LETTER_DISCARDED = "discardDeadLetter"
"""The action by which a dead letter is discarded: its target."""


@dataclass(frozen=True, slots=True)
class Audit:
    """One change that somebody made. `time_ms` is milliseconds since the epoch; nothing in it is secret.

    `key` is the id of the key that it was made with, `role` the key's; `action` the operation's id in the REST API;
    `tenant` whose it was (None: the platform's), `target` the id of what was changed; `detail` may name fields.
    """

    id: str
    time_ms: int
    key: str
    role: str
    action: str
    tenant: str | None
    target: str
    detail: str = ""
