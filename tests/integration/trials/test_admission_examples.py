"""What docs/attestations.md has clusters ask for is what is signed here, and only of what has passed here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from registry.trials.sigstore import BUNDLE, is_signed_by, parse_bundle, parse_statement
from registry.trials.verifying import parse_keys
from tests.integration.trials.test_attestations import attested, bundle_of
from tests.kit.access import api
from tests.kit.sources import ROOT
from tests.kit.trials import REPOSITORY, Port, open_port, tiny_image

HOST = "registry.example"


def policy_of_the_page(key: str) -> Mapping[str, Any]:
    page = (ROOT / "docs" / "attestations.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert text.count(" KEY\n") == 1
    indent = re.search(r"^( +)KEY$", text, re.MULTILINE)
    assert indent is not None
    policy: Mapping[str, Any] = yaml.safe_load(
        text.replace(f"{indent[1]}KEY\n", "".join(f"{indent[1]}{line}\n" for line in key.splitlines()))
    )
    return policy


async def summary_of(port: Port, digest: str, *, repository: str = REPOSITORY) -> bytes:
    (one,) = [
        one
        for one in await attested(port, digest, repository=repository)
        if one["predicate"] == "https://slsa.dev/verification_summary/v1"
    ]
    return await bundle_of(port, one["referrer"], repository=repository)


def admits(rule: Mapping[str, Any], bundle: bytes) -> bool:
    """What Kyverno makes of one summary: who signed it, of which type it is, and whether all conditions hold,
    in whose values ``*`` and ``?`` are wildcards."""
    assert json.loads(bundle)["mediaType"] == BUNDLE
    read = parse_bundle(bundle)
    statement = parse_statement(read.payload)
    (asked,) = rule["attestations"]
    assert asked["type"] == statement.predicate_type
    (attestor,) = asked["attestors"]
    (entry,) = attestor["entries"]
    # There is neither a log of what was signed nor a certificate.
    assert entry["keys"]["rekor"] == {"ignoreTlog": True}
    assert entry["keys"]["ctlog"] == {"ignoreSCT": True}
    (key,) = parse_keys(entry["keys"]["publicKeys"])
    assert is_signed_by(read, key)
    (conditions,) = asked["conditions"]
    held = []
    for condition in conditions["all"]:
        name = re.fullmatch(r"\{\{ (\w+) \}\}", condition["key"])
        assert name is not None
        assert condition["operator"] == "Equals"
        held.append(fnmatchcase(str(statement.predicate[name[1]]), condition["value"]))
    assert len(held) == 2
    return all(held)


async def test_kyverno_s_policy_means_what_has_passed_here(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, external_url=f"https://{HOST}") as port:
        worker = await port.worker("one")
        summaries = []
        for repository, members in (
            (REPOSITORY, {}),
            (REPOSITORY, {"met": False, "exit_code": 1}),
            ("other/app", {}),
            (f"{REPOSITORY}-more", {}),
        ):
            digest = await port.push(tiny_image(), repository=repository)
            assert (await worker.report(await worker.claim(), **members)).status == 204
            summaries.append(await summary_of(port, digest, repository=repository))
        listed = (await api(port.reader, "GET", "/keys"))["items"]
        (pem,) = [key["public_pem"] for key in listed if key["ring"] == "attestation"]
    policy = policy_of_the_page(pem)
    assert (policy["apiVersion"], policy["kind"]) == ("kyverno.io/v1", "ClusterPolicy")
    assert policy["spec"]["webhookConfiguration"]["failurePolicy"] == "Fail"
    (rule,) = [one for rule in policy["spec"]["rules"] for one in rule["verifyImages"]]
    assert (rule["type"], rule["failureAction"]) == ("SigstoreBundle", "Enforce")
    (images,) = rule["imageReferences"]
    assert fnmatchcase(f"{HOST}/{REPOSITORY}:1", images)
    assert [admits(rule, one) for one in summaries] == [True, False, False, False]
