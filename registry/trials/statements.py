"""What is said of a verdict: predicates of in-toto statements. Pure.

A *result* is a test-result (https://in-toto.io/attestation/test-result/v0.1): what came of a trial under one
run spec. A *summary* is a verification summary (https://slsa.dev/verification_summary/v1): what the gate
makes of the image. Both have members of our own below ``seatrial``. What is said of scans is made in
:mod:`registry.trials.scanstatements`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from registry.trials.specs import IMAGE_SUGGESTED

if TYPE_CHECKING:
    from registry.trials.relief import LiveWaiver

ScanKind = Literal["cyclonedx", "spdx", "matches"]
Kind = Literal["result", "summary"] | ScanKind
PREDICATES: Mapping[Kind, str] = MappingProxyType(
    {
        "result": "https://in-toto.io/attestation/test-result/v0.1",
        "summary": "https://slsa.dev/verification_summary/v1",
        "cyclonedx": "https://cyclonedx.org/bom",
        "spdx": "https://spdx.dev/Document",
        "matches": "https://cosign.sigstore.dev/attestation/vuln/v1",
    }
)
SBOMS: tuple[ScanKind, ...] = ("cyclonedx", "spdx")
OF_SCANS: tuple[ScanKind, ...] = (*SBOMS, "matches")
"""Of which an image has one each."""
_RESULTS: Mapping[str, str] = MappingProxyType({"pass": "PASSED", "warn": "WARNED"})
"""All else failed: what is not known is no pass."""
_TESTS_MAX = 100
JUDGED = frozenset({"pass", "warn", "fail", "error"})
WITHOUT_ADDRESS = "urn:seatrial"
"""The verifier where no address is set."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs, and for clients of which address (``None``: not set)."""

    version: str
    address: str | None

    def place_of(self, repository: str) -> str:
        """The repository as clients write it."""
        return repository if self.address is None else f"{self.address.partition('://')[2]}/{repository}"

    @property
    def id(self) -> str:
        """The verifier of summaries, as a URI."""
        return self.address or WITHOUT_ADDRESS


def document(content: Mapping[str, object]) -> tuple[str, str]:
    """A document to be kept, as canonical JSON, and its digest."""
    text = json.dumps(content, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    return text, f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def part_found(
    part: Mapping[str, Any], observed: Sequence[tuple[str, Any]], *, policy: str
) -> dict[str, object]:
    """What was found of one image on one platform. ``part`` is its row, ``observed`` the observations of its
    runs by name, ``policy`` the digest of a document."""
    record = {} if part["record"] is None else json.loads(part["record"])
    error = record.get("error")
    seen: dict[str, object] = {
        "platform": part["platform"],
        "leases": part["attempts"],
        "worker": part["worker"],
        "runtime": record.get("runtime"),
        "mechanisms": [one["name"] for one in record.get("mechanisms", ()) if one["applied"]],
        "downgrades": list(record.get("downgrades", ())),
        "flakyAttempts": part["flaky"],
        "error": error["reason"] if error else None,
    }
    return {
        "verdict": part["verdict"],
        "reason": part["reason"],
        "spec": part["spec_digest"],
        "policy": policy,
        "finished_at": _time(part["finished_at"]),
        "seen": {name: value for name, value in seen.items() if value is not None},
        "tests": _tests(observed),
    }


def trial_found(
    trial: Mapping[str, Any], parts: Sequence[Mapping[str, Any]], *, policy: str
) -> dict[str, object]:
    """What was found of an index: that of its parts. ``trial`` and ``parts`` are rows. It is as old as the
    latest part that was run: a trial may rest on what others found before."""
    run = [one["finished_at"] for one in parts if one["verdict"] in JUDGED and one["finished_at"] is not None]
    return {
        "verdict": trial["verdict"],
        "reason": trial["reason"],
        "spec": trial["spec_digest"],
        "policy": policy,
        "finished_at": _time(max(run, default=trial["finished_at"])),
        "seen": {
            "trial": trial["id"],
            "parts": [
                {"platform": one["platform"], "digest": one["digest"], "verdict": one["verdict"]}
                for one in parts
            ],
        },
    }


def state_found(
    image: Mapping[str, Any], *, policy: str, waiver: LiveWaiver | None, is_run: bool = True
) -> dict[str, object] | None:
    """What the gate makes of an image for readers, or ``None`` where there is no verdict; ``image`` is its
    row, ``waiver`` what lets it pass for a while; ``is_run``: whether images of the repository are run, and
    not only scanned."""
    blocked = image["blocked_reason"]
    if blocked is None and image["state"] not in JUDGED:
        return None
    return {
        "state": image["state"] if blocked is None else "blocked",
        "reason": image["state_reason"] if blocked is None else blocked,
        "policy": policy,
        "judged_at": _time(image["state_at"]),
        # By a name that comes before the state: queries look for that at the end.
        **({} if waiver is None or blocked is not None else {"admitted_by": [_waiver(waiver)]}),
        **({} if is_run else {"not_run": True}),
    }


def _waiver(waiver: LiveWaiver) -> dict[str, object]:
    return {
        "id": waiver.id,
        "states": sorted(waiver.states),
        "grantedBy": waiver.granted_by,
        "expiresOn": _time(waiver.expires_at),
        "reason": waiver.reason,
    }


def result_predicate(found: Mapping[str, Any], *, digest: str, findings: bool) -> dict[str, object]:
    """The predicate of a result about the image ``digest``. Without ``findings``, the verdict only."""
    spec = found["spec"]
    of_image = spec == IMAGE_SUGGESTED
    predicate: dict[str, object] = {
        "result": _RESULTS.get(found["verdict"], "FAILED"),
        "configuration": [
            # What an image suggests stands in its own config.
            {"name": "image" if of_image else "run-spec", "digest": _digest(digest if of_image else spec)},
            {"name": "policy", "digest": _digest(found["policy"])},
        ],
        "seatrial": {
            "verdict": found["verdict"],
            "finishedOn": found["finished_at"],
            **found["seen"],
            **({"reason": found["reason"]} if findings else {}),
        },
    }
    return predicate | (found.get("tests", {}) if findings else {})


def summary_predicate(
    found: Mapping[str, Any],
    *,
    signer: Signer,
    repository: str,
    digest: str,
    made_at: str,
    results: Sequence[str],
    findings: bool,
) -> dict[str, object]:
    """The predicate of a summary; ``results`` are the digests of the bundles that it rests on."""
    state = found["state"]
    passed = state in _RESULTS
    return {
        "verifier": {"id": signer.id, "version": {"seatrial": signer.version}},
        "timeVerified": made_at,
        "resourceUri": resource_uri(signer.place_of(repository), digest),
        "policy": {"name": "policy", "digest": _digest(found["policy"])},
        "inputAttestations": [{"digest": _digest(one)} for one in results],
        "verificationResult": "PASSED" if passed else "FAILED",
        "verifiedLevels": [f"SEATRIAL_{state.upper()}" if passed else "FAILED"],
        "slsaVersion": "1.1",
        "seatrial": {
            "state": state,
            "judgedOn": found["judged_at"],
            **({"run": False} if found.get("not_run") else {}),
            **_waivers(found, findings=findings),
            **({"reason": found["reason"]} if findings else {}),
        },
    }


def resource_uri(place: str, digest: str) -> str:
    """The image in a repository, which clients write as ``place``, as a package URL."""
    return f"pkg:oci/{place.rpartition('/')[2]}@{digest}?repository_url={place}"


def _waivers(found: Mapping[str, Any], *, findings: bool) -> dict[str, object]:
    named = found.get("admitted_by", ())
    shown = [{key: one[key] for key in one if findings or key != "reason"} for one in named]
    return {"waivers": shown} if shown else {}


def _tests(observed: Sequence[tuple[str, Any]]) -> dict[str, list[str]]:
    named: dict[str, list[str]] = {"passedTests": [], "failedTests": []}
    listed = [(run, one) for run, observations in observed for one in observations]
    for run, one in listed[:_TESTS_MAX]:
        # What could not be looked at has not passed.
        named["passedTests" if one["met"] else "failedTests"].append(f"{run}: {one['expectation']}")
    return named


def _digest(text: str) -> dict[str, str]:
    algorithm, _, encoded = text.partition(":")
    return {algorithm: encoded}


def _time(at: Any) -> str:
    return str(at.strftime("%Y-%m-%dT%H:%M:%SZ"))
