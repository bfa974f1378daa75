"""Checks by name: each stands for a case, and this table says which."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from registry.contract.cases import Case
from registry.contract.expectations import Expectations, LogExpectation, StopExpectation
from registry.contract.fields import RANDOM_USER

CRASHED = r"(?i)segmentation fault|core dumped|^panic: |stack overflow"
"""What a command says that did not end by its own will."""

CHECKS: Mapping[str, Case] = MappingProxyType(
    {
        one.name: one
        for one in (
            Case(name="starts"),
            Case(name="restricted", user=RANDOM_USER, profile="restricted"),
            Case(name="healthcheck", expect=Expectations(healthcheck=True)),
            Case(name="stops-cleanly", expect=Expectations(stop=StopExpectation(within_seconds=10.0))),
            Case(
                name="version-only",
                args=("--version",),
                expect=Expectations(exit=0, log=(LogExpectation(match=r"[0-9]+\.[0-9]+"),)),
            ),
            Case(
                name="fails-cleanly-without-db",
                stub=(),
                services=(),
                expect=Expectations(exit="nonzero", log=(LogExpectation(match=CRASHED, absent=True),)),
            ),
        )
    }
)
"""By name. What a check leaves out is as the spec says, as with every case."""

SCAN_ALONE = "scan"
"""Not a case: by itself it asks that the image is scanned and nothing of it run."""

MEANING: Mapping[str, str] = MappingProxyType(
    {
        "starts": "it does what the spec expects or, where that says nothing, what the image suggests",
        "restricted": "it does so as a random user of group 0, without a capability, its files read-only: "
        "fit for OpenShift and for Kubernetes' restricted profile",
        "healthcheck": "the image has a HEALTHCHECK, and it succeeds",
        "stops-cleanly": "it stays up, and ends within 10 s of its stop signal",
        "version-only": "with --version it prints a version and exits 0",
        "fails-cleanly-without-db": "alone, without the database it needs, it ends by itself with an error "
        "code, and does not crash",
    }
)
"""Each in words."""
