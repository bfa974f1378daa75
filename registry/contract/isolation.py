"""The mechanisms of isolation that a run spec may demand, as a run's record and ``doctor`` name them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from registry.contract.report import Mechanism

DEMANDABLE = (
    "AppArmor",
    "Landlock",
    "SELinux",
    "bandwidth",
    "block io",
    "capabilities",
    "cgroup limits",
    "cgroup namespace",
    "cpu set",
    "egress",
    "ipc namespace",
    "mount namespace",
    "namespace count",
    "network fence",
    "network namespace",
    "no_new_privs",
    "outer seccomp",
    "own ids",
    "pid namespace",
    "pivot_root",
    "seccomp",
    "time namespace",
    "time offset",
    "user namespace",
    "uts namespace",
)

SECRETS = "run-spec secrets"
STUBS = "run-spec stubs"
SERVICES = "run-spec services"
REFERRERS = "run-spec referrers"
SPEC_NEWS = (SECRETS, STUBS, SERVICES, REFERRERS)
"""What of run specs a worker of the version before does not know. A claim says so beside the mechanisms; a
job with any of it is not for a worker that does not."""


def why_not_isolated(mechanisms: Sequence[Mechanism], required: Collection[str]) -> str | None:
    """Which of the mechanisms that were demanded a run did not have, in words; ``None``: it had all."""
    applied = {one.name for one in mechanisms if one.applied}
    lacking = sorted(set(required) - applied)
    if not lacking:
        return None
    said = {one.name: one.detail for one in mechanisms}
    words = [f"{name} ({said[name]})" if said.get(name) else name for name in lacking]
    return f"the run spec demands what the run did not have: {', '.join(words)}"[:2000]
