"""Statements of VEX, read: which vulnerability which product has, by OpenVEX 0.2 or CycloneDX. Pure.

Whoever writes such a document may be anybody: it is bounded, and what makes no sense in it counts for nothing
and is named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import unquote

from packageurl import PackageURL

from registry.errors import RequestInvalidError
from registry.oci.printable import printable
from registry.oci.strictjson import JsonInvalidError, parse_json_object

MAX_BYTES = 8 * 1024 * 1024
MAX_STATEMENTS = 10_000
MAX_NAMED = 20_000
"""So many names all statements of a document have together, of vulnerabilities, products and their parts."""
_TEXT_MAX = 500
Status = Literal["not_affected", "fixed", "affected", "under_investigation"]
_STATUSES: Mapping[str, Status] = MappingProxyType(
    {
        "not_affected": "not_affected",
        "fixed": "fixed",
        "affected": "affected",
        "under_investigation": "under_investigation",
    }
)
_STATES: Mapping[str, Status] = MappingProxyType(
    {
        "not_affected": "not_affected",
        "false_positive": "not_affected",
        "resolved": "fixed",
        "resolved_with_pedigree": "fixed",
        "exploitable": "affected",
        "in_triage": "under_investigation",
    }
)
"""Words of CycloneDX to those of OpenVEX."""
_NEVER = datetime.min.replace(tzinfo=UTC)


class _UnfitError(Exception):
    """A statement that counts for nothing; the message is one of few."""


@dataclass(frozen=True, slots=True)
class Product:
    """An image or a package: by a purl, or by digests. ``parts`` are packages in it; none: all of it."""

    purl: PackageURL | None
    digests: frozenset[str]
    parts: tuple[PackageURL, ...] = ()


@dataclass(frozen=True, slots=True)
class Statement:
    """``names`` are those of one vulnerability, the first its own. ``said_at`` says which of two counts."""

    names: tuple[str, ...]
    status: Status
    justification: str
    author: str
    said_at: datetime
    products: tuple[Product, ...]

    @property
    def named(self) -> int:
        """How many names it has of vulnerabilities, products and their parts."""
        return len(self.names) + sum(1 + len(product.parts) for product in self.products)


@dataclass(frozen=True, slots=True)
class Vex:
    """A document. ``notes`` say what in it counts for nothing, and why."""

    statements: tuple[Statement, ...]
    notes: tuple[str, ...]


def read_vex(raw: bytes, *, what: str) -> Vex:
    """The statements of a document; ``what`` it is called in errors and notes.

    Raises:
        RequestInvalidError: it is larger than is read, or no document of OpenVEX 0.2 or CycloneDX.
    """
    if len(raw) > MAX_BYTES:
        raise RequestInvalidError(f"{what} has more than {MAX_BYTES} bytes")
    try:
        document = parse_json_object(raw)
    except JsonInvalidError as error:
        raise RequestInvalidError(f"{what} is no document of VEX: {error}") from None
    if document.get("bomFormat") == "CycloneDX":
        each = _of_cyclonedx(document)
    elif str(document.get("@context", "")).startswith("https://openvex.dev/ns"):
        each = _of_openvex(document)
    else:
        raise RequestInvalidError(f"{what} is no document of OpenVEX (its '@context') or CycloneDX")
    found: list[Statement] = []
    unfit: Counter[str] = Counter()
    named = 0
    for number, one in enumerate(each):
        if number == MAX_STATEMENTS:
            unfit[f"there are more than {MAX_STATEMENTS}"] += 1
            break
        if isinstance(one, str):
            unfit[one] += 1
            continue
        named += one.named
        if named > MAX_NAMED:
            unfit[f"they name more than {MAX_NAMED} vulnerabilities and products"] += 1
            break
        found.append(one)
    notes = tuple(f"{what}: {count} statements count for nothing: {why}" for why, count in unfit.items())
    return Vex(tuple(found), notes)


def _of_openvex(document: Mapping[str, Any]) -> Iterator[Statement | str]:
    statements = document.get("statements")
    for one in statements if isinstance(statements, list) else ():
        try:
            yield _openvex_statement(one, document)
        except _UnfitError as error:
            yield str(error)


def _openvex_statement(one: Any, document: Mapping[str, Any]) -> Statement:
    given = _object(one)
    status = _STATUSES.get(_text(given.get("status")))
    if status is None:
        raise _UnfitError("its status is none of OpenVEX")
    justification = _text(given.get("justification")) or _text(given.get("impact_statement"))
    if status == "not_affected" and not justification:
        raise _UnfitError("it says not_affected without a justification")
    about = given.get("vulnerability")
    if isinstance(about, Mapping):
        aliases = about.get("aliases")
        names = [about.get("name") or about.get("@id"), *(aliases if isinstance(aliases, list) else ())]
    else:
        names = [about]
    products = given.get("products")
    return Statement(
        _names(names),
        status,
        justification,
        _text(given.get("supplier")) or _text(document.get("author")) or "an unnamed author",
        _time(given.get("timestamp"), document.get("last_updated"), document.get("timestamp")),
        _products(map(_openvex_product, products if isinstance(products, list) else ()), status),
    )


def _openvex_product(one: Any) -> Product | None:
    parts = one.get("subcomponents") if isinstance(one, Mapping) else None
    found = _identified(one)
    if not isinstance(parts, list) or not parts or found is None:
        return found
    purls = [inner.purl for part in parts if (inner := _identified(part)) and inner.purl]
    # What is said of parts that nobody can name is not said of the whole.
    return Product(found.purl, found.digests, tuple(purls)) if purls else None


def _identified(one: Any) -> Product | None:
    """A component by its id, its identifiers or its hashes."""
    if isinstance(one, str):
        one = {"@id": one}
    if not isinstance(one, Mapping):
        return None
    identifiers, hashes = one.get("identifiers"), one.get("hashes")
    name = identifiers.get("purl") if isinstance(identifiers, Mapping) else None
    digests = (
        {f"sha256:{hashes['sha-256']}"} if isinstance(hashes, Mapping) and "sha-256" in hashes else set()
    )
    own = one.get("@id")
    if isinstance(own, str) and own.startswith("sha256:"):
        digests.add(own)
    purl = _purl(name) or _purl(own)
    return Product(purl, frozenset(digests)) if purl is not None or digests else None


def _of_cyclonedx(document: Mapping[str, Any]) -> Iterator[Statement | str]:
    metadata = document.get("metadata")
    meta = metadata if isinstance(metadata, Mapping) else {}
    by_ref = _by_ref(document, meta)
    vulnerabilities = document.get("vulnerabilities")
    for one in vulnerabilities if isinstance(vulnerabilities, list) else ():
        try:
            if isinstance(one, Mapping) and "analysis" not in one:
                continue  # it only says that there is one
            yield _cyclonedx_statement(_object(one), meta, by_ref)
        except _UnfitError as error:
            yield str(error)


def _cyclonedx_statement(
    one: Mapping[str, Any], meta: Mapping[str, Any], by_ref: Mapping[str, Product]
) -> Statement:
    analysis = _object(one["analysis"])
    status = _STATES.get(_text(analysis.get("state")))
    if status is None:
        raise _UnfitError("its state is none of CycloneDX")
    justification = _text(analysis.get("justification")) or _text(analysis.get("detail"))
    affects = one.get("affects")
    refs = [_object(each).get("ref") for each in affects] if isinstance(affects, list) else []
    return Statement(
        _names([one.get("id")]),
        status,
        justification,
        _author(meta),
        _time(analysis.get("lastUpdated"), one.get("updated"), meta.get("timestamp")),
        _products((_of_ref(ref, by_ref) for ref in refs), status),
    )


def _by_ref(document: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, Product]:
    components = document.get("components")
    found: dict[str, Product] = {}
    for one in [meta.get("component"), *(components if isinstance(components, list) else ())]:
        if not isinstance(one, Mapping) or not isinstance(one.get("bom-ref"), str):
            continue
        hashes = one.get("hashes")
        digests = {
            f"sha256:{each.get('content')}"
            for each in (hashes if isinstance(hashes, list) else ())
            if isinstance(each, Mapping) and each.get("alg") == "SHA-256"
        }
        purl = _purl(one.get("purl"))
        if purl is not None or digests:
            found[one["bom-ref"]] = Product(purl, frozenset(digests))
    return found


def _of_ref(ref: object, by_ref: Mapping[str, Product]) -> Product | None:
    if not isinstance(ref, str):
        return None
    if ref.startswith("urn:cdx:"):
        ref = unquote(ref.partition("#")[2])
    if ref in by_ref:
        return by_ref[ref]
    purl = _purl(ref)
    return None if purl is None else Product(purl, frozenset())


def _author(meta: Mapping[str, Any]) -> str:
    authors = meta.get("authors")
    first = authors[0] if isinstance(authors, list) and authors else None
    for one in (meta.get("supplier"), meta.get("manufacturer"), first):
        if isinstance(one, Mapping) and (name := _text(one.get("name"))):
            return name
    return "an unnamed author"


def _products(each: Iterator[Product | None], status: Status) -> tuple[Product, ...]:
    found = tuple(one for one in each if one is not None)
    if status == "fixed":
        # That some version of it is fixed says nothing of this one.
        found = tuple(one for one in found if _is_exact(one))
    if not found:
        raise _UnfitError("it names no product by purl or digest")
    return found


def _is_exact(product: Product) -> bool:
    if product.digests or (product.purl is not None and product.purl.version):
        return True
    return bool(product.parts) and all(part.version for part in product.parts)


def _names(given: list[Any]) -> tuple[str, ...]:
    # An id may be an address whose last part is the name.
    names = [_text(one).rpartition("/")[2] for one in given[:100]]
    if not names or not names[0]:
        raise _UnfitError("it names no vulnerability")
    return tuple(name for name in names if name)


def _purl(text: object) -> PackageURL | None:
    if not isinstance(text, str) or not text.startswith("pkg:") or len(text) > 2000:
        return None
    try:
        return PackageURL.from_string(text)
    except (ValueError, TypeError):
        return None


def _time(*given: object) -> datetime:
    for one in given:
        if isinstance(one, str):
            try:
                at = datetime.fromisoformat(one[:40])
            except ValueError:
                continue
            return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return _NEVER


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _UnfitError("it is no object")
    return value


def _text(value: object) -> str:
    return printable(value.strip())[:_TEXT_MAX] if isinstance(value, str) else ""
