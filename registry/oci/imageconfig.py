"""Image configuration: what an image says about how it is run (image-spec, config.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from registry.errors import DigestInvalidError, ManifestInvalidError
from registry.oci.descriptor import as_list, as_object, as_struct, optional_string, string_map
from registry.oci.digest import Digest, parse_digest
from registry.oci.platform import Platform
from registry.oci.strictjson import JsonInvalidError, json_type, parse_json_object

MAX_BYTES = 8 * 1024 * 1024
MAX_ENTRIES = 1_000
MAX_STRINGS_BYTES = 1024 * 1024
_NAMES = frozenset({"os", "architecture", "variant", "config", "rootfs", "author", "created"})
_CONFIG_NAMES = frozenset(
    {
        *("Env", "Entrypoint", "Cmd", "User", "WorkingDir", "ExposedPorts", "Volumes", "Labels"),
        *("StopSignal", "Healthcheck", "Shell"),
    }
)
_ROOTFS_NAMES = frozenset({"type", "diff_ids"})
_HEALTHCHECK_NAMES = frozenset({"Test", "Interval", "Timeout", "StartPeriod", "Retries"})
_PORT = re.compile(r"([0-9]{1,5})(?:/(tcp|udp|sctp))?")
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """Docker's HEALTHCHECK. ``command`` is an argument list, or one line for the image's shell.

    Seconds; 0 means that the image leaves it to the runner. ``retries`` likewise.
    """

    command: tuple[str, ...]
    shell: bool
    interval_seconds: float = 0
    timeout_seconds: float = 0
    start_period_seconds: float = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """A port an image exposes."""

    number: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The parts of an image configuration that matter for running it; absent ones are empty."""

    platform: Platform
    diff_ids: tuple[Digest, ...]
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    exposed_ports: tuple[Port, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    author: str = ""
    created: str = ""


def parse_image_config(raw: bytes) -> ImageConfig:
    """Parse the bytes of an image configuration.

    Raises:
        ManifestInvalidError: not strict JSON, a member of the wrong type, a name that some clients take for
            another, or more entries than the limits (1,000 of each kind, 1 MiB of strings) that keep a run's
            arguments within the kernel's.
    """
    return _config_of(_parse(raw))


def _parse(raw: bytes) -> Mapping[str, object]:
    if len(raw) > MAX_BYTES:
        raise ManifestInvalidError(f"the image config has {len(raw)} bytes; {MAX_BYTES} are the limit")
    try:
        return as_struct(parse_json_object(raw), "the image config", _NAMES)
    except JsonInvalidError as error:
        raise ManifestInvalidError(f"the image config is not valid JSON: {error}") from None


def _config_of(document: Mapping[str, object]) -> ImageConfig:
    config = as_struct(document.get("config") or {}, "config", _CONFIG_NAMES)
    rootfs = as_struct(document.get("rootfs") or {}, "rootfs", _ROOTFS_NAMES)
    if rootfs and rootfs.get("type") != "layers":
        raise ManifestInvalidError("rootfs.type must be 'layers'")
    return ImageConfig(
        platform=Platform(
            optional_string(document, "os", "image config") or "",
            optional_string(document, "architecture", "image config") or "",
            optional_string(document, "variant", "image config") or "",
        ),
        diff_ids=_diff_ids(rootfs.get("diff_ids")),
        env=_env(config.get("Env")),
        entrypoint=_arguments(config.get("Entrypoint"), "config.Entrypoint"),
        cmd=_arguments(config.get("Cmd"), "config.Cmd"),
        user=_plain(config, "User"),
        working_dir=_plain(config, "WorkingDir"),
        exposed_ports=_ports(config.get("ExposedPorts")),
        volumes=_volumes(config.get("Volumes")),
        labels=_bounded_map(config.get("Labels"), "config.Labels"),
        stop_signal=_plain(config, "StopSignal"),
        healthcheck=_healthcheck(config.get("Healthcheck")),
        author=optional_string(document, "author", "image config") or "",
        created=optional_string(document, "created", "image config") or "",
    )


@dataclass(frozen=True, slots=True)
class Step:
    """A line of an image's history: what made a layer, or (``empty``) something that is none."""

    created_by: str
    empty: bool


def parse_with_history(raw: bytes) -> tuple[ImageConfig, tuple[Step, ...]]:
    """As :func:`parse_image_config`, and how the image says that it was built, the oldest line first; nothing
    where it says nothing that can be read (image-spec, config.md, ``history``).

    Raises:
        ManifestInvalidError: as :func:`parse_image_config`.
    """
    document = _parse(raw)
    given = document.get("history")
    lines = given[:MAX_ENTRIES] if isinstance(given, list) else []
    steps = tuple(
        Step(str(line.get("created_by") or ""), line.get("empty_layer") is True)
        for line in lines
        if isinstance(line, dict)
    )
    return _config_of(document), steps


def _diff_ids(value: object) -> tuple[Digest, ...]:
    found = []
    for i, text in enumerate(_strings(value, "rootfs.diff_ids")):
        try:
            found.append(parse_digest(text))
        except DigestInvalidError as error:
            raise ManifestInvalidError(f"rootfs.diff_ids[{i}]: {error.message}") from None
    return tuple(found)


def _strings(value: object, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    values = as_list(value, where)
    if len(values) > MAX_ENTRIES:
        raise ManifestInvalidError(f"{where} has {len(values)} entries; {MAX_ENTRIES} are the limit")
    for i, item in enumerate(values):
        if not isinstance(item, str):
            raise ManifestInvalidError(f"{where}[{i}] must be a string, not {json_type(item)}")
    strings = tuple(str(item) for item in values)
    _check_bytes(strings, where)
    return strings


def _check_bytes(strings: tuple[str, ...], where: str) -> None:
    if sum(len(text.encode()) + 1 for text in strings) > MAX_STRINGS_BYTES:
        raise ManifestInvalidError(f"{where} has more than {MAX_STRINGS_BYTES} bytes")
    if any("\0" in text for text in strings):
        raise ManifestInvalidError(f"{where} has a NUL character")


def _arguments(value: object, where: str) -> tuple[str, ...]:
    return _strings(value, where)


def _env(value: object) -> tuple[str, ...]:
    entries = _strings(value, "config.Env")
    for i, entry in enumerate(entries):
        name, equals, _ = entry.partition("=")
        if not equals or not name:
            raise ManifestInvalidError(f"config.Env[{i}] is not NAME=value")
    return entries


def _plain(config: Mapping[str, object], name: str) -> str:
    text = optional_string(config, name, "config") or ""
    if len(text) > 4096 or "\0" in text:
        raise ManifestInvalidError(f"config.{name} is longer than 4096 characters or has a NUL")
    return text


def _bounded_map(value: object, where: str) -> dict[str, str]:
    members = string_map(value, where)
    if len(members) > MAX_ENTRIES:
        raise ManifestInvalidError(f"{where} has {len(members)} entries; {MAX_ENTRIES} are the limit")
    _check_bytes((*members.keys(), *members.values()), where)
    return members


def _names(value: object, where: str) -> tuple[str, ...]:
    # Docker writes a set as an object with empty values.
    return () if value is None else _strings(list(as_object(value, where)), where)


def _ports(value: object) -> tuple[Port, ...]:
    ports = []
    for text in _names(value, "config.ExposedPorts"):
        match = _PORT.fullmatch(text)
        if match is None or not 0 < int(match[1]) < 65536:
            raise ManifestInvalidError(f"config.ExposedPorts has {text[:80]!r}, which is no port")
        ports.append(Port(int(match[1]), match[2] or "tcp"))
    return tuple(ports)


def _volumes(value: object) -> tuple[str, ...]:
    paths = _names(value, "config.Volumes")
    for path in paths:
        if not path.startswith("/") or len(path) > 4096 or ".." in path.split("/"):
            raise ManifestInvalidError(f"config.Volumes has {path[:80]!r}, which is no absolute path")
    return paths


def _healthcheck(value: object) -> Healthcheck | None:
    if value is None:
        return None
    members = as_struct(value, "config.Healthcheck", _HEALTHCHECK_NAMES)
    test = _strings(members.get("Test"), "config.Healthcheck.Test")
    if not test or test == ("NONE",):
        return None
    kind: Literal["CMD", "CMD-SHELL"] | str = test[0]
    if kind not in ("CMD", "CMD-SHELL") or len(test) < 2:
        raise ManifestInvalidError("config.Healthcheck.Test must be NONE, CMD with a command, or CMD-SHELL")
    retries = members.get("Retries")
    return Healthcheck(
        command=test[1:],
        shell=kind == "CMD-SHELL",
        interval_seconds=_seconds(members, "Interval"),
        timeout_seconds=_seconds(members, "Timeout"),
        start_period_seconds=_seconds(members, "StartPeriod"),
        retries=retries if isinstance(retries, int) and not isinstance(retries, bool) and retries > 0 else 0,
    )


def _seconds(members: Mapping[str, object], name: str) -> float:
    value = members.get(name)
    if value is None:
        return 0.0
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ManifestInvalidError(f"config.Healthcheck.{name} must be nanoseconds, 0 or more")
    return value / _NANOSECONDS
