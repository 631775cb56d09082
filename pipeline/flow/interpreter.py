"""The evaluation of JMESPath, bounded: a few characters (`[@,@][]|[@,@][]|…`) could double a list a hundred times.

Beyond the library it compares as the specification says: an order between a text and a number is null, and true is
never 1, also inside of lists and objects.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from typing import Any

from jmespath.functions import Functions, signature
from jmespath.visitor import Options, TreeInterpreter

MAX_STEPS = 10_000
"""Of one evaluation: a node of the expression visited for one value is a step, or a value looked at."""
MAX_TEXT = 65_536
"""Characters that `join` makes at most."""

Node = Any
"""Of the library's tree: `type`, `children`, often `value`. Its own type is not public."""

_AT_ONCE = frozenset({"contains", "length", "not_null", "to_array", "type"})
"""Functions that take no longer for more, or count for themselves."""
_CHARACTERS_A_STEP = 64
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}


class TooMuch(Exception):
    """An evaluation has taken all its steps and has no result."""


class Interpreter(TreeInterpreter):
    """The library's, with a count of steps; what makes or compares many values at once is paid for before.

    Raises `TooMuch`, and what the library raises.
    """

    def __init__(self) -> None:
        super().__init__(Options(custom_functions=BoundedFunctions(self)))
        self.steps = 0

    def spend(self, steps: int) -> None:
        """Go on only if there are so many left."""
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise TooMuch

    def visit(self, node: Node, *args: Any, **kwargs: Any) -> Any:
        """One step."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise TooMuch
        return super().visit(node, *args, **kwargs)

    def visit_comparator(self, node: Node, value: Any) -> Any:
        """`==`, `!=`, and the orders, which are between numbers and between texts."""
        left, right = (self.visit(child, value) for child in node["children"])
        match node["value"]:
            case "eq":
                return self.same(left, right)
            case "ne":
                return not self.same(left, right)
        alike = (_is_number(left) and _is_number(right)) or (isinstance(left, str) and isinstance(right, str))
        return _ORDERS[node["value"]](left, right) if alike else None

    def visit_flatten(self, node: Node, value: Any) -> Any:
        """`[]`."""
        base = self.visit(node["children"][0], value)
        if not isinstance(base, list):
            return None
        self.spend(len(base))
        lists = [element if isinstance(element, list) else [element] for element in base]
        self.spend(sum(map(len, lists)))
        return [inner for one in lists for inner in one]

    def same(self, left: Any, right: Any) -> bool:
        """Whether two values are equal as JSON. Either may hold the same list many times over."""
        self.spend(1)
        match left, right:
            case list(), list():
                return len(left) == len(right) and all(map(self.same, left, right))
            case dict(), dict():
                return left.keys() == right.keys() and all(self.same(left[name], right[name]) for name in left)
        return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


class BoundedFunctions(Functions):
    """The specification's; `to_string` takes no lists or objects, which could make a text without bound."""

    def __init__(self, interpreter: Interpreter) -> None:
        super().__init__()
        self._interpreter = interpreter

    def call_function(self, function_name: str, resolved_args: Any) -> Any:
        """Pays for what is in the arguments."""
        if function_name not in _AT_ONCE:
            self._interpreter.spend(sum(map(_size, resolved_args)))
        return super().call_function(function_name, resolved_args)

    @signature({"types": ["array", "string"]}, {"types": []})
    def _func_contains(self, subject: Any, search: Any) -> bool:
        if isinstance(subject, str):
            return isinstance(search, str) and search in subject
        return any(self._interpreter.same(element, search) for element in subject)

    @signature({"types": ["string"]}, {"types": ["array-string"]})
    def _func_join(self, separator: str, array: list[str]) -> str:
        if sum(map(len, array)) + len(separator) * len(array) > MAX_TEXT:
            raise ValueError(f"join() makes at most {MAX_TEXT} characters")
        return separator.join(array)

    @signature({"types": ["string", "number", "boolean", "null"]})
    def _func_to_string(self, arg: Any) -> str:
        return arg if isinstance(arg, str) else json.dumps(arg)


def _size(value: Any) -> int:
    """In steps."""
    match value:
        case list() | dict():
            return len(value)
        case str():
            return len(value) // _CHARACTERS_A_STEP
    return 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
