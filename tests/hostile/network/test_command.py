"""The whole way: an image, a spec and the operator's options, through ``seatrial run``."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from tests.hostile.network.test_egress import PATIENT
from tests.kit.images import busybox_image, file, make_layer, write_layout
from tests.kit.internet import ELSEWHERE, GREETING, METADATA, SITE, WORLD, Internet
from tests.kit.runs import Harbour

NAME = "site.example"
ATTEMPTS = f"cat /etc/hosts; /reach tcp {SITE} {GREETING} tcp {ELSEWHERE} {GREETING}"
# Names that this machine resolves, for one command alone.
KNOWING = 'mount --bind "$0" /etc/hosts && exec "$@"'


async def run(port: Harbour, reach: Path, *options: str, host: str = SITE, code: int) -> Any:
    """What the command prints as JSON."""
    image = busybox_image(
        ("/bin/sh", "-c", ATTEMPTS),
        env=PATIENT,
        layers=[make_layer(file("reach", reach.read_bytes(), mode=0o755))],
    )
    layout, spec = port.folder / "image", port.folder / "spec.yaml"
    if not layout.exists():
        layout.mkdir()
        write_layout(layout, image, tag="latest")
    egress = f"egress: [{{host: {host}, port: {GREETING}}}]"
    spec.write_text(f"{{version: 1, expect: {{exit: 0}}, network: {{{egress}}}}}")
    hosts = port.folder / "hosts"
    hosts.write_text(f"{SITE} {NAME}\n{ELSEWHERE} {NAME}\n{METADATA} inside.example\n")
    prefix = ["unshare", "--mount", "sh", "-c", KNOWING, str(hosts)]
    command = [*prefix, str(Path(sys.prefix) / "bin/seatrial"), "run", f"oci:{layout}:latest", "--json"]
    process = await asyncio.create_subprocess_exec(
        *(*command, "--spec", str(spec), "--state", str(port.folder / "runs"), *options),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == code
    return json.loads(output)


async def test_a_spec_asks_and_the_operator_permits(port: Harbour, world: Internet, reach: Path) -> None:
    refused = await run(port, reach, code=2)
    assert refused["error"]["reason"] == "egress-refused"
    assert world.arrived() == set()
    refused = await run(port, reach, "--allow-egress", f"{SITE}:80", code=2)
    option = refused["reason"].rpartition("--allow-egress ")[2]
    assert option == f"{SITE}/32:{GREETING}"
    done = await run(port, reach, "--allow-egress", option, code=0)
    assert done["runs"][0]["log"].splitlines()[-2:] == [
        f"tcp {SITE} {GREETING}: hello",
        f"tcp {ELSEWHERE} {GREETING}: Operation not permitted",
    ]
    tried = {(one["address"], one["permitted"]) for one in done["runs"][0]["outbound"]}
    assert tried == {(SITE, True), (ELSEWHERE, False)}
    assert world.arrived() == {(SITE, "tcp", GREETING)}


async def test_a_name_is_resolved_by_the_worker_and_pinned(
    port: Harbour, world: Internet, reach: Path
) -> None:
    done = await run(port, reach, "--allow-egress", f"93.184.216.0/24:{GREETING}", host=NAME, code=0)
    lines = done["runs"][0]["log"].splitlines()
    # Its other address is not permitted.
    assert [line for line in lines if NAME in line] == [f"{SITE}\t{NAME}"]
    assert f"tcp {SITE} {GREETING}: hello" in lines
    assert world.arrived() == {(SITE, "tcp", GREETING)}


async def test_a_name_that_leads_inside_is_refused(port: Harbour, world: Internet, reach: Path) -> None:
    for host, said in (("inside.example", "does not permit"), ("no.example", "cannot resolve no.example")):
        refused = await run(port, reach, "--allow-egress", f"0.0.0.0/0:{GREETING}", host=host, code=2)
        assert refused["error"]["reason"] == "egress-refused"
        assert said in refused["reason"]
        assert METADATA not in refused["reason"]
    # The worker may ask its own resolver.
    assert not {address for address, _, _ in world.arrived()} & set(WORLD)
