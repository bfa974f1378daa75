"""A registry with something to look at: images that are good, bad, on their way, of several platforms, and
one whose every text is meant to do harm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.kit.access import api
from tests.kit.advisories import affects, record
from tests.kit.distribution import push_image
from tests.kit.images import file, make_image, make_layer, make_referrer
from tests.kit.matching import advise
from tests.kit.scans import SCANNING, make_package, make_scan
from tests.kit.trials import Port, make_report, tiny_image, tiny_index

MARKUP = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">'\"&"
TURNED = "\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe"
COLOURED = "\x1b[31;1mred\x1b[0m \x1b[2J\x1b]0;owned\x07\x1b[10000000C plain"
ENDLESS = "x" * 1_000_000
BAD = f"{MARKUP} {TURNED} {COLOURED}"
README = f"""#### app

It does **what** it says, see [its site](https://app.example) and [another](/r/team/other).

{MARKUP} {TURNED} [do not](javascript:alert(1)) ![a logo](https://app.example/logo.png)

| setting | default |
|:-------:|--------:|
| `PORT`  | 8080    |

> - quoted
>   1. deep

```sh
podman run {MARKUP}
```

{ENDLESS[:9000]}
"""
USED = {
    "cpu_seconds": 2.4,
    "memory_peak_bytes": 80 * 1024 * 1024,
    "pids_peak": 5,
    "pids_refused": 3,
    "throttled_seconds": 1.25,
    "limits": {
        "memory_bytes": 96 * 1024 * 1024,
        "cpus": 1.0,
        "pids": 256,
        "written_bytes": 2**30,
        "wall_seconds": 60.0,
    },
    "samples": [
        {
            "seconds": at / 4,
            "cpu_seconds": at * at / 170,
            "memory_bytes": (10 + at * 7 % 40) * 2**20,
            "pids": 1 + at % 5,
            "written_bytes": at * 1000,
            "layer_bytes": at * 4096,
        }
        for at in range(20)
    ],
}
STEPS = [
    {"name": name, "seconds": seconds}
    for name, seconds in (("pull", 1.2), ("unpack", 0.7), ("scan", 2.5), ("mount", 0.01), ("start", 0.2))
]
HARM = record("GHSA-evil", affects("npm", "lodash", "introduced=0", "fixed=4.17.19"), summary=f"{BAD}"[:290])
VULNERABLE = make_package("lodash", "4.17.15", kind="npm", ecosystem="npm")


@dataclass(frozen=True, slots=True)
class Content:
    """Digests of the images, and ids of their trials."""

    good: str
    bad: str
    waiting: str
    index: str
    hostile: str
    referrer: str
    trials: dict[str, str]


async def fill(port: Port) -> Content:
    """Push, try and scan; the repository ``team/app`` is public and enforces its gate. A registry that is
    another process knows the advisories that it has."""
    await api(
        port.admin, "POST", "/repositories", status=201, json={"name": "team/app", "visibility": "public"}
    )
    await api(port.admin, "PUT", "/repositories/team%2Fapp/readme", status=201, json={"text": README})
    worker = await port.worker("tester")
    good = await port.push(tiny_image(Env=["A=b"], ExposedPorts={"80/tcp": {}}), tag="1.0")
    await _try(worker, log="ready\n\x1b[32mlistening on 80\x1b[0m\n", run=USED, steps=STEPS)
    bad = await port.push(tiny_image(), tag="1.1")
    await _try(worker, met=False, exit_code=3, log="starting\nno such table: users\n")
    hostile = await port.push(_hostile(), tag="evil")
    await _try(
        worker,
        VULNERABLE,
        make_package(f"evil-{MARKUP}"[:200], "1.0", kind="npm", ecosystem="npm"),
        met=False,
        exit_code=1,
        log=f"{BAD}\n{ENDLESS}\n",
    )
    index, _ = tiny_index("linux/amd64", "linux/arm64")
    many = await port.push(index, tag="2.0")
    await _try(worker)
    waiting = await port.push(tiny_image(), tag="1.2")
    attached = make_referrer(hostile, b"{}", artifact_type="application/x.note", media_type="text/plain")
    referrer = await push_image(port.admin, "team/app", attached.digest, attached)
    if port.registry.services is not None:
        await advise(port, HARM, day=1)
    found = await api(port.admin, "GET", "/trials?image=team/app")
    return Content(good, bad, waiting, many, hostile, referrer, {one["digest"]: one["id"] for one in found})


def _hostile() -> Any:
    layer = make_layer(file("evil", b"x"))
    config = {
        "Cmd": ["/app", BAD, ENDLESS[:100_000]],
        "Env": [f"EVIL={BAD}"],
        "Labels": {f"org.example.{MARKUP}": BAD, "long": ENDLESS[:200_000]},
        "User": "1000",
        "WorkingDir": f"/{TURNED}",
    }
    document = {
        "created": MARKUP,
        "history": [
            {"created_by": f"RUN echo {BAD}"},
            {"created_by": ENDLESS[:200_000], "empty_layer": True},
            {"created_by": 7, "empty_layer": True},
        ],
    }
    return make_image(
        layer, config=config, document=document, annotations={MARKUP: BAD, "long": ENDLESS[:90_000]}
    )


async def _try(worker: Any, *packages: Any, **report: Any) -> None:
    job = await worker.claim(mechanisms=SCANNING)
    assert (await worker.post("scan", make_scan(job, *packages))).status == 204
    answer = await worker.post("report", make_report(job, **report))
    assert answer.status == 204, answer.body
