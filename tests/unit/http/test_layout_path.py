"""Which file of which layout a path means."""

from __future__ import annotations

import pytest

from registry.errors import NameInvalidError, NotFoundError
from registry.http.layouts import parse_path


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/layout/app/", ("page", "app", "")),
        ("/layout/team/app/oci-layout", ("marker", "team/app", "")),
        ("/layout/team/app/index.json", ("index", "team/app", "")),
        ("/layout/team/app/blobs/sha256/ab", ("content", "team/app", "sha256:ab")),
        # The last part decides: a repository may have any of these names.
        ("/layout/oci-layout/index.json", ("index", "oci-layout", "")),
        ("/layout/blobs/blobs/sha256/ab", ("content", "blobs", "sha256:ab")),
        ("/layout/team/blobs/sha256/", ("page", "team/blobs/sha256", "")),
        ("/layout/team/blobs/sha256/index.json", ("index", "team/blobs/sha256", "")),
        ("/layout/a/blobs/sha256/..", ("content", "a", "sha256:..")),
    ],
)
def test_what_is_meant(path: str, meant: tuple[str, str, str]) -> None:
    assert parse_path(path) == meant


@pytest.mark.parametrize(
    "path",
    [
        "/layout/",
        "/layout//index.json",
        "/layout/index.json",
        "/layout/team/../app/index.json",
        "/layout/./app/index.json",
        "/layout/team//app/index.json",
        "/layout/team%2fapp/index.json",
        "/layout/team/app%00/index.json",
        "/layout/Team/index.json",
        "/layout/t%C3%A9am/index.json",
        "/layout/%ff/index.json",
        "/layout/" + "a/" * 600 + "index.json",
    ],
)
def test_no_name(path: str) -> None:
    with pytest.raises(NameInvalidError):
        parse_path(path)


@pytest.mark.parametrize(
    "path", ["/layout/app", "/layout/app/other", "/layout/app/blobs", "/layout/app/blobs/sha256"]
)
def test_no_file(path: str) -> None:
    with pytest.raises(NotFoundError):
        parse_path(path)
