"""What the worker's unit for systemd takes from it, it does not need: all kinds of runs end as without."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.worker.conftest import REPOSITORY, Yard
from tests.kit.hardening import hardened, settings_of
from tests.kit.images import busybox_image, file, folder, make_layer, whiteout
from tests.kit.internet import internet
from tests.kit.sources import ROOT

UNIT = ROOT / "deploy" / "systemd" / "seatrial-worker.service"
LAYERS = (
    make_layer(file("etc/first", mode=0o4755, uid=7, gid=8), folder("srv"), file("srv/deep", uid=1000)),
    make_layer(whiteout("etc/first"), file("srv/.wh..wh..opq"), file("bin/second", mode=0o2755)),
)
NETWORK = {"network": {"egress": [{"host": "192.0.2.1", "port": 80}]}}
IMAGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "root": (busybox_image(("/bin/sh", "-c", "chown 5:6 /etc && hostname && echo x >/y"), layers=LAYERS), {}),
    "user": (busybox_image(("sleep", "600"), user="1000:1000"), {"expect": {"alive": True}}),
    "exec": (busybox_image(("sleep", "600"), healthcheck=("CMD", "true")), {}),
    "orphans": (busybox_image(("/bin/sh", "-c", "(setsid sleep 99 &) ; exit 0")), {}),
    "storm": (busybox_image(("/bin/sh", "-c", "while :; do sleep 9 & done")), {"expect": {"exit": 2}}),
    "network": (busybox_image(("true",)), NETWORK),
    "restricted": (busybox_image(("/bin/sh", "-c", "echo x >/tmp/y")), {"profile": "restricted"}),
}


@pytest.fixture(scope="module")
def yard(make_yard: Callable[..., Yard]) -> Iterator[Yard]:
    """A registry that tries what it is asked to, where there is a network that forwards."""
    if None in map(shutil.which, ("systemd-analyze", "nft", "ip")):
        pytest.skip("needs systemd-analyze, iproute2 and nftables; CI has them")
    with internet():
        yield make_yard(
            trial_on_push="false", limits__pids="64", limits__alive_seconds="4", trial_attempts="1"
        )


def mechanisms(trial: Any) -> set[tuple[str, bool]]:
    return {(one["name"], one["applied"]) for one in trial["parts"][0]["record"]["mechanisms"]}


def test_all_kinds_of_runs_end_as_without(yard: Yard) -> None:
    ended: dict[str, dict[str, Any]] = {}
    for name in ("free", "hardened"):
        worker = yard.worker(name, slots=3)
        if name == "hardened":
            worker.through = hardened(UNIT, (worker.folder, Path("/run/seatrial")))
        worker.start("--allow-egress", "192.0.2.1/32:80")
        for tag, (image, spec) in IMAGES.items():
            yard.push(image, tag)
            body = {"image": f"{REPOSITORY}:{tag}", "spec": {"version": 1, "env": {"BY": name}, **spec}}
            yard.call("POST", "/api/v1/trials", json=body)
        ended[name] = {tag: yard.verdict(tag) for tag in IMAGES}
        if name == "hardened":
            status = Path(f"/proc/{worker.pid}/status").read_text()
            held = bin(int(re.findall(r"^CapEff:\s+(\w+)", status, re.MULTILINE)[0], 16)).count("1")
            assert held == len(settings_of(UNIT)["CapabilityBoundingSet"].split())
        worker.send_signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert worker.left_behind() == []
    for tag in IMAGES:
        free, hard = ended["free"][tag], ended["hardened"][tag]
        assert (tag, free["verdict"], hard["verdict"]) == (tag, "pass", "pass"), hard["reason"]
        assert free["id"] != hard["id"]
        assert mechanisms(free) == mechanisms(hard)
