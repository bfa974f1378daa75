"""What the registry signs of its verdicts, as docs/attestations.md tells to verify it with stock cosign."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.access import api
from tests.kit.clients import ClientError, Clients, Screen, client_home
from tests.kit.distribution import push_image
from tests.kit.server import ADMIN, Registry, RegistryProcess
from tests.kit.sources import ROOT
from tests.kit.trials import REPOSITORY, ScriptedWorker, tiny_image, worker_token

SUMMARY = "https://slsa.dev/verification_summary/v1"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One that tries what is pushed."""
    process = RegistryProcess(
        tmp_path_factory.mktemp("attested") / "data", trial_on_push="true", trial_platforms="linux/amd64"
    )
    yield process.start()
    process.stop()


async def tried(registry: Registry, tag: str, *, met: bool) -> str:
    """Push an image, have a worker report on it, and wait for what is signed; the digest."""
    async with registry.client() as admin:
        digest = await push_image(admin, REPOSITORY, tag, tiny_image())
        headers = {"Authorization": f"Bearer {await worker_token(admin, 'one')}"}
        async with registry.client(anonymous=True) as client:
            client.headers.update(headers)
            worker = ScriptedWorker(client, "one")
            answer = await worker.report(await worker.claim(), met=met, exit_code=0 if met else 1)
            assert answer.status == 204
        path = f"/repositories/{REPOSITORY.replace('/', '%2F')}/attestations"
        for _ in range(200):
            listed = await api(admin, "GET", path, params={"digest": digest})
            if len(listed) == 2 and all(one["signed_at"] for one in listed):
                return digest
            await asyncio.sleep(0.05)
    raise AssertionError("not signed")


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
        stopped = typed(clients, registry, bad)
        # Signed it is, and the policy says no.
        assert stopped.code != 0
        assert any("validation errors occurred" in line for line in stopped.lines)
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
