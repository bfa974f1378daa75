"""image-spec, conversion.md, "User"."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.bundles.rootfs import Rootfs, open_rootfs
from sandbox.bundles.users import ContainerUser, resolve_user
from sandbox.errors import SandboxError

PASSWD = """root:x:0:0:root:/root:/bin/sh
# comment:x:1:1::/:
broken line
web:x:33:34::/srv:/bin/sh\r
five:x:5:60::relative:
high:x:70000:0::/:
short:x:8:9
"""
GROUP = "root:x:0:\nweb:x:34:\nlogs:x:4:web,five\nstaff:x:50:five\n60:x:61:\n"


@pytest.fixture
def rootfs(tmp_path: Path) -> Iterator[Rootfs]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    with open_rootfs(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("", ContainerUser(0, 0, (), "/root")),
        ("0", ContainerUser(0, 0, (), "/root")),
        ("web", ContainerUser(33, 34, (4,), "/srv")),
        ("five", ContainerUser(5, 60, (4, 50), "/")),
        ("web:logs", ContainerUser(33, 4, (), "/srv")),
        ("33", ContainerUser(33, 34, (), "/srv")),
        ("33:7", ContainerUser(33, 7, (), "/srv")),
        ("web:7", ContainerUser(33, 7, (), "/srv")),
        ("12:logs", ContainerUser(12, 4, (), "/")),
        ("12", ContainerUser(12, 0, (), "/")),
        ("short", ContainerUser(8, 9, (), "/")),
        (":logs", ContainerUser(0, 4, (), "/root")),
    ],
)
def test_users(rootfs: Rootfs, text: str, user: ContainerUser) -> None:
    assert resolve_user(rootfs, text, size=65536) == user


@pytest.mark.parametrize(
    "text", ["none", "web:none", "web:", "high", "65536", "0:65536", "-1", "+1", "٣", "1 ", "0x10", "9" * 30]
)
def test_unknown_users(rootfs: Rootfs, text: str) -> None:
    with pytest.raises(SandboxError) as caught:
        resolve_user(rootfs, text, size=65536)
    assert caught.value.reason == "user-unknown"


def test_an_image_without_accounts(tmp_path: Path) -> None:
    with open_rootfs(tmp_path) as rootfs:
        assert resolve_user(rootfs, "", size=65536) == ContainerUser(0, 0)
        assert resolve_user(rootfs, "7:8", size=65536) == ContainerUser(7, 8)
