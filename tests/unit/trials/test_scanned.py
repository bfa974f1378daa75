"""What is kept of a scan: a document that is whole for whoever reads it whole, and can be read in parts."""

from __future__ import annotations

import json
from typing import Any

from registry.contract.scan import Scan
from registry.oci.digest import digest_of
from registry.trials.scanned import (
    Document,
    Frames,
    ListName,
    document_of,
    parse_document,
    parse_frame,
    parse_frames,
    stored_frames,
)
from tests.kit.scans import make_found, make_package, make_scan

JOB = {"lease": "l", "digest": "sha256:" + "1" * 64, "platform": "linux/amd64"}
LISTS: tuple[ListName, ...] = ("packages", "found", "incomplete", "reported")
TRAP = '","packages":[{"found":[\\","found":[],"incomplete":[{\u20ac\\\\'


def scan_of(count: int, **members: Any) -> Scan:
    packages = [make_package(f"p{number}{TRAP}", path=f"x/{number}{TRAP}") for number in range(count)]
    return Scan.model_validate_json(json.dumps(make_scan(JOB, *packages, **members)))


def entries(document: Document, frames: Frames, name: ListName) -> list[Any]:
    """Those of a list, frame by frame; each says where it begins."""
    found: list[Any] = []
    for frame in frames.get(name, ()):
        assert frame.first == len(found)
        packed = document.packed[frame.offset : frame.offset + frame.size]
        found += parse_frame(packed, name)
    return found


def test_a_large_document_is_the_same_whole_and_in_parts() -> None:
    told = [{"scanner": "t", "id": "CVE-2099-1", "package": number, "summary": TRAP} for number in range(700)]
    for members in (
        {},
        {"found": [make_found(title=TRAP)] * 1001, "incomplete": [{"scanner": "s", "reason": TRAP}] * 3},
        {"reported": told, "found": []},
    ):
        scan = scan_of(1500, **members)
        document = document_of(scan)
        kept = parse_document(document.packed)
        # An earlier version made the same digest of it, and reads it.
        assert digest_of(kept.model_dump_json().encode()) == document.digest
        assert (len(kept.packages), kept.packages[1].path) == (1500, scan.packages[1].path)
        assert document.frames is not None
        frames = parse_frames(stored_frames(document.frames))
        assert frames is not None
        for name in LISTS:
            assert entries(document, frames, name) == list(getattr(kept, name))
        assert {name for name in LISTS if getattr(kept, name)} == set(frames)
        assert len(frames["packages"]) == 3


def test_a_small_document_is_one_piece() -> None:
    document = document_of(scan_of(3))
    assert document.frames is None
    assert parse_frames(stored_frames(document.frames)) is None
    assert len(parse_document(document.packed).packages) == 3
