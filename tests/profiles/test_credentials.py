from __future__ import annotations

import pytest

from pipeline.profiles._credentials import Basic, Nothing, SecretHeader

QASE = SecretHeader("qase_secret", "X-Qase-Secret")
BASIC = Basic()


def test_qase_sends_the_users_own_text() -> None:
    """The text goes verbatim into X-Qase-Secret; a receiver compares it."""
    secrets = {"secret": "any text: é is not in it"[:9]}
    assert QASE.signer(secrets)("id", "1", b"") == (("X-Qase-Secret", "any text:"),)
    assert QASE.verify({"x-qase-secret": "any text:"}, b"", secrets, 0) is None
    assert QASE.verify({"x-qase-secret": "another"}, b"", secrets, 0) == "X-Qase-Secret is not what was agreed"
    assert QASE.verify({}, b"", secrets, 0) == "there is no X-Qase-Secret"


def test_qase_without_a_secret_sends_no_header() -> None:
    """The secret is optional, and none is made up."""
    assert QASE.generate(bytes(32)) == {}
    assert QASE.refusal({}) is None
    assert QASE.signer({})("id", "1", b"") == ()
    assert QASE.verify({}, b"", {}, 0) is None


@pytest.mark.parametrize("secret", ["a\r\nb", "a\0", "é", " a", "a ", "x" * 257, "\t"])
def test_a_secret_must_survive_in_a_header(secret: str) -> None:
    """What a header would break or change is refused."""
    assert QASE.refusal({"secret": secret}) is not None


def test_basic_sends_username_and_password() -> None:
    """RFC 7617's own example in UTF-8, and comparison at the other end."""
    secrets = {"username": "test", "password": "123£"}
    assert BASIC.signer(secrets)("id", "1", b"") == (("Authorization", "Basic dGVzdDoxMjPCow=="),)
    assert BASIC.verify({"authorization": "Basic dGVzdDoxMjPCow=="}, b"", secrets, 0) is None
    assert BASIC.verify({"authorization": "Basic \udcff"}, b"", secrets, 0)
    assert BASIC.verify({}, b"", secrets, 0)


@pytest.mark.parametrize(
    ("secrets", "field"),
    [
        ({}, "username"),
        ({"username": "u"}, "password"),
        ({"username": "u", "password": ""}, "password"),
        ({"username": "a:b", "password": "p"}, "username"),
        ({"username": "u", "password": "p\n"}, "password"),
        ({"username": "u" * 257, "password": "p"}, "username"),
    ],
)
def test_basic_needs_both(secrets: dict[str, str], field: str) -> None:
    """A missing part, a colon in the username or a control character is refused by its field's name."""
    assert (BASIC.refusal(secrets) or ("",))[0] == field


def test_a_password_is_never_shown() -> None:
    """Not even its end, which may be most of it."""
    assert BASIC.masked({"username": "qrm", "password": "a very long password"}) == {"username": "qrm", "password": "…"}
    assert QASE.masked({"secret": "a very long text"}) == {"secret": "…text"}
    assert QASE.masked({}) == {}


def test_none_is_nothing() -> None:
    """No secrets, no headers, nothing to check."""
    assert Nothing().signer({})("id", "1", b"") == ()
    assert Nothing().verify({}, b"", {}, 0) is None
    assert Nothing().refusal({}) is None
