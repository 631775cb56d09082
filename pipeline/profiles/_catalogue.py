"""What a product can tell: its event types, grouped into components, and which of them a webhook wants."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pipeline.profiles._schemas import ANYTHING, Schema, whole

Matcher = Callable[[str], bool]
"""Says whether a webhook wants an event of this type."""


@dataclass(frozen=True, slots=True)
class EventType:
    """One kind of event: `name` is its code on the wire, `title` what people read, `data` the schema of its data."""

    name: str
    title: str
    description: str = ""
    data: Schema = field(default_factory=lambda: ANYTHING, compare=False)

    @property
    def example(self) -> str:
        """The file that holds an example of it, in the profile's folder of examples."""
        return example_file(self.name)


@dataclass(frozen=True, slots=True)
class Component:
    """A group of event types that can be chosen as a whole: who chose it gets a type that is added later, too."""

    name: str
    types: tuple[EventType, ...]


@dataclass(frozen=True, eq=False)
class Catalogue:
    """All event types of a product: the components' types or, where `pattern` is given, every name that matches it."""

    components: tuple[Component, ...] = ()
    pattern: re.Pattern[str] | None = None
    by_name: Mapping[str, EventType] = field(init=False)
    """Every listed type by its name, in the order of the components."""

    def __post_init__(self) -> None:
        types = {kind.name: kind for component in self.components for kind in component.types}
        object.__setattr__(self, "by_name", types)

    @cached_property
    def components_by_name(self) -> Mapping[str, Component]:
        """The components by their names."""
        return {component.name: component for component in self.components}

    def knows(self, name: str) -> bool:
        """Whether the product has events of this type."""
        return name in self.by_name or (self.pattern is not None and self.pattern.fullmatch(name) is not None)

    def schema(self, name: str) -> dict[str, Any]:
        """The JSON Schema of the data of events of this type; of one that is not listed it may be anything."""
        kind = self.by_name.get(name)
        return whole(kind.data if kind else ANYTHING)

    def matcher(self, events: Iterable[str], components: Iterable[str] = ()) -> Matcher:
        """What a webhook wants, ready to be asked often: exact types, `prefix*`, `*`, types of whole components."""
        wanted = tuple(events)
        exact = frozenset(name for name in wanted if not name.endswith("*")).union(*map(self._names, components))
        prefixes = tuple(name[:-1] for name in wanted if name.endswith("*"))
        if "" in prefixes:
            return lambda _name: True
        return lambda name: name in exact or name.startswith(prefixes)

    def refusal(self, events: Iterable[str], components: Iterable[str] = ()) -> str | None:
        """Why this choice cannot be made, as a plain sentence that names what is wrong; None if it can."""
        unknown = next((name for name in components if name not in self.components_by_name), None)
        if unknown is not None:
            return f"{unknown!r} is not a component: choose from {', '.join(self.components_by_name) or 'none'}"
        wrong = next((name for name in events if not self._can_match(name)), None)
        return None if wrong is None else f"{wrong!r} matches no event type of this product"

    def _can_match(self, wanted: str) -> bool:
        if not wanted.endswith("*"):
            return self.knows(wanted)
        prefix = wanted[:-1]
        return self._open_to(prefix) or any(name.startswith(prefix) for name in self.by_name)

    def _open_to(self, prefix: str) -> bool:
        """Whether a name that the pattern allows can begin so: some ending must make it whole."""
        return self.pattern is not None and any(self.pattern.fullmatch(prefix + ending) for ending in ("", "x"))

    def _names(self, component: str) -> tuple[str, ...]:
        found = self.components_by_name.get(component)
        return tuple(kind.name for kind in found.types) if found else ()


def example_file(name: str) -> str:
    """The name of the file that holds an example of the event type `name`."""
    return f"{name}.json"
