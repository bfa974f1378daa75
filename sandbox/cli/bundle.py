"""``seatrial bundle``: an image as ``config.json`` and ``rootfs/``, which any OCI runtime starts."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.contract.capabilities import parse_allowed
from registry.contract.limits import Limits, PrepareLimits
from registry.errors import RequestInvalidError
from sandbox.cli.workshop import (
    ImageArgument,
    JsonOption,
    PasswordFileOption,
    PlainHttpOption,
    PlatformOption,
    UsernameOption,
    chosen_platform,
    configure_logs,
    read_credentials,
)
from sandbox.errors import SandboxError

if TYPE_CHECKING:
    from registry.oci.platform import Platform
    from sandbox.ids import IdRange
    from sandbox.images.pull import PulledImage

# Room for the few files and folders that are added to the image before it is copied.
_ADDED_BYTES = 16 * 1024 * 1024
_README = """\
An OCI bundle of {image}
({digest}, {platform})

Start it with an OCI runtime, as the user who made it:

    {start}

It runs with the image's own command, in namespaces of its own, without a network, under the limits in
config.json; its output goes to this terminal, and its exit code is the runtime's. Change process.args in
config.json to run something else.

The files in rootfs/ belong to the ids that config.json maps into the run (linux.uidMappings). Every
folder above this one must let others pass (mode 0711 or more). Nothing else refers to the bundle.
{limits}"""
_NO_LIMITS = "\nMade without root: memory and processor time are limited for each process alone.\n"


@dataclass(frozen=True, slots=True)
class _Written:
    image: PulledImage
    document: dict[str, Any]
    limited: bool


def command(
    *,
    image: ImageArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make; it must not be there yet.")],
    platform: PlatformOption = None,
    allow_capability: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-capability",
            metavar="NAME",
            help="Give the bundle this capability beside those that its user has. Can be repeated.",
        ),
    ] = None,
    username: UsernameOption = None,
    password_file: PasswordFileOption = None,
    plain_http: PlainHttpOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the image as a bundle: config.json and rootfs/, which any OCI runtime can run.

    The folder also gets a README with the line that starts it. Exit code 0 when it is written, 2 when not.
    """
    from sandbox.rootless import enter_user_namespace  # noqa: PLC0415

    enter_user_namespace()
    configure_logs("text", quiet=True)
    credentials = read_credentials(username, password_file)
    folder = Path(os.path.abspath(folder))
    chosen, given = chosen_platform(platform), parse_allowed(allow_capability or ())
    _make(folder)
    try:
        written = asyncio.run(
            _write(image, folder, chosen, given, credentials=credentials, plain_http=plain_http)
        )
    except BaseException:
        from sandbox.images.cache import remove_path  # noqa: PLC0415

        remove_path(folder)
        raise
    _say(image, folder, written, as_json=as_json)


def _make(folder: Path) -> None:
    closed = [str(one) for one in folder.parents if one.is_dir() and not one.stat().st_mode & 0o001]
    if closed:
        # The run is another user than whoever starts it.
        raise RequestInvalidError(
            f"{closed[0]} lets no other user pass, and a run has users of its own: name a folder elsewhere, "
            f"or chmod o+x {shlex.join(closed)}"
        )
    try:
        folder.mkdir(mode=0o711)
        folder.chmod(0o711)
    except FileExistsError:
        raise RequestInvalidError(f"{folder} is there already; name a new folder") from None
    except OSError as error:
        raise RequestInvalidError(f"{folder} cannot be made: {error.strerror}") from None


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder beside the bundle, on the same file system, gone at the end."""
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as name:
        scratch = Path(name)
        scratch.chmod(0o711)
        yield scratch


async def _write(
    image: str,
    folder: Path,
    platform: Platform,
    capabilities: frozenset[str],
    *,
    credentials: tuple[str, str] | None,
    plain_http: bool,
) -> _Written:
    from registry.contract.plan import NoCommandError, make_plan  # noqa: PLC0415
    from sandbox.ids import leased_ids  # noqa: PLC0415
    from sandbox.images.cache import Cache  # noqa: PLC0415
    from sandbox.images.pull import pull  # noqa: PLC0415
    from sandbox.images.rootfs import mounted_rootfs  # noqa: PLC0415
    from sandbox.images.snapshots import prepare  # noqa: PLC0415
    from sandbox.images.source import open_source  # noqa: PLC0415
    from sandbox.runtimes.isolation import privileged  # noqa: PLC0415

    limits = PrepareLimits()
    with _scratch(folder) as state, Cache(state / "cache").used() as use:
        run_dir = state / "run"
        run_dir.mkdir(mode=0o711)
        async with open_source(image, credentials=credentials, insecure=plain_http) as (source, reference):
            pulled = await pull(source, reference, platform=platform, use=use, limits=limits)
        try:
            plan = make_plan(pulled.config, None, limits=Limits(), ceiling=Limits(), image_spec_allowed=False)
            plan = replace(plan, capabilities=tuple(sorted(capabilities)))
        except NoCommandError:
            raise SandboxError("no-command", "the image has no entrypoint and no command") from None
        prepared = await prepare(pulled, limits, use)
        with leased_ids() as ids:
            mounting = mounted_rootfs(prepared, run_dir, ids, written_bytes=_ADDED_BYTES)
            async with mounting as mounted:
                document = _document(plan, pulled, mounted.path, ids)
                _copy(mounted.path, folder / "rootfs")
                if not privileged():
                    _shift_owners(folder / "rootfs", by=-ids.base)
    (folder / "config.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return _Written(pulled, document, privileged())


def _document(plan: Any, pulled: PulledImage, root: Path, ids: IdRange) -> dict[str, Any]:
    """Check the image, put in what a bundle needs, and say how it is run."""
    from sandbox.bundles.assemble import assemble  # noqa: PLC0415
    from sandbox.bundles.rootfs import open_rootfs  # noqa: PLC0415
    from sandbox.runtimes.cgroups import find_cgroups  # noqa: PLC0415
    from sandbox.runtimes.isolation import privileged, read_surroundings  # noqa: PLC0415

    with open_rootfs(root) as rootfs:
        document = assemble(
            plan,
            pulled.config,
            rootfs=rootfs,
            root=root,
            ids=ids,
            cgroups_path=None,
            # Not every runtime knows the time namespace.
            surroundings=read_surroundings(find_cgroups(), time_namespace=False),
            downgrades=frozenset() if privileged() else frozenset({"cgroup-limits"}),
        )
    # From the bundle's own folder, so that it can be moved.
    document["root"] = {"path": "rootfs", "readonly": False}
    if not privileged():
        # A plain user's runtime gives the run's root the user's own id, which opens terminal and pipes to it.
        linux: Any = document["linux"]
        linux |= {f"{kind}Mappings": _own_map(kind) for kind in ("uid", "gid")}
    return document


def _copy(root: Path, target: Path) -> None:
    """Copy the tree as it is. Nothing in it is followed, and nothing in it runs."""
    result = subprocess.run(
        ["cp", "--archive", "--", str(root), str(target)],
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if result.returncode != 0:
        text = result.stderr.decode("utf-8", "replace").strip().rpartition(":")[2]
        raise SandboxError("worker-disk", f"the root file system cannot be copied:{text[:200]}")


def _own_map(kind: str) -> list[dict[str, int]]:
    """The worker's own map of ids, as it would be written from outside."""
    lines = Path(f"/proc/self/{kind}_map").read_text(encoding="ascii").splitlines()
    return [
        dict(zip(("containerID", "hostID", "size"), map(int, line.split()), strict=True)) for line in lines
    ]


def _shift_owners(root: Path, *, by: int) -> None:
    """Move the owners of a whole tree; nothing in it is followed."""
    linked: set[int] = set()
    for _, folders, files, fd in os.fwalk(root, follow_symlinks=False):
        # A real folder gets its turn as "." of its own; a link to one never does.
        links = [
            name for name in folders if stat.S_ISLNK(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
        ]
        for name in (".", *files, *links):
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
                if found.st_ino in linked:
                    continue
                linked.add(found.st_ino)
            os.chown(name, found.st_uid + by, found.st_gid + by, dir_fd=fd, follow_symlinks=False)
            if stat.S_IMODE(found.st_mode) & 0o6000 and not stat.S_ISLNK(found.st_mode):
                os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=fd)


def _say(image: str, folder: Path, written: _Written, *, as_json: bool) -> None:
    start = f"runc run --bundle {shlex.quote(str(folder))} {written.image.digest.encoded[:12]}"
    text = _README.format(
        image=image,
        digest=written.image.digest,
        platform=written.image.platform,
        start=start,
        limits="" if written.limited else _NO_LIMITS,
    )
    (folder / "README").write_text(text, encoding="utf-8")
    if as_json:
        document = {
            "image": image,
            "digest": str(written.image.digest),
            "platform": str(written.image.platform),
            "bundle": str(folder),
            "config": str(folder / "config.json"),
            "rootfs": str(folder / "rootfs"),
            "command": written.document["process"]["args"],
            "capabilities": written.document["process"]["capabilities"]["bounding"],
            "uid_mappings": written.document["linux"]["uidMappings"],
            "limited": written.limited,
            "start": start,
        }
        typer.echo(json.dumps(document, indent=2))
        return
    typer.echo(f"{folder}: bundle of {written.image.digest}\nstart it with: {start}")
