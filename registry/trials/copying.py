"""Who copies images of other registries so that they can be tried: one in each process.

An image is copied as a push would bring it: config and layers into the blob store while their digests are
computed, then the manifest, all into the upstream's hidden repository. What that holds already is not fetched
again; what other repositories hold is not looked at, so that nobody gets or learns of it by naming digests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from registry.auth.actor import REGISTRY
from registry.content import blobs as blob_use
from registry.content import manifests, uploads
from registry.content import repositories as repos
from registry.contract.sizes import shown_size
from registry.db.content import repositories
from registry.errors import DigestInvalidError, ManifestInvalidError, SeatrialError
from registry.oci.conditions import NO_CONDITIONS
from registry.oci.descriptor import ATTESTATION_ANNOTATION
from registry.oci.manifest import parse_manifest
from registry.oci.mediatypes import MANIFESTS, is_foreign_layer
from registry.oci.names import split_repository_reference
from registry.trials import upstreamtrials
from registry.trials.platforms import is_run
from registry.trials.upstreamclient import CopyError, UpstreamClient
from registry.trials.upstreams import find_by_id, secret_of

if TYPE_CHECKING:
    from registry.auth.secretkey import SecretKey
    from registry.content.effects import Effects
    from registry.db.engine import Database
    from registry.net.guarded import GuardedClient
    from registry.oci.descriptor import Descriptor
    from registry.oci.digest import Digest
    from registry.oci.manifest import Manifest
    from registry.settings import Settings
    from registry.storage.store import BlobStore
    from registry.storage.threads import Threads
    from registry.trials.upstreamclient import Fetched
    from registry.trials.upstreams import Upstream
    from registry.trials.upstreamtrials import Copy

AT_ONCE = 4
"""So many copies are made at once in a process."""
SECONDS_MAX = 15 * 60.0
"""How long one may take."""
IMAGES_MAX = 8
"""So many images of an index are tried."""
POLL_SECONDS = 1.0
_KEEP_SECONDS = 15.0
_SESSION_LIFE = timedelta(hours=1)
_log = structlog.get_logger("seatrial.upstreams")


@dataclass(frozen=True, slots=True)
class _Image:
    """A manifest that is to be stored, of which ``manifest`` is the meaning."""

    fetched: Fetched
    manifest: Manifest

    @property
    def blobs(self) -> Sequence[Descriptor]:
        """What it is made of, the config first; what may live elsewhere is left there."""
        return [one for _, one in self.manifest.edges() if not is_foreign_layer(one.media_type)]


@dataclass(frozen=True, slots=True)
class Copier:
    """``effects`` are those of a push; ``parsers`` the threads that read image configs."""

    database: Database
    store: BlobStore
    settings: Settings
    secret_key: SecretKey
    client: GuardedClient
    effects: Effects
    parsers: Threads

    async def run(self) -> None:
        """Copy until cancelled; what is on its way then is left to the next process."""
        tasks: set[asyncio.Task[None]] = set()
        try:
            while True:
                try:
                    await self._begin(tasks)
                except (SQLAlchemyError, OSError) as error:
                    _log.warning("copies could not be looked after", reason=repr(error))
                except Exception:  # the loop of copies: the next ones must be begun
                    _log.exception("copies could not be looked after")
                if tasks:
                    # What ends makes room for what waits.
                    await asyncio.wait(tasks, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin(self, tasks: set[asyncio.Task[None]]) -> None:
        if self.settings.read_only:
            return
        while len(tasks) < AT_ONCE and (copy := await upstreamtrials.take(self.database)) is not None:
            task = asyncio.create_task(self._work(copy))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _work(self, copy: Copy) -> None:
        """One copy, whose lease is kept meanwhile."""
        copying = asyncio.create_task(self._copy(copy))
        try:
            while not copying.done():
                await asyncio.wait([copying], timeout=_KEEP_SECONDS)
                if not copying.done() and not await upstreamtrials.keep(self.database, copy):
                    break  # another process is at it, or its upstream is gone
        except asyncio.CancelledError:
            await _end(copying)
            await upstreamtrials.give_back(self.database, copy)
            raise
        except (SQLAlchemyError, OSError) as error:
            _log.warning("a copy is left to another process", trial=copy.trial_id, reason=repr(error))
        finally:
            await _end(copying)

    async def _copy(self, copy: Copy) -> None:
        try:
            if copy.attempts > upstreamtrials.ATTEMPTS:
                raise CopyError(
                    f"it was begun {upstreamtrials.ATTEMPTS} times, and the registry ended meanwhile"
                )
            digest, images = await self._bring(copy)
            await upstreamtrials.open_copied(self.database, self.settings, copy, digest=digest, images=images)
        except SeatrialError as error:
            passes = (isinstance(error, CopyError) and error.passes) or await self._is_moved(copy)
            asked = error.asked_seconds if isinstance(error, CopyError) else None
            later = partial(upstreamtrials.try_later, asked_seconds=asked)
            await self._finish(copy, error.message, later if passes else upstreamtrials.fail)
        except (SQLAlchemyError, OSError) as error:
            # Its lease runs out, and somebody looks again.
            _log.warning("an image could not be copied", trial=copy.trial_id, reason=repr(error))
        except Exception:  # the loop of copies: whatever it was, the trial must end
            _log.exception("an image could not be copied", trial=copy.trial_id)
            await self._finish(copy, "the registry could not copy it; its log says why", upstreamtrials.fail)

    async def _is_moved(self, copy: Copy) -> bool:
        """Whether what it is copied into has another name by now, under which it can be begun again."""
        named = select(repositories.c.name).where(repositories.c.id == copy.repository_id)
        async with self.database.read_once() as connection:
            name = (await connection.execute(named)).scalar_one_or_none()
        return name not in (None, copy.repository)

    async def _finish(
        self, copy: Copy, reason: str, end: Callable[[Database, Copy, str], Awaitable[None]]
    ) -> None:
        try:
            await end(self.database, copy, reason)
        except (SQLAlchemyError, OSError) as error:
            _log.warning("a copy could not be ended", trial=copy.trial_id, reason=repr(error))

    async def _bring(self, copy: Copy) -> tuple[Digest, Sequence[Digest]]:
        """What the reference names, and the images of it that are here now.

        Raises:
            SeatrialError: it cannot be copied.
        """
        async with self.database.read() as connection:
            upstream = await find_by_id(connection, copy.upstream_id)
            secret = await secret_of(connection, self.secret_key, copy.upstream_id)
            repository = await repos.find_in(connection, copy.repository)
        if upstream is None or repository is None:
            raise CopyError("the upstream is gone")
        name, tag, stated = split_repository_reference(copy.image)
        source = UpstreamClient(
            self.client, upstream, secret, name=name, deadline=time.monotonic() + SECONDS_MAX
        )
        most = self.settings.manifest_max_bytes
        found = await source.manifest(str(stated or tag), stated=stated, max_bytes=most)
        manifest = await self._parsed(found)
        images = [_Image(found, manifest)]
        if manifest.is_index:
            images = []
            for child in self._chosen(manifest, copy.image):
                fetched = await source.manifest(str(child.digest), stated=child.digest, max_bytes=most)
                images.append(_Image(fetched, await self._parsed(fetched)))
        self._require_runnable(images, upstream)
        missing = await self._missing(copy, images)
        for blob in missing:
            await self._bring_blob(source, copy, blob, repository)
        # The index last, which lists the others; of other platforms they are missing in it.
        for image in [*images, *([_Image(found, manifest)] if manifest.is_index else [])]:
            await manifests.put(
                self.database,
                self.store,
                copy.repository,
                stated=image.fetched.digest,
                tag_names=[],
                raw=image.fetched.raw,
                manifest=image.manifest,
                conditions=NO_CONDITIONS,
                settings=self.settings,
                actor=REGISTRY,
                effects=self.effects,
                parsers=self.parsers,
            )
        return found.digest, [image.fetched.digest for image in images]

    async def _parsed(self, fetched: Fetched) -> Manifest:
        try:
            return await self.parsers.run(parse_manifest, fetched.raw, fetched.media_type)
        except ManifestInvalidError as error:
            raise CopyError(f"{fetched.digest} is no image: {error.message}") from None

    def _chosen(self, index: Manifest, image: str) -> Sequence[Descriptor]:
        """The children of an index that are tried: of the platforms that some worker runs."""
        listed = [
            child
            for child in index.children
            if child.media_type in MANIFESTS
            and child.platform is not None
            and ATTESTATION_ANNOTATION not in child.annotations
        ]
        chosen = {
            child.digest: child
            for child in listed
            if is_run(str(child.platform), self.settings.trial_platforms)
        }
        if not chosen:
            there = ", ".join(sorted({str(child.platform) for child in listed})) or "none at all"
            raise CopyError(
                f"{image} has no image for {' or '.join(self.settings.trial_platforms)}, but for {there}"
            )
        if len(chosen) > IMAGES_MAX:
            raise CopyError(
                f"{image} has {len(chosen)} images that would be tried; {IMAGES_MAX} are the limit"
            )
        return list(chosen.values())

    def _require_runnable(self, images: Sequence[_Image], upstream: Upstream) -> None:
        for image in images:
            if image.manifest.is_index or not image.manifest.runnable:
                raise CopyError(f"{image.fetched.digest} is nothing that can be run")
        sizes = {blob.digest: blob.size for image in images for blob in image.blobs}
        total = sum(sizes.values())
        if total > upstream.max_bytes:
            raise CopyError(
                f"the image has {shown_size(total)}, and {shown_size(upstream.max_bytes)} are the limit of "
                f"{upstream.name}"
            )

    async def _missing(self, copy: Copy, images: Collection[_Image]) -> Sequence[Descriptor]:
        wanted = {blob.digest: blob for image in images for blob in image.blobs}
        for digest in wanted:
            if not digest.supported:
                raise CopyError(f"{digest} is of an algorithm that is not verified here")
        async with self.database.read() as connection:
            held = await blob_use.find_all(connection, copy.repository_id, wanted.keys())
        # A collection may take what is condemned before the manifest is there that names it.
        stay = {digest for digest, blob in held.items() if not blob.condemned}
        return [blob for digest, blob in wanted.items() if digest not in stay]

    async def _bring_blob(
        self, source: UpstreamClient, copy: Copy, blob: Descriptor, repository: repos.Repository
    ) -> None:
        session = await uploads.start_own(
            self.database,
            self.store,
            copy.repository_id,
            algorithm=blob.digest.algorithm,
            life=_SESSION_LIFE,
        )
        try:
            async with source.blob(blob.digest) as chunks:
                await uploads.append(
                    self.database,
                    self.store,
                    session,
                    _no_more_than(chunks, blob),
                    repository=repository,
                    length=blob.size,
                    at=0,
                    closing=False,
                    settings=self.settings,
                )
            await uploads.finish(self.database, self.store, session, digest=blob.digest)
        except DigestInvalidError:
            raise CopyError(f"what {copy.image} names {blob.digest} has other bytes") from None
        finally:
            # What was finished has no session any more, and keeps its bytes.
            await uploads.drop(self.database, self.store, session)


async def _no_more_than(chunks: AsyncIterator[bytes], blob: Descriptor) -> AsyncIterator[bytes]:
    length = 0
    async for chunk in chunks:
        length += len(chunk)
        if length > blob.size:
            raise CopyError(
                f"the blob {blob.digest} has more than the {blob.size} bytes that its manifest says"
            )
        yield chunk


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
