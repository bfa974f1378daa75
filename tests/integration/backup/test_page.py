"""docs/backup.md, run as it stands: only the example's places are others."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.integration.backup.conftest import Place, Places
from tests.kit.access import ask
from tests.kit.distribution import push_image
from tests.kit.images import make_image
from tests.kit.server import running_registry
from tests.kit.sources import ROOT

PAGE = ROOT / "docs" / "backup.md"


def steps(tmp_path: Path) -> str:
    """The page's commands, one after the other."""
    page = PAGE.read_text()
    for example in ("/srv/", "/var/lib/", "/root/"):
        assert example in page
        page = page.replace(example, f"{tmp_path}/")
    return "\n".join(re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL))


async def test_the_page(places: Places, tmp_path: Path) -> None:
    place = places.make("seatrial", "sqlite+folder", schema=True)
    image = make_image()
    async with running_registry(place.data, place.database_url) as registry, registry.client() as client:
        await push_image(client, "team/app", "1", image)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", steps(tmp_path)],
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("restored", "third"):
        other = Place(tmp_path / name, f"sqlite:///{tmp_path / name / 'seatrial.db'}", "")
        shutil.copyfile(place.data / "admin.token", other.data / "admin.token")
        async with running_registry(other.data, other.database_url) as registry, registry.client() as client:
            for digest, content in image.blobs().items():
                kind = "manifests" if digest == image.digest else "blobs"
                assert (await ask(client, "GET", f"/v2/team/app/{kind}/{digest}")).body == content


def test_the_page_s_line_for_cron() -> None:
    """It is one that cron takes: five times, a user, and commands that there are."""
    (line,) = re.findall(r"^\d+ \d+ .*$", PAGE.read_text(), re.MULTILINE)
    times, user, commands = line.split()[:5], line.split()[5], " ".join(line.split()[6:]).split(" && ")
    assert (times, user) == (["17", "3", "*", "*", "*"], "seatrial")
    assert [command.split()[:3] for command in commands] == [
        ["seatrial", "backup", "create"],
        ["seatrial", "backup", "prune"],
    ]
