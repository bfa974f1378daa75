"""Examples of run specs that fit the shape of image they are for, each tried as it stands; and one that does
not fit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from registry.contract.asked import asked_by
from registry.contract.examples import EXAMPLES
from registry.contract.judge import Judgement, judge
from registry.contract.limits import Limits
from registry.contract.specfile import parse_run_spec
from sandbox.attempt import Workplace
from tests.kit.images import busybox_image, write_layout
from tests.kit.trying import own_workplace, try_layout

STAYS = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
HEALTH = json.dumps({"status": "ok", "checks": [{"name": "disk"}, {"name": "database"}]})
IMAGES: Mapping[str, str] = MappingProxyType(
    {
        "web-server": "mkdir /www; echo '<h1>here</h1>' > /www/index.html; httpd -f -p 80 -h /www & "
        "trap 'kill $!; exit 0' TERM; wait",
        "web-api": f"mkdir /w; echo '{HEALTH}' > /w/health; exec httpd -f -p 8080 -h /w",
        "cli-tool": "case $1 in --version) echo app 1.2.3;; --help) echo Usage: app;; *) exit 2;; esac",
        "batch-job": 'cat "$INPUT" > "$OUTPUT"',
        "distroless": "exec sleep 60",
        "needs-config": f'test "$APP_URL" || {{ echo APP_URL is required; exit 1; }}; {STAYS}',
        "needs-database": "echo no connection to $DATABASE_URL; exit 3",
        "needs-upstream": "wget -q -O - $API_URL/v1/hello | grep ok && nc $DATABASE_HOST 5432 < /dev/null "
        f"&& {{ {STAYS}; }}",
        "openshift": f"echo x > /var/cache/app/x || exit 1; {STAYS}",
    }
)
"""For each example what an image of its shape does, as a script whose arguments are the image's."""
LIMITS = Limits(alive_seconds=4)
"""Of a registry, but for a shorter look at what stays up."""
CEILING = Limits(wall_seconds=900, alive_seconds=300, memory_bytes=2**30)


@pytest.fixture(scope="module")
def workplace() -> Iterator[Workplace]:
    """A state folder of its own."""
    with own_workplace() as opened:
        yield opened


async def tried(name: str, script: str, folder: Path, workplace: Workplace) -> Judgement:
    write_layout(folder, busybox_image((), entrypoint=["/bin/sh", "-c", script, "app"]))
    spec = parse_run_spec(EXAMPLES[name].spec)
    report = await try_layout(str(folder), workplace, spec=spec, limits=LIMITS, ceiling=CEILING)
    return judge(report, asked=asked_by(spec.canonical()))


@pytest.mark.parametrize("name", IMAGES)
async def test_it_fits(name: str, tmp_path: Path, workplace: Workplace) -> None:
    judgement = await tried(name, IMAGES[name], tmp_path, workplace)
    own = workplace.runtime.info.kernel == "own"
    blind = own and any(key in EXAMPLES[name].spec for key in ("no_outbound", "stub:"))
    assert judgement.verdict == ("error" if blind else "pass"), judgement.reason


async def test_an_image_of_another_shape_fails(tmp_path: Path, workplace: Workplace) -> None:
    judgement = await tried("cli-tool", "echo Usage: app 1.2; exit 2", tmp_path / "one", workplace)
    assert (judgement.verdict, judgement.reason[:19]) == ("fail", "case version-only: ")
    assert judgement.reason.endswith("(and case help)")
    judgement = await tried("distroless", "echo x > /x && exec sleep 60", tmp_path / "two", workplace)
    assert judgement.verdict != "pass"
    assert "exit code 1" in judgement.reason
