"""Folders of other registries, as far as they need no registry of ours."""

from __future__ import annotations

import json
from pathlib import Path

from registry.layouts.folders import MANIFESTS_MAX, kept_repositories

REF_NAME = "org.opencontainers.image.ref.name"


def write(folder: Path, tags: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    one = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 2}
    entries = [
        {**one, "digest": f"sha256:{number:064x}", "annotations": {REF_NAME: f"v{number}"}}
        for number in range(tags)
    ]
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))


def test_two_images_under_one_name_are_told_and_neither_has_it(tmp_path: Path) -> None:
    write(tmp_path / "team/app", 3)
    path = tmp_path / "team/app/index.json"
    index = json.loads(path.read_text())
    index["manifests"][2]["annotations"] = index["manifests"][1]["annotations"]
    index["manifests"].append(index["manifests"][0])
    path.write_text(json.dumps(index))
    ((_, read),) = kept_repositories(tmp_path)
    kept = read()
    assert (list(kept.tags), kept.damaged) == (["v0"], {"v1": "index.json has several images under the name"})
    assert [digest.encoded for digest in kept.untagged] == [f"{number:064x}" for number in (1, 2)]


def test_a_repository_with_more_tags_than_an_index_may_list(tmp_path: Path) -> None:
    """What is pushed has at most 10,000 references; what a registry has collected in years has more."""
    write(tmp_path / "team/app", 12_000)
    ((name, read),) = kept_repositories(tmp_path)
    kept = read()
    assert (name, len(kept.tags), kept.damaged) == ("team/app", 12_000, {})
    assert len(kept.tags) < MANIFESTS_MAX
