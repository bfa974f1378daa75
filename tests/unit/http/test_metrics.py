"""Shared counters: files come and go with the processes that count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.http import metrics

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_file_that_went_meanwhile_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_SHARED", str(tmp_path))
    # As between the list and the look: a name, and nothing there.
    (tmp_path / "gauge_livesum_1.db").symlink_to(tmp_path / "gone")
    (tmp_path / "counter_2.db").touch()
    assert b'process_resident_memory_bytes{pid="1"}' in metrics.Metrics().text()
