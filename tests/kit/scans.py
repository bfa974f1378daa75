"""Scans as workers send them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.kit.trials import ScriptedWorker

SCANNING = ("scan",)
"""What a scripted worker says among its mechanisms to be asked for scans."""
DIFF_ID = "sha256:" + "d" * 64


def make_package(name: str = "zlib1g", version: str = "1:1.2.13", **members: Any) -> dict[str, Any]:
    """A package of Debian 12 in the only layer."""
    usual = {"kind": "dpkg", "ecosystem": "Debian:12", "path": "var/lib/dpkg/status", "layer": 0}
    return usual | {"name": name, "version": version} | members


def make_found(**members: Any) -> dict[str, Any]:
    """A secret in the only layer."""
    usual = {"kind": "secret", "rule": "github-token", "severity": "high", "title": "a token of GitHub"}
    return usual | {"where": "opt/token", "evidence": "ghp_…", "layer": 0} | members


def make_scan(job: Any, *packages: dict[str, Any], **members: Any) -> dict[str, Any]:
    """A scan of a job's image, of one layer."""
    return {
        "lease": job["lease"],
        "scanner": "scripted 1.0",
        "digest": job["digest"],
        "platform": job["platform"],
        "layers": [{"diff_id": DIFF_ID}],
        "packages": list(packages),
        **members,
    }


async def scan_next(worker: ScriptedWorker, *packages: dict[str, Any], **members: Any) -> Any:
    """Scan the next image, with these packages, and let it pass; the job."""
    job = await worker.claim(mechanisms=SCANNING)
    assert (await worker.post("scan", make_scan(job, *packages, **members))).status == 204
    assert (await worker.report(job)).status == 204
    return job
