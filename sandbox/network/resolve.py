"""Names of a run spec to addresses: by the worker, once, before the run; the run has no resolver."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

from registry.contract.fields import NetworkSpec
from sandbox.errors import SandboxError
from sandbox.network.permits import NetworkPolicy, PinnedNetwork, names_of, pinned, refusal

_SECONDS = 10.0


async def pin(spec: NetworkSpec | None, policy: NetworkPolicy) -> PinnedNetwork | None:
    """The network of a run, with its names resolved now; ``None`` where the spec asks for none.

    Raises:
        SandboxError: ``egress-refused``: the operator does not permit it, or a name has no address.
    """
    if spec is None:
        return None
    if not policy.permits:
        # Before anything is resolved: nobody learns from here which names this host knows.
        raise refusal(spec.egress[0], ())
    return pinned(spec, await _resolve(names_of(spec)), policy)


async def _resolve(names: Sequence[str]) -> Mapping[str, Sequence[IPv4Address]]:
    loop = asyncio.get_running_loop()
    found: dict[str, Sequence[IPv4Address]] = {}
    try:
        async with asyncio.timeout(_SECONDS):
            for name in names:
                entries = await loop.getaddrinfo(name, None, family=socket.AF_INET, type=socket.SOCK_STREAM)
                found[name] = [IPv4Address(entry[4][0]) for entry in entries]
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "no answer in time"
        raise SandboxError(
            "egress-refused", f"the worker cannot resolve {name}: {why}", retryable=True
        ) from None
    return found
