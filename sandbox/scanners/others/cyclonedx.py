"""Reports in CycloneDX (1.4 and later, JSON): components, and vulnerabilities that affect them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from registry.advisories.severity import SEVERITIES, severity_of_word
from registry.contract.scan import Reported, Scan, Severity
from sandbox.scanners.others.said import (
    ReportInvalidError,
    Said,
    Saying,
    cut,
    items,
    members,
    score,
    text,
)
from sandbox.scanners.others.vulnerabilities import is_id, of_purl


def read_cyclonedx(document: Mapping[str, object], scan: Scan) -> Said:
    """What a document of CycloneDX says.

    Raises:
        ReportInvalidError: it is none.
    """
    if document.get("bomFormat") != "CycloneDX":
        raise ReportInvalidError("it is no document of CycloneDX")
    saying = Saying(scan)
    by_ref: dict[str, int] = {}
    for one in _components(document):
        found = of_purl(text(one.get("purl")))
        name, version = text(one.get("name")), text(one.get("version"))
        if found is None and one.get("type") not in ("library", "application", "framework"):
            # The image itself, its files and its system are no packages.
            continue
        if found is not None and not found[2]:
            found = (found[0], found[1], version)
        package = saying.package(*(found or ("other", name, version)), licences=_licences(one))
        by_ref[text(one.get("bom-ref"))] = package
    for each in items(document.get("vulnerabilities")):
        _vulnerability(saying, members(each), by_ref)
    return saying.done(_tool(members(document.get("metadata"))) or "CycloneDX")


def _components(document: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    # Components lie in components, as deep as JSON may.
    todo: list[Sequence[object]] = [items(document.get("components"))]
    while todo:
        for each in todo.pop():
            one = members(each)
            yield one
            todo.append(items(one.get("components")))


def _licences(one: Mapping[str, object]) -> list[str]:
    found = []
    for each in items(one.get("licenses")):
        choice = members(each)
        licence = members(choice.get("license"))
        said = text(choice.get("expression")) or text(licence.get("id")) or text(licence.get("name"))
        if said:
            found.append(said)
    return found


def _vulnerability(saying: Saying, one: Mapping[str, object], by_ref: Mapping[str, int]) -> None:
    name = text(one.get("id"))
    if not is_id(name):
        saying.lacks(f"a vulnerability has no id that could be one: {name[:80]!r}")
        return
    if text(members(one.get("analysis")).get("state")) in ("not_affected", "false_positive", "resolved"):
        return
    severities: list[Severity] = []
    scores = []
    for each in items(one.get("ratings")):
        rating = members(each)
        severities.append(severity_of_word(rating.get("severity")))
        if (
            text(rating.get("method")).startswith("CVSS")
            and (found := score(rating.get("score"))) is not None
        ):
            scores.append(found)
    affected = [members(each) for each in items(one.get("affects"))]
    refs = [ref for each in affected if (ref := text(each.get("ref"))) in by_ref]
    if len(refs) < len(affected) or not refs:
        saying.lacks(f"{name} affects something that is none of its components")
    for ref in dict.fromkeys(refs):
        saying.reported.append(
            Reported(
                id=name,
                package=by_ref[ref],
                severity=max(severities, key=SEVERITIES.index, default="unknown"),
                score=max(scores, default=None),
                summary=cut(text(one.get("description")), 300),
            )
        )


def _tool(metadata: Mapping[str, object]) -> str:
    tools = metadata.get("tools")
    named = items(tools) or items(members(tools).get("components"))
    first = members(named[0]) if named else {}
    return f"{text(first.get('name'))} {text(first.get('version'))}".strip()
