"""``seatrial bundle``: what it writes, a plain runtime starts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.images import busybox_image, file, folder, make_image, make_layer, symlink, write_layout

COMMAND = [sys.executable, "-c", "import sys; from registry.main import run; sys.exit(run(sys.argv[1:]))"]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a bundle for a user namespace needs root")


@pytest.fixture
def place() -> Iterator[Path]:
    """Not tmp_path: its parents are closed to the run's users."""
    path = Path(tempfile.mkdtemp(prefix="seatrial-bundle-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


def _seatrial(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)


def test_plain_runc_starts_it(place: Path) -> None:
    script = "id; cat /data/mine; touch /data/new && echo written; touch /etc/new || echo refused; exit 7"
    data = make_layer(
        folder("data", uid=1000, gid=1000), file("data/mine", b"of app\n", 0o600, uid=1000, gid=1000)
    )
    image = busybox_image(["/bin/sh", "-c", script], user="app", layers=[data], labels={"a": "b"})
    layout = write_layout(place / "layout", image)
    made = _seatrial("bundle", f"oci:{layout}", str(place / "bundle"), "--json")
    assert made.returncode == 0, made.stderr
    said = json.loads(made.stdout)
    assert said["digest"] == image.digest
    assert said["command"][0] == "/bin/sh"
    config = json.loads((place / "bundle" / "config.json").read_text())
    assert config["root"]["path"] == "rootfs"
    assert config["linux"]["uidMappings"] == [
        {"containerID": 0, "hostID": said["ids"]["base"], "size": said["ids"]["size"]}
    ]
    assert (place / "bundle" / "rootfs" / "data" / "mine").stat().st_uid == said["ids"]["base"] + 1000
    assert said["start"] in (place / "bundle" / "README").read_text()
    # It can be moved: nothing in it names where it was made.
    (place / "bundle").rename(place / "moved")
    ran = subprocess.run(
        ["runc", "run", "--bundle", str(place / "moved"), f"bundle-{os.getpid()}"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert ran.returncode == 7, ran.stderr
    assert ran.stdout == "uid=1000(app) gid=1000(app)\nof app\nwritten\nrefused\n"
    assert sorted(path.name for path in place.iterdir()) == ["layout", "moved"]


@pytest.mark.parametrize(
    ("what", "code", "why"),
    [
        ("there", 64, "is there already"),
        ("closed", 64, "lets no other user pass"),
        ("evil", 2, "'..' in its name"),
        ("links", 2, "/dev"),
        ("no command", 2, "no command"),
    ],
)
def test_what_is_refused_leaves_nothing(what: str, code: int, why: str, place: Path) -> None:
    evil = {
        "evil": make_image(make_layer(file("../x")), config={"Cmd": ["/x"]}),
        "links": make_image(make_layer(symlink("dev", "/tmp")), config={"Cmd": ["/x"]}),
        "no command": make_image(make_layer(file("x"))),
    }
    layout = write_layout(place / "layout", evil.get(what, busybox_image()))
    target = place / "bundle"
    if what == "there":
        target.mkdir()
    if what == "closed":
        (place / "closed").mkdir(mode=0o700)
        target = place / "closed" / "bundle"
    made = _seatrial("bundle", f"oci:{layout}", str(target))
    assert made.returncode == code, made.stderr
    assert why in made.stderr
    assert target.exists() is (what == "there")
    assert not list(place.glob(".bundle-*"))
