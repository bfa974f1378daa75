"""The same as root of a user namespace, as a worker without root is after newuidmap: no id-mapped mounts, no
loop devices, overlay with ``userxattr``."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from tests.hostile.images.test_unpack_applied import BASE, BASE_LISTING, CASES
from tests.kit.images import Image, device, file, folder, make_image, make_layer, write_layout

ROOT = Path(__file__).resolve().parents[3]
ENTER = 'echo; read -r _; exec setpriv --reuid 0 --regid 0 --clear-groups "$0" "$@"'
MAPPED = "0 0 1\n1 1500000000 65536\n"
PROGRAM = """
import asyncio, json, os, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from registry.contract.limits import PrepareLimits
from registry.oci.platform import Platform
from sandbox.errors import SandboxError
from sandbox.ids import leased_ids
from sandbox.images.pull import pull
from sandbox.images.rootfs import mounted_rootfs, sweep
from sandbox.images.cache import Cache
from sandbox.images.snapshots import prepare
from sandbox.images.sourcefile import LayoutSource
from tests.hostile.images.test_unpack_applied import listing

async def look(layout, state, use):
    limits = PrepareLimits()
    platform = Platform("linux", "amd64")
    image = await pull(LayoutSource(layout), "", platform=platform, use=use, limits=limits)
    prepared = await prepare(image, limits, use)
    run_dir = state / "runs" / layout.name
    run_dir.mkdir(parents=True)
    with leased_ids() as ids:
        async with mounted_rootfs(prepared, run_dir, ids, written_bytes=1 << 20) as mounted:
            root = mounted.path
            found = {{
                "base": ids.base,
                "listing": listing(root),
                "owners": {{str(p.relative_to(root)): p.lstat().st_uid for p in root.rglob("*")}},
            }}
            try:
                (root / "big").write_bytes(b"x" * (2 << 20))
            except OSError as error:
                found["full"] = error.strerror
    found["left"] = os.listdir(run_dir)
    return found

def run(layout, state):
    try:
        with Cache(state / "cache").used() as use:
            return asyncio.run(look(layout, state, use))
    except SandboxError as error:
        return {{"reason": error.reason, "message": error.message}}

state = Path(sys.argv[1])
print(json.dumps([run(Path(layout), state) for layout in sys.argv[2:]]))
"""


async def _inside(tmp_path: Path, id_map: str, *images: Image) -> list[dict[str, Any]]:
    state = tmp_path / "rootless"
    state.mkdir()
    layouts = [str(write_layout(tmp_path / f"layout{n}", image)) for n, image in enumerate(images)]
    program = PROGRAM.format(root=str(ROOT))
    process = await asyncio.create_subprocess_exec(
        "unshare",
        "--user",
        "--mount",
        "/bin/sh",
        "-c",
        ENTER,
        sys.executable,
        "-c",
        program,
        str(state),
        *layouts,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"\n"
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{process.pid}/{name}").write_text(id_map)
    out, _ = await process.communicate(b"\n")
    assert process.returncode == 0
    answer: list[dict[str, Any]] = json.loads(out)
    return answer


async def test_as_root_of_a_user_namespace(tmp_path: Path) -> None:
    chosen = [
        "through a lower link, deeper",
        "whiteout through a lower link",
        "whiteout of a folder",
        "opaque over folders of both",
        "opaque after what it keeps",
        "folder over file",
        "link over folder",
        "hard link through a lower link",
    ]
    images = [
        make_image(make_layer(*BASE), make_layer(*CASES[case][0]), config={"Cmd": ["/x"]}) for case in chosen
    ]
    owned = make_layer(
        folder("d", uid=33), file("d/f", b"x", uid=1000), file("last", uid=65535), device("n", "c", 1, 3)
    )
    *seen, owners = await _inside(tmp_path, MAPPED, *images, make_image(owned, config={"Cmd": ["/x"]}))
    for case, found in zip(chosen, seen, strict=True):
        _, added, removed = CASES[case]
        assert found["listing"] == {k: v for k, v in BASE_LISTING.items() if k not in removed} | added, case
        assert found["full"] == "No space left on device"
        assert found["left"] == []
    assert owners["base"] == 1
    assert owners["owners"] == {"d": 34, "d/f": 1001, "last": 65536}
    # On disk the files belong to the namespace's range: nothing is mapped on the way.
    on_disk = next((tmp_path / "rootless" / "cache" / "snapshots").glob("*/fs/last"))
    assert on_disk.stat().st_uid == 1500000000 + 65535


async def test_a_layer_is_refused_there_too(tmp_path: Path) -> None:
    evil = make_image(make_layer(file("../x")), config={"Cmd": ["/x"]})
    assert (await _inside(tmp_path, MAPPED, evil))[0]["reason"] == "layer-invalid"


async def test_with_one_id_it_says_what_is_missing(tmp_path: Path) -> None:
    image = make_image(make_layer(*BASE), config={"Cmd": ["/x"]})
    seen = (await _inside(tmp_path, "0 0 1\n", image))[0]
    assert seen["reason"] == "isolation-missing"
    assert "/etc/subuid" in seen["message"]
