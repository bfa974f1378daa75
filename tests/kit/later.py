"""What a registry in a test's process does by itself at its start, done a little later.

At once it would be several connections to a database that nobody has written to yet, which takes longer than
most tests. Whoever writes, or asks, has it done at once, as ever.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from registry.db.engine import Bell
from registry.events.courier import Courier
from registry.http import auditing, delivering, judging, matching, server
from registry.http.sweeps import woken
from registry.trials.copying import Copier

if TYPE_CHECKING:
    import pytest

QUIET_SECONDS = 1.0
_Look = Callable[..., Awaitable[None]]


def look_later(patch: pytest.MonkeyPatch) -> None:
    """Have the registries that start from now on in this process begin what they do by themselves when
    something was written or asked for that it may be about, or after a second."""
    patch.setattr(Courier, "run", _rung(Courier.run, lambda courier: courier._database.bell))
    attested = _rung(server.keep_attested, lambda services, *_: services.database.bell)
    patch.setattr(server, "keep_attested", attested)
    for holder, name in (
        (auditing, "_keep_forever"),
        (delivering, "_look_after"),
        (judging, "_judge_forever"),
        (matching, "_match_forever"),
        (Copier, "run"),
    ):
        patch.setattr(holder, name, _rung(getattr(holder, name), lambda *_: Bell()))


def _rung(look: _Look, bell_of: Callable[..., Bell]) -> _Look:
    async def later(*given: Any) -> None:
        bell = bell_of(*given)
        await woken(bell.listen(), within=QUIET_SECONDS)
        if not bell.muted:  # at its end nobody looks for the first time
            await look(*given)

    return later
