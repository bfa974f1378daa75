"""What a spec asks for of capabilities against what the operator allows. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from registry.contract.capabilities import GRANTABLE
from sandbox.errors import SandboxError


def require_allowed(asked: Iterable[str], allowed: Collection[str]) -> None:
    """A run has what its spec asks for, or is refused. Names are without ``CAP_``.

    Raises:
        SandboxError: ``capability-refused``: with what is not allowed, and the option that would.
    """
    refused = [name for name in asked if name in GRANTABLE and name not in allowed]
    if not refused:
        return
    options = " ".join(f"--allow-capability {name}" for name in refused)
    raise SandboxError(
        "capability-refused",
        f"the run spec asks for the capability {', '.join(refused)}, which this worker does not allow; its "
        f"operator may allow it with {options}",
    )
