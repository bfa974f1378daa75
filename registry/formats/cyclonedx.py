"""CycloneDX 1.6 (ECMA-424): an SBOM, and the vulnerabilities of what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from registry.advisories.licences import Licences, declared_licences
from registry.advisories.matching import Match
from registry.advisories.report import Excused, Report
from registry.advisories.reported import reporters_of
from registry.contract.scan import Package, Scan
from registry.formats.purls import image_purl, purls_of
from registry.formats.shown import (
    TOOL,
    address_of,
    dumped,
    gaps_of,
    layer_of,
    not_looked_up_of,
    same_for,
    time_of,
    tool_version,
)

SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
IMAGE = "image"
"""The ``bom-ref`` of the image itself."""
_SYSTEM = "system"
_ANALYSES: Mapping[str, str] = MappingProxyType(
    {
        "not_affected": "not_affected",
        "fixed": "resolved",
        "affected": "exploitable",
        "under_investigation": "in_triage",
    }
)
"""Words of OpenVEX to those of CycloneDX."""
_JUSTIFICATIONS: Mapping[str, str] = MappingProxyType(
    {
        "component_not_present": "code_not_present",
        "vulnerable_code_not_present": "code_not_present",
        "vulnerable_code_not_in_execute_path": "code_not_reachable",
        "vulnerable_code_cannot_be_controlled_by_adversary": "requires_environment",
        "inline_mitigations_already_exist": "protected_by_mitigating_control",
    }
)


def cyclonedx(known: Report, image: str) -> bytes:
    """The document; the same for the same report and name."""
    scan = known.scan
    refs = refs_of(scan)
    body: dict[str, Any] = {
        "metadata": _metadata(known, image),
        "components": [
            *_system(scan),
            *(
                _component(scan, package, ref, purl, said)
                for package, ref, purl, said in zip(
                    scan.packages, refs, purls_of(scan), declared_licences(scan.packages), strict=True
                )
            ),
        ],
        "dependencies": [{"ref": IMAGE, "dependsOn": refs}],
        # Nothing says that there is no more than what was found: programs bring what names itself nowhere.
        "compositions": [{"aggregate": "incomplete", "assemblies": [IMAGE]}],
    }
    if known.advisories is not None or known.matches:
        body["vulnerabilities"] = _vulnerabilities(known, refs)
    serial = same_for(body)
    document = {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        **body,
    }
    return dumped(document)


def refs_of(scan: Scan) -> list[str]:
    """The ``bom-ref`` of each package: its purl, and its path where several have that one."""
    purls = [
        purl or f"{package.kind}:{package.name}@{package.version}"
        for package, purl in zip(scan.packages, purls_of(scan), strict=True)
    ]
    several = Counter(purls)
    taken = {IMAGE, _SYSTEM}
    refs: list[str] = []
    for package, purl in zip(scan.packages, purls, strict=True):
        ref = wanted = purl if several[purl] == 1 else f"{purl}#{package.path}"
        number = 1
        while ref in taken:
            number += 1
            ref = f"{wanted}#{number}"
        taken.add(ref)
        refs.append(ref)
    return refs


def _metadata(known: Report, image: str) -> dict[str, Any]:
    scan = known.scan
    algorithm, _, digest = scan.digest.partition(":")
    component: dict[str, Any] = {
        "type": "container",
        "bom-ref": IMAGE,
        "name": image,
        "version": scan.digest,
        "hashes": [{"alg": {"sha256": "SHA-256", "sha512": "SHA-512"}[algorithm], "content": digest}],
        "properties": [
            {"name": "seatrial:platform", "value": scan.platform},
            *(
                {"name": f"seatrial:layer:{index}", "value": f"{layer.diff_id} {layer.created_by}".strip()}
                for index, layer in enumerate(scan.layers)
            ),
            *({"name": "seatrial:incomplete", "value": gap} for gap in gaps_of(scan)),
            *({"name": "seatrial:notLookedUp", "value": gap} for gap in not_looked_up_of(known)),
        ],
    }
    if (purl := image_purl(image, scan)) is not None:
        component["purl"] = purl
    told: dict[str, Any] = {
        "timestamp": time_of(known.scanned_at),
        "lifecycles": [{"phase": "post-build"}],
        "tools": {"components": [{"type": "application", "name": TOOL, "version": tool_version()}]},
        "component": component,
    }
    properties = [{"name": "seatrial:scanner", "value": scan.scanner}]
    if known.advisories is not None:
        properties.append({"name": "seatrial:advisories:generation", "value": known.advisories.generation})
        properties += [
            {"name": f"seatrial:advisories:{one.name}", "value": time_of(one.as_of)}
            for one in known.advisories.sources
        ]
    return {**told, "properties": properties}


def _system(scan: Scan) -> list[dict[str, Any]]:
    if scan.system is None or not scan.system.id:
        return []
    found = {"type": "operating-system", "bom-ref": _SYSTEM, "name": scan.system.id}
    if scan.system.version:
        found["version"] = scan.system.version
    if scan.system.name:
        found["description"] = scan.system.name
    return [found]


def _component(
    scan: Scan, package: Package, ref: str, purl: str | None, licences: Licences | None
) -> dict[str, Any]:
    expression = None if licences is None else licences.expression
    words = ", ".join(package.licences)
    said = {
        "kind": package.kind,
        "path": package.path,
        "layer:index": str(package.layer),
        "layer:diffId": scan.layers[package.layer].diff_id,
        "source": package.source or "",
        "sourceVersion": package.source_version or "",
        "ownedBy": package.owned_by or "",
        "licences": words if expression not in (None, words) else "",
    }
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": ref,
        "name": package.name,
        "version": package.version,
    }
    if package.licences:
        found["licenses"] = _licences(package.licences, expression)
    if purl is not None:
        found["purl"] = purl
    found["properties"] = [
        {"name": f"seatrial:{name}", "value": value} for name, value in said.items() if value
    ]
    return found


def _licences(words: Sequence[str], expression: str | None) -> list[dict[str, Any]]:
    """As SPDX names them where something of it has a name there, else in the metadata's own words. The
    standard takes one expression, or a list of which each is one licence."""
    declared = {"acknowledgement": "declared"}
    if expression is None:
        return [{"license": {"name": word, **declared}} for word in dict.fromkeys(words) if word]
    if " " in expression:
        return [{"expression": expression, **declared}]
    return [{"license": {"id": expression, **declared}}]


def _vulnerabilities(known: Report, refs: Sequence[str]) -> list[dict[str, Any]]:
    """One for all packages of which the same is known."""
    excuses = known.excuses()
    reporters = reporters_of(known.scan)
    alike: dict[tuple[object, ...], list[Match]] = {}
    for one in known.matches:
        excused = excuses.get((one.id, one.package_index))
        same = (
            one.id,
            one.kind,
            one.severity,
            one.score,
            one.fixed_version,
            one.state,
            reporters.get((one.package_index, one.id)),
            excused
            and (excused.by, excused.status, excused.justification, excused.author, excused.expires_at),
        )
        alike.setdefault(same, []).append(one)
    return [
        {
            "bom-ref": f"vulnerability-{number}",
            **_vulnerability(
                known.scan,
                group,
                refs,
                excuses.get((group[0].id, group[0].package_index)),
                reporters.get((group[0].package_index, group[0].id), ()),
            ),
        }
        for number, group in enumerate(alike.values())
    ]


def _vulnerability(
    scan: Scan, group: Sequence[Match], refs: Sequence[str], excused: Excused | None, reporters: Sequence[str]
) -> dict[str, Any]:
    one = group[0]
    rating: dict[str, Any] = {"severity": one.severity}
    if one.score is not None:
        rating["score"] = one.score
    found: dict[str, Any] = {
        "id": one.id,
        "source": {"name": "OSV", "url": address_of(one.id)},
        "references": [
            {"id": alias, "source": {"name": "OSV", "url": address_of(alias)}} for alias in one.aliases
        ],
        "ratings": [rating],
        "description": one.summary,
        "recommendation": f"Update to {one.fixed_version} or later." if one.fixed_version else "",
        "published": None if one.published_at is None else time_of(one.published_at),
        "analysis": None if excused is None else _analysis(excused),
        "affects": [
            {
                "ref": refs[match.package_index],
                "versions": [{"version": scan.packages[match.package_index].version, "status": match.state}],
            }
            for match in group
        ],
        "properties": [
            {"name": f"seatrial:{name}", "value": value}
            for name, value in (
                ("kind", one.kind),
                ("fixedVersion", one.fixed_version or ""),
                ("kev", "true" if one.kev else ""),
                ("epss", "" if one.epss is None else str(one.epss)),
                *(("reportedBy", name) for name in reporters),
                *(
                    ("introducedBy", layer_of(scan, layer))
                    for layer in sorted({scan.packages[match.package_index].layer for match in group})
                ),
            )
            if value
        ],
    }
    return {name: value for name, value in found.items() if value}


def _analysis(excused: Excused) -> dict[str, Any]:
    said = [f"{excused.by} by {excused.author}"]
    if excused.expires_at is not None:
        said.append(f"until {time_of(excused.expires_at)}")
    if excused.justification:
        said.append(excused.justification)
    analysis: dict[str, Any] = {"detail": ": ".join(said)}
    if excused.by == "waiver":
        # Somebody lives with it. That says nothing of whether it can be exploited.
        return {"state": "exploitable", "response": ["will_not_fix"], **analysis}
    analysis["state"] = _ANALYSES.get(excused.status, "in_triage")
    if excused.justification in _JUSTIFICATIONS:
        analysis["justification"] = _JUSTIFICATIONS[excused.justification]
    return analysis
