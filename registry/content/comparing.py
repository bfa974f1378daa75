"""What is different between two images: their configuration and their layers. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from registry.content.inspecting import Contents, Layer
    from registry.oci.imageconfig import ImageConfig

Standing = Literal["both", "before", "after"]


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """What a part of the configuration was and is; ``None`` where one of the two does not have it. A variable
    is ``env NAME``, a label ``label NAME``."""

    part: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class ComparedLayer:
    """A layer, in which of the two it is, its size in bytes and the line that made it."""

    standing: Standing
    digest: str
    size: int
    created_by: str


def compare_configs(before: ImageConfig | None, after: ImageConfig | None) -> Sequence[ConfigChange]:
    """The parts that are not the same, in the order in which a configuration has them."""
    old, new = dict(_parts(before)), dict(_parts(after))
    return [
        ConfigChange(part, old.get(part), new.get(part))
        for part in {**old, **new}
        if old.get(part) != new.get(part)
    ]


def compare_layers(before: Contents, after: Contents) -> Sequence[ComparedLayer]:
    """The layers of both: what they share in the order of the second, then what only the first has, then what
    only the second has. Each once, however often an image has it."""
    old, new = _by_digest(before), _by_digest(after)
    return [
        *(_layer("both", new[digest]) for digest in new if digest in old),
        *(_layer("before", old[digest]) for digest in old if digest not in new),
        *(_layer("after", new[digest]) for digest in new if digest not in old),
    ]


def _by_digest(contents: Contents) -> Mapping[str, Layer]:
    return {layer.digest: layer for layer in contents.layers if layer.digest is not None}


def _layer(standing: Standing, layer: Layer) -> ComparedLayer:
    return ComparedLayer(standing, str(layer.digest), layer.size, layer.created_by)


def _parts(config: ImageConfig | None) -> Iterator[tuple[str, str]]:
    if config is None:
        return
    plain = {
        "platform": str(config.platform),
        "entrypoint": " ".join(config.entrypoint),
        "command": " ".join(config.cmd),
        "user": config.user,
        "folder": config.working_dir,
        "ports": ", ".join(map(str, config.exposed_ports)),
        "volumes": ", ".join(config.volumes),
        "stop signal": config.stop_signal,
        "healthcheck": "" if config.healthcheck is None else " ".join(config.healthcheck.command),
        "created": config.created,
    }
    yield from ((part, value) for part, value in plain.items() if value)
    for variable in config.env:
        name, _, value = variable.partition("=")
        yield f"env {name}", value
    for label, value in sorted(config.labels.items()):
        yield f"label {label}", value
