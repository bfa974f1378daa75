"""What was found in images: ``/api/v1/repositories/{name}/scans``, and ``/api/v1/packages``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import urlsplit

from aiohttp import web
from pydantic import Field

from registry.advisories.licences import LicenceCount, count_licences
from registry.advisories.ranges import is_range, parse_range
from registry.advisories.report import BaseImage
from registry.advisories.values import Kind
from registry.content.bases import find_base
from registry.content.manifests import StoredManifest, unknown
from registry.content.named import find_named
from registry.content.repositories import Repository
from registry.contract.base import is_none
from registry.contract.scan import Found, Incomplete, Package, Reported, Scan, Severity
from registry.errors import ManifestUnknownError, NameUnknownError, NotFoundError, RequestInvalidError
from registry.formats.forms import FORMS
from registry.formats.names import Format
from registry.http.api.fields import ContentDigest, RepositoryName
from registry.http.api.logrights import require_scans
from registry.http.api.models import Answer, Page, PageQuery, Query
from registry.http.api.routes import Call, Route
from registry.http.authentication import base_url
from registry.http.parsers import PARSERS
from registry.oci.digest import parse_content_digest
from registry.trials import vulnerabilities as use
from registry.trials.scanned import ListName
from registry.trials.scanreading import (
    Holder,
    ScanView,
    Wanted,
    has_words,
    list_holders,
    list_scans,
    may_hold,
    parse_position,
    read_entries,
    read_scan,
)
from registry.trials.scanreport import read_report
from registry.trials.states import plain_text
from registry.trials.vulnerabilities import Vulnerability

T = TypeVar("T")


class PackagesQuery(PageQuery):
    """Which package: by its name, or by an advisory that tells of it."""

    name: str | None = Field(default=None, max_length=300, description="Its own name, or that of its source.")
    advisory: str | None = Field(
        default=None,
        max_length=100,
        description="One that tells of it, by any of its names: a CVE, a GHSA, or a distribution's own.",
        examples=["CVE-2021-44228"],
    )
    ecosystem: str | None = Field(
        default=None, max_length=64, description="As OSV names it: `Debian:12`, `PyPI`, `npm`."
    )
    version: str | None = Field(
        default=None,
        max_length=1000,
        description="Exactly this one, or a range: `<1.2.3`, `>=1.0,<2`, by the order of each ecosystem.",
    )


class ReportQuery(Query):
    """In which format."""

    format: Format = Field(default="json", description="As other programs read it.")


class LayeredQuery(PageQuery):
    """Which part of a list of what lies in layers."""

    from_base: bool | None = Field(
        default=None,
        description="True: only what came with the layers of the image's base; false: only what did not.",
    )


class ScannedPackagesQuery(LayeredQuery):
    """Which packages."""

    find: str | None = Field(
        default=None,
        max_length=300,
        description="Only those that have this in their name, their source, their version or a licence; case "
        "is left aside.",
    )


class VulnerabilitiesQuery(LayeredQuery):
    """Which vulnerabilities."""

    severity: Severity | None = Field(
        default=None, description="This one or worse; those of an unknown one are always there."
    )
    fixable: bool | None = Field(
        default=None, description="Those that a version mends; false: those that none does."
    )
    kind: Kind | None = Field(default=None, description="One kind of them only.")


class HolderAnswer(Answer):
    """An image that holds a package."""

    repository: str
    digest: str
    platform: str
    ecosystem: str
    name: str
    version: str
    source: str
    source_version: str
    owned: bool = Field(description="Whether a distribution's package brought it.")
    version_known: bool = Field(
        description="False: nobody can say whether its version lies in the range that was asked for."
    )


_FROM_BASE: Any = Field(
    default=None,
    exclude_if=is_none,
    description="Whether it came with the layers of the image's base; left out where no base is known, or "
    "it lies in no layer.",
)


class ScannedPackage(Package):
    """A package, and whether it is the base's."""

    from_base: bool | None = _FROM_BASE


class ScannedFinding(Found):
    """What was found, and whether it is the base's."""

    from_base: bool | None = _FROM_BASE


class ReportedAnswer(Answer):
    """A vulnerability that another scanner reports, by advisories of its own."""

    scanner: str
    id: str
    aliases: tuple[str, ...]
    package: str
    version: str
    severity: Severity
    score: float | None
    summary: str
    fixed_version: str | None
    layer: int
    from_base: bool | None = _FROM_BASE


async def show_scans(call: Call, name: RepositoryName, digest: ContentDigest) -> list[ScanView]:
    """The newest scan of an image; of an index those of its platforms. For those who may read the log."""
    return list(await list_scans(call.services.database, await _image(call, name, digest)))


@dataclass(frozen=True, slots=True)
class _Layers:
    """So many of an image's lowest layers are its base's, ``None`` where none is known; and which are
    ``wanted``: the base's, the image's own, or all."""

    of_base: int | None
    wanted: bool | None

    def is_from_base(self, layer: int | None) -> bool | None:
        return None if layer is None or self.of_base is None else layer < self.of_base

    def takes(self, layer: int | None) -> bool:
        return self.wanted is None or self.wanted == (self.is_from_base(layer) is True)


async def list_scanned_packages(
    call: Call, name: RepositoryName, digest: ContentDigest, query: ScannedPackagesQuery
) -> Page[ScannedPackage]:
    """The packages that the newest scan of an image found.

    The base is the image of this registry that is most of its layers, of those that the caller may pull.
    """
    manifest = await _image(call, name, digest)
    layers = await _layers(call, name, manifest, query)
    page: Page[Package] = await _page(
        call,
        manifest,
        "packages",
        query,
        lambda one: layers.takes(one.layer) and has_words(one, query.find),
    )
    shown = [ScannedPackage(**dict(one), from_base=layers.is_from_base(one.layer)) for one in page.items]
    return Page(shown, page.next)


async def list_scanned_findings(
    call: Call, name: RepositoryName, digest: ContentDigest, query: LayeredQuery
) -> Page[ScannedFinding]:
    """What the newest scan of an image found wrong that does not depend on advisories; secrets redacted."""
    manifest = await _image(call, name, digest)
    layers = await _layers(call, name, manifest, query)
    page: Page[Found] = await _page(call, manifest, "found", query, lambda one: layers.takes(one.layer))
    shown = [ScannedFinding(**dict(one), from_base=layers.is_from_base(one.layer)) for one in page.items]
    return Page(shown, page.next)


async def list_vulnerabilities(
    call: Call, name: RepositoryName, digest: ContentDigest, query: VulnerabilitiesQuery
) -> Page[Vulnerability]:
    """What advisories say of the packages of an image, the worst first.

    How many packages nobody has looked up, and how old the advisories are, stands with its scan."""
    manifest = await _image(call, name, digest)
    layers = await _layers(call, name, manifest, query)
    found = await use.list_vulnerabilities(
        call.services.database,
        manifest,
        base_layers=layers.of_base,
        wanted=use.Wanted(query.severity, query.fixable, query.kind, query.from_base),
        limit=query.limit + 1,
        after=query.cursor,
    )
    page = query.page(found, key=lambda one: one.position)
    return Page([one.vulnerability for one in page.items], page.next)


async def list_reported(
    call: Call, name: RepositoryName, digest: ContentDigest, query: LayeredQuery
) -> Page[ReportedAnswer]:
    """Vulnerabilities that other scanners reported in the newest scan of an image: as they were told then."""
    manifest = await _image(call, name, digest)
    layers = await _layers(call, name, manifest, query)
    if not await may_hold(call.services.database, manifest, "reported"):
        return Page([], None)
    scan = await _scan(call, manifest)
    page = _part(query, scan.reported, lambda one: layers.takes(scan.packages[one.package].layer))
    return Page([_reported(one, scan.packages[one.package], layers) for one in page.items], page.next)


def _reported(one: Reported, package: Package, layers: _Layers) -> ReportedAnswer:
    return ReportedAnswer(
        scanner=one.scanner,
        id=one.id,
        aliases=one.aliases,
        package=package.name,
        version=package.version,
        severity=one.severity,
        score=one.score,
        summary=one.summary,
        fixed_version=one.fixed_version,
        layer=package.layer,
        from_base=layers.is_from_base(package.layer),
    )


async def list_scanned_incompletely(
    call: Call, name: RepositoryName, digest: ContentDigest, query: PageQuery
) -> Page[Incomplete]:
    """What the newest scan of an image could not look at, or not to its end."""
    return await _page(call, await _image(call, name, digest), "incomplete", query)


async def show_report(
    call: Call, name: RepositoryName, digest: ContentDigest, query: ReportQuery
) -> web.Response:
    """All that is known of an image: its newest scan, and what advisories say of its packages.

    A vulnerability is excused where a live waiver says so, or a statement of OpenVEX or CycloneDX that is
    attached to the image and signed by a key of the repository's rules for signatures. CycloneDX 1.6, SPDX
    2.3 (an SBOM, without vulnerabilities), SARIF 2.1.0, OpenVEX 0.2 (what is excused), JSON of our own, or a
    table. The same scan, matches, waivers and statements have the same bytes. What came with its base is told
    apart, as far as the caller may pull one; the SBOMs say nothing of it.
    """
    services, parsers = call.services, call.request.app[PARSERS]
    manifest = await _image(call, name, digest)
    image = f"{urlsplit(base_url(call.request)).netloc}/{name}@{digest}"
    known = await read_report(
        services.database, services.blobs, manifest, name=name, image=image, parsers=parsers
    )
    if (base := await find_base(services.database, call.actor, manifest)) is not None:
        known = replace(known, base=BaseImage(base.repository, base.digest, base.layers))
    form = FORMS[query.format]
    return web.Response(
        body=await parsers.run(form.write, known, image),
        headers={
            "Content-Type": form.media_type,
            "Content-Security-Policy": "sandbox",
        },
    )


async def list_package_holders(call: Call, query: PackagesQuery) -> Page[HolderAnswer]:
    """Which images hold a package, or one that an advisory tells of, by their newest scans.

    The last pushed first. Only of repositories that the caller may push to or start trials in; auditors see
    all.
    """
    after = None if query.cursor is None else parse_position(query.cursor)
    found = await list_holders(
        call.services.database,
        actor=call.actor,
        wanted=_wanted(query),
        limit=query.limit + 1,
        after=after,
    )
    page = query.page(found, key=lambda one: str(one.position))
    return Page([_shown(one) for one in page.items], page.next)


async def list_scanned_licences(
    call: Call, name: RepositoryName, digest: ContentDigest, query: PageQuery
) -> Page[LicenceCount]:
    """The licences of the packages that the newest scan of an image found, the most frequent first.

    ``licence`` is an expression of SPDX's where ``is_known``; else what the metadata says, with
    ``LicenseRef-…`` for what is no name of SPDX's. Up to 20 packages are named.
    """
    scan = await _scan(call, await _image(call, name, digest))
    return _part(query, await call.request.app[PARSERS].run(count_licences, scan.packages))


def _wanted(query: PackagesQuery) -> Wanted:
    # Nothing else is stored, and PostgreSQL takes no NUL.
    given = (query.name, query.ecosystem, query.version, query.advisory)
    name, ecosystem, version, advisory = (None if text is None else plain_text(text) for text in given)
    if name is None and advisory is None:
        raise RequestInvalidError("give the name of a package, or an advisory")
    if version is None or not is_range(version):
        return Wanted(name, ecosystem, version, advisory=advisory)
    try:
        return Wanted(name, ecosystem, within=parse_range(version), advisory=advisory)
    except ValueError as error:
        raise RequestInvalidError(f"version: {error}") from None


def _shown(holder: Holder) -> HolderAnswer:
    return HolderAnswer(**{name: getattr(holder, name) for name in HolderAnswer.model_fields})


async def find_scanned(call: Call, name: str, digest: str) -> tuple[Repository, StoredManifest]:
    """The image, if the caller may read what was found in it, and its repository.

    Raises:
        UnauthorizedError, DeniedError, NameUnknownError: as :func:`registry.content.administration.find`.
        ManifestUnknownError: there is no such image.
    """
    wanted = parse_content_digest(digest)
    repository, found = await find_named(
        call.services.database, actor=call.actor, action="pull", name=name, references=[wanted]
    )
    require_scans(call.actor, repository=name, visibility=repository.visibility)
    if wanted not in found:
        raise unknown(wanted)
    return repository, found[wanted]


async def _image(call: Call, name: str, digest: str) -> StoredManifest:
    return (await find_scanned(call, name, digest))[1]


async def _scan(call: Call, manifest: StoredManifest) -> Scan:
    services, parsers = call.services, call.request.app[PARSERS]
    return await read_scan(services.database, services.blobs, manifest, parsers=parsers)


async def _layers(call: Call, name: str, manifest: StoredManifest, query: LayeredQuery) -> _Layers:
    base = await find_base(call.services.database, call.actor, manifest)
    if base is None and query.from_base is not None:
        raise NotFoundError(f"no base of {name}@{manifest.digest} is known here: nothing can be told apart")
    return _Layers(None if base is None else base.layers, query.from_base)


async def _page(
    call: Call,
    manifest: StoredManifest,
    name: ListName,
    query: PageQuery,
    takes: Callable[[Any], bool] = lambda _: True,
) -> Page[Any]:
    """One page of those of a scan's list that it takes; the cursor is the number of the next one in all."""
    services = call.services
    found = await read_entries(
        services.database,
        services.blobs,
        manifest,
        name,
        takes=takes,
        first=query.number or 0,
        limit=query.limit + 1,
        parsers=call.request.app[PARSERS],
    )
    following = str(found[query.limit][0]) if len(found) > query.limit else None
    return Page([one for _, one in found[: query.limit]], following)


def _part(query: PageQuery, found: Sequence[T], takes: Callable[[T], bool] = lambda _: True) -> Page[T]:
    """As :func:`_page`, of what is here whole."""
    taken = (at for at in range(query.number or 0, len(found)) if takes(found[at]))
    numbers = list(islice(taken, query.limit + 1))
    following = str(numbers[query.limit]) if len(numbers) > query.limit else None
    return Page([found[at] for at in numbers[: query.limit]], following)


_OF = "/repositories/{name}/scans/{digest}"
_GONE = (NameUnknownError, ManifestUnknownError)
ROUTES = (
    Route("GET", _OF, "anyone", show_scans, errors=_GONE, tagged=True),
    *(
        Route("GET", f"{_OF}/{what}", "anyone", handler, errors=(*_GONE, NotFoundError), tagged=True)
        for what, handler in (
            ("packages", list_scanned_packages),
            ("found", list_scanned_findings),
            ("vulnerabilities", list_vulnerabilities),
            ("reported", list_reported),
            ("incomplete", list_scanned_incompletely),
            ("licences", list_scanned_licences),
        )
    ),
    Route("GET", f"{_OF}/report", "anyone", show_report, errors=(*_GONE, NotFoundError), tagged=True),
    Route("GET", "/packages", "anyone", list_package_holders),
)
