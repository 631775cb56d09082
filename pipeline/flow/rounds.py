"""Rounds: the first sending of a delivery has the round '', each redelivery one of its own, later ones greater."""

from __future__ import annotations

FIRST = ""
"""The round in which the router writes a delivery."""

RANDOM_BYTES = 10
_RANDOM_BITS = RANDOM_BYTES * 8
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUV"
_LENGTH = 26
"""Digits to base 32, in the order of their characters: 48 bits of milliseconds, 80 at random."""


def fresh_round(now_ms: int, random: bytes, after: str = FIRST) -> str:
    """A round that was never given before, greater as text than `after`, whatever the clock says.

    `random` is `RANDOM_BYTES` random bytes.
    """
    time_ms = max(now_ms, made_ms(after) + 1)
    return _written(time_ms << _RANDOM_BITS | int.from_bytes(random))


def made_ms(round_: str) -> int:
    """When a round of ours was given (milliseconds); -1 for the first, and for one that is not of ours."""
    if len(round_) != _LENGTH or set(round_) - set(_DIGITS):
        return -1
    return int(round_, 32) >> _RANDOM_BITS


def _written(number: int) -> str:
    return "".join(_DIGITS[number >> shift & 31] for shift in range(5 * (_LENGTH - 1), -1, -5))
