"""SPDX 2.3 (ISO/IEC 5962's successor) as JSON: an SBOM.

It tells no vulnerabilities: they change while the image stays the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from registry.advisories.licences import Licences, declared_licences, references_in
from registry.advisories.report import Report
from registry.contract.scan import Package, Scan
from registry.formats.purls import image_purl, purls_of
from registry.formats.shown import TOOL, dumped, gaps_of, layer_of, same_for, time_of, tool_version

_DOCUMENT = "SPDXRef-DOCUMENT"
_IMAGE = "SPDXRef-Image"
_SYSTEM = "SPDXRef-OperatingSystem"
_UNSAID = "NOASSERTION"
_PLAIN: dict[str, Any] = {
    "downloadLocation": _UNSAID,
    "filesAnalyzed": False,
    "licenseConcluded": _UNSAID,
    "licenseDeclared": _UNSAID,
    "copyrightText": _UNSAID,
}


def spdx(known: Report, image: str) -> bytes:
    """The document; the same for the same scan and name."""
    scan = known.scan
    packages = [_image(scan, image), *_system(scan)]
    licences = [*declared_licences(scan.packages)]
    packages += [
        _package(scan, package, index, purl, said)
        for index, (package, purl, said) in enumerate(
            zip(scan.packages, purls_of(scan), licences, strict=True)
        )
    ]
    body: dict[str, Any] = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": _DOCUMENT,
        "name": image,
        "creationInfo": {
            "created": time_of(known.scanned_at),
            "creators": [f"Tool: {TOOL}-{tool_version()}"],
            "comment": f"scanned by {scan.scanner}",
        },
        "packages": packages,
        "relationships": [
            _relation(_DOCUMENT, "DESCRIBES", _IMAGE),
            *(_relation(_IMAGE, "CONTAINS", one["SPDXID"]) for one in packages[1:]),
        ],
    }
    if references := _references(licences):
        body["hasExtractedLicensingInfos"] = references
    if gaps := [*gaps_of(known.scan)]:
        body["comment"] = "\n".join(["The scan is not complete:", *gaps])
    namespace = f"https://spdx.org/spdxdocs/{TOOL}-{same_for(body)}"
    return dumped({**body, "documentNamespace": namespace})


def _image(scan: Scan, image: str) -> dict[str, Any]:
    algorithm, _, digest = scan.digest.partition(":")
    layers = [f"{layer_of(scan, index)}: {layer.diff_id}" for index, layer in enumerate(scan.layers)]
    return {
        "SPDXID": _IMAGE,
        "name": image,
        "versionInfo": scan.digest,
        **_PLAIN,
        "primaryPackagePurpose": "CONTAINER",
        "checksums": [{"algorithm": algorithm.upper(), "checksumValue": digest}],
        "comment": "\n".join([f"platform {scan.platform}", *layers]),
        **_refs(image_purl(image, scan)),
    }


def _system(scan: Scan) -> list[dict[str, Any]]:
    system = scan.system
    if system is None or not system.id:
        return []
    found = {"SPDXID": _SYSTEM, "name": system.id, **_PLAIN, "primaryPackagePurpose": "OPERATING_SYSTEM"}
    if system.version:
        found["versionInfo"] = system.version
    if system.name:
        found["description"] = system.name
    return [found]


def _package(
    scan: Scan, package: Package, index: int, purl: str | None, licences: Licences | None
) -> dict[str, Any]:
    found = {
        "SPDXID": f"SPDXRef-Package-{index}",
        "name": package.name,
        "versionInfo": package.version,
        **_PLAIN,
        "primaryPackagePurpose": "LIBRARY",
        "sourceInfo": f"{package.path} of {layer_of(scan, package.layer)}",
    }
    words = ", ".join(package.licences)
    if licences is not None and licences.named is not None:
        found["licenseDeclared"] = licences.named
    if words not in ("", found["licenseDeclared"]):
        found["licenseComments"] = f"its metadata says: {words}"
    if package.source is not None:
        found["comment"] = f"source package {package.source} {package.source_version or package.version}"
    return {**found, **_refs(purl)}


def _references(licences: Iterable[Licences | None]) -> list[dict[str, str]]:
    """What each ``LicenseRef-…`` stands for: a document has to say so."""
    words: dict[str, dict[str, None]] = {}
    for said in dict.fromkeys(licences):
        for name, word in () if said is None else references_in(said).items():
            words.setdefault(name, {})[word] = None
    return [
        {
            "licenseId": name,
            "extractedText": "\n".join(said),
            "comment": "the words of packages' metadata; the licence itself was not read",
        }
        for name, said in words.items()
    ]


def _refs(purl: str | None) -> dict[str, Any]:
    if purl is None:
        return {}
    ref = {
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": purl,
    }
    return {"externalRefs": [ref]}


def _relation(element: str, kind: str, related: str) -> dict[str, str]:
    return {"spdxElementId": element, "relationshipType": kind, "relatedSpdxElement": related}
