"""Statements of VEX that are attached to an image and signed by a key that its repository trusts.

Trusted are the keys of its rules for signatures (:mod:`registry.trials.signaturerules`). A document is the
predicate of an in-toto statement about the image, in a Sigstore bundle, as ``cosign attest --type openvex``
or ``--type cyclonedx`` attaches it. What anybody else attaches counts for nothing, and is not told of.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, select, union_all

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
    from sqlalchemy import ColumnElement, Row, Select
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
    """The documents about an image of the repository ``name``, the last pushed last. What is trusted and
    makes no sense is among their notes. One statement."""
    return (await read_trusted_of(database, store, [manifest], name=name, parsers=parsers))[0]


async def read_trusted_of(
    database: Database,
    store: BlobStore,
    images: Sequence[StoredManifest],
    *,
    name: str,
    parsers: Threads,
) -> Sequence[Sequence[Vex]]:
    """As :func:`read_trusted`, of each of several images of the repository; one statement too."""
    async with database.read_once() as connection:
        of_each = [_attached(image, name) for image in images]
        both = of_each[0] if len(of_each) == 1 else union_all(*(select(one.subquery()) for one in of_each))
        attached = (await connection.execute(both)).all()
    found = []
    for image in images:
        its = [row for row in attached if row.subject_digest == str(image.digest)]
        newest_first = sorted(its, key=lambda row: row.id, reverse=True)
        found.append(await _read_attached(store, image, newest_first, parsers=parsers))
    return found


async def _read_attached(
    store: BlobStore, image: StoredManifest, attached: Sequence[Row[Any]], *, parsers: Threads
) -> Sequence[Vex]:
    if not attached or not attached[0].trusted:
        return []
    keys = [key for pem in attached[0].trusted.split(_BETWEEN) for key in parse_keys(pem)]
    found: list[Vex] = []
    looked_at = named = 0
    for row in attached[:LOOKED_AT]:
        if named > MAX_NAMED:
            break
        looked_at += 1
        if row.linked is None or row.size > BUNDLE_MAX_BYTES:
            continue
        try:
            async with store.open_blob(row.locator) as opened:
                raw = b"".join([chunk async for chunk in opened.chunks()])
        except BlobUnknownError:
            continue
        read = await parsers.run(_read, raw, row.digest, image.digest, keys)
        found += [] if read is None else [read]
        named += 0 if read is None else sum(one.named for one in read.statements)
    if len(attached) > looked_at:
        more = f"only the last {looked_at} of the signed statements that are attached were looked at"
        found.insert(0, Vex((), (more,)))
    return found[::-1]


def _attached(image: StoredManifest, name: str) -> Select[Any]:
    """The last bundles of an image: each with its blob, which is whole and ``linked`` here or not, and with
    all keys that the repository trusts."""
    trusted = (
        select(func.aggregate_strings(func.replace(signature_rules.c.public_pem, _BETWEEN, ""), _BETWEEN))
        .where(counts_in(signature_rules, image.repository_id, name))
        .scalar_subquery()
    )
    is_linked = and_(blob_links.c.blob_id == blobs.c.id, blob_links.c.repository_id == image.repository_id)
    return (
        select(
            manifests.c.id,
            manifests.c.digest,
            manifests.c.subject_digest,
            blobs.c.size,
            blobs.c.locator,
            blob_links.c.blob_id.label("linked"),
            trusted.label("trusted"),
        )
        .select_from(manifests)
        .join(edges, edges.c.manifest_id == manifests.c.id)
        .outerjoin(blobs, and_(blobs.c.digest == edges.c.digest, blobs.c.damage.is_(None)))
        .outerjoin(blob_links, is_linked)
        .where(
            manifests.c.repository_id == image.repository_id,
            manifests.c.subject_digest == str(image.digest),
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
