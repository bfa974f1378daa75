"""The whole way: an image, a spec and the operator's options, through ``seatrial run``."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from tests.kit.images import busybox_image, file, make_layer, write_layout
from tests.kit.internet import ELSEWHERE, GREETING, SITE, Internet
from tests.kit.runs import Harbour

SPEC = f"{{version: 1, network: {{egress: [{{host: {SITE}, port: {GREETING}}}]}}, expect: {{exit: 0}}}}"


async def run(port: Harbour, reach: Path, *options: str, code: int) -> Any:
    """What the command prints as JSON."""
    image = busybox_image(
        ("/reach", "tcp", SITE, str(GREETING), "tcp", ELSEWHERE, str(GREETING)),
        layers=[make_layer(file("reach", reach.read_bytes(), mode=0o755))],
    )
    layout, spec = port.folder / "image", port.folder / "spec.yaml"
    if not layout.exists():
        layout.mkdir()
        write_layout(layout, image, tag="latest")
    spec.write_text(SPEC)
    command = [str(Path(sys.prefix) / "bin/seatrial"), "run", f"oci:{layout}:latest", "--json"]
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
    assert done["runs"][0]["log"].splitlines() == [
        f"tcp {SITE} {GREETING}: hello",
        f"tcp {ELSEWHERE} {GREETING}: Operation not permitted",
    ]
    tried = {(one["address"], one["permitted"]) for one in done["runs"][0]["outbound"]}
    assert tried == {(SITE, True), (ELSEWHERE, False)}
    assert world.arrived() == {(SITE, "tcp", GREETING)}
