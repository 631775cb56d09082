"""That the bench of the delivery log reads what it has made, and says which floor was missed."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from bench import pages
from pipeline.flow.history import Status
from pipeline.store.log import DeliveryFilter, open_log


def test_run_measures_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows that are made are deliveries like others, of all kinds, and the log is as it is always opened."""
    monkeypatch.setattr(pages, "FAR", 3)
    monkeypatch.setattr(pages, "SAMPLES", 20)
    monkeypatch.setattr(pages, "_WRITTEN", 500)
    figures = pages.run(3_000, tmp_path)
    assert min(figures.values()) > 0
    with closing(open_log(f"sqlite:///{tmp_path}/log.sqlite")) as log:
        assert len(log.deliveries("tenant_0", DeliveryFilter(), None, 5_000).items) > 1_500
        failed = log.deliveries("tenant_0", DeliveryFilter(statuses=(Status.FAILED,)), None, 50).items
        assert {row.status for row in failed} == {Status.FAILED}
        with log._engines.reader.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
            made = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master WHERE name LIKE 'deliveries_by_%'")
            assert made.scalar_one() == 8


def test_missed_floor_is_named() -> None:
    """A page that takes too long, be it the first or the thousandth."""
    fine = {"first_p99_ms": 50.0, "thousandth_p99_ms": 50.0}
    assert pages.missed(fine) == []
    for name in fine:
        (line,) = pages.missed({**fine, name: 50.1})
        assert f"{name} is 50.1" in line
