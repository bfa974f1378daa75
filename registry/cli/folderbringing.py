"""``seatrial migrate folder``: the folder of another registry, taken into the database and the store of this
one by whoever holds them.

What is here is not read again, so that it goes on where it was.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.auth.actor import HOST
from registry.cli.bringing import MEANWHILE, Brought
from registry.cli.otherregistry import is_fallback_tag
from registry.cli.process import open_blob_store
from registry.cli.upgrading import require_newest
from registry.content import blobs, manifests
from registry.content import repositories as repos
from registry.content.adopting import take_file
from registry.db.content import manifests as manifest_rows
from registry.db.content import tags as tag_rows
from registry.db.engine import Database
from registry.errors import PreconditionFailedError, SeatrialError, StorageFullError
from registry.layouts.errors import LayoutError
from registry.layouts.folders import open_kept
from registry.layouts.walk import walk
from registry.oci.conditions import NO_CONDITIONS, Conditions, parse_entity_tags
from registry.oci.descriptor import Descriptor
from registry.oci.digest import digest_of
from registry.oci.manifest import parse_manifest
from registry.oci.mediatypes import INDEXES, MANIFESTS, is_foreign_layer
from registry.oci.printable import printable
from registry.storage.threads import Threads
from registry.trials.effects import TrialEffects
from registry.trials.identities import load_trust

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from registry.layouts.folders import KeptRepository
    from registry.layouts.walk import Content, Found
    from registry.oci.digest import Digest
    from registry.settings import Settings
    from registry.storage.store import BlobStore

_ACTOR = replace(HOST, is_admin=True)


@dataclass(frozen=True, slots=True)
class Taking:
    """How it is done: ``means`` says which tags (none: all), ``untagged`` whether what no tag leads to comes
    as well. ``keep`` leaves tags that stand elsewhere here. ``copy``: bytes that could be shared are copied.
    """

    means: Sequence[Callable[[str], bool]] = ()
    untagged: bool = False
    keep: bool = False
    copy: bool = False
    grandfathered_until: datetime | None = None
    dry_run: bool = False
    parallel: int = 4


def take_folder(
    settings: Settings,
    repositories: Sequence[tuple[Callable[[], KeptRepository], Brought]],
    taking: Taking,
    *,
    done: Callable[[Brought], None],
) -> None:
    """Take them in; ``done`` is told of each.

    Raises:
        ConflictError: the database has another schema.
        SettingsError: the database or the store cannot be used.
        StorageFullError: there is no room.
    """
    require_newest(settings)
    asyncio.run(_take(settings, repositories, taking, done))


async def _take(
    settings: Settings,
    repositories: Sequence[tuple[Callable[[], KeptRepository], Brought]],
    taking: Taking,
    done: Callable[[Brought], None],
) -> None:
    async with AsyncExitStack() as stack:
        database = Database(settings.effective_database_url, reserve_bytes=settings.reserve_bytes)
        stack.push_async_callback(database.close)
        store = await open_blob_store(settings, database)
        stack.push_async_callback(store.close)
        parsers = Threads("parser", 1)
        stack.callback(parsers.close)
        effects = TrialEffects(settings, load_trust(settings.signature_trust_file))
        into = _Into(settings, database, store, effects, parsers, taking)
        for read, brought in repositories:
            try:
                await into.repository(await asyncio.to_thread(read), brought)
            except LayoutError as error:
                brought.fail("the repository", printable(error.message))
            done(brought)


@dataclass(frozen=True, slots=True)
class _Into:
    settings: Settings
    database: Database
    store: BlobStore
    effects: TrialEffects
    parsers: Threads
    taking: Taking

    async def repository(self, kept: KeptRepository, brought: Brought) -> None:
        """Take one repository in, image by image."""
        for name, reason in kept.damaged.items():
            brought.fail(printable(name), printable(reason))
        wanted: dict[Digest, list[str]] = {}
        for tag, digest in kept.tags.items():
            if is_fallback_tag(tag):
                continue
            if self.taking.means and not any(means(tag) for means in self.taking.means):
                brought.other += 1
            else:
                wanted.setdefault(digest, []).append(tag)
        here: set[Digest] = set()
        absent: dict[Digest, None] = {}
        for digest, tags in wanted.items():
            absent |= await self._tried(kept, brought, here, digest, tags)
        left = {one: _subject(kept, one) for one in kept.untagged if one not in here}
        # What refers to what came, and to that; an index of such, under its own tag, is not needed here.
        while found := [one for one, subject in left.items() if subject in here]:
            for digest in found:
                del left[digest]
                absent |= await self._tried(kept, brought, here, digest, [])
                brought.referrers += digest in here
        if self.taking.untagged:
            for digest in left.keys() - here:
                absent |= await self._tried(kept, brought, here, digest, [])
        brought.absent = list(map(str, absent))

    async def _tried(
        self, kept: KeptRepository, brought: Brought, here: set[Digest], digest: Digest, tags: Sequence[str]
    ) -> dict[Digest, None]:
        """What is missing of an image that is taken in; if it cannot be, why is noted. ``here`` is what
        came."""
        try:
            content = await asyncio.to_thread(_walked, kept, digest)
            for each, found in content.manifests.items():
                if each not in here or (each == digest and tags):
                    await self._manifest(kept, brought, each, found, tags if each == digest else [])
                    here.add(each)
        except StorageFullError:
            raise
        except SeatrialError as error:
            brought.fail(", ".join(tags) or str(digest), printable(error.message))
            return {}
        return dict.fromkeys(content.absent)

    async def _manifest(
        self, kept: KeptRepository, brought: Brought, digest: Digest, found: Found, tags: Sequence[str]
    ) -> None:
        repository, is_here, stands = await self._standing(brought.into, digest, tags)
        moves: dict[str, str | None] = {}
        for tag in tags:
            stood = stands.get(tag)
            if stood == str(digest):
                brought.same += 1
            elif stood is not None and self.taking.keep:
                brought.kept.append(tag)
            else:
                moves[tag] = stood
        if is_here and not moves:
            return
        if not is_here:
            await self._blobs(kept, brought, repository, found)
            brought.manifests += 1
        if not moves:
            await self._put(brought, found, digest)
        for tag, stood in moves.items():
            condition = Conditions(if_none_match=parse_entity_tags("*"))
            if stood is not None:
                condition = Conditions(if_match=parse_entity_tags(f'"{stood}"'))
            try:
                await self._put(brought, found, digest, [tag], condition)
            except PreconditionFailedError:
                brought.fail(tag, MEANWHILE)
                continue
            if stood is None:
                brought.new.append(tag)
            else:
                brought.moved.append({"tag": tag, "from": stood, "to": str(digest)})

    async def _put(
        self,
        brought: Brought,
        found: Found,
        digest: Digest,
        tags: Sequence[str] = (),
        conditions: Conditions = NO_CONDITIONS,
    ) -> None:
        if self.taking.dry_run:
            return
        await manifests.put(
            self.database,
            self.store,
            brought.into,
            stated=digest,
            tag_names=tags,
            raw=found.raw,
            manifest=found.manifest,
            conditions=conditions,
            settings=self.settings,
            actor=_ACTOR,
            effects=self.effects,
            parsers=self.parsers,
            grandfathered_until=self.taking.grandfathered_until,
        )

    async def _standing(
        self, name: str, digest: Digest, tags: Sequence[str]
    ) -> tuple[repos.Repository | None, bool, dict[str, str]]:
        """The repository here, whether it has the manifest, and where the tags stand."""
        repository = await repos.find(self.database, name)
        if repository is None:
            return None, False, {}
        mine = manifest_rows.c.repository_id == repository.id
        held = select(manifest_rows.c.id).where(mine, manifest_rows.c.digest == str(digest))
        standing = (
            select(tag_rows.c.name, manifest_rows.c.digest)
            .join(manifest_rows, manifest_rows.c.id == tag_rows.c.manifest_id)
            .where(tag_rows.c.repository_id == repository.id, tag_rows.c.name.in_(tags))
        )
        async with self.database.read() as connection:
            is_here = (await connection.execute(held)).first() is not None
            rows = (await connection.execute(standing)).all() if tags else []
        return repository, is_here, {row.name: row.digest for row in rows}

    async def _blobs(
        self, kept: KeptRepository, brought: Brought, repository: repos.Repository | None, found: Found
    ) -> None:
        wanted = {
            one.digest: one
            for kind, one in found.manifest.edges()
            if not (kind == "child" and one.media_type in MANIFESTS | INDEXES)
            and not (kind == "layer" and is_foreign_layer(one.media_type))
        }
        if repository is not None:
            async with self.database.read() as connection:
                held = await blobs.find_all(connection, repository.id, wanted.keys())
            for digest, blob in held.items():
                # A collection may take what is condemned before the manifest is there.
                if not blob.condemned:
                    del wanted[digest]
        elif not self.taking.dry_run:
            async with self.database.write() as connection:
                repository = await repos.find_or_create(
                    connection, brought.into, settings=self.settings, actor=_ACTOR
                )
        room = asyncio.Semaphore(self.taking.parallel)

        async def one(blob: Descriptor) -> None:
            async with room:
                await self._blob(kept, brought, repository, blob)

        done = await asyncio.gather(*map(one, wanted.values()), return_exceptions=True)
        for each in done:
            if isinstance(each, BaseException):
                raise each

    async def _blob(
        self, kept: KeptRepository, brought: Brought, repository: repos.Repository | None, blob: Descriptor
    ) -> None:
        fd = open_kept(kept.path(blob.digest))
        try:
            size = os.fstat(fd).st_size
            if size != blob.size:
                raise LayoutError(
                    "mismatch", f"{blob.digest} has {size} bytes there, not {blob.size} as is stated"
                )
            taken = "copied"
            if not self.taking.dry_run:
                assert repository is not None
                taken = await take_file(
                    self.database,
                    self.store,
                    self.settings,
                    repository.id,
                    fd,
                    digest=blob.digest,
                    copy=self.taking.copy,
                )
        finally:
            os.close(fd)
        if taken == "mounted":
            brought.mounted += 1
        elif taken != "here":
            brought.blobs += 1
            brought.bytes += size
            brought.shared += taken in ("linked", "cloned")


def _read(kept: KeptRepository, digest: Digest) -> bytes:
    raw = kept.manifest(digest)
    if not digest.supported or digest_of(raw, digest.algorithm) != digest:
        raise LayoutError("mismatch", f"what lies there as {digest} has other bytes")
    return raw


def _walked(kept: KeptRepository, digest: Digest) -> Content:
    raw = _read(kept, digest)
    root = Descriptor(parse_manifest(raw).media_type, digest, len(raw))
    return walk([root], lambda one: _read(kept, one), sparse=True)


def _subject(kept: KeptRepository, digest: Digest) -> Digest | None:
    try:
        subject = parse_manifest(_read(kept, digest)).subject
    except SeatrialError:
        return None  # told where it is wanted
    return None if subject is None else subject.digest
