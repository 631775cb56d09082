"""JMESPath (https://jmespath.org) that customers write: compiled once, evaluated beside everybody else's events.

What is too long or nested too deeply is refused, and so is a call that could never succeed. An evaluation is bounded
(see `pipeline.flow.interpreter`) and never raises: an error is a value.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jmespath.exceptions import (
    EmptyExpressionError,
    IncompleteExpressionError,
    JMESPathError,
    JMESPathTypeError,
    LexerError,
    ParseError,
)
from jmespath.lexer import Lexer
from jmespath.parser import Parser

from pipeline.flow.interpreter import MAX_STEPS, BoundedFunctions, Interpreter, Node, TooMuch

MAX_CHARACTERS = 2_048
MAX_DEPTH = 64
"""Operators and brackets within each other."""

Token = Mapping[str, Any]

_OPENS, _CLOSES = frozenset({"lparen", "lbracket", "filter", "lbrace"}), frozenset({"rparen", "rbracket", "rbrace"})
_TAKES_EXPRESSION = frozenset({"map", "max_by", "min_by", "sort_by"})
_SHOWN = 64
_TOO_DEEP = f"it is nested more than {MAX_DEPTH} levels deep"
_TOO_MUCH = f"it takes more than {MAX_STEPS} steps for this event"
_LITERAL = "what is between backticks must be JSON; a text is written 'like this'"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an expression cannot be used. `position` counts characters from 0; None: nowhere in particular."""

    message: str
    position: int | None = None

    def __str__(self) -> str:
        """A sentence; people count from 1."""
        place = "" if self.position is None else f" at character {self.position + 1}"
        return f"This JMESPath expression cannot be used{place}: {self.message}"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of one value: the result; or null, and the error. `steps` is what it took."""

    result: Any
    error: str | None
    steps: int

    @property
    def true(self) -> bool:
        """Whether the result is true-like: all but null, false and what is empty; 0 is. An error is not."""
        return self.error is None and not (self.result is None or self.result is False or self.result in ("", [], {}))


@dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """An expression that can be evaluated, as often as one likes."""

    text: str
    node: Node

    def evaluate(self, value: Any) -> Evaluation:
        """Of a value as a JSON parser gives it."""
        interpreter = Interpreter()
        try:
            return Evaluation(interpreter.visit(self.node, value), None, interpreter.steps)
        except (TooMuch, RecursionError, TypeError, ValueError, ArithmeticError) as error:
            return Evaluation(None, _told(error), interpreter.steps)


@lru_cache(maxsize=4_096)
def compiled(text: str) -> Expression | Fault:
    """The expression, or why there is none; the same object for the same text while it is remembered."""
    if len(text) > MAX_CHARACTERS:
        return Fault(f"it has more than {MAX_CHARACTERS} characters")
    try:
        tokens = _tokens(text)
        if fault := _wrong_brackets(tokens) or _wrong_functions(tokens):
            return fault
        node = Parser().parse(text).parsed
    except (PendingDeprecationWarning, RecursionError, JMESPathError) as error:
        return _fault(error, text)
    return _wrong_tree(node, tokens) or Expression(text, node)


def _tokens(text: str) -> list[Token]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", PendingDeprecationWarning)  # of literals that are no JSON
        return list(Lexer().tokenize(text))


def _fault(error: Exception, text: str) -> Fault:
    match error:
        case PendingDeprecationWarning():
            return Fault(_LITERAL, text.find("`"))
        case EmptyExpressionError():
            return Fault("it is empty")
        case LexerError():
            return Fault(f"{error.lexer_value[:_SHOWN]!r} is no part of an expression", error.lexer_position)
        case IncompleteExpressionError() | ParseError(token_value=""):
            return Fault("it ends too early", len(text))
        case ParseError():
            return Fault(f"{str(error.token_value)[:_SHOWN]!r} cannot stand here", error.lex_position)
    return Fault(_TOO_DEEP)


def _wrong_brackets(tokens: list[Token]) -> Fault | None:
    depth = 0
    for token in tokens:
        depth += (token["type"] in _OPENS) - (token["type"] in _CLOSES)
        if depth > MAX_DEPTH:
            return Fault(_TOO_DEEP, token["start"])
    return None


def _wrong_functions(tokens: list[Token]) -> Fault | None:
    unknown = ((name, at) for name, at in _called(tokens) if name not in BoundedFunctions.FUNCTION_TABLE)
    return next((Fault(f"there is no function {name}()", at) for name, at in unknown), None)


def _wrong_tree(root: Node, tokens: list[Token]) -> Fault | None:
    """What the parser lets pass and every evaluation would stumble over."""
    for node, depth, function in _walk(root):
        if depth > MAX_DEPTH:
            return Fault(_TOO_DEEP)
        if node["type"] == "expref" and function not in _TAKES_EXPRESSION:
            return Fault(f"& can only stand before an argument of {', '.join(sorted(_TAKES_EXPRESSION))}")
        if node["type"] == "function_expression" and (wrong := _wrong_arguments(node)):
            return Fault(wrong, next((at for name, at in _called(tokens) if name == node["value"]), None))
    return None


def _wrong_arguments(node: Node) -> str | None:
    takes, given = BoundedFunctions.FUNCTION_TABLE[node["value"]]["signature"], len(node["children"])
    more = bool(takes) and takes[-1].get("variadic", False)
    if given == len(takes) or (more and given > len(takes)):
        return None
    return f"{node['value']}() takes {'at least ' if more else ''}{len(takes)} and is given {given}"


def _walk(root: Node) -> Iterator[tuple[Node, int, str | None]]:
    """Each node with its depth and, if it is a function's argument, that function's name."""
    waiting: list[tuple[Node, int, str | None]] = [(root, 1, None)]
    while waiting:
        node, depth, outer = waiting.pop()
        yield node, depth, outer
        function = node["value"] if node["type"] == "function_expression" else None
        waiting += [(child, depth + 1, function) for child in node["children"] if isinstance(child, dict)]


def _called(tokens: list[Token]) -> Iterator[tuple[str, int]]:
    """The names of functions, and where they stand."""
    for token, following in itertools.pairwise(tokens):
        if (token["type"], following["type"]) == ("unquoted_identifier", "lparen"):
            yield token["value"], token["start"]


def _told(error: Exception) -> str:
    match error:
        case TooMuch():
            return _TOO_MUCH
        case RecursionError():
            return "what is compared is nested too deeply"
        case JMESPathTypeError():
            return f"{error.function_name}() does not take {error.actual_type}"
    return str(error)
