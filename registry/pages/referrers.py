"""What refers to an image, as a tree of two levels, and who signed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.http.api.routes import Call, read_query
from registry.pages.image import image_of
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import CursorQuery, is_whole
from registry.pages.texts import text
from registry.trials.referring import read_referrers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from registry.trials.referring import Referrer

SHOWN = 100
_PREDICATE = "dev.sigstore.bundle.predicateType"
_KINDS: Mapping[str, str] = {
    "https://sigstore.dev/cosign/sign/v1": "signature",
    "https://in-toto.io/attestation/test-result/v0.1": "verdict",
    "https://slsa.dev/verification_summary/v1": "summary",
    "https://cyclonedx.org/bom": "sbom",
    "https://spdx.dev/Document": "sbom",
    "https://cosign.sigstore.dev/attestation/vuln/v1": "vulnerabilities",
    "https://slsa.dev/provenance/v1": "provenance",
    "application/vnd.cyclonedx+json": "sbom",
    "application/spdx+json": "sbom",
    "application/vnd.cncf.notary.signature": "signature",
    "application/vnd.dev.cosign.artifact.sig.v1+json": "signature",
}
"""What those are that say so: by the statement that they hold, or by their type."""


async def show_referrers(call: Call) -> web.Response:
    """Signatures, attestations, SBOMs and what else refers to the image; each has such a page itself."""
    query = read_query(call.request, CursorQuery, leaves_out_empty=True)
    of = await image_of(call)
    cursor = query.cursor or "0"
    after = int(cursor) if is_whole(cursor) else 0
    found = await read_referrers(call.services.database, of.repository, of.digest, limit=SHOWN, after=after)
    path = f"{of.path}/referrers"
    return page(
        call.request,
        "referrers.html",
        title=text("referrers.title", image=of.titled),
        of=of,
        here_tab="referrers",
        rows=[
            (level, one, kind_of(one))
            for item in found.items
            for level, one in ((1, item), *((2, below) for below in item.referrers))
        ],
        is_cut=found.is_cut,
        next_path=path + chosen([("cursor", str(found.next_after))]) if found.next_after else None,
        first_path=path if query.cursor else None,
        lines=Lines(
            api=[f"GET {of.api}/referrers/{of.digest}", f"GET /v2/{of.name}/referrers/{of.digest}"],
            cli=[f"seatrial image referrers {of.shown}", f"seatrial verify {of.shown}"],
        ),
    )


def kind_of(referrer: Referrer) -> str | None:
    """What it is, or else says that it is, as the key of a text; ``None``: nothing that is known here."""
    if referrer.signer is not None and referrer.signer.kid is None:
        return "signature"
    claimed = referrer.annotations.get(_PREDICATE) or referrer.artifact_type
    return _KINDS.get(claimed) if claimed else None
