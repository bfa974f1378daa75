"""OpenVEX 0.2: what somebody answers for in an image, by statements of VEX or by waivers.

A waiver says that somebody lives with a vulnerability, and not that it does no harm: of it the status is
``affected``, and what is done is why it was waived and until when.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from registry.advisories.matching import Match
from registry.advisories.report import Excused, Report
from registry.formats.purls import image_purl, purls_of
from registry.formats.shown import TOOL, dumped, same_for, time_of, tool_version

CONTEXT = "https://openvex.dev/ns/v0.2.0"
JUSTIFICATIONS = frozenset(
    {
        "component_not_present",
        "vulnerable_code_not_present",
        "vulnerable_code_not_in_execute_path",
        "vulnerable_code_cannot_be_controlled_by_adversary",
        "inline_mitigations_already_exist",
    }
)


def openvex(known: Report, image: str) -> bytes:
    """The document; the same for the same report and name. Where nothing is excused it has no statements."""
    excuses = known.excuses()
    alike: dict[tuple[object, ...], list[tuple[Match, Excused]]] = {}
    for one in known.matches:
        said = excuses.get((one.id, one.package_index))
        if said is not None:
            same = (one.id, said.by, said.status, said.justification, said.author, said.expires_at)
            alike.setdefault(same, []).append((one, said))
    body = {
        "author": f"{TOOL} {tool_version()}",
        "role": "Document Creator",
        "timestamp": time_of(known.scanned_at),
        "version": 1,
        "statements": [_statement(known, group, image) for group in alike.values()],
    }
    return dumped({"@context": CONTEXT, "@id": f"https://openvex.dev/docs/{TOOL}-{same_for(body)}", **body})


def _statement(known: Report, group: Sequence[tuple[Match, Excused]], image: str) -> dict[str, Any]:
    match, said = group[0]
    vulnerability: dict[str, Any] = {"name": match.id}
    if match.aliases:
        vulnerability["aliases"] = list(match.aliases)
    found: dict[str, Any] = {
        "vulnerability": vulnerability,
        "products": [_product(known, [one.package_index for one, _ in group], image)],
        "supplier": said.author,
    }
    if said.by == "waiver":
        until = "" if said.expires_at is None else f" until {time_of(said.expires_at)}"
        action = f"{said.status}{until}: {said.justification}"
        return {**found, "status": "affected", "action_statement": action}
    found["status"] = said.status
    if said.status == "not_affected":
        name = "justification" if said.justification in JUSTIFICATIONS else "impact_statement"
        found[name] = said.justification
    return found


def _product(known: Report, packages: Sequence[int], image: str) -> dict[str, Any]:
    scan = known.scan
    algorithm, _, digest = scan.digest.partition(":")
    purls = purls_of(scan)
    own = image_purl(image, scan)
    found: dict[str, Any] = {"@id": own or scan.digest}
    if own is not None:
        found["identifiers"] = {"purl": own}
    found["hashes"] = {{"sha256": "sha-256", "sha512": "sha-512"}[algorithm]: digest}
    parts = [(purls[index], scan.packages[index]) for index in packages]
    found["subcomponents"] = [
        {"@id": f"{package.name}@{package.version}"}
        if purl is None
        else {"@id": purl, "identifiers": {"purl": purl}}
        for purl, package in parts
    ]
    return found
