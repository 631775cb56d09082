"""Ids and secrets that nobody can guess."""

from __future__ import annotations

import secrets
import string

_BASE62 = string.digits + string.ascii_letters


def base62(length: int) -> str:
    """A random text of digits and letters; each character holds 5.95 bits."""
    return "".join(secrets.choice(_BASE62) for _ in range(length))
