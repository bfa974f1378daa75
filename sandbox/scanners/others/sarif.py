"""Reports in SARIF 2.1.0. Pure.

SARIF has results and no packages: where a result is about a vulnerability, its package is read from the lines
``Package: NAME`` and ``Installed Version: VERSION`` of its message, as trivy and others write them; without
them the file that it was found in stands for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import unquote

from registry.advisories.severity import severity_of_score
from registry.contract.scan import Found, FoundKind, Reported, Scan, Severity
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

_VULNERABILITY = re.compile(r"(CVE-\d{4}-\d{4,}|GHSA(?:-[0-9a-z]{4}){3}|[A-Z]+-\d{4}-\d+)\b")
_LINE = re.compile(r"^(Package|Installed Version|Fixed Version): ?(.*)$", re.MULTILINE)
_LEVELS: Mapping[str, Severity] = MappingProxyType(
    {"error": "high", "warning": "medium", "note": "low", "none": "info"}
)
_KINDS: Mapping[str, FoundKind] = MappingProxyType(
    {
        "secret": "secret",
        "secrets": "secret",
        "malware": "malware",
        "license": "licence",
        "licence": "licence",
        "misconfiguration": "misconfiguration",
    }
)
_MESSAGE_MAX = 20_000


def read_sarif(document: Mapping[str, object], scan: Scan) -> Said:
    """What a document of SARIF says.

    Raises:
        ReportInvalidError: it is none of version 2.1.0.
    """
    if document.get("version") != "2.1.0" or not isinstance(document.get("runs"), list):
        raise ReportInvalidError("it is no document of SARIF 2.1.0")
    saying = Saying(scan)
    named = ""
    for each in items(document.get("runs")):
        run = members(each)
        driver = members(members(run.get("tool")).get("driver"))
        version = text(driver.get("semanticVersion")) or text(driver.get("version"))
        named = named or f"{text(driver.get('name'))} {version}".strip()
        rules = [members(one) for one in items(driver.get("rules"))]
        by_id = {text(one.get("id")): one for one in rules}
        for one in items(run.get("results")):
            result = members(one)
            if items(result.get("suppressions")) or result.get("kind", "fail") != "fail":
                continue
            _result(saying, result, by_id.get(text(result.get("ruleId"))) or _numbered(rules, result))
        for one in items(run.get("invocations")):
            if members(one).get("executionSuccessful") is False:
                saying.lacks("it says that it did not come to its end")
    return saying.done(named or "SARIF")


def _numbered(rules: list[Mapping[str, object]], result: Mapping[str, object]) -> Mapping[str, object]:
    index = result.get("ruleIndex")
    fits = isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(rules)
    return rules[index] if fits and isinstance(index, int) else {}


def _result(saying: Saying, result: Mapping[str, object], rule: Mapping[str, object]) -> None:
    name = text(result.get("ruleId")) or text(rule.get("id")) or "?"
    properties = members(rule.get("properties"))
    tags = {text(one).lower() for one in items(properties.get("tags"))}
    titles = [text(members(rule.get(one)).get("text")) for one in ("shortDescription", "fullDescription")]
    title = next((one for one in titles if one and one != name), "")
    message = text(members(result.get("message")).get("text"))[:_MESSAGE_MAX]
    where = members(next(iter(items(result.get("locations"))), None)).get("physicalLocation")
    path = unquote(text(members(members(where).get("artifactLocation")).get("uri"))).removeprefix("file://")
    security = _security(properties.get("security-severity"))
    level = text(result.get("level")) or text(members(rule.get("defaultConfiguration")).get("level"))
    severity = _LEVELS.get(level or "warning", "unknown") if security is None else severity_of_score(security)
    match = _VULNERABILITY.match(name)
    if match is not None and ("vulnerability" in tags or not tags & _KINDS.keys()):
        lines = dict(_LINE.findall(message))
        package = saying.package(
            "other", lines.get("Package", ""), lines.get("Installed Version", ""), path=path
        )
        saying.reported.append(
            Reported(
                id=match[1],
                package=package,
                severity=severity,
                score=security,
                summary=cut(title or message, 300),
                fixed_version=cut(lines.get("Fixed Version", ""), 300) or None,
            )
        )
        return
    kind: FoundKind = next((_KINDS[one] for one in sorted(tags) if one in _KINDS), "misconfiguration")
    # The message of a secret may quote it.
    said = title if kind == "secret" else title or message
    saying.found.append(
        Found(
            kind=kind,
            rule=cut(name, 100),
            severity=severity,
            title=cut(said or name, 300),
            remedy=cut(text(members(rule.get("help")).get("text")), 1000),
            where=plain_path(path),
            line=line(members(members(where).get("region")).get("startLine")),
        )
    )


def _security(value: object) -> float | None:
    # GitHub's property is a number in a string.
    if isinstance(value, str) and re.fullmatch(r"\d{1,2}(?:\.\d{1,3})?", value):
        return score(float(value))
    return score(value)
