"""Stock cosign verifies what the registry signs, as docs/attestations.md tells, and signs what the gate asks
for."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from registry.content.references import SIGNATURE_MAX_BYTES
from tests.kit.access import api, make_repository
from tests.kit.advisories import affects, record
from tests.kit.clients import ClientError, Clients, Screen, client_home
from tests.kit.distribution import push_blob, push_image, put_manifest
from tests.kit.images import digest_of, to_json
from tests.kit.matching import put_file
from tests.kit.scans import SCANNING, make_package, make_scan
from tests.kit.server import ADMIN, Registry, RegistryProcess
from tests.kit.sources import ROOT
from tests.kit.trials import REPOSITORY, ScriptedWorker, pull_token, tiny_image, worker_token

SUMMARY = "https://slsa.dev/verification_summary/v1"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One that tries what is pushed, and says what it found in what was scanned."""
    folder = tmp_path_factory.mktemp("attested")
    known = record("CVE-2020-8203", affects("npm", "lodash", "introduced=0", "fixed=4.17.19"))
    process = RegistryProcess(
        folder / "data",
        trial_on_push="true",
        trial_platforms="linux/amd64",
        attest_scans="all",
        advisories=str(put_file(folder / "advisories.sqlite", known, day=1)),
    )
    yield process.start()
    process.stop()


async def tried(
    registry: Registry, tag: str, *, met: bool, repository: str = REPOSITORY, packages: Sequence[Any] = ()
) -> str:
    """Push an image, have a worker report on it, and on the packages in it if there are some, and wait for
    what is signed; the digest."""
    async with registry.client() as admin:
        async with asyncio.timeout(60):
            # Its advisories are looked at as soon as it has started.
            while (await api(admin, "GET", "/advisories"))["matching"] is None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        digest = await push_image(admin, repository, tag, tiny_image())
        headers = {"Authorization": f"Bearer {await worker_token(admin, 'one')}"}
        async with registry.client(anonymous=True) as client:
            client.headers.update(headers)
            worker = ScriptedWorker(client, "one")
            job = await worker.claim(mechanisms=SCANNING if packages else ())
            if packages:
                assert (await worker.post("scan", make_scan(job, *packages))).status == 204
            answer = await worker.report(job, met=met, exit_code=0 if met else 1)
            assert answer.status == 204
        path = f"/repositories/{repository.replace('/', '%2F')}/attestations"
        await signed(admin, path, digest, count=5 if packages else 2)
    return digest


async def signed(admin: aiohttp.ClientSession, path: str, digest: str, *, count: int = 2) -> set[str]:
    """Wait for what is signed of an image, so many statements; the referrers."""
    for _ in range(600):
        listed = (await api(admin, "GET", path, params={"digest": digest}))["items"]
        if len(listed) == count and all(one["signed_at"] for one in listed):
            return {one["referrer"] for one in listed}
        await asyncio.sleep(0.05)
    raise AssertionError("not signed")


async def fails_and_has_its_older_word_back(registry: Registry, digest: str) -> tuple[str, set[str]]:
    """Have an image that passed fail, and push the summary back that it had; the referrer that is, and those
    that the registry names as its own now."""
    path = f"/repositories/{REPOSITORY.replace('/', '%2F')}/attestations"
    async with registry.client() as admin:
        listed = (await api(admin, "GET", path, params={"digest": digest}))["items"]
        (older,) = [one["referrer"] for one in listed if one["predicate"] == SUMMARY]
        async with admin.get(f"/v2/{REPOSITORY}/manifests/{older}") as response:
            kept = await response.read()
        layer = json.loads(kept)["layers"][0]
        async with admin.get(f"/v2/{REPOSITORY}/blobs/{layer['digest']}") as response:
            bundle = await response.read()
        body = {"image": f"{REPOSITORY}@{digest}"}
        await api(admin, "POST", "/trials", status=201, json=body)
        async with registry.client(anonymous=True) as client:
            client.headers["Authorization"] = f"Bearer {await worker_token(admin, 'two')}"
            worker = ScriptedWorker(client, "two")
            answer = await worker.report(await worker.claim(), met=False, exit_code=1)
            assert answer.status == 204
        newer = await signed(admin, path, digest)
        assert (await put_manifest(admin, REPOSITORY, older, kept)).status == 403
        # With more blanks in it than the registry reads of a bundle it is the same to whoever verifies it.
        padded = bundle + b" " * SIGNATURE_MAX_BYTES
        changed = layer | {"digest": await push_blob(admin, REPOSITORY, padded), "size": len(padded)}
        again = to_json(json.loads(kept) | {"layers": [changed]})
        assert (await put_manifest(admin, REPOSITORY, digest_of(again), again)).status == 201
    return digest_of(again), newer


def typed(clients: Clients, registry: Registry, digest: str) -> Screen:
    """The lines of the page that stand in blocks of shell, typed as they stand."""
    page = (ROOT / "docs" / "attestations.md").read_text()
    lines = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    assert "".join(lines).count("cosign verify-attestation") == 3
    given = {
        "SEATRIAL_SERVER": registry.url,
        "SEATRIAL_TOKEN": registry.token,
        "IMAGE": f"{registry.host}/{REPOSITORY}@{digest}",
        "NAME": f"{REPOSITORY}@{digest}",
    }
    setting = [f"export {name}={shlex.quote(value)}" for name, value in given.items()]
    path = f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    return clients.screen("bash", "-e", "-o", "pipefail", "-c", "\n".join([path, *setting, *lines]))


def test_the_page_s_lines_verify_a_pass_and_stop_at_a_fail(tools: Path, registry: Registry) -> None:
    good = asyncio.run(tried(registry, "good", met=True))
    bad = asyncio.run(tried(registry, "bad", met=False))
    with client_home(tools) as clients:
        clients.sign_in(registry.host, ADMIN, registry.token)
        done = typed(clients, registry, good)
        assert done.code == 0, done.lines
        said = "The signatures were verified against the specified public key"
        assert sum(said in line for line in done.lines) == 3
        statements = [json.loads(line) for line in done.lines if line.startswith('{"payload')]
        assert len(statements) == 3
        assert "Verified OK" in done.lines
        stopped = typed(clients, registry, bad)
        # Signed it is, and the policy says no.
        assert stopped.code != 0
        assert any("validation errors occurred" in line for line in stopped.lines)
        # So it does where somebody pushes an older word back that was good.
        older, newer = asyncio.run(fails_and_has_its_older_word_back(registry, good))
        assert older not in newer
        stopped = typed(clients, registry, good)
        assert stopped.code != 0
        assert any("1 validation errors occurred" in line for line in stopped.lines)
        # cosign's own signatures of people stand beside it and verify as before.
        image = f"{registry.host}/{REPOSITORY}@{good}"
        clients.run("cosign", "generate-key-pair")
        sign = ("--key", "cosign.key", "--tlog-upload=false", "--use-signing-config=false", "--yes")
        clients.run("cosign", "sign", *sign, image)
        clients.run("cosign", "verify", "--key", "cosign.pub", "--insecure-ignore-tlog=true", image)
        with pytest.raises(ClientError, match="none of the attestations matched"):
            clients.run(
                "cosign", "verify-attestation", "--key", "cosign.pub", "--insecure-ignore-tlog=true",
                "--type", SUMMARY, image,
            )  # fmt: skip


def test_cosign_verifies_what_is_signed_of_a_scan(tools: Path, registry: Registry) -> None:
    lodash = make_package("lodash", "4.17.15", kind="npm", ecosystem="npm")
    digest = asyncio.run(tried(registry, "scanned", met=True, packages=[lodash]))

    async def keys() -> str:
        async with registry.client(anonymous=True) as nobody:
            return "".join(one["public_pem"] for one in (await api(nobody, "GET", "/keys"))["items"])

    with client_home(tools) as clients:
        clients.sign_in(registry.host, ADMIN, registry.token)
        (clients.folder / "registry.pub").write_text(asyncio.run(keys()))
        found = {}
        for kind in ("cyclonedx", "spdxjson", "vuln"):
            verified = clients.run(
                "cosign", "verify-attestation", "--key", "registry.pub", "--insecure-ignore-tlog=true",
                "--type", kind, f"{registry.host}/{REPOSITORY}@{digest}",
            )  # fmt: skip
            (line,) = [one for one in verified.splitlines() if one.startswith('{"payload')]
            found[kind] = json.loads(base64.b64decode(json.loads(line)["payload"]))["predicate"]
    assert [one["purl"] for one in found["cyclonedx"]["components"]] == ["pkg:npm/lodash@4.17.15"]
    assert found["spdxjson"]["spdxVersion"] == "SPDX-2.3"
    (known,) = found["vuln"]["scanner"]["result"]["vulnerabilities"]
    assert (known["id"], known["fixedVersion"]) == ("CVE-2020-8203", "4.17.19")


def test_what_is_pushed_signed_and_waited_for_is_pulled_by_another(tools: Path, registry: Registry) -> None:
    """push -> cosign sign -> wait -> pull as another, under a gate that enforces and asks for a signature."""

    async def set_up(key: str) -> str:
        async with registry.client() as admin:
            await make_repository(admin, "signed/app", gate="enforce")
            rule = {"on": "signed/", "name": "the release key", "public_pem": key}
            await api(admin, "POST", "/signature-rules", status=201, json=rule)
            return await pull_token(admin)

    with client_home(tools) as clients, client_home(tools) as reader:
        clients.sign_in(registry.host, ADMIN, registry.token)
        for name in ("right", "wrong"):
            clients.run("cosign", "generate-key-pair", "--output-key-prefix", name)
        token = asyncio.run(set_up((clients.folder / "right.pub").read_text()))
        reader.sign_in(registry.host, "reader", token)
        digest = asyncio.run(tried(registry, "1", met=True, repository="signed/app"))
        image = f"{registry.host}/signed/app@{digest}"
        sign = ("--tlog-upload=false", "--use-signing-config=false", "--yes")
        with pytest.raises(ClientError, match="the release key"):
            reader.run("crane", "manifest", image)
        clients.run("cosign", "sign", "--key", "wrong.key", *sign, image)
        with pytest.raises(ClientError, match="lacks a signature that is required"):
            reader.run("crane", "manifest", image)
        clients.run("cosign", "sign", "--key", "right.key", *sign, image)
        assert reader.run("crane", "manifest", image)
        reader.run("crane", "pull", image, str(reader.folder / "image.tar"))
