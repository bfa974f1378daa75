"""A queue with many parts, made as pushes make them, and workers that claim and report by function call."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sqlalchemy import insert, select

from registry.auth.actor import REGISTRY
from registry.content import repositories as repos
from registry.contract import PROTOCOL_VERSION
from registry.contract.report import Observation, Report, Run
from registry.db.accounts import accounts, workers
from registry.db.content import edges, manifest_contents, manifests, repositories
from registry.db.engine import Database
from registry.db.types import db_time
from registry.settings import Settings
from registry.trials import queue, verdicts
from registry.trials.images import RunnableImage
from registry.trials.opening import Opening, open_trial, trial_policy
from registry.trials.scheduling import PUSHED
from registry.trials.verdicts import Reporter

PLATFORM = "linux/amd64"
_NUMBERS = itertools.count()


def digest(number: int) -> str:
    """The digest of an image that nobody pushed."""
    return f"sha256:{hashlib.sha256(str(number).encode()).hexdigest()}"


async def queue_images(
    database: Database,
    settings: Settings,
    name: str,
    count: int,
    *,
    urgency: int = PUSHED,
    size_bytes: int = 1000,
    platform: str = PLATFORM,
) -> None:
    """Have a repository, which is made where there is none, queue so many images, each a trial of its own."""
    async with database.write() as connection:
        query = select(repositories.c.id).where(repositories.c.name == name)
        repository_id = (await connection.execute(query)).scalar_one_or_none()
        if repository_id is None:
            values = {"name": name, "visibility": "private", "gate": "off", "trial_on_push": True}
            made = insert(repositories).values(**values, created_at=db_time()).returning(repositories.c.id)
            repository_id = (await connection.execute(made)).scalar_one()
        await repos.lock(connection, repository_id)
        policy = await trial_policy(connection, repository_id)
        images = [digest(next(_NUMBERS)) for _ in range(count)]
        await connection.execute(
            insert(manifest_contents), [{"digest": image, "raw": b""} for image in images]
        )
        row = {
            "repository_id": repository_id,
            "media_type": "application/vnd.oci.image.manifest.v1+json",
            "size": 1,
            "runnable": True,
            "platform": platform,
            "state": "pending",
        }
        stored = insert(manifests).values(state_at=db_time(), pushed_at=db_time())
        await connection.execute(stored, [{**row, "digest": image} for image in images])
        layer = {"kind": "layer", "digest": digest(-1), "media_type": "", "size": size_bytes}
        here = manifests.c.repository_id == repository_id
        newest = select(manifests.c.id).where(here).order_by(manifests.c.id.desc()).limit(count)
        found = (await connection.execute(newest)).scalars()
        await connection.execute(
            insert(edges), [{"manifest_id": one, "position": 0, **layer} for one in found]
        )
        for image in images:
            opening = Opening(
                digest=image,
                images=[RunnableImage(image, platform)],
                run_spec=None,
                cause="push",
                created_by=REGISTRY,
                again=False,
                urgency=urgency,
            )
            await open_trial(connection, settings, policy, opening)


async def hire(database: Database, names: Collection[str], *, namespace: str | None = None) -> list[Reporter]:
    """Make workers of these names, bound to a namespace or to none."""
    hired = []
    async with database.write() as connection:
        for name in names:
            row = insert(accounts).values(name=f"worker:{name}", kind="worker", created_at=db_time())
            account_id = (await connection.execute(row.returning(accounts.c.id))).scalar_one()
            bound = None if namespace is None else json.dumps([namespace])
            await connection.execute(insert(workers).values(account_id=account_id, namespaces=bound))
            hired.append(Reporter(account_id, name))
    return hired


@dataclass(slots=True)
class Shift:
    """What workers did: the repository of each claim in its order, how often each part was claimed."""

    database: Database
    settings: Settings
    order: list[str] = field(default_factory=list)
    claims: Counter[str] = field(default_factory=Counter)
    held: set[str] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)
    """Of each claim that gave a job."""

    async def claim(
        self, worker: Reporter, *, slots: int = 1, platform: str = PLATFORM
    ) -> queue.Claimed | None:
        """One claim, which waits for nothing.

        Raises:
            AssertionError: the part is being run by another worker.
        """
        began = time.perf_counter()
        found = await queue.claim(
            self.database,
            self.settings,
            worker=worker,
            platforms=(platform,),
            mechanisms=(),
            disk_bytes=None,
            disk_most_bytes=None,
            slots=slots,
            address=None,
            wait_seconds=0,
            is_gone=lambda: False,
            require_still_let_in=_always,
        )
        if isinstance(found, queue.Nothing):
            return None
        self.seconds.append(time.perf_counter() - began)
        assert found.part not in self.held, "one part is run twice at once"
        self.held.add(found.part)
        self.order.append(found.repository)
        self.claims[found.part] += 1
        return found

    async def report(self, worker: Reporter, job: queue.Claimed) -> None:
        """Say that it passed."""
        self.held.discard(job.part)
        seen = Observation(expectation="exit code is 0", seen="exit code 0", met=True)
        run = Run(
            name="smoke",
            command=("/app",),
            exit_code=0,
            reason="exited",
            seconds=0.1,
            log="",
            observations=(seen,),
        )
        report = Report(
            protocol=PROTOCOL_VERSION,
            lease=job.lease,
            digest=job.digest,
            platform=job.platform,
            tested="the command exits 0",
            runtime="simulated 1.0",
            runs=(run,),
        )
        await verdicts.record(self.database, self.settings, worker=worker, report=report)

    async def work(self, worker: Reporter) -> None:
        """Claim and report until there is nothing left."""
        while (job := await self.claim(worker)) is not None:
            await self.report(worker, job)

    async def run(self, crew: Collection[Reporter]) -> None:
        """Have all of them work at the same time."""
        async with asyncio.TaskGroup() as group:
            for worker in crew:
                group.create_task(self.work(worker))


def unfairness(order: Collection[str], queued: Mapping[str, int], *, at_once: int) -> float:
    """By how much the repository that had to wait longest waited longer than with equal shares.

    All were queued before the first claim. The n-th part of one of R repositories is due with the (n x R)-th
    claim; ``at_once`` are in the making at the same time and come in any order.
    """
    taken: Counter[str] = Counter()
    worst = 0.0
    for position, name in enumerate(order, start=1):
        taken[name] += 1
        worst = max(worst, (position - at_once) / (taken[name] * len(queued)))
    return worst


async def _always() -> None:
    """Every worker of a simulation is let in."""
