"""A run spec to begin with, from what an image says of itself: YAML with a comment at each choice."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from registry.oci.imageconfig import ImageConfig


def starting_spec(image: str, config: ImageConfig) -> str:
    """The spec for ``config``, which is that of ``image``. Whatever an image says, it stands as JSON."""
    return "\n".join(_lines(image, config)) + "\n"


def _lines(image: str, config: ImageConfig) -> Iterator[str]:
    yield f"# A run spec for {_shown(image)}; what stands behind # is a choice."
    yield "version: 1"
    yield from _as_it_is(config)
    ports = [port.number for port in config.exposed_ports if port.protocol == "tcp"]
    yield "limits:"
    yield "  memory_bytes: 536870912"
    yield "  alive_seconds: 5      # how long it has to answer, and is watched"
    yield "expect:"
    if config.healthcheck is not None:
        yield "  healthcheck: true     # the image has one"
    if ports:
        each = ", ".join(f"{{port: {port}}}" for port in ports[:32])
        yield f"  tcp: [{each}]"
        yield f"  # http: [{{port: {ports[0]}, path: /, status: 200}}]"
    if config.healthcheck is None and not ports:
        yield "  exit: 0               # or alive: true, for what stays up"
    else:
        yield "  stop: {within_seconds: 10}"
    yield '  # log: [{match: "ready"}, {match: "(?i)error", absent: true}]'
    yield "# stub: [{name: api.internal, port: 9000, http: {status: 200}}]   # what it must reach to start"
    yield "# checks: [starts, restricted, stops-cleanly]   # more runs; see: seatrial spec explain"


def _as_it_is(config: ImageConfig) -> Iterator[str]:
    command = (*config.entrypoint, *config.cmd)
    if command:
        yield f"# command: {_list(command)}   # the image's own"
    else:
        yield "command: [/bin/true]   # the image has none: say what is run"
    names = [entry.partition("=")[0] for entry in config.env]
    if names:
        yield f"# The image sets {_list(names)}; env adds to that."
    yield '# env: {NAME: "value"}'
    yield f"# user: {_shown(config.user or '0')}   # the image's own; random: as OpenShift runs it"
    yield "# profile: restricted   # no capability, the image's own files read-only"
    if config.volumes:
        yield f"# writable: {_list(config.volumes)}   # its volumes, in memory under read_only or restricted"


def _list(words: Sequence[str]) -> str:
    return _shown(list(words))


def _shown(value: str | list[str]) -> str:
    # One line, whatever is in it.
    text = json.dumps(value)
    return text if len(text) <= 400 else f"{text[:400]}…"
