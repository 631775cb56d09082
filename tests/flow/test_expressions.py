from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.flow.expressions import MAX_CHARACTERS, MAX_DEPTH, Expression, Fault, compiled
from pipeline.flow.interpreter import MAX_STEPS, MAX_TEXT

DATA: dict[str, Any] = {"id": 7, "list": [1, "a"], "lines": [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}], "no": None}
NAMES = ("id", "list", "@", "*", "'a'", "`1`", '"x"', "-1", "0", "[0]", "[::0]")
SIGNS = (".", "[", "]", "[]", "[?", "(", ")", "{", "}", ":", ",", "&", "&&", "||", "|", "!", "==", "<", "`", "'", "\\")
CALLS = ("length(", "map(&", "sort_by(", "join(", "max_by(", "merge(", "contains(")
PIECES = st.sampled_from((*NAMES, *SIGNS, *CALLS))


def evaluated(text: str, value: Any = DATA) -> Any:
    made = compiled(text)
    assert isinstance(made, Expression), made
    return made.evaluate(value)


def fault(text: str) -> Fault:
    made = compiled(text)
    assert isinstance(made, Fault)
    return made


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("id", 7),
        ("lines[?n > `1`].sku", ["b"]),
        ("lines[*].n | sum(@)", 3),
        ("contains(list, 'a') && starts_with(lines[0].sku, 'a')", True),
        ("{i: id, skus: lines[].sku}", {"i": 7, "skus": ["a", "b"]}),
        ("join('-', lines[].sku)", "a-b"),
        ("to_string(id)", "7"),
        ("sort_by(lines, &sku)[-1].n", 2),
        ("map(&n, lines)", [1, 2]),
        ("missing.deeper[3]", None),
        ("list[::-1]", ["a", 1]),
        ('`{"a": [true]}` == `{"a": [1]}`', False),
        ("contains(`[true]`, `1`)", False),
        ("id == `7.0`", True),
        ("'a' < `1`", None),
    ],
)
def test_an_expression_comes_to_its_result(text: str, result: Any) -> None:
    """JMESPath, as its specification says; true is never 1, and a text is neither more nor less than a number."""
    made = evaluated(text)
    assert (made.result, made.error) == (result, None)


@pytest.mark.parametrize(
    ("text", "true"),
    [
        *[(text, True) for text in ("`0`", "`[0]`", "' '", "id", "!no")],
        *[(text, False) for text in ('`""`', "`[]`", "`{}`", "`false`", "no", "!id", "length(no)")],
    ],
)
def test_true_is_what_jmespath_says(text: str, true: bool) -> None:  # noqa: FBT001 - a row of the table
    """All but null, false and what is empty is true-like, 0 too; an error is not."""
    assert evaluated(text).true is true


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("id = 7", 3, "'=' is no part"),
        ("a b", 2, "'b' cannot stand here"),
        ("a.", 2, "it ends too early"),
        ("a[?b == 'c'", 11, "it ends too early"),
        ("'open", 0, "no part"),
        ("id == `7", 6, "no part"),
        ("", None, "it is empty"),
        ("id == `seven`", 6, "between backticks must be JSON"),
        ("a || lower(b)", 5, "there is no function lower()"),
        ("length(a, b)", 0, "length() takes 1 and is given 2"),
        ("not_null()", 0, "takes at least 1"),
        ("to_array(&a)", None, "& can only stand before"),
        ("x" * (MAX_CHARACTERS + 1), None, str(MAX_CHARACTERS)),
        ("(" * (MAX_DEPTH + 1) + "a" + ")" * (MAX_DEPTH + 1), MAX_DEPTH, "nested"),
        ("!" * 2_000 + "a", None, "nested"),
        ("`" + "[" * 2_000 + "`", None, "nested"),
        ("a" + "|| a" * MAX_DEPTH, None, "nested"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(text: str, position: int | None, words: str) -> None:
    """A fault says what is wrong, and at which character where that is known; people count from 1."""
    made = fault(text)
    assert words in made.message
    assert made.position == position
    assert position is None or f"at character {position + 1}:" in str(made)


def test_what_is_at_the_limits_is_taken() -> None:
    """As many characters and levels as are allowed."""
    for text in ("x" * MAX_CHARACTERS, "(" * MAX_DEPTH + "id" + ")" * MAX_DEPTH, "id" + "|| id" * (MAX_DEPTH - 1)):
        assert isinstance(compiled(text), Expression)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("abs(lines)", "abs() does not take array"),
        ("max_by(list, &@)", "not supported"),
        ("list[::0]", "zero"),
        ("ceil(`1e999`)", "infinity"),
        ("to_string(lines)", "to_string() does not take array"),
        ("sort_by(list, &@)", "sort_by() does not take"),
        ("join(',', @)", f"at most {MAX_TEXT}"),
    ],
)
def test_an_error_is_a_value(text: str, words: str) -> None:
    """An evaluation never raises: it comes to null, with the reason."""
    made = evaluated(text, ["x" * MAX_TEXT, "y"] if "join" in text else DATA)
    assert made.result is None
    assert words in made.error
    assert not made.true


@pytest.mark.parametrize(
    "text",
    [
        "|".join(["[@,@][]"] * 60),
        "([@,@]|" * 20 + "@" + ")" * 20 + " == " + "([@,@]|" * 20 + "@" + ")" * 20,
        "contains([" + "([@,@]|" * 20 + "@" + ")" * 20 + "], " + "([@,@]|" * 20 + "@" + ")" * 20 + ")",
        "many[].many[]",
        "many[?@ != `1`]",
        "many[*].[@, @, @]",
        "sort(many)",
        "many[::2][::2]",
        "values(@)[].[@]",
    ],
)
def test_an_evaluation_is_bounded(text: str) -> None:
    """What would double a list again and again, or looks at too much, ends with an error after its steps."""
    value = {"many": list(range(MAX_STEPS))}
    began = time.process_time()
    made = evaluated(text, value)
    assert f"more than {MAX_STEPS} steps" in made.error
    assert made.steps <= 4 * MAX_STEPS
    assert time.process_time() - began < 1


def test_what_is_nested_too_deeply_to_compare_is_an_error() -> None:
    """Two values of a thousand levels are not compared by a recursion that ends the process."""
    deep: Any = []
    for _ in range(3_000):
        deep = [deep]
    assert "nested" in evaluated("a == b", {"a": deep, "b": [[deep]]}).error


def test_an_expression_is_compiled_once() -> None:
    """The same text is the same object, so a thousand webhooks with one filter cost one."""
    assert compiled("lines[0].sku") is compiled("lines[0].sku")


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=20))
def test_nothing_that_is_written_raises(text: str) -> None:
    """Whatever it is, it is an expression whose evaluation ends, or a fault with a sentence."""
    made = compiled(text)
    if isinstance(made, Fault):
        assert str(made).startswith("This JMESPath expression cannot be used")
    else:
        assert made.evaluate(DATA).steps > 0
