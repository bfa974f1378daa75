"""Paths of the distribution API: parsed by their last keyword."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import NameInvalidError, NotFoundError
from registry.http.v2.path import Target, parse_path
from registry.oci.names import parse_repository_name

WORDS = ["a", "b-c", "manifests", "blobs", "uploads", "tags", "list", "referrers", "v2"]
NAMES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map("/".join)


@given(NAMES)
def test_names_may_be_made_of_keywords(name: str) -> None:
    assert parse_path(f"/v2/{name}/manifests/v1") == Target("manifests", name, "v1")
    assert parse_path(f"/v2/{name}/blobs/sha256:abc") == Target("blobs", name, "sha256:abc")
    assert parse_path(f"/v2/{name}/referrers/x") == Target("referrers", name, "x")
    assert parse_path(f"/v2/{name}/tags/list") == Target("tags", name)
    assert parse_path(f"/v2/{name}/blobs/uploads/") == Target("uploads", name)
    assert parse_path(f"/v2/{name}/blobs/uploads") == Target("uploads", name)
    assert parse_path(f"/v2/{name}/blobs/uploads/0f") == Target("upload", name, "0f")


def test_addresses_without_a_name() -> None:
    assert parse_path("/v2/") == parse_path("/v2") == Target("base")
    assert parse_path("/v2/_catalog") == Target("catalog")


@given(st.text(alphabet="ab/%20fFcC5.:~_-éA", max_size=40))
def test_any_path_is_a_target_or_an_error(tail: str) -> None:
    try:
        target = parse_path(f"/v2/{tail}")
    except (NameInvalidError, NotFoundError):
        return
    if target.keyword not in ("base", "catalog"):
        assert parse_repository_name(target.name) == target.name
    assert "/" not in target.reference


@pytest.mark.parametrize("path", ["a%2Fb", "a%2fb", "a%5Cb", "a%00", "a%0", "a%", "%zz", "a%ff", "a" * 2000])
def test_what_hides_in_a_path(path: str) -> None:
    with pytest.raises(NameInvalidError):
        parse_path(f"/v2/{path}/manifests/v1")


def test_escapes_are_taken_off_once() -> None:
    assert parse_path("/v2/%61/manifests/sha256%3Aabc") == Target("manifests", "a", "sha256:abc")
    assert parse_path("/v2/a/manifests/%2541") == Target("manifests", "a", "%41")
