"""A service stands in the network of the run, and what is permitted is the run's alone."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from registry.contract.judge import judge
from registry.contract.limits import Limits
from registry.contract.runspec import RunSpec
from sandbox.network.permits import NetworkPolicy, parse_permit
from sandbox.workplace import opened_workplace
from tests.kit.images import busybox_image, write_layout
from tests.kit.internet import GREETING, NEIGHBOUR, SITE, Internet
from tests.kit.runs import MIB, runtime_name
from tests.kit.trying import try_layout

LIMITS = Limits(alive_seconds=100, wall_seconds=200, memory_bytes=32 * MIB, pids=32, written_bytes=16 * MIB)
CEILING = LIMITS.model_copy(
    update={"memory_bytes": 96 * MIB, "pids": 100, "written_bytes": 64 * MIB, "cpus": 4, "wall_seconds": 900}
)


async def test_a_service_reaches_nothing_outside(world: Internet, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", busybox_image())
    serve = f"echo served; nc {NEIGHBOUR} {GREETING} </dev/null; echo it ended with $?; exec sleep 1000"
    asks = f"nc {SITE} {GREETING} </dev/null"
    spec = {
        "version": 1,
        "command": ["/bin/sh", "-c", asks],
        "network": {"egress": [{"host": host, "port": GREETING} for host in (SITE, NEIGHBOUR)]},
        "services": [
            {
                "name": "db",
                "image": "team/db",
                "command": ["/bin/sh", "-c", serve],
                "ready": {"log": "^it ended with", "within_seconds": 200},
            }
        ],
        "expect": {"exit": 0, "log": [{"match": "^hello$"}], "no_outbound": True},
    }
    permits = tuple(parse_permit(f"{host}:{GREETING}") for host in (SITE, NEIGHBOUR))
    # Not tmp_path: its parents are closed to the run's users.
    folder = Path(tempfile.mkdtemp(prefix="seatrial-services-"))
    folder.chmod(0o711)
    try:
        with opened_workplace(
            folder,
            runtime=runtime_name(),
            allowed_downgrades=frozenset(),
            network=NetworkPolicy(permits),
        ) as (workplace, _):
            report = await try_layout(
                str(layout),
                workplace,
                spec=RunSpec.model_validate(spec, strict=False),
                limits=LIMITS,
                ceiling=CEILING,
                services={"db": "latest"},
            )
    finally:
        shutil.rmtree(folder)
    assert judge(report).verdict == "pass", report
    assert world.arrived() == {(SITE, "tcp", GREETING)}
    # What the service tried is told as its own, and is no attempt of the image.
    (run,) = report.runs
    assert run.outbound is not None
    assert {(one.address, one.service, one.permitted) for one in run.outbound} == {
        (SITE, None, True),
        (NEIGHBOUR, "db", False),
    }
