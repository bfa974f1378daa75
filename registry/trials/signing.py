"""Signing what is to be attested, and storing it as a referrer of its image.

The bytes come first, under an upload session, so that the sweep takes them where a kill comes next. Then one
transaction, in which the row is still the one that was claimed: the referrer, and that it is done. Of two
replicas that sign the same, the second finds it done; what neither ends is begun again after :data:`LEASE`.
Verdicts go before scans, which take longer.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import delete, exists, func, or_, select, update

from registry.auth.actor import REGISTRY
from registry.auth.keyring import open_attestation_ring
from registry.content import blobs as blob_use
from registry.content import quotas
from registry.content import repositories as repos
from registry.content.manifests import remove_rows, store_rows
from registry.content.references import Origin
from registry.content.uploads import start_own
from registry.db.accounts import keys
from registry.db.content import (
    attestations,
    blobs,
    edges,
    manifests,
    repositories,
    upload_sessions,
)
from registry.db.engine import move_epoch
from registry.db.outbox import record
from registry.db.types import db_time
from registry.oci.digest import Digest, digest_of, parse_digest
from registry.oci.manifest import parse_manifest
from registry.oci.mediatypes import OCI_MANIFEST
from registry.trials.attesting import sign_again
from registry.trials.scanattesting import LeftOutError, is_due, read_scan_predicate
from registry.trials.sigstore import BUNDLE, OWN_MAX_BYTES, make_bundle, make_statement
from registry.trials.statements import OF_SCANS, PREDICATES, Signer, result_predicate, summary_predicate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.engine import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.keyring import KeyRing
    from registry.auth.secretkey import SecretKey
    from registry.db.engine import Database
    from registry.settings import Settings
    from registry.storage.store import BlobStore
    from registry.storage.threads import Threads

LEASE = timedelta(seconds=60)
EMPTY = b"{}"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_SESSION_LIFE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Attester:
    """What signs and stores in one process."""

    database: Database
    store: BlobStore
    settings: Settings
    secret_key: SecretKey
    parsers: Threads

    async def sign_all(self) -> int:
        """Sign what is due, one after another; returns how much it was.

        Raises:
            SettingsError: the secret key is not the database's.
            UnavailableError, StorageFullError: the bytes cannot be stored now; what was begun is tried again.
        """
        # Whoever wants to verify may ask for the key before there is anything to verify.
        ring = await open_attestation_ring(self.database, self.secret_key)
        await self._unsign()
        done = 0
        while (due := await self._due()) is not None:
            self.database.require_room()
            claimed = await self._claim(due)
            if claimed is None:
                break
            try:
                done += await self._sign(claimed, ring)
            except LeftOutError as error:
                await self._leave_out(claimed, str(error))
        return done

    async def _unsign(self) -> None:
        """Take away what a key signed that is worth nothing any more, to sign it anew."""
        retired = select(keys.c.kid).where(keys.c.ring == "attestation", keys.c.retired_at <= db_time())
        by_it = attestations.c.kid.in_(retired)
        async with self.database.read_once() as connection:
            if (await connection.execute(select(attestations.c.id).where(by_it).limit(1))).first() is None:
                return
        async with self.database.write() as connection:
            await sign_again(connection, by_it)
            await move_epoch(connection, "content")

    async def _due(self) -> Select[Any] | None:
        """What finds the next that is due; ``None``: nothing is."""
        wanted = self.settings.attest_scans
        for due in (_DUE,) if wanted == "none" else (_DUE, _SCANS_DUE.where(is_due(wanted))):
            async with self.database.read_once() as connection:
                if (await connection.execute(due)).first() is not None:
                    return due
        return None

    async def _claim(self, due: Select[Any]) -> Row[Any] | None:
        async with self.database.write() as connection:
            claimed = await connection.execute(
                update(attestations)
                .where(attestations.c.id == due.with_for_update(skip_locked=True).scalar_subquery())
                .values(run_after=db_time(LEASE))
                .returning(attestations)
            )
            row: Row[Any] | None = claimed.first()
            return row

    async def _sign(self, row: Row[Any], ring: KeyRing) -> bool:
        digest = parse_digest(row.digest)
        signer = Signer(version("seatrial"), self.settings.external_url)
        async with self.database.read() as connection:
            named = select(repositories.c.name).where(repositories.c.id == row.repository_id)
            repository = (await connection.execute(named)).scalar_one_or_none()
            results = await _signed_results(connection, row)
        if repository is None:
            return False
        found = json.loads(row.found)
        findings, place = self.settings.attest_findings, signer.place_of(repository)
        predicate: Mapping[str, object] | None
        if row.kind in OF_SCANS:
            predicate = await read_scan_predicate(
                self.database, self.store, row, place=place, signer=signer, parsers=self.parsers
            )
        elif row.kind == "result":
            predicate = result_predicate(found, digest=row.digest, findings=findings)
        else:
            predicate = summary_predicate(
                found,
                signer=signer,
                repository=repository,
                digest=row.digest,
                made_at=f"{row.made_at:%Y-%m-%dT%H:%M:%SZ}",
                results=results,
                findings=findings,
            )
        if predicate is None:
            return False
        bundle = await self.parsers.run(_signed, place, digest, PREDICATES[row.kind], predicate, ring)
        if len(bundle) > OWN_MAX_BYTES:
            raise LeftOutError(f"signed it has {len(bundle)} bytes; {OWN_MAX_BYTES} are the limit")
        empty = await self._held(EMPTY) or await self._upload(row.repository_id, EMPTY)
        uploads = [empty, await self._upload(row.repository_id, bundle)]
        stored, unused = await self._store(row, repository, uploads, kid=ring.kid)
        for locator in unused:
            await self.store.delete(locator)
        return stored

    async def _leave_out(self, row: Row[Any], reason: str) -> None:
        """Say that it is not signed as it is, and why; what was signed for it before goes."""
        async with self.database.write() as connection:
            await repos.lock(connection, row.repository_id)
            this = update(attestations).where(*_is_claimed(row)).values(left_out=reason)
            if (await connection.execute(this)).rowcount:
                await remove_rows(connection, manifests.c.attestation_id == row.id)
                await move_epoch(connection, "content")

    async def _held(self, content: bytes) -> _Upload | None:
        """The blob with this content, if the registry has it already."""
        digest = digest_of(content)
        async with self.database.read_once() as connection:
            query = select(blobs.c.id).where(blobs.c.digest == str(digest), blobs.c.damage.is_(None))
            found = await connection.execute(query)
            return None if found.first() is None else _Upload(None, None, digest, len(content))

    async def _upload(self, repository_id: int, content: bytes) -> _Upload:
        digest = digest_of(content)
        session = await start_own(
            self.database, self.store, repository_id, algorithm=digest.algorithm, life=_SESSION_LIFE
        )
        await self.store.append(session.locator, _whole(content), offset=0)
        await self.store.finish(session.locator, digest)
        return _Upload(session.id, session.locator, digest, len(content))

    async def _store(
        self, row: Row[Any], repository: str, uploads: list[_Upload], *, kid: str
    ) -> tuple[bool, list[str]]:
        """Store the referrer; whether it was, and the locators of bytes that nothing names."""
        config, layer = uploads
        async with self.database.write() as connection:
            await repos.lock(connection, row.repository_id)
            this = select(attestations.c.id).where(*_is_claimed(row))
            stands = (await connection.execute(this.with_for_update())).first() is not None
            # A rename has nothing to sign again of what was not signed yet.
            named = select(repositories.c.name).where(repositories.c.id == row.repository_id)
            stands = stands and (await connection.execute(named)).scalar() == repository
            subject = await _subject(connection, row)
            sessions = [one.session for one in uploads if one.session is not None]
            await connection.execute(delete(upload_sessions).where(upload_sessions.c.id.in_(sessions)))
            if not stands or subject is None:
                return False, [one.locator for one in uploads if one.locator is not None]
            gone = 0
            if row.kind == "matches":
                gone = await _size_of(connection, row.id)
                await remove_rows(connection, manifests.c.attestation_id == row.id)
            linked = [await _link(connection, row.repository_id, one) for one in uploads]
            unused = [locator for locator, _ in linked]
            raw = _manifest(row, subject, config=config, layer=layer)
            manifest_id, _ = await store_rows(
                connection,
                row.repository_id,
                digest_of(raw),
                raw=raw,
                manifest=parse_manifest(raw),
                origin=Origin(None),
                actor=REGISTRY,
            )
            await connection.execute(
                update(manifests).where(manifests.c.id == manifest_id).values(attestation_id=row.id)
            )
            await connection.execute(
                update(attestations).where(attestations.c.id == row.id).values(signed_at=db_time(), kid=kid)
            )
            said = {
                "digest": row.digest,
                "attestation": str(digest_of(raw)),
                "predicate": PREDICATES[row.kind],
                "kid": kid,
            }
            await record(connection, "verdict.attested", repository, REGISTRY, said)
            added = len(raw) - gone + sum(size for _, size in linked)
            await quotas.tell(connection, row.repository_id, quotas.Amounts(bytes=added))
            await move_epoch(connection, "content")
        return True, [locator for locator in unused if locator is not None]


@dataclass(frozen=True, slots=True)
class _Upload:
    """Bytes that are stored, and not named by any row yet; without a locator, a blob that there was."""

    session: str | None
    locator: str | None
    digest: Digest
    size: int


def _is_claimed(row: Row[Any]) -> list[ColumnElement[bool]]:
    """Whether it is not signed yet, and is what it was when it was claimed."""
    this = [attestations.c.id == row.id, attestations.c.signed_at.is_(None)]
    if row.kind == "matches":
        # Its row stays when what it is about changes, and is then due at once.
        this.append(attestations.c.run_after == row.run_after)
    return this


_THIS, _OF_SAME = attestations.alias("this"), attestations.alias("of_same")
_DUE = (
    select(_THIS.c.id)
    .where(
        _THIS.c.signed_at.is_(None),
        _THIS.c.run_after <= db_time(),
        _THIS.c.kind.not_in(OF_SCANS),
        # A summary names the results that it rests on.
        or_(
            _THIS.c.kind == "result",
            ~exists().where(
                _OF_SAME.c.repository_id == _THIS.c.repository_id,
                _OF_SAME.c.digest == _THIS.c.digest,
                _OF_SAME.c.kind == "result",
                _OF_SAME.c.signed_at.is_(None),
            ),
        ),
    )
    .order_by(_THIS.c.id)
    .limit(1)
)
_SCANS_DUE = (
    select(attestations.c.id)
    .where(
        attestations.c.signed_at.is_(None),
        attestations.c.left_out.is_(None),
        attestations.c.run_after <= db_time(),
    )
    .order_by(attestations.c.id)
    .limit(1)
)


def _signed(
    place: str, digest: Digest, predicate_type: str, predicate: Mapping[str, object], ring: KeyRing
) -> bytes:
    statement = make_statement(place, digest, predicate_type, predicate)
    assert isinstance(ring.private, ec.EllipticCurvePrivateKey)
    return make_bundle(statement, ring.private, kid=ring.kid)


async def _whole(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _signed_results(connection: AsyncConnection, row: Row[Any]) -> list[str]:
    """The bundles with results about an image, by digest."""
    query = (
        select(edges.c.digest)
        .join(manifests, manifests.c.id == edges.c.manifest_id)
        .join(attestations, attestations.c.id == manifests.c.attestation_id)
        .where(
            attestations.c.repository_id == row.repository_id,
            attestations.c.digest == row.digest,
            attestations.c.kind == "result",
            edges.c.kind == "layer",
        )
        .order_by(attestations.c.id)
    )
    return list((await connection.execute(query)).scalars())


async def _subject(connection: AsyncConnection, row: Row[Any]) -> dict[str, object] | None:
    query = select(manifests.c.media_type, manifests.c.digest, manifests.c.size).where(
        manifests.c.repository_id == row.repository_id, manifests.c.digest == row.digest
    )
    found = (await connection.execute(query)).first()
    if found is None:
        return None
    return {"mediaType": found.media_type, "digest": found.digest, "size": found.size}


async def _size_of(connection: AsyncConnection, attestation_id: int) -> int:
    size = func.coalesce(func.sum(manifests.c.size), 0)
    query = select(size).where(manifests.c.attestation_id == attestation_id)
    return int((await connection.execute(query)).scalar_one())


async def _link(connection: AsyncConnection, repository_id: int, upload: _Upload) -> tuple[str | None, int]:
    """Make a blob visible in the repository, whatever its quota; returns the upload's locator if there was a
    blob already, and how many bytes the repository holds more."""
    if upload.locator is None:
        held = await connection.execute(
            select(blobs.c.id)
            .where(blobs.c.digest == str(upload.digest))
            .with_for_update(read=True, key_share=True)
        )
        is_new = await blob_use.link(connection, repository_id, held.scalar_one())
        return None, upload.size if is_new else 0
    blob_id, locator = await blob_use.store_row(
        connection, upload.digest, size=upload.size, locator=upload.locator
    )
    is_new = await blob_use.link(connection, repository_id, blob_id)
    return upload.locator if locator != upload.locator else None, upload.size if is_new else 0


def _annotations(row: Row[Any]) -> dict[str, str]:
    return {
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": PREDICATES[row.kind],
        "org.opencontainers.image.created": f"{row.made_at:%Y-%m-%dT%H:%M:%SZ}",
    }


def _manifest(row: Row[Any], subject: dict[str, object], *, config: _Upload, layer: _Upload) -> bytes:
    """As cosign writes it, but for the config, which says nothing of what it is."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": BUNDLE,
        "config": {"mediaType": EMPTY_TYPE, "digest": str(config.digest), "size": config.size},
        "layers": [{"mediaType": BUNDLE, "digest": str(layer.digest), "size": layer.size}],
        "subject": subject,
        "annotations": _annotations(row),
    }
    return json.dumps(document, separators=(",", ":")).encode()
