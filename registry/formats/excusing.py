"""Which matches of a report statements of VEX excuse. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from packageurl import PackageURL

from registry.advisories.matching import Match
from registry.advisories.report import Excused, Report
from registry.contract.scan import Package, Scan
from registry.formats.purls import image_purl, purl_of
from registry.formats.vex import Product, Statement, Vex

_EXCUSING = ("not_affected", "fixed")
_Key = tuple[str, str | None, str]


def excuse(known: Report, documents: Iterable[Vex], image: str) -> Report:
    """The report with those excused that the last statement about them calls not affected, or fixed.

    A statement is about a match where it names its vulnerability, and its package or the image by purl (a
    version and qualifiers only count where it has them) or by digest.
    """
    read = list(documents)
    notes = (*known.notes, *(note for one in read for note in one.notes))
    index = _Index(known.scan, image)
    # Of two statements the later one counts; of the same time the one that was read last.
    for statement in sorted((each for one in read for each in one.statements), key=lambda one: one.said_at):
        index.add(statement)
    excused = [
        Excused(match.id, match.package_index, "vex", said.status, said.justification, said.author, None)
        for match in known.matches
        if (said := index.last(match)) is not None and said.status in _EXCUSING
    ]
    return replace(known, excused=(*known.excused, *excused), notes=notes)


@dataclass(slots=True)
class _Index:
    """Statements by vulnerability, and by the package that they are about; ``None``: the whole image."""

    scan: Scan
    image: str
    _said: dict[tuple[str, _Key | None], list[tuple[int, PackageURL | None, Statement]]] = field(
        default_factory=dict
    )
    _own: PackageURL | None = field(init=False, default=None)
    _count: int = 0

    def __post_init__(self) -> None:
        own = image_purl(self.image, self.scan)
        self._own = None if own is None else PackageURL.from_string(own)

    def add(self, statement: Statement) -> None:
        """One more, later than all before it."""
        self._count += 1
        for product in statement.products:
            for purl in self._parts(product):
                for name in statement.names:
                    key = None if purl is None else _key(purl)
                    self._said.setdefault((name, key), []).append((self._count, purl, statement))

    def _parts(self, product: Product) -> Iterator[PackageURL | None]:
        if self.scan.digest in product.digests or self._is_image(product.purl):
            yield from product.parts or (None,)
        elif product.purl is not None and product.purl.type != "oci" and not product.parts:
            yield product.purl

    def _is_image(self, purl: PackageURL | None) -> bool:
        if purl is None or purl.type != "oci":
            return False
        if purl.version:
            return purl.version == self.scan.digest
        # Without a digest it is whatever has this name, which only a registry's image has.
        return self._own is not None and purl.name == self._own.name and _has(self._own, purl)

    def last(self, match: Match) -> Statement | None:
        """The last statement that is about a match."""
        own = [PackageURL.from_string(one) for one in _purls(self.scan, match.package_index)]
        found: tuple[int, Statement] | None = None
        for name in (match.id, *match.aliases):
            for key in {None, *map(_key, own)}:
                for number, purl, statement in self._said.get((name, key), ()):
                    # Another name of a statement is one of the vulnerability's own only if it is its id: a
                    # bulletin is about several.
                    if name != match.id and name != statement.names[0]:
                        continue
                    if purl is not None and not any(_is_about(purl, one) for one in own):
                        continue
                    if found is None or found[0] < number:
                        found = (number, statement)
        return found[1] if found else None


def _purls(scan: Scan, index: int) -> Sequence[str]:
    """The purls by which a package is known: its own, and that of its source."""
    package: Package = scan.packages[index]
    purls = [purl_of(package, scan.system)]
    if package.source is not None:
        version = package.source_version or package.version
        changed: Mapping[str, object] = {
            "name": package.source,
            "version": version,
            "architecture": "source",
        }
        purls.append(purl_of(package.model_copy(update=changed), scan.system))
    return [purl for purl in purls if purl is not None]


def _key(purl: PackageURL) -> _Key:
    return (purl.type, purl.namespace, purl.name)


def _is_about(said: PackageURL, own: PackageURL) -> bool:
    return said.version in (None, "", own.version) and _has(own, said)


def _has(own: PackageURL, said: PackageURL) -> bool:
    """Whether a purl has all qualifiers that another has."""
    has, asked = own.qualifiers, said.qualifiers
    if not isinstance(asked, Mapping) or not isinstance(has, Mapping):
        return not asked
    return all(has.get(name) == value for name, value in asked.items())
