"""Markers for every kind of secret, and the search for them in whatever form they may have got out."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus

_LEAST = 8


@dataclass(frozen=True, slots=True)
class Canary:
    """A secret by the name of its kind; `values` are its text and, where it encodes bytes, these."""

    name: str
    values: tuple[bytes, ...]

    @classmethod
    def of(cls, name: str, text: str) -> Canary:
        """Of a secret as a person holds it: behind a prefix there may be base64 of the key itself."""
        if not text.startswith(("whsec_", "whsk_")):
            return cls(name, (text.encode(),))
        encoded = text.partition("_")[2].rstrip("=")
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
        seed = key[:32] if text.startswith("whsk_") else key  # the second half of an ed25519 key is public
        return cls(name, (text.encode(), encoded.encode(), seed))

    def forms(self) -> set[bytes]:
        """As it is, in base64 at each of the three places that it may begin at, in hex, in a URL, in JSON."""
        return {form for value in self.values for form in _forms(value) if len(form) >= _LEAST}


def _forms(value: bytes) -> Iterator[bytes]:
    yield value
    yield value.hex().encode()
    yield value.hex().upper().encode()
    for shift in range(3):
        whole = base64.b64encode(bytes(shift) + value)
        begin = {0: 0, 1: 2, 2: 3}[shift]  # characters that depend on what comes before
        core = whole[begin : len(whole) - 4 if len(bytes(shift) + value) % 3 else None]
        yield core
        yield core.replace(b"+", b"-").replace(b"/", b"_")
    text = value.decode(errors="ignore")
    if text.encode() == value:
        yield quote(text, safe="").encode()
        yield quote_plus(text).encode()
        yield json.dumps(text)[1:-1].encode()


@dataclass(frozen=True, slots=True)
class Place:
    """Something that was looked at: what it is, its bytes, and which canaries it may hold by design."""

    name: str
    held: bytes
    allowed: frozenset[str] = frozenset()


@dataclass
class Hunt:
    """All canaries of a run, and where they were found."""

    canaries: dict[str, Canary] = field(default_factory=dict)

    def add(self, name: str, text: str) -> str:
        """Another secret; its text."""
        assert name not in self.canaries, name
        self.canaries[name] = Canary.of(name, text)
        return text

    def add_bytes(self, name: str, key: bytes) -> str:
        """Another key; its base64."""
        text = base64.b64encode(key).decode()
        self.canaries[name] = Canary(name, (text.encode(), key))
        return text

    def found(self, places: Iterable[Place]) -> list[str]:
        """`canary in place`, for each that is where it must not be."""
        needles = {name: canary.forms() for name, canary in self.canaries.items()}
        return [
            f"{name} in {place.name}"
            for place in places
            for name, forms in needles.items()
            if name not in place.allowed and any(form in place.held for form in forms)
        ]
