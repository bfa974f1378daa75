"""What a ``storage_url`` for S3 may say, and what is said of one that cannot be used."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from registry.settings import SettingsError
from registry.storage.s3upload import part_bytes
from registry.storage.s3url import S3Location, parse_s3_url
from tests.kit.sources import ROOT


def test_a_bucket_is_enough() -> None:
    assert parse_s3_url("s3://images") == S3Location(bucket="images")


def test_every_option(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    location = parse_s3_url(
        "s3://images/a/b/?endpoint_url=https://s3.example:9000/&region=eu-central-1&addressing=path"
        f"&storage_class=STANDARD_IA&ca_file={ca}&checksums=when_required&connections=8&connect_seconds=2"
        "&read_seconds=9&attempts=2&redirect=10.0.0.0/8,fd00::/8&redirect_endpoint_url=https://cdn.example"
        "&redirect_seconds=60"
    )
    assert (location.bucket, location.prefix, location.endpoint_url) == (
        "images",
        "a/b/",
        "https://s3.example:9000",
    )
    assert [str(network) for network in location.redirect] == ["10.0.0.0/8", "fd00::/8"]
    assert (location.ca_file, location.connections, location.attempts) == (ca, 8, 2)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://", "not the name of a bucket"),
        ("s3://Images", "not the name of a bucket"),
        ("s3://key:secret@images", "storage_credentials_file"),
        ("s3://images/../other", "cannot be a prefix"),
        ("s3://images/a%00b", "cannot be a prefix"),
        ("s3://images?storageclass=X", "there is no option 'storageclass'"),
        ("s3://images?region=a&region=b", "region is given twice"),
        ("s3://images?addressing=dns", "addressing: must be auto, path or virtual"),
        ("s3://images?attempts=0", "attempts: must be a whole number from 1 to 10"),
        ("s3://images?attempts=1e3", "attempts: must be a whole number"),
        ("s3://images?endpoint_url=ftp://x", "endpoint_url: must be http"),
        ("s3://images?endpoint_url=http://user:pass@x", "endpoint_url: must be http"),
        ("s3://images?ca_file=/does/not/exist", "ca_file"),
        ("s3://images?redirect=yes", "redirect: must be off, on or networks"),
        ("s3://images?redirect=10.0.0.1/8", "redirect: must be off, on or networks"),
        ("s3://images#x", "nothing may follow"),
    ],
)
def test_what_cannot_be_used(url: str, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_s3_url(url)
    assert said in refused.value.message
    assert "secret" not in refused.value.message
    assert "pass@" not in refused.value.message


def test_parts_grow_so_that_the_largest_object_takes_no_more_than_there_may_be() -> None:
    assert part_bytes(1) == part_bytes(1000) == 5 << 20
    assert part_bytes(1001) == 10 << 20
    sizes = [part_bytes(number) for number in range(1, 10_001)]
    assert sum(sizes) > 5 * 1000**4
    assert max(sizes) <= 5 << 30


def test_each_option_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "storage.md").read_text(encoding="utf-8")
    options = {option.name for option in fields(S3Location)} - {"bucket", "prefix"}
    assert [name for name in sorted(options) if f"`{name}`" not in page] == []
