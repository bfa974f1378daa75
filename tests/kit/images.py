"""Images made from Python, without a container tool: valid ones and evil ones.

A test says what stands in each layer and in the config; this writes the blobs, ``oci-layout`` and
``index.json`` and knows every digest::

    image = busybox_image(["/bin/sh", "-c", "exit 3"], env=["A=b"])
    write_layout(tmp_path / "img", image, tag="v1")           # oci:FOLDER:v1
    evil = make_image(make_layer(file("../out", b"x")), config={"Cmd": ["/x"]})

Nothing is validated: what a test asks for is written, however wrong it is.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import shutil
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Compression = Literal["gzip", "zstd", "none"]

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
REF_NAME = "org.opencontainers.image.ref.name"
MTIME = 1_700_000_000
BUSYBOX = Path("/bin/busybox")
APPLETS = """
    sh ash cat chmod chown cp cut date dd df dmesg echo env expr false find grep head httpd id kill ln ls
    mkdir mkfifo mknod mount mv nc nslookup ping printf ps pwd readlink rm rmdir sed seq setsid sleep sort
    stat sync tail tar tee test touch tr trap true umount uname vi wc wget which whoami xargs yes
"""


@dataclass(frozen=True, slots=True)
class Member:
    """One tar member. ``type`` is a ``tarfile`` constant; ``pax`` are extended header records.

    ``raw`` replaces header and data by bytes of the test's own making.
    """

    name: str
    type: bytes = tarfile.REGTYPE
    data: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    link: str = ""
    mtime: float = MTIME
    major: int = 0
    minor: int = 0
    pax: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None


def file(name: str, data: bytes = b"", mode: int = 0o644, **attrs: Any) -> Member:
    """A regular file."""
    return Member(name, data=data, mode=mode, **attrs)


def folder(name: str, mode: int = 0o755, **attrs: Any) -> Member:
    """A folder."""
    return Member(name, tarfile.DIRTYPE, mode=mode, **attrs)


def symlink(name: str, target: str, **attrs: Any) -> Member:
    """A symbolic link."""
    return Member(name, tarfile.SYMTYPE, link=target, mode=0o777, **attrs)


def hardlink(name: str, target: str, **attrs: Any) -> Member:
    """A hard link to a path of the image."""
    return Member(name, tarfile.LNKTYPE, link=target, **attrs)


def fifo(name: str, **attrs: Any) -> Member:
    """A named pipe."""
    return Member(name, tarfile.FIFOTYPE, **attrs)


def device(name: str, kind: Literal["c", "b"], major: int, minor: int, **attrs: Any) -> Member:
    """A character or block device node."""
    node = tarfile.CHRTYPE if kind == "c" else tarfile.BLKTYPE
    return Member(name, node, major=major, minor=minor, **attrs)


def whiteout(path: str) -> Member:
    """The marker that removes ``path`` of lower layers."""
    parent, slash, name = path.rpartition("/")
    return Member(f"{parent}{slash}.wh.{name}")


def opaque(path: str) -> Member:
    """The marker that hides everything lower layers have in the folder ``path``."""
    return Member(f"{path}/.wh..wh..opq")


def xattrs(**values: str) -> dict[str, str]:
    """Extended header records for extended attributes; ``__`` in a name stands for a dot."""
    return {f"SCHILY.xattr.{name.replace('__', '.')}": value for name, value in values.items()}


def make_tar(members: Iterable[Member]) -> bytes:
    """The members as an uncompressed tar, names and numbers exactly as given."""
    out = io.BytesIO()
    for member in members:
        if member.raw is not None:
            out.write(member.raw)
            continue
        info = tarfile.TarInfo(member.name)
        info.type = member.type
        info.mode, info.uid, info.gid = member.mode, member.uid, member.gid
        info.mtime, info.linkname = member.mtime, member.link
        info.devmajor, info.devminor = member.major, member.minor
        info.pax_headers = dict(member.pax)
        info.size = len(member.data)
        out.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        out.write(member.data + b"\0" * (-len(member.data) % 512))
    out.write(b"\0" * 1024)
    return out.getvalue()


def raw_member(
    name: bytes, *, size: bytes = b"00000000000", kind: bytes = b"0", data: bytes = b"", **fields: bytes
) -> Member:
    """A ustar header written field by field (``mode uid gid mtime link``), with a correct checksum: for
    numbers and names that no library would write."""
    block = bytearray(512)
    block[0 : min(len(name), 100)] = name[:100]
    layout = {"mode": (100, 8), "uid": (108, 8), "gid": (116, 8), "mtime": (136, 12), "link": (157, 100)}
    values = {"mode": b"0000644", "uid": b"0000000", "gid": b"0000000", "mtime": b"00000000000"} | fields
    for key, value in values.items():
        start, length = layout[key]
        block[start : start + min(len(value), length)] = value[:length]
    block[124 : 124 + len(size[:12])] = size[:12]
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return Member("", raw=bytes(block) + data + b"\0" * (-len(data) % 512))


def tiny_files(count: int) -> Iterator[bytes]:
    """Members of a tar, one for each of ``count`` files of one byte, in a thousand folders; made fast."""
    blank = raw_member(b"", size=b"00000000001").raw
    assert blank is not None
    rest = sum(blank[100:148]) + 8 * 0x20 + sum(blank[156:512])
    for number in range(count):
        name = b"tiny/%03d/%07d" % (number % 1000, number)
        checksum = b"%06o\0 " % (rest + sum(name))
        yield name.ljust(100, b"\0") + blank[100:148] + checksum + blank[156:] + b"x".ljust(512, b"\0")


def compress(data: bytes, compression: Compression) -> bytes:
    """``data`` as gzip (fast, reproducible), zstd or plain."""
    if compression == "gzip":
        return gzip.compress(data, compresslevel=1, mtime=0)
    if compression == "zstd":
        return zstd.compress(data, level=1)
    return data


def digest_of(data: bytes) -> str:
    """``sha256:…`` of ``data``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Layer:
    """The bytes of a layer as they are pushed, their media type, and the digest of what they unpack to."""

    blob: bytes = field(repr=False)
    media_type: str
    diff_id: str

    @property
    def digest(self) -> str:
        """Digest of :attr:`blob`."""
        return digest_of(self.blob)


def make_layer(*members: Member, compression: Compression = "gzip") -> Layer:
    """A layer of these members."""
    return layer_of(make_tar(members), compression=compression)


def layer_of(tar: bytes, *, compression: Compression = "gzip") -> Layer:
    """A layer of these uncompressed bytes, be they a tar or not."""
    suffix = {"gzip": "+gzip", "zstd": "+zstd", "none": ""}[compression]
    return Layer(compress(tar, compression), OCI_LAYER + suffix, digest_of(tar))


@dataclass(frozen=True, slots=True)
class Image:
    """An image: the bytes of its manifest and config, and its layers. ``platform`` is for an index."""

    manifest: bytes
    config: bytes
    layers: tuple[Layer, ...]
    platform: str = "linux/amd64"
    media_type: str = OCI_MANIFEST
    extra: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """More blobs, by digest: the manifests of an index's children and all they are made of."""

    @property
    def digest(self) -> str:
        """Digest of the manifest."""
        return digest_of(self.manifest)

    def blobs(self) -> dict[str, bytes]:
        """Every blob by digest, the manifest too."""
        found = {digest_of(self.manifest): self.manifest, **self.extra}
        if self.config:
            found[digest_of(self.config)] = self.config
        return found | {layer.digest: layer.blob for layer in self.layers}


def make_image(
    *layers: Layer,
    config: Mapping[str, object] | None = None,
    platform: str = "linux/amd64",
    document: Mapping[str, object] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Image:
    """An image of these layers. ``config`` is its ``config`` member (``Cmd``, ``Env`` …); ``document``
    overrides members of the whole configuration document (``rootfs``, ``os`` …)."""
    os_name, architecture, *variant = platform.split("/")
    whole: dict[str, object] = {
        "architecture": architecture,
        "os": os_name,
        "config": dict(config or {}),
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    }
    if variant:
        whole["variant"] = variant[0]
    raw_config = to_json(whole | dict(document or {}))
    manifest: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(raw_config, OCI_CONFIG),
        "layers": [descriptor(layer.blob, layer.media_type) for layer in layers],
    }
    if annotations:
        manifest["annotations"] = dict(annotations)
    return Image(to_json(manifest), raw_config, layers, platform)


def make_index(
    *images: Image, attestations: Sequence[Image] = (), more: Sequence[Mapping[str, object]] = ()
) -> Image:
    """An index of these images; ``attestations`` become ``unknown/unknown`` children; ``more`` are
    descriptors as given."""
    children: list[Mapping[str, object]] = []
    for image in images:
        os_name, architecture, *variant = image.platform.split("/")
        platform = {"os": os_name, "architecture": architecture}
        if variant:
            platform["variant"] = variant[0]
        children.append(descriptor(image.manifest, image.media_type) | {"platform": platform})
    unknown = {
        "platform": {"os": "unknown", "architecture": "unknown"},
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
    }
    children += [descriptor(one.manifest, one.media_type) | unknown for one in attestations]
    raw = to_json(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*children, *(dict(one) for one in more)]}
    )
    extra: dict[str, bytes] = {}
    for image in (*images, *attestations):
        extra |= image.blobs()
    return Image(raw, b"", (), media_type=OCI_INDEX, extra=extra)


def make_referrer(subject: str, *contents: bytes, artifact_type: str, media_type: str) -> Image:
    """A referrer of the manifest ``subject``, with these as its layers."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": descriptor(b"{}", "application/vnd.oci.empty.v1+json"),
        "layers": [descriptor(content, media_type) for content in contents],
        "subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": 2},
    }
    blobs = {digest_of(content): content for content in contents}
    return Image(to_json(manifest), b"{}", (), extra=blobs)


def busybox_layer(*, compression: Compression = "gzip") -> Layer:
    """``/bin/busybox`` (Debian's static one) with links for its common applets, ``/tmp``, ``/etc/passwd``
    with root and ``app`` (1000), and ``/etc/group``."""
    return _busybox_layer(compression)


@functools.cache
def _busybox_layer(compression: Compression) -> Layer:
    return make_layer(
        folder("bin"),
        file("bin/busybox", BUSYBOX.read_bytes(), 0o755),
        *(symlink(f"bin/{name}", "busybox") for name in APPLETS.split()),
        folder("etc"),
        file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n"),
        file("etc/group", b"root:x:0:\napp:x:1000:\n"),
        folder("home"),
        folder("home/app", uid=1000, gid=1000),
        folder("root", 0o700),
        folder("tmp", 0o1777),
        folder("var"),
        compression=compression,
    )


def busybox_image(
    command: Sequence[str] = ("/bin/sh", "-c", "echo hello"),
    *,
    layers: Sequence[Layer] = (),
    compression: Compression = "gzip",
    platform: str = "linux/amd64",
    env: Sequence[str] = (),
    user: str = "",
    working_dir: str = "",
    ports: Sequence[str] = (),
    volumes: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    healthcheck: Sequence[str] | Mapping[str, object] = (),
    entrypoint: Sequence[str] = (),
    **config: object,
) -> Image:
    """An image that runs ``command`` from a static busybox, with ``layers`` on top.

    ``healthcheck`` is Docker's ``Test`` list, or the whole object; ``ports`` as in ``["8080/tcp"]``.
    """
    if healthcheck and not isinstance(healthcheck, Mapping):
        healthcheck = {"Test": list(healthcheck)}
    members: dict[str, object] = {
        "Cmd": list(command),
        "Entrypoint": list(entrypoint),
        "Env": list(env),
        "User": user,
        "WorkingDir": working_dir,
        "ExposedPorts": {port: {} for port in ports},
        "Volumes": {path: {} for path in volumes},
        "Labels": dict(labels or {}),
        "Healthcheck": healthcheck,
    }
    kept = {name: value for name, value in members.items() if value} | config
    return make_image(busybox_layer(compression=compression), *layers, config=kept, platform=platform)


def descriptor(content: bytes, media_type: str) -> dict[str, object]:
    """The descriptor of ``content``."""
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def to_json(document: object) -> bytes:
    """Compact JSON bytes."""
    return json.dumps(document, separators=(",", ":")).encode()


def write_layout(into: Path, *images: Image, tag: str | Sequence[str] = "latest") -> Path:
    """Write an OCI layout folder with these images, the n-th under the n-th tag; returns ``into``."""
    tags = [tag] if isinstance(tag, str) else list(tag)
    entries: list[dict[str, object]] = []
    for image, name in zip(images, tags, strict=True):
        write_blobs(into, image)
        entry = descriptor(image.manifest, image.media_type)
        entries.append(entry | ({"annotations": {REF_NAME: name}} if name else {}))
    (into / "oci-layout").write_bytes(to_json({"imageLayoutVersion": "1.0.0"}))
    (into / "index.json").write_bytes(
        to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    )
    return into


def write_blobs(into: Path, image: Image) -> None:
    """Write the image's blobs under ``into/blobs``."""
    for digest, content in image.blobs().items():
        algorithm, _, encoded = digest.partition(":")
        path = into / "blobs" / algorithm / encoded
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(content)


def write_layout_tar(path: Path, *images: Image, tag: str | Sequence[str] = "latest") -> Path:
    """An OCI layout as one tar file; returns ``path``."""
    scratch = path.with_name(path.name + ".layout")
    write_layout(scratch, *images, tag=tag)
    with tarfile.open(path, "w") as tar:
        for name in ("oci-layout", "index.json", "blobs"):
            tar.add(scratch / name, arcname=name)
    shutil.rmtree(scratch)
    return path


def write_docker_archive(path: Path, image: Image, *, name: str = "example/app:latest") -> Path:
    """What ``docker save`` writes (``manifest.json``, layers as plain tars); returns ``path``."""
    entries: dict[str, bytes] = {}
    config_name = digest_of(image.config).removeprefix("sha256:") + ".json"
    entries[config_name] = image.config
    layer_names = []
    for layer in image.layers:
        layer_name = layer.diff_id.removeprefix("sha256:") + "/layer.tar"
        layer_names.append(layer_name)
        entries[layer_name] = plain_tar(layer)
    entries["manifest.json"] = to_json([{"Config": config_name, "RepoTags": [name], "Layers": layer_names}])
    with tarfile.open(path, "w") as tar:
        for entry, content in entries.items():
            info = tarfile.TarInfo(entry)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def plain_tar(layer: Layer) -> bytes:
    """A layer's uncompressed bytes."""
    if layer.media_type.endswith("gzip"):
        return gzip.decompress(layer.blob)
    return zstd.decompress(layer.blob) if layer.media_type.endswith("zstd") else layer.blob


def with_layers(image: Image, *layers: Layer) -> Image:
    """The same manifest and config over other layer blobs: what a lying registry would serve."""
    return replace(image, layers=layers)
