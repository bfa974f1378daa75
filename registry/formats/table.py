"""A report as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from registry.advisories.report import Excused, Report
from registry.advisories.reported import reporters_of
from registry.contract.scan import WORST_FIRST
from registry.formats.shown import advisories_of, base_of, gaps_of, layer_of, not_looked_up_of
from registry.oci.printable import printable

_GAPS_SHOWN = 20


def table(known: Report, image: str) -> bytes:
    """The text. Nothing that an image holds moves a cursor or ends a line."""
    return "".join(f"{printable(line)}\n" for line in _lines(known)).encode()


def _lines(known: Report) -> Iterator[str]:
    scan = known.scan
    system = f"{scan.system.name or scan.system.id}; " if scan.system else ""
    kinds = [one.kind for one in scan.packages]
    of_kinds = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    yield f"{scan.digest} {scan.platform}"
    yield f"{system}{len(scan.layers)} layers; {len(kinds)} packages ({of_kinds or 'none'})"
    for other in scan.others:
        yield f"{other.name} ({other.image}) looked as well: {other.state}{_called(other.said)}"
    yield base_of(known)
    if (said := advisories_of(known)) is not None:
        yield said
    yield from not_looked_up_of(known)
    if known.advisories is not None or known.matches:
        yield from _vulnerabilities(known)
    if scan.found:
        yield ""
        of_base = _of_base(known, [one.layer for one in scan.found])
        yield f"{len(scan.found)} things found in its files and configuration{of_base}:"
        for one in scan.found:
            line = "" if one.line is None else f":{one.line}"
            where = _where(known, one.layer, one.deleted_in_layer)
            said = f" [{one.evidence}]" if one.evidence else ""
            said += f" (says {one.scanner})" if one.scanner else ""
            yield f"  {one.severity:<8} {one.rule}  {one.where}{line}{where}: {one.title}{said}"
    yield from _layers(known)
    gaps = list(gaps_of(scan))
    if gaps:
        yield ""
        yield "This scan is not complete:"
        yield from (f"  {gap}" for gap in gaps[:_GAPS_SHOWN])
        if len(gaps) > _GAPS_SHOWN:
            yield f"  … and {len(gaps) - _GAPS_SHOWN} more (--format json has all)"


def _vulnerabilities(known: Report) -> Iterator[str]:
    matches = sorted(known.matches, key=lambda one: (WORST_FIRST.index(one.severity), one.id))
    if not matches:
        yield "no vulnerabilities that these advisories know"
        return
    excuses = known.excuses()
    reporters = reporters_of(known.scan)
    yield ""
    of_base = _of_base(known, [known.scan.packages[one.package_index].layer for one in matches])
    yield f"{'1 vulnerability' if len(matches) == 1 else f'{len(matches)} vulnerabilities'}{of_base}:"
    for one in matches:
        package = known.scan.packages[one.package_index]
        fixed = f"fixed in {one.fixed_version}" if one.fixed_version else "no fix known"
        if one.state == "unknown":
            fixed = "its version cannot be compared"
        exploited = ", exploited" if one.kev else ""
        said = _excused(excuses.get((one.id, one.package_index)))
        by = reporters.get((one.package_index, one.id), ())
        said = f" (says {', '.join(by)}){said}" if by else said
        where = _where(known, package.layer, None)
        what = f"{package.name} {package.version}{where}"
        yield f"  {one.severity:<8} {one.id}  {what}: {fixed}{exploited}{said}"


def _called(said: str) -> str:
    return f", {said}" if said else ""


def _excused(excused: Excused | None) -> str:
    if excused is None:
        return ""
    why = f": {excused.justification}" if excused.justification else ""
    return f"; excused by {excused.author} ({excused.by}, {excused.status}{why})"


def _layers(known: Report) -> Iterator[str]:
    """The lines of the history that brought what was found."""
    scan = known.scan
    named = {scan.packages[one.package_index].layer for one in known.matches}
    named |= {layer for one in scan.found for layer in (one.layer, one.deleted_in_layer) if layer is not None}
    if any(scan.layers[index].created_by for index in named):
        yield ""
        yield "layers of these, by their lines in the image's history:"
        yield from (f"  {layer_of(scan, index)}" for index in sorted(named))


def _of_base(known: Report, layers: Sequence[int | None]) -> str:
    """How many of what lies in these layers came with the base."""
    if known.base is None:
        return ""
    return f", {sum(known.base.brought(layer) is True for layer in layers)} of them from its base"


def _where(known: Report, layer: int | None, deleted_in: int | None) -> str:
    if layer is None:
        return ""
    base = " of its base" if known.base is not None and known.base.brought(layer) else ""
    deleted = "" if deleted_in is None else f", deleted in layer {deleted_in}"
    return f" (layer {layer}{base}{deleted})"
