"""What is different between two images: their configuration and their layers."""

from __future__ import annotations

from registry.content.comparing import ComparedLayer, ConfigChange, compare_configs, compare_layers
from registry.content.inspecting import Contents, Layer
from registry.oci.imageconfig import parse_image_config
from registry.oci.manifest import parse_manifest
from tests.kit.images import OCI_MANIFEST, make_image, make_layer, to_json


def config(**members: object) -> object:
    return parse_image_config(
        to_json({"os": "linux", "architecture": "amd64", "config": members, "rootfs": {"type": "layers"}})
    )


def contents(*layers: Layer) -> Contents:
    manifest = parse_manifest(make_image(make_layer()).manifest, OCI_MANIFEST)
    return Contents(manifest, 0, layers=layers)


def layer(name: str, size: int = 1) -> Layer:
    return Layer(f"RUN {name}", f"sha256:{name}", size, "application/vnd.oci.image.layer.v1.tar")


def test_what_changed_is_told_part_by_part() -> None:
    before = config(Env=["PATH=/bin", "OLD=1", "SAME=x"], Cmd=["/a", "-v"], Labels={"b": "1", "a": "2"})
    after = config(Env=["PATH=/bin:/sbin", "SAME=x", "NEW="], Cmd=["/a", "-v"], Labels={"b": "1"}, User="app")
    assert compare_configs(before, after) == [
        ConfigChange("env PATH", "/bin", "/bin:/sbin"),
        ConfigChange("env OLD", "1", None),
        ConfigChange("label a", "2", None),
        ConfigChange("user", None, "app"),
        ConfigChange("env NEW", None, ""),
    ]
    assert compare_configs(before, before) == []
    assert compare_configs(None, None) == []
    assert {one.before for one in compare_configs(None, after)} == {None}


def test_layers_are_in_both_or_in_one() -> None:
    before = contents(layer("base"), layer("old", 5), Layer("ENV x", None, 0, ""), layer("twice"))
    after = contents(layer("base"), layer("twice"), layer("twice"), layer("new", 7))
    assert compare_layers(before, after) == [
        ComparedLayer("both", "sha256:base", 1, "RUN base"),
        ComparedLayer("both", "sha256:twice", 1, "RUN twice"),
        ComparedLayer("before", "sha256:old", 5, "RUN old"),
        ComparedLayer("after", "sha256:new", 7, "RUN new"),
    ]
