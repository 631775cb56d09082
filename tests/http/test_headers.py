"""The headers that a customer may add (which names are ours: `test_egress_cases.py`)."""

from __future__ import annotations

from pipeline.http.headers import check_customer_headers


def test_usual_headers_are_accepted() -> None:
    """A customer's own headers, Authorization too, are accepted."""
    assert check_customer_headers({"Authorization": "Bearer abc", "X-Tenant": "a b\tc", "X-Empty": ""}) == []


def test_each_refused_header_is_named() -> None:
    """Every header that is refused is named, with a reason, in the order given."""
    refused = check_customer_headers({"Host": "a", "X-Ok": "b", "X Bad": "c", "": "d", "X:": "e"})
    assert [name for name, _ in refused] == ["Host", "X Bad", "", "X:"]
    assert all(reason for _, reason in refused)


def test_headers_of_the_product_are_refused() -> None:
    """A header that the webhook's product sets itself is refused, in whatever case."""
    assert [name for name, _ in check_customer_headers({"X-Qase-Secret": "a"}, {"x-qase-secret"})] == ["X-Qase-Secret"]


def test_sizes_are_limited() -> None:
    """Names, values, their number and their sum are limited, each at its exact limit."""
    assert check_customer_headers({"x" * 100: "v" * 4096}) == []
    assert len(check_customer_headers({"x" * 101: "v"})) == 1
    assert len(check_customer_headers({"x": "v" * 4097})) == 1
    assert check_customer_headers({f"x{i}": "v" for i in range(20)}) == []
    assert [name for name, _ in check_customer_headers({f"x{i}": "v" for i in range(21)})] == [""]
    assert [name for name, _ in check_customer_headers({"a": "v" * 4096, "b": "v" * 4096})] == [""]


def test_same_name_twice_is_refused() -> None:
    """The same name in two spellings is refused."""
    assert [name for name, _ in check_customer_headers({"X-A": "1", "x-a": "2"})] == [""]
