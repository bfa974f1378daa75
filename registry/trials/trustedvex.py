"""Statements of VEX that are attached to an image and signed by a key that its repository trusts.

Trusted are the keys of its rules for signatures (:mod:`registry.trials.signaturerules`). A document is the
predicate of an in-toto statement about the image, in a Sigstore bundle, as ``cosign attest --type openvex``
or ``--type cyclonedx`` attaches it. What anybody else attaches counts for nothing, and is not told of.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, select

from registry.auth.places import counts_in
from registry.db.content import blob_links, blobs, edges, manifests, repositories
from registry.db.signatures import signature_rules
from registry.errors import BlobUnknownError, RequestInvalidError
from registry.formats.vex import MAX_NAMED, Vex, read_vex
from registry.trials.findingspolicies import judge_again
from registry.trials.sigstore import (
    BUNDLE,
    BUNDLE_MAX_BYTES,
    BundleInvalidError,
    PublicKey,
    is_signed_by,
    parse_bundle,
    parse_statement,
)
from registry.trials.verifying import parse_keys

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.content.manifests import StoredManifest
    from registry.db.engine import Database
    from registry.oci.digest import Digest
    from registry.storage.store import BlobStore
    from registry.storage.threads import Threads

LOOKED_AT = 50
"""How many bundles of one image are looked at, the last pushed first, and no more once they name
:data:`~registry.formats.vex.MAX_NAMED`."""
_BETWEEN = "\x1e"
"""What is between two keys where a statement gives all of them as one text."""
_PREDICATES = ("https://openvex.dev/ns", "https://cyclonedx.org/")
"""How the types of predicates begin that hold such a document."""


async def read_trusted(
    database: Database, store: BlobStore, manifest: StoredManifest, *, name: str, parsers: Threads
) -> Sequence[Vex]:
    """The documents, the last pushed last, in the repository ``name``. What is trusted and makes no sense is
    among their notes. One statement."""
    async with database.read_once() as connection:
        attached = (await connection.execute(_attached(manifest, name))).all()
    if not attached or not attached[0].trusted:
        return []
    keys = [key for pem in attached[0].trusted.split(_BETWEEN) for key in parse_keys(pem)]
    found: list[Vex] = []
    looked_at = named = 0
    for row in attached[:LOOKED_AT]:
        if named > MAX_NAMED:
            break
        looked_at += 1
        if row.locator is None or row.size > BUNDLE_MAX_BYTES:
            continue
        try:
            async with store.open_blob(row.locator) as opened:
                raw = b"".join([chunk async for chunk in opened.chunks()])
        except BlobUnknownError:
            continue
        read = await parsers.run(_read, raw, row.digest, manifest.digest, keys)
        found += [] if read is None else [read]
        named += 0 if read is None else sum(one.named for one in read.statements)
    if len(attached) > looked_at:
        more = f"only the last {looked_at} of the signed statements that are attached were looked at"
        found.insert(0, Vex((), (more,)))
    return found[::-1]


def _attached(manifest: StoredManifest, name: str) -> Select[Any]:
    """The bundles of an image, the last pushed first: each with its blob, where that is whole and linked
    here, and with all keys that the repository trusts."""
    trusted = (
        select(func.aggregate_strings(func.replace(signature_rules.c.public_pem, _BETWEEN, ""), _BETWEEN))
        .where(counts_in(signature_rules, manifest.repository_id, name))
        .scalar_subquery()
    )
    linked = (
        select(blobs.c.digest, blobs.c.size, blobs.c.locator)
        .join(blob_links, blob_links.c.blob_id == blobs.c.id)
        .where(blob_links.c.repository_id == manifest.repository_id, blobs.c.damage.is_(None))
        .subquery("linked")
    )
    return (
        select(manifests.c.digest, linked.c.size, linked.c.locator, trusted.label("trusted"))
        .join(edges, edges.c.manifest_id == manifests.c.id)
        .outerjoin(linked, linked.c.digest == edges.c.digest)
        .where(
            manifests.c.repository_id == manifest.repository_id,
            manifests.c.subject_digest == str(manifest.digest),
            manifests.c.artifact_type == BUNDLE,
            manifests.c.attestation_id.is_(None),
            manifests.c.blocked_reason.is_(None),
            edges.c.kind == "layer",
        )
        .order_by(manifests.c.id.desc())
        .limit(LOOKED_AT + 1)
    )


async def judge_stated(connection: AsyncConnection, within: ColumnElement[bool]) -> None:
    """Have images judged again about which something is stated, of the repositories ``within``: other keys
    are trusted there now."""
    stated = manifests.alias()
    about = select(stated.c.id).where(
        stated.c.repository_id == manifests.c.repository_id,
        stated.c.subject_digest == manifests.c.digest,
        stated.c.artifact_type == BUNDLE,
    )
    held = manifests.c.repository_id.in_(select(repositories.c.id).where(within))
    await judge_again(connection, and_(held, about.exists()))


def _read(raw: bytes, referrer: str, digest: Digest, keys: Sequence[PublicKey]) -> Vex | None:
    try:
        bundle = parse_bundle(raw)
        if not any(is_signed_by(bundle, key) for key in keys):
            return None
        statement = parse_statement(bundle.payload)
    except BundleInvalidError:
        return None
    if digest not in statement.subjects or not statement.predicate_type.startswith(_PREDICATES):
        return None
    try:
        return read_vex(json.dumps(statement.predicate).encode(), what=referrer)
    except RequestInvalidError as error:
        return Vex((), (error.message,))
