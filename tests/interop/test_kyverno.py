"""Kyverno's own program applies the policy of docs/attestations.md to pods, without a cluster.

Collected where ``SEATRIAL_TEST_KYVERNO`` names it: see ``scripts/tools.sh kyverno``, most of an hour of work.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from registry.db import migrate
from tests.integration.trials.test_admission_examples import HOST, policy_of_the_page
from tests.integration.trials.test_attestations import attested
from tests.kit.access import api
from tests.kit.ports import free_port
from tests.kit.server import Registry
from tests.kit.trials import REPOSITORY, open_port, tiny_image

KYVERNO = os.environ["SEATRIAL_TEST_KYVERNO"]


def applied(folder: Path, registry: Registry, key: str, image: str) -> tuple[int, str]:
    """The exit code for a pod with that image, under the page's policy with this key, and what is said."""
    policy = yaml.safe_dump(policy_of_the_page(key)).replace(HOST, registry.host)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one", "namespace": "default"},
        "spec": {"containers": [{"name": "app", "image": f"{registry.host}/{image}"}]},
    }
    (folder / "policy.yaml").write_text(policy)
    (folder / "pod.yaml").write_text(yaml.safe_dump(pod))
    done = subprocess.run(
        [KYVERNO, "apply", folder / "policy.yaml", "--resource", folder / "pod.yaml", "--registry"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


async def test_the_page_s_policy_admits_what_has_passed_here(tmp_path: Path) -> None:
    url, number = f"sqlite:///{tmp_path}/seatrial.db", free_port()
    migrate.upgrade(url)
    where = {"listen": f"127.0.0.1:{number}", "external_url": f"http://127.0.0.1:{number}"}
    # What is asked is what Kyverno makes of it, so the gate lets everything pass.
    async with open_port(tmp_path / "data", url, gate="warn", visibility="public", **where) as port:
        worker = await port.worker("one")
        for tag, members in (("good", {}), ("bad", {"met": False, "exit_code": 1})):
            digest = await port.push(tiny_image(), tag=tag)
            assert (await worker.report(await worker.claim(), **members)).status == 204
            assert len(await attested(port, digest)) == 2
        await port.push(tiny_image(), tag="untried")
        (key,) = [
            one["public_pem"]
            for one in (await api(port.reader, "GET", "/keys"))["items"]
            if one["ring"] == "attestation"
        ]
        stranger = ec.generate_private_key(ec.SECP256R1()).public_key()
        other = stranger.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        for pem, tag, code, said in (
            (key, "good", 0, "pass: 2, fail: 0"),
            (key, "bad", 1, "attestation checks failed"),
            (key, "untried", 1, "unverified image"),
            (other, "good", 1, "unverified image"),
        ):
            image = f"{REPOSITORY}:{tag}"
            done = await asyncio.to_thread(applied, tmp_path, port.registry, pem, image)
            assert done[0] == code, done
            assert said in done[1]
