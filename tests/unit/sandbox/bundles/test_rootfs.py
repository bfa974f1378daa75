"""Paths of an image never lead out of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.bundles.rootfs import Rootfs, open_rootfs, parts
from sandbox.errors import SandboxError

ME = (os.geteuid(), os.getegid())


@pytest.fixture
def rootfs(tmp_path: Path) -> Iterator[Rootfs]:
    """An empty tree; ``tmp_path/outside`` is what no path of it may reach."""
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    with open_rootfs(tmp_path / "root") as opened:
        yield opened


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "root"


def test_kinds(rootfs: Rootfs, tree: Path) -> None:
    (tree / "folder").mkdir()
    (tree / "file").write_text("")
    (tree / "link").symlink_to("folder")
    (tree / "out").symlink_to("../outside")
    os.mkfifo(tree / "fifo")
    kinds = {name: rootfs.kind(f"/{name}") for name in ("folder", "file", "link", "out", "fifo", "none")}
    assert kinds == {
        "folder": "folder", "file": "file", "link": "link", "out": "link", "fifo": "other", "none": "absent",
    }  # fmt: skip
    assert rootfs.kind("/link/below") == "link"
    assert rootfs.kind("/out/secret") == "link"
    assert rootfs.kind("/file/below") == "other"
    assert rootfs.kind("/" + "x" * 300) == "other"
    assert rootfs.kind("/") == "folder"


def test_resolve_stays_inside(rootfs: Rootfs, tree: Path) -> None:
    (tree / "a/b").mkdir(parents=True)
    (tree / "abs").symlink_to("/a")
    (tree / "climb").symlink_to("../../../../a/b")
    (tree / "loop").symlink_to("loop")
    (tree / "outside").symlink_to("../outside")
    assert rootfs.resolve("/abs/b") == "/a/b"
    assert rootfs.resolve("/climb") == "/a/b"
    assert rootfs.resolve("/") == "/"
    assert rootfs.resolve("/loop") is None
    assert rootfs.resolve("/outside") is None
    assert rootfs.resolve("/none") is None


def test_read_small(rootfs: Rootfs, tree: Path) -> None:
    (tree / "small").write_text("text")
    (tree / "link").symlink_to("small")
    os.mkfifo(tree / "fifo")
    assert rootfs.read_small("/small", limit_bytes=4) == b"text"
    assert rootfs.read_small("/none", limit_bytes=4) is None
    for name, limit in (("small", 3), ("link", 10), ("fifo", 10), ("", 10)):
        with pytest.raises(SandboxError) as caught:
            rootfs.read_small(f"/{name}", limit_bytes=limit)
        assert caught.value.reason == "image-refused"


def test_make_folder(rootfs: Rootfs, tree: Path, tmp_path: Path) -> None:
    (tree / "there").mkdir(mode=0o700)
    rootfs.make_folder("/there/a//b/./c", owner=ME, mode=0o750)
    assert (tree / "there").stat().st_mode & 0o777 == 0o700
    assert (tree / "there/a/b/c").stat().st_mode & 0o777 == 0o750
    (tree / "out").symlink_to("../outside")
    (tree / "file").write_text("")
    for path in ("/out/x", "/file/x", "/out", "/" + "n" * 300):
        with pytest.raises(SandboxError) as caught:
            rootfs.make_folder(path, owner=ME)
        assert caught.value.reason == "image-refused"
    assert sorted(path.name for path in (tmp_path / "outside").iterdir()) == ["secret"]


def test_write_file_replaces_links(rootfs: Rootfs, tree: Path, tmp_path: Path) -> None:
    (tree / "etc").mkdir()
    (tree / "etc/hosts").symlink_to(tmp_path / "outside/secret")
    rootfs.write_file("/etc/hosts", b"ours", owner=ME)
    assert not (tree / "etc/hosts").is_symlink()
    assert (tree / "etc/hosts").read_bytes() == b"ours"
    assert (tmp_path / "outside/secret").read_text() == "secret"
    (tree / "etc/folder").mkdir()
    with pytest.raises(SandboxError, match="is a folder"):
        rootfs.write_file("/etc/folder", b"", owner=ME)


@pytest.mark.parametrize("path", ["relative", "/a/../b", "/a\0b", ""])
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(SandboxError):
        parts(path)
