"""Image configurations (image-spec, config.md)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import ManifestInvalidError
from registry.oci.imageconfig import MAX_BYTES, MAX_ENTRIES, Healthcheck, Port, parse_image_config
from registry.oci.platform import Platform
from tests.kit.images import to_json

HEX = "a" * 64


def config(document: dict[str, Any] | None = None, **members: Any) -> bytes:
    return to_json({"architecture": "amd64", "os": "linux", "config": members} | (document or {}))


def test_a_full_configuration() -> None:
    parsed = parse_image_config(
        config(
            {
                "variant": "v2",
                "author": "A",
                "created": "2026-01-01T00:00:00Z",
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{HEX}"]},
            },
            Env=["A=1", "B=x=y", "C="],
            Entrypoint=["/bin/sh"],
            Cmd=["-c", "true"],
            User="1000:1000",
            WorkingDir="/srv",
            ExposedPorts={"80": {}, "53/udp": {}, "8080/tcp": {}},
            Volumes={"/data": {}},
            Labels={"k": "v"},
            StopSignal="SIGQUIT",
            Healthcheck={
                "Test": ["CMD", "curl", "localhost"],
                "Interval": 30_000_000_000,
                "Timeout": 500_000_000,
                "StartPeriod": 0,
                "Retries": 3,
            },
        )
    )
    assert parsed.platform == Platform("linux", "amd64", "v2")
    assert [str(diff_id) for diff_id in parsed.diff_ids] == [f"sha256:{HEX}"]
    assert (parsed.env, parsed.entrypoint, parsed.cmd) == (
        ("A=1", "B=x=y", "C="),
        ("/bin/sh",),
        ("-c", "true"),
    )
    assert parsed.exposed_ports == (Port(80), Port(53, "udp"), Port(8080))
    assert (parsed.user, parsed.working_dir, parsed.stop_signal) == ("1000:1000", "/srv", "SIGQUIT")
    assert (parsed.volumes, parsed.labels) == (("/data",), {"k": "v"})
    assert parsed.healthcheck == Healthcheck(("curl", "localhost"), False, 30, 0.5, 0, 3)
    assert (parsed.author, parsed.created) == ("A", "2026-01-01T00:00:00Z")


def test_absent_and_null_are_the_same() -> None:
    names = (
        "Env",
        "Entrypoint",
        "Cmd",
        "User",
        "WorkingDir",
        "ExposedPorts",
        "Volumes",
        "Labels",
        "Healthcheck",
    )
    empty = parse_image_config(config())
    assert parse_image_config(config(**dict.fromkeys((*names, "StopSignal")))) == empty
    assert parse_image_config(config({"config": None})) == empty
    assert parse_image_config(config({"rootfs": {"type": "layers", "diff_ids": None}})) == empty
    assert parse_image_config(b"{}").platform == Platform("", "")


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ([], None),
        (["NONE"], None),
        (["CMD", "a"], Healthcheck(("a",), shell=False)),
        (["CMD-SHELL", "a b"], Healthcheck(("a b",), shell=True)),
    ],
)
def test_healthchecks(test: list[str], expected: Healthcheck | None) -> None:
    assert parse_image_config(config(Healthcheck={"Test": test})).healthcheck == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'{"os":"a","os":"b"}',
        b'{"a":NaN}',
        b" " * (MAX_BYTES + 1),
        config({"os": 1}),
        config({"config": "x"}),
        config({"rootfs": {"type": "other"}}),
        config({"rootfs": {"type": "layers", "diff_ids": ["nonsense"]}}),
        config({"rootfs": {"type": "layers", "diff_ids": [1]}}),
        config(Env="A=1"),
        config(Env=[1]),
        config(Env=["no-equals"]),
        config(Env=["=x"]),
        config(Env=["A=\0"]),
        config(Env=["A=1"] * (MAX_ENTRIES + 1)),
        config(Env=["A=" + "x" * (1 << 20)]),
        config(Cmd=["a", None]),
        config(Cmd="/bin/sh -c true"),
        config(Entrypoint={"a": 1}),
        config(User=0),
        config(User="x" * 5000),
        config(WorkingDir="a\0"),
        config(ExposedPorts=["80"]),
        config(ExposedPorts={"0": {}}),
        config(ExposedPorts={"65536/tcp": {}}),
        config(ExposedPorts={"80/icmp": {}}),
        config(ExposedPorts={"-1": {}}),
        config(Volumes={"relative": {}}),
        config(Volumes={"/a/../../etc": {}}),
        config(Labels={"a": 1}),
        config(Labels={str(i): "" for i in range(MAX_ENTRIES + 1)}),
        config(Healthcheck={"Test": ["RUN", "x"]}),
        config(Healthcheck={"Test": ["CMD"]}),
        config(Healthcheck={"Test": ["CMD", "x"], "Interval": -1}),
        config(Healthcheck={"Test": ["CMD", "x"], "Timeout": "5s"}),
        config(Healthcheck=[]),
        config({"Config": {}}),
        config({"OS": "linux"}),
        config({"rootf\u017f": {}}),
        config({"rootfs": {"type": "layers", "Diff_IDs": []}}),
        config(cmd=["/other"]),
        config(Healthcheck={"Test": ["CMD", "x"], "TEST": []}),
    ],
    ids=range(43),
)
def test_what_breaks_the_specification(raw: bytes) -> None:
    with pytest.raises(ManifestInvalidError) as caught:
        parse_image_config(raw)
    assert len(caught.value.message) < 300


MEMBERS = ["Env", "Cmd", "User", "ExposedPorts", "Volumes", "Labels", "Healthcheck", "Entrypoint"]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(MEMBERS), JUNK))
def test_any_members_are_read_or_refused(members: dict[str, Any]) -> None:
    try:
        parsed = parse_image_config(config(**members))
    except ManifestInvalidError:
        return
    assert all("=" in entry for entry in parsed.env)
    assert all(0 < port.number < 65536 for port in parsed.exposed_ports)
