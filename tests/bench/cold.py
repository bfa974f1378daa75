"""An image that nobody here has seen: from a registry on this machine to the end of its run."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.bench.commands import LIMITS, before_others, in_memory, podman_at, run, timed
from tests.bench.figures import Figure, over
from tests.bench.processes import SEATRIAL, Service, service
from tests.kit.images import Layer, Member, busybox_image, file, folder, make_layer, symlink, write_layout

MB = 1_000_000
TOTAL_BYTES, LARGEST_BYTES, ROUNDS = 300 * MB, 40 * MB, 3
PLACES = ("usr/bin", "usr/lib", "usr/share")


def cold(scratch: Path) -> Iterator[Figure]:
    """``seatrial run`` beside ``podman run``, each with storage that is empty."""
    image = busybox_image(
        ["/bin/true"], layers=[_layer(place, TOTAL_BYTES // len(PLACES)) for place in PLACES]
    )
    compressed = sum(len(layer.blob) for layer in image.layers) / MB
    ours, ours_cpu, theirs, theirs_cpu = [], [], [], []
    memory = scratch / "memory"
    with service("serve", scratch / "data") as registry, in_memory(memory), before_others():
        _push(registry, write_layout(scratch / "host", image))
        name = f"127.0.0.1:{registry.port}/bench/host:latest"
        password, authfile = scratch / "data/admin.token", scratch / "auth.json"
        access = base64.b64encode(f"admin:{registry.token}".encode()).decode()
        authfile.write_text(json.dumps({"auths": {f"127.0.0.1:{registry.port}": {"auth": access}}}))
        for number in range(ROUNDS):
            state = memory / f"s{number}"
            command = (str(SEATRIAL), "run", name, "--username", "admin", "--password-file", str(password))
            seconds, spent = timed(partial(run, *command, "--state", str(state)))
            ours.append(seconds)
            ours_cpu.append(spent)
            shutil.rmtree(state)
            with podman_at(memory / f"p{number}") as beginning:
                how = ("--authfile", str(authfile), "--tls-verify=false", "--network", "none")
                seconds, spent = timed(partial(run, *beginning, "run", "--rm", *LIMITS, *how, name))
            theirs.append(seconds)
            theirs_cpu.append(spent)
    what = f"image of {TOTAL_BYTES // MB} MB, cold"
    note = f"{compressed:.0f} MB as gzip in {len(image.layers)} layers, of this host's own files; into memory"
    figure = over(f"{what}: seatrial run", ours, "s", at_most=6)
    yield Figure(figure.name, figure.value, "s", at_most=6, low=figure.low, high=figure.high, note=note)
    yield over(f"{what}: seatrial run, CPU", ours_cpu, "s")
    yield over(f"{what}: podman run (vfs)", theirs, "s")
    yield over(f"{what}: podman run (vfs), CPU", theirs_cpu, "s")


def _push(registry: Service, layout: Path) -> None:
    run(
        *("skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"),
        *("--dest-creds", f"admin:{registry.token}", f"oci:{layout}:latest"),
        f"docker://127.0.0.1:{registry.port}/bench/host:latest",
    )


def _layer(place: str, total_bytes: int) -> Layer:
    """The first files of a folder of this host, up to so many bytes."""
    members: list[Member] = []
    left = total_bytes
    for above, folders, names in os.walk(f"/{place}"):
        folders.sort()
        members.append(folder(above.lstrip("/")))
        for name in sorted(names):
            path = Path(above, name)
            if path.is_symlink():
                members.append(symlink(f"{path}".lstrip("/"), os.readlink(path)))
            elif path.is_file() and path.stat().st_size <= min(left, LARGEST_BYTES):
                content = path.read_bytes()
                members.append(file(f"{path}".lstrip("/"), content, path.stat().st_mode & 0o777))
                left -= len(content)
        if left < total_bytes // 100:
            return make_layer(*members)
    raise RuntimeError(f"/{place} has only {total_bytes - left} bytes")
