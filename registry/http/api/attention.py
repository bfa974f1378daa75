"""``/api/v1/attention``: what somebody should look at."""

from __future__ import annotations

from collections.abc import Sequence

from registry.http.api.routes import Call, Route
from registry.trials import attention as use


async def list_attention(call: Call) -> Sequence[use.Attention]:
    """What you should look at, and may do something about, by kind, at most ten of each.

    Webhooks that fail, workers that are gone, advisories that are a week old, quotas of which 80 % is used,
    damaged blobs, waivers that are asked for, and images of which nothing is known as their trial went wrong.
    """
    return await use.list_attention(call.services.database, actor=call.actor)


ROUTES = (Route("GET", "/attention", "account", list_attention),)
