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

from tests.kit.images import (
    busybox_image,
    file,
    folder,
    hardlink,
    make_image,
    make_layer,
    symlink,
    write_layout,
)

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
    assert config["linux"]["uidMappings"] == said["uid_mappings"]
    (mapping,) = said["uid_mappings"]
    assert (place / "bundle" / "rootfs" / "data" / "mine").stat().st_uid == mapping["hostID"] + 1000
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


def test_without_root_the_runs_root_is_the_user(place: Path) -> None:
    """As a plain user after newuidmap: the user's own id first, then a range."""
    data = make_layer(
        file("f", b"x", 0o4755, uid=1000, gid=1000),
        hardlink("g", "f"),
        symlink("l", "bin", uid=7),
        folder("d", uid=9),
    )
    layout = write_layout(place / "layout", busybox_image(layers=[data]))
    unshare = ["unshare", "--user", "--mount", "/bin/sh", "-c"]
    enter = 'echo; read -r _; exec setpriv --reuid 0 --regid 0 --clear-groups "$0" "$@"'
    made = subprocess.Popen(
        [*unshare, enter, *COMMAND, "bundle", f"oci:{layout}", str(place / "bundle"), "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert made.stdout is not None
    assert made.stdout.readline() == "\n"
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{made.pid}/{name}").write_text("0 0 1\n1 1500000000 65536\n")
    said = json.loads(made.communicate("\n")[0])
    assert made.returncode == 0
    assert not said["limited"]
    assert said["uid_mappings"] == [
        {"containerID": 0, "hostID": 0, "size": 1},
        {"containerID": 1, "hostID": 1500000000, "size": 65536},
    ]
    root = place / "bundle" / "rootfs"
    owners = {
        name: (root / name).lstat().st_uid for name in ("", "bin/sh", "f", "g", "l", "d", "bin/busybox")
    }
    assert owners == {
        "": 0,
        "bin/sh": 0,
        "bin/busybox": 0,
        "f": 1500000999,
        "g": 1500000999,
        "l": 1500000006,
        "d": 1500000008,
    }
    assert (root / "f").stat().st_mode & 0o7777 == 0o4755
    assert (root / "f").stat().st_nlink == 2


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
