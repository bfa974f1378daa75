"""SARIF 2.1.0 (OASIS): vulnerabilities, secrets, malware and misconfiguration for code-scanning services."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from registry.advisories.report import Excused, Report
from registry.advisories.reported import reporters_of
from registry.contract.scan import Scan, Severity
from registry.formats.purls import purls_of
from registry.formats.shown import (
    TOOL,
    address_of,
    advisories_of,
    dumped,
    gaps_of,
    layer_of,
    not_looked_up_of,
    time_of,
    tool_version,
)
from registry.oci.printable import printable

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_ROOT = "IMAGE"
"""What paths begin at: the root of the image."""
_LEVELS: Mapping[Severity, str] = MappingProxyType(
    {
        "critical": "error",
        "high": "error",
        "unknown": "warning",
        "medium": "warning",
        "low": "note",
        "info": "note",
    }
)
_SCORES: Mapping[Severity, float] = MappingProxyType(
    {"critical": 9.5, "high": 8.0, "unknown": 5.5, "medium": 5.5, "low": 2.0, "info": 0.0}
)
"""What stands for a severity that has no score of its own: services sort by numbers."""
_TEXT_MAX = 1000


@dataclass(frozen=True, slots=True)
class _Told:
    """One result, and the rule that it is of."""

    rule: str
    name: str
    help: str
    address: str | None
    score: float
    tags: tuple[str, ...]
    result: Mapping[str, Any]


def sarif(known: Report, image: str) -> bytes:
    """The log; the same for the same report and name."""
    told = [*_of_matches(known, image), *_of_found(known, image)]
    rules: dict[str, _Told] = {}
    for one in told:
        if one.rule not in rules or rules[one.rule].score < one.score:
            rules[one.rule] = one
    numbers = {rule: number for number, rule in enumerate(rules)}
    told_of = [("warning", gap) for gap in (*gaps_of(known.scan), *not_looked_up_of(known))]
    if (age := advisories_of(known)) is not None:
        told_of.append(("note", age))
    scan = known.scan
    run = {
        "tool": {
            "driver": {
                "name": TOOL,
                "version": tool_version(),
                "rules": [_rule(one) for one in rules.values()],
            }
        },
        "automationDetails": {"id": f"{_uri(image)}/{scan.platform}/"},
        "invocations": [
            {
                "executionSuccessful": known.is_complete(),
                "endTimeUtc": time_of(known.scanned_at),
                "toolExecutionNotifications": [
                    {"level": level, "message": {"text": _plain(said)}} for level, said in told_of
                ],
            }
        ],
        "originalUriBaseIds": {_ROOT: {"uri": "file:///", "description": {"text": "the image's root"}}},
        "results": [{"ruleId": one.rule, "ruleIndex": numbers[one.rule], **one.result} for one in told],
        "properties": {
            "image": image,
            "digest": scan.digest,
            "platform": scan.platform,
            "scanner": scan.scanner,
            "base": None if known.base is None else f"{known.base.repository}@{known.base.digest}",
            "advisories": None if known.advisories is None else known.advisories.generation,
            "advisoriesAsOf": {
                one.name: time_of(one.as_of)
                for one in (() if known.advisories is None else known.advisories.sources)
            },
        },
    }
    return dumped({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def _rule(one: _Told) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "id": one.rule,
        "shortDescription": {"text": one.name},
        "fullDescription": {"text": one.name},
        "help": {"text": one.help},
        "properties": {"security-severity": f"{one.score:.1f}", "tags": ["security", *one.tags]},
    }
    if one.address is not None:
        rule["helpUri"] = one.address
    return rule


def _of_matches(known: Report, image: str) -> Iterator[_Told]:
    scan = known.scan
    purls = purls_of(scan)
    excuses = known.excuses()
    reporters = reporters_of(scan)
    for one in known.matches:
        package = scan.packages[one.package_index]
        what = f"{package.name} {package.version}"
        fixed = f"fixed in {one.fixed_version}" if one.fixed_version else "no fix is known"
        if one.state == "unknown":
            fixed = f"its version cannot be compared; {fixed}"
        summary = f": {one.summary}" if one.summary else ""
        came = layer_of(scan, package.layer)
        said = f"{one.id} in {what}{summary}; {fixed}; brought by {came}"
        properties = {
            "severity": one.severity,
            "package": package.name,
            "version": package.version,
            "purl": purls[one.package_index],
            "fixedVersion": one.fixed_version,
            "kev": one.kev,
            "epss": one.epss,
            **_layer(known, package.layer, None),
            **_reported(reporters.get((one.package_index, one.id), ())),
        }
        result: dict[str, Any] = {
            "level": _LEVELS[one.severity],
            "message": {"text": _plain(said)},
            "locations": _locations(scan, image, package.path, None, package.layer),
            "partialFingerprints": _same(one.id, package.kind, package.name, package.path),
            "properties": properties,
        }
        if (excused := excuses.get((one.id, one.package_index))) is not None:
            result["suppressions"] = [_suppression(excused)]
        yield _Told(
            one.id,
            _plain(one.summary or one.id),
            _plain(f"{one.id}{summary}. Update what is affected to a version that mends it."),
            address_of(one.id),
            _SCORES[one.severity] if one.score is None else one.score,
            (one.kind,),
            result,
        )


def _of_found(known: Report, image: str) -> Iterator[_Told]:
    scan = known.scan
    for one in scan.found:
        evidence = f": {one.evidence}" if one.evidence else ""
        came = "" if one.layer is None else f"; brought by {layer_of(scan, one.layer)}"
        gone = "" if one.deleted_in_layer is None else f", deleted by {layer_of(scan, one.deleted_in_layer)}"
        yield _Told(
            f"{one.kind}/{one.rule}",
            _plain(one.title or one.rule),
            _plain(one.remedy or one.title or one.rule),
            None,
            _SCORES[one.severity],
            (one.kind,),
            {
                "level": _LEVELS[one.severity],
                "message": {"text": _plain(f"{one.title}{evidence} ({one.where}{came}{gone})")},
                "locations": _locations(scan, image, one.where, one.line, one.layer),
                "partialFingerprints": _same(one.kind, one.rule, one.where, one.evidence),
                "properties": {
                    "severity": one.severity,
                    **_layer(known, one.layer, one.deleted_in_layer),
                    **_reported(() if one.scanner is None else (one.scanner,)),
                },
            },
        )


def _reported(reporters: Sequence[str]) -> dict[str, Any]:
    """Which other scanners say so."""
    return {"reportedBy": list(reporters)} if reporters else {}


def _locations(
    scan: Scan, image: str, where: str, line: int | None, layer: int | None
) -> list[dict[str, Any]]:
    """A path in the image; what is of its configuration is at the image itself."""
    if layer is None:
        place: dict[str, Any] = {"artifactLocation": {"uri": _uri(image)}}
        return [{"physicalLocation": place, "logicalLocations": [{"fullyQualifiedName": _plain(where)}]}]
    place = {"artifactLocation": {"uri": quote(where, safe="/"), "uriBaseId": _ROOT}}
    # Services show nothing of what has no line.
    place["region"] = {"startLine": line or 1}
    return [
        {
            "physicalLocation": place,
            "logicalLocations": [{"fullyQualifiedName": scan.layers[layer].diff_id}],
            "message": {"text": _plain(layer_of(scan, layer))},
        }
    ]


def _layer(known: Report, layer: int | None, deleted_in: int | None) -> dict[str, Any]:
    if layer is None:
        return {}
    of = known.scan.layers[layer]
    told: dict[str, Any] = {"layer": layer, "diffId": of.diff_id, "createdBy": of.created_by}
    if known.base is not None:
        told["fromBase"] = known.base.brought(layer)
    return told if deleted_in is None else {**told, "deletedInLayer": deleted_in}


def _suppression(excused: Excused) -> dict[str, Any]:
    until = "" if excused.expires_at is None else f", until {time_of(excused.expires_at)}"
    why = f": {excused.justification}" if excused.justification else ""
    said = f"{excused.status} by {excused.author} ({excused.by}{until}){why}"
    return {"kind": "external", "justification": _plain(said)}


def _same(*parts: str) -> dict[str, str]:
    """The same finding is known again in the next scan, whatever its layer is then."""
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "replace"))
    return {"finding/v1": digest.hexdigest()}


def _uri(image: str) -> str:
    # A colon in its first part would make the rest of it a scheme's.
    return quote(image, safe="/@")


def _plain(text: str) -> str:
    # A reader takes what is in brackets for a link.
    return printable(text)[:_TEXT_MAX].replace("[", "(").replace("]", ")")
