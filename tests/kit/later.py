"""What a registry does by itself at its start, done a little later.

At once it would be several connections to a database that nobody has written to yet, which took longer than
most tests. Whoever writes has it done at once, as ever.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from registry.events.courier import Courier
from registry.http import auditing, delivering, server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

    from registry.db.engine import Bell

_QUIET_SECONDS = 1.0


def look_later(patch: pytest.MonkeyPatch) -> None:
    """Have the registries that start from now on in this process look for events and verdicts when something
    was written, or after a second, and at their trail and their deliveries after a second."""
    patch.setattr(Courier, "run", _rung(Courier.run, lambda courier: courier._database.bell))
    patch.setattr(
        server, "keep_attested", _rung(server.keep_attested, lambda services: services.database.bell)
    )
    for module, name in ((auditing, "_keep_forever"), (delivering, "_look_after")):
        patch.setattr(module, name, _rung(getattr(module, name), lambda _: None))


def _rung(look: Callable[..., Awaitable[None]], bell_of: Callable[[Any], Bell | None]) -> Any:
    async def later(of: Any, *more: Any) -> None:
        bell = bell_of(of)
        rung = asyncio.Event() if bell is None else bell.listen()
        with suppress(TimeoutError):
            # Not wait_for: of Python 3.11 it loses a cancellation that comes with the ring.
            async with asyncio.timeout(_QUIET_SECONDS):
                await rung.wait()
        if bell is None or not bell.muted:  # at its end nobody looks for the first time
            await look(of, *more)

    return later
