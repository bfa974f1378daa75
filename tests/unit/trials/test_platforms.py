from __future__ import annotations

import pytest

from registry.trials.platforms import is_run


@pytest.mark.parametrize(
    ("image", "hosts", "run"),
    [
        ("linux/amd64", ("linux/amd64",), True),
        ("linux/amd64/v2", ("linux/amd64",), False),
        ("linux/amd64", ("linux/amd64/v3",), True),
        ("linux/arm64", ("linux/amd64", "linux/arm64"), True),
        ("linux/arm64/v8", ("linux/arm64",), True),
        ("windows/amd64", ("linux/amd64",), False),
        ("unknown/unknown", ("unknown/unknown",), False),
        ("nonsense", ("linux/amd64",), False),
        ("linux/amd64", (), False),
    ],
)
def test_is_run(image: str, hosts: tuple[str, ...], run: bool) -> None:
    assert is_run(image, hosts) is run
