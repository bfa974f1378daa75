"""What is said of a scan: predicates of in-toto statements, as cosign and others know them. Pure.

An SBOM is a document of CycloneDX or SPDX, without vulnerabilities: it is the same for good. What advisories
say of the packages is a statement of its own, in the form of cosign
(https://github.com/sigstore/cosign/blob/v3.0.2/specs/COSIGN_VULN_ATTESTATION_SPEC.md), and another one as
soon as that changes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from registry.advisories.report import Report
from registry.advisories.reported import reporters_of
from registry.formats.cyclonedx import cyclonedx
from registry.formats.purls import purls_of
from registry.formats.shown import time_of
from registry.formats.spdx import spdx
from registry.trials.statements import ScanKind, Signer


def scan_predicate(
    kind: ScanKind, known: Report, *, image: str, signer: Signer, made_at: str
) -> Mapping[str, Any]:
    """The predicate about an image, which clients call ``image``. An SBOM is made of the scan alone."""
    match kind:
        case "cyclonedx":
            document: dict[str, Any] = json.loads(cyclonedx(_scan_alone(known), image))
        case "spdx":
            document = json.loads(spdx(_scan_alone(known), image))
        case "matches":
            document = _matches(known, signer=signer, made_at=made_at)
    return document


def _scan_alone(known: Report) -> Report:
    return Report(known.scan, known.scanned_at)


def _matches(known: Report, *, signer: Signer, made_at: str) -> dict[str, Any]:
    advisories = known.advisories
    database: dict[str, Any] = {"uri": "", "version": ""}
    if advisories is not None:
        database["version"] = advisories.generation
        if advisories.sources:
            database["lastUpdate"] = time_of(min(one.as_of for one in advisories.sources))
    return {
        "invocation": {"parameters": [], "uri": "", "event_id": "", "builder.id": signer.id},
        "scanner": {
            "uri": "pkg:generic/seatrial",
            "version": signer.version,
            "db": database,
            "result": _result(known),
        },
        "metadata": {"scanStartedOn": time_of(known.scanned_at), "scanFinishedOn": made_at},
    }


def _result(known: Report) -> dict[str, Any]:
    """What is known, and how much is not. How likely a vulnerability is to be exploited, which changes each
    day, is left out."""
    scan = known.scan
    purls = purls_of(scan)
    reporters = reporters_of(scan)
    vulnerabilities = []
    for one in known.matches:
        package = scan.packages[one.package_index]
        by = reporters.get((one.package_index, one.id))
        vulnerabilities.append(
            {
                "id": one.id,
                "aliases": list(one.aliases),
                "kind": one.kind,
                "severity": one.severity,
                "score": one.score,
                "state": one.state,
                "kev": one.kev,
                "fixedVersion": one.fixed_version,
                "ecosystem": package.ecosystem,
                "package": package.name,
                "version": package.version,
                "purl": purls[one.package_index],
                "path": package.path,
                "layer": package.layer,
                **({"reportedBy": list(by)} if by else {}),
            }
        )
    return {
        "complete": known.is_complete(),
        "platform": scan.platform,
        "packages": len(scan.packages),
        "incomplete": len(scan.incomplete) + scan.truncated,
        "notLookedUp": dict(known.not_looked_up),
        "vulnerabilities": vulnerabilities,
    }
