from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.profiles import _examples, examples

ONE = '{"type": "a.b", "data": {"n": 1.50, "z": null, "a": "ü"}, "actor": "40", "subject": "s"}'


def test_an_example_is_an_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Type, data, actor and subject of the file, tenant, id and time of who uses it."""
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.b.json").write_text(ONE, encoding="utf-8")
    monkeypatch.setattr(_examples, "_PLACES", (tmp_path / "nowhere", tmp_path))
    (example,) = examples("new")
    event = example.event("demo", "e-1", 5)
    assert (event.id, event.tenant, event.time_ms) == ("e-1", "demo", 5)
    assert (event.type, event.actor, event.subject) == ("a.b", "40", "s")
    assert event.data == '{"n":1.5,"z":null,"a":"ü"}'


def test_a_profile_without_examples_has_none() -> None:
    """A product that is not there yet is no error."""
    assert examples("no-such-product") == ()
