"""Where a worker tells its numbers, and which."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.contract.report import Report
from registry.errors import RequestInvalidError
from sandbox.budget import Room
from sandbox.images.collect import Figures
from sandbox.metrics import WorkerMetrics, parse_metrics_address
from tests.kit.trials import make_error, make_report


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:80", ("localhost", 80)),
        ("unix:/run/x.socket", Path("/run/x.socket")),
    ],
)
def test_addresses(text: str, address: object) -> None:
    assert parse_metrics_address(text) == address


@pytest.mark.parametrize("text", ["", "9464", ":9464", "host:", "host:65536", "unix:", "http://h:1", "a b:1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(RequestInvalidError, match="neither HOST:PORT nor unix:PATH"):
        parse_metrics_address(text)


def counted() -> WorkerMetrics:
    metrics = WorkerMetrics(Room(), slots=3, runtime="runc 1.1.5")
    metrics.looked(
        Figures(1, 2, size_bytes=300, in_use_bytes=0, free_bytes=500, room_bytes=400, most_bytes=900)
    )
    job = {"lease": "a" * 43, "digest": f"sha256:{'a' * 64}", "platform": "linux/amd64"}
    steps = [{"name": "pull", "seconds": 0.3}, {"name": "start", "seconds": 0.02}]
    metrics.reported(Report.model_validate(make_report(job, steps=steps), strict=False))
    failed = make_report(job, **make_error("layer-invalid"))
    metrics.reported(Report.model_validate(failed, strict=False))
    metrics.lease_lost()
    metrics.heard(None)
    metrics.heard(-2.5)
    return metrics


def test_the_numbers() -> None:
    lines = counted().text().decode().splitlines()
    for line in (
        'seatrial_worker_runs_total{reason="exited",verdict="pass"} 1.0',
        'seatrial_worker_runs_total{reason="layer-invalid",verdict="error"} 1.0',
        "seatrial_worker_leases_lost_total 1.0",
        'seatrial_worker_step_seconds_bucket{le="0.5",step="pull"} 1.0',
        'seatrial_worker_step_seconds_bucket{le="0.25",step="pull"} 0.0',
        'seatrial_worker_step_seconds_count{step="start"} 1.0',
        "seatrial_worker_slots 3.0",
        "seatrial_worker_registry_clock_ahead_seconds -2.5",
        "seatrial_worker_runs_in_progress 0.0",
        "seatrial_worker_runs_waiting 0.0",
        "seatrial_worker_cache_bytes 300.0",
        "seatrial_worker_disk_free_bytes 500.0",
        "seatrial_worker_disk_room_bytes 400.0",
    ):
        assert line in lines
    (heard,) = (line for line in lines if line.startswith("seatrial_worker_registry_contact_timestamp"))
    assert float(heard.split()[1]) > 1.7e9
    assert not [line for line in lines if "sha256" in line or "a" * 43 in line]
