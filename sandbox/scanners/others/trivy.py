"""Reports of trivy: the JSON of ``trivy rootfs --format json`` (schema version 2). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from registry.advisories.severity import severity_of_word
from registry.contract.scan import Found, FoundKind, PackageKind, Reported, Scan
from sandbox.scanners.others.said import (
    ReportInvalidError,
    Said,
    Saying,
    cut,
    items,
    line,
    members,
    plain_path,
    score,
    text,
)
from sandbox.scanners.others.vulnerabilities import is_id

_KINDS: Mapping[str, PackageKind] = MappingProxyType(
    {
        **dict.fromkeys(("debian", "ubuntu", "dpkg"), "dpkg"),
        **dict.fromkeys(("alpine", "wolfi", "chainguard", "apk"), "apk"),
        **dict.fromkeys(
            ("redhat", "centos", "rocky", "alma", "fedora", "oracle", "amazon", "suse", "opensuse",
             "opensuse-leap", "opensuse-tumbleweed", "sles", "slem", "photon", "azurelinux", "cbl-mariner"),
            "rpm",
        ),
        **dict.fromkeys(("python-pkg", "conda-pkg"), "python"),
        "node-pkg": "npm",
        "gobinary": "go",
        "rustbinary": "rust",
        "jar": "java",
    }
)  # fmt: skip


def read_trivy(document: Mapping[str, object], scan: Scan) -> Said:
    """What trivy says.

    Raises:
        ReportInvalidError: it is no such report.
    """
    if document.get("SchemaVersion") != 2:
        raise ReportInvalidError("it is no report of trivy of schema version 2")
    saying = Saying(scan)
    for each in items(document.get("Results")):
        result = members(each)
        target = text(result.get("Target"))
        kind = _KINDS.get(text(result.get("Type")), "other")
        for one in items(result.get("Vulnerabilities")):
            _vulnerability(saying, members(one), kind, target)
        for one in items(result.get("Secrets")):
            _secret(saying, members(one), target)
        for one in items(result.get("Misconfigurations")):
            _misconfiguration(saying, members(one), target)
        for one in items(result.get("Licenses")):
            _licence(saying, members(one), target)
    version = text(members(document.get("Trivy")).get("Version"))
    return saying.done(f"trivy {version}".rstrip())


def _vulnerability(saying: Saying, one: Mapping[str, object], kind: PackageKind, target: str) -> None:
    name = text(one.get("VulnerabilityID"))
    if not is_id(name):
        saying.lacks(f"a vulnerability has no id that could be one: {name[:80]!r}", target)
        return
    package = saying.package(
        kind,
        text(one.get("PkgName")),
        text(one.get("InstalledVersion")),
        path=text(one.get("PkgPath")) or ("" if kind in ("dpkg", "apk", "rpm") else target),
        layer=_layer(saying, one),
    )
    scores = [
        found
        for by in members(one.get("CVSS")).values()
        for key in ("V40Score", "V3Score")
        if (found := score(members(by).get(key))) is not None
    ]
    saying.reported.append(
        Reported(
            id=name,
            aliases=tuple(dict.fromkeys(cut(text(each), 100) for each in items(one.get("VendorIDs"))[:20])),
            package=package,
            severity=severity_of_word(one.get("Severity")),
            score=max(scores, default=None),
            summary=cut(text(one.get("Title")) or text(one.get("Description")), 300),
            fixed_version=cut(text(one.get("FixedVersion")), 300) or None,
        )
    )


def _secret(saying: Saying, one: Mapping[str, object], target: str) -> None:
    # Not what it matched: nobody knows whether all of the secret is out of that.
    _found(saying, "secret", one, one.get("RuleID"), target, started=one.get("StartLine"))


def _misconfiguration(saying: Saying, one: Mapping[str, object], target: str) -> None:
    if one.get("Status") in ("PASS", "EXCEPTION"):
        return
    started = members(one.get("CauseMetadata")).get("StartLine")
    _found(saying, "misconfiguration", one, one.get("ID"), target, started=started)


def _licence(saying: Saying, one: Mapping[str, object], target: str) -> None:
    where = text(one.get("FilePath")) or text(one.get("PkgName")) or target
    _found(saying, "licence", {**one, "Title": one.get("Name")}, one.get("Name"), where, started=None)


def _found(
    saying: Saying, kind: FoundKind, one: Mapping[str, object], rule: object, where: str, *, started: object
) -> None:
    saying.found.append(
        Found(
            kind=kind,
            rule=cut(text(rule) or "?", 100),
            severity=severity_of_word(one.get("Severity")),
            title=cut(text(one.get("Title")), 300),
            remedy=cut(text(one.get("Resolution")), 1000),
            where=plain_path(where),
            line=line(started),
            layer=_layer(saying, one),
        )
    )


def _layer(saying: Saying, one: Mapping[str, object]) -> int | None:
    return saying.layer(text(members(one.get("Layer")).get("DiffID")))
