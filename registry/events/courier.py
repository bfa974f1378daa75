"""Who brings events to receivers: one in each process, which works for some webhooks at a time.

What it holds in memory is bounded: for each webhook one batch of what is due. The rest waits in rows.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from registry.db.engine import Bell
from registry.errors import SeatrialError
from registry.events import rounds
from registry.events.attempts import (
    ANSWER_BYTES,
    Attempt,
    Pace,
    explain_status,
    parse_retry_after,
)
from registry.events.envelopes import CONTENT_TYPES, shown_time
from registry.events.rounds import DueDelivery, LeasedWebhook
from registry.events.sequence import sequence
from registry.events.signatures import sign
from registry.events.webhooks import wrap_name
from registry.net.guarded import OutgoingError
from registry.oci.printable import printable

if TYPE_CHECKING:
    from registry.auth.secretkey import SecretKey
    from registry.db.engine import Database
    from registry.net.guarded import GuardedClient

_BREATH_SECONDS = 0.1
"""What is committed within it is looked at together."""
_FAILED_AT_ONCE = 8
"""So many failures and no success: the rest of a batch is left for another time."""
_TURN_SECONDS = 30.0
"""After it others that wait go first."""
_log = structlog.get_logger("seatrial.webhooks")


class Courier:
    """Gives events their positions, and delivers. ``source`` is the registry's address."""

    def __init__(
        self,
        database: Database,
        client: GuardedClient,
        secret_key: SecretKey,
        *,
        source: str,
        pace: Pace | None = None,
    ) -> None:
        self._database = database
        self._client = client
        self._secret_key = secret_key
        self._source = source
        self._pace = pace or Pace()
        self._tasks: set[asyncio.Task[None]] = set()
        self._jitter = random.SystemRandom().random
        self.bell = Bell()
        """Rung when events have got their positions: for those who read the feed."""
        self._attempts: Counter[str] = Counter()

    async def run(self) -> None:
        """Work until cancelled; what is on its way then is sent again later."""
        try:
            while True:
                heard = self._database.bell.listen()
                try:
                    await self.step()
                except (SQLAlchemyError, OSError) as error:
                    _log.warning("events could not be looked after", reason=repr(error))
                except Exception:  # the loop of events: whatever it was, the next ones must go out
                    _log.exception("events could not be looked after")
                with suppress(TimeoutError):
                    # Not wait_for: in Python 3.11 it forgets to be cancelled when the bell rings just then.
                    async with asyncio.timeout(self._pace.poll_seconds):
                        await heard.wait()
                        await asyncio.sleep(_BREATH_SECONDS)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def take_attempts(self) -> Counter[str]:
        """How many requests there were since somebody asked, by outcome."""
        attempts, self._attempts = self._attempts, Counter()
        return attempts

    async def step(self) -> None:
        """Give positions to what has none, and begin with webhooks for which something is due."""
        while await sequence(self._database, source=self._source):
            self.bell.ring()
            await self._begin()
        await self._begin()

    async def idle(self) -> None:
        """Wait until nobody works for a webhook."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _begin(self) -> None:
        room = self._pace.webhooks - len(self._tasks)
        if room <= 0:
            return
        for webhook in await rounds.take(self._database, self._pace, most=room):
            task = asyncio.create_task(self._work(webhook))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, webhook: LeasedWebhook | None) -> None:
        """One webhook after the other, until nothing more is due."""
        while webhook is not None:
            await self._take_turn(webhook)
            # Others may have waited for the room that this leaves.
            webhook = next(iter(await rounds.take(self._database, self._pace, most=1)), None)

    async def _take_turn(self, webhook: LeasedWebhook) -> None:
        """Rounds of one webhook, until nothing more is due or its turn is over."""
        ends_at = time.monotonic() + _TURN_SECONDS
        working: LeasedWebhook | None = webhook
        try:
            while working is not None:
                lease_ends = time.monotonic() + self._pace.lease_seconds
                rows = await rounds.due(self._database, working, self._pace)
                sent = await self._send_all(working, rows, lease_ends)
                goes_on = time.monotonic() < ends_at
                working = await rounds.settle(
                    self._database, working, sent, self._pace, goes_on=goes_on, jitter=self._jitter
                )
        except (SeatrialError, SQLAlchemyError, OSError) as error:
            # Its lease runs out, and somebody looks again.
            _log.error("a webhook could not be worked for", webhook=webhook.id, reason=repr(error))

    async def _send_all(
        self, webhook: LeasedWebhook, rows: Sequence[Sequence[DueDelivery]], lease_ends: float
    ) -> list[tuple[DueDelivery, Attempt]]:
        name = wrap_name(webhook.id)
        secrets = [self._secret_key.unwrap(wrapped, name=name).decode() for wrapped in webhook.secrets]
        sent: list[tuple[DueDelivery, Attempt]] = []
        waiting = iter(rows)
        last_start = lease_ends - self._pace.attempt_seconds - 1

        async def send_rows() -> None:
            for row in waiting:
                for delivery in row:
                    failed = sum(attempt.outcome != "delivered" for _, attempt in sent)
                    if time.monotonic() > last_start or (failed >= _FAILED_AT_ONCE and failed == len(sent)):
                        return
                    attempt = await self._send(webhook.url, delivery, secrets)
                    sent.append((delivery, attempt))
                    self._attempts[attempt.outcome] += 1
                    if attempt.outcome != "delivered":
                        break  # what comes after it in its row waits

        await asyncio.gather(*(send_rows() for _ in range(min(self._pace.at_once, len(rows)))))
        return sent

    async def _send(self, url: str, delivery: DueDelivery, secrets: Sequence[str]) -> Attempt:
        body = delivery.body.encode("ascii")
        now = datetime.now(UTC)
        seconds = int(now.timestamp())
        headers = {
            "Content-Type": CONTENT_TYPES[delivery.format],
            "webhook-id": delivery.id,
            "webhook-timestamp": str(seconds),
            "webhook-signature": " ".join(sign(secret, delivery.id, seconds, body) for secret in secrets),
        }
        began = time.monotonic()

        def took() -> float:
            return round(time.monotonic() - began, 3)

        try:
            reply = await self._client.tell(
                url, body, headers=headers, keep_bytes=ANSWER_BYTES, seconds=self._pace.attempt_seconds
            )
        except OutgoingError as error:
            return Attempt(shown_time(now), took(), error=error.message)
        return Attempt(
            shown_time(now),
            took(),
            status=reply.status,
            error=explain_status(reply.status),
            answer=printable(reply.body.decode("utf-8", "replace")) or None,
            retry_after=parse_retry_after(reply.headers, reply.status),
        )
