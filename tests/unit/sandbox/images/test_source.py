"""What ``IMAGE`` on a command line means, where it is none that can be opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.errors import SandboxError
from sandbox.images.source import open_source


async def why(image: str) -> str:
    with pytest.raises(SandboxError) as caught:
        async with open_source(image):
            pass
    assert caught.value.reason == "pull-failed"
    return caught.value.message


@pytest.mark.parametrize("tag", ["", ":v1"])
async def test_a_folder_with_a_layout_is_told_how_to_name_it(tmp_path: Path, tag: str) -> None:
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    assert (await why(f"{tmp_path}{tag}")).endswith(
        f"; but there is a layout in that folder: oci:{tmp_path}{tag}"
    )


async def test_a_folder_without_one_is_said_to_be_that(tmp_path: Path) -> None:
    assert (await why(str(tmp_path))).endswith("no layout in it (no file oci-layout)")


async def test_nothing_of_that_name(tmp_path: Path) -> None:
    for image in (f"{tmp_path}/none", "long" * 2000, f"{'long' * 2000}:tag"):
        assert (await why(image)).endswith("; and it is no file either")
