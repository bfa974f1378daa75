"""The program that unpacks one layer. It starts with the worker's rights, sets up the tree to write to, gives
everything else up, and only then reads the layer.

Started as a process of its own with one JSON argument (:class:`Task`), the layer as standard input, and the
result as one line of JSON on standard output. It imports nothing heavy, and nothing once it is confined.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import sys
from dataclasses import dataclass

from sandbox import syscalls as kernel
from sandbox.images import confine
from sandbox.images.layerstream import LayerReader, members
from sandbox.images.layerwriter import LayerWriter
from sandbox.images.tarpolicy import LayerError, read_entry, shown

_LAYER_FD = 0
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_AUTHOR_ERRORS = (
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.EILSEQ,
    errno.EMLINK,
    errno.ELOOP,
    errno.EFBIG,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
)


@dataclass(frozen=True, slots=True)
class Task:
    """What to unpack where. ``work`` is a folder with the folders ``fs`` (the result), ``work`` and ``mnt``;
    ``lower`` are finished layers, base first. ``base`` and ``size`` are the ids of the child; ``mapped`` says
    that files keep the image's own ids on disk (by id-mapped mounts) instead of these."""

    parent_pid: int
    work: str
    lower: tuple[str, ...]
    base: int
    size: int
    mapped: bool
    userxattr: bool
    algorithm: str
    max_bytes: int
    max_files: int
    reserve_bytes: int
    cpu_seconds: int


def main(argument: str) -> int:
    """Run the task; the exit code is 0 when a result line was written, be it an error."""
    fields = json.loads(argument)
    task = Task(**{**fields, "lower": tuple(fields["lower"])})
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.umask(0)
    try:
        out_fd = _confined_tree(task)
        code = confine.fork_last(task.parent_pid, lambda: _inner(task, out_fd))
    except OSError as error:
        return _answer({"error": "isolation-missing", "message": _what_is_missing(error)})
    return 1 if code is None else code


def _confined_tree(task: Task) -> int:
    """Mount the tree, enter the empty world, and return the handle of the tree's root."""
    with kernel.user_namespace(task.base, task.size) as userns_fd:
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_SLAVE)
        out_fd = _tree(task, userns_fd)
        confine.enter_empty_world(userns_fd)
    return out_fd


def _tree(task: Task, userns_fd: int) -> int:
    idmap = userns_fd if task.mapped else None
    if not task.lower:
        return kernel.clone_tree(f"{task.work}/fs", userns_fd=idmap)
    os.chdir(f"{task.work}/mnt")
    # Nobody but this process sees these mounts; the overlay keeps what it needs of them.
    kernel.mount("none", ".", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=700")
    os.chdir(f"{task.work}/mnt")
    for number, source in enumerate((task.work, *task.lower)):
        os.mkdir(str(number))
        tree = kernel.clone_tree(source, userns_fd=idmap, read_only=number > 0)
        kernel.attach_tree(tree, str(number))
        os.close(tree)
    os.mkdir("merged")
    below = ":".join(str(number) for number in range(len(task.lower), 0, -1))
    options = f"lowerdir={below},upperdir=0/fs,workdir=0/work,metacopy=off,redirect_dir=nofollow,index=off"
    if task.userxattr:
        options = f"{options},userxattr"
    # The overlay makes files as whoever mounts it, and root has no id in an id-mapped folder.
    with kernel.file_system_ids(task.base if task.mapped else 0):
        kernel.mount("none", "merged", "overlay", kernel.MS_NOSUID | kernel.MS_NODEV, options)
    return kernel.clone_tree("merged")


def _inner(task: Task, out_fd: int) -> int:
    try:
        landlocked = confine.give_up_rights(
            out_fd, confine.Rlimits(cpu_seconds=task.cpu_seconds, file_bytes=max(task.max_bytes, 4096))
        )
    except OSError as error:
        return _answer({"error": "isolation-missing", "message": _what_is_missing(error)})
    return _answer({**_unpack(task, out_fd), "landlock": landlocked})


def _unpack(task: Task, out_fd: int) -> dict[str, object]:
    # Headers and padding come on top of what files may have.
    reader = LayerReader(
        _LAYER_FD, algorithm=task.algorithm, max_bytes=task.max_bytes + 4096 * task.max_files + 1024 * 1024
    )
    writer = LayerWriter(
        out_fd,
        lower=bool(task.lower),
        max_bytes=task.max_bytes,
        max_files=task.max_files,
        reserve_bytes=task.reserve_bytes,
    )
    name: str | None = None
    try:
        for info, data_end in members(reader):
            name = info.name
            writer.apply(read_entry(info), reader, data_end)
            name = None
        writer.finish()
        return {"diff_id": reader.finish(), **dataclasses.asdict(writer.counts)}
    except LayerError as error:
        reason, text = error.reason, error.message
    except MemoryError:
        reason, text = "layer-invalid", "needs more memory than unpacking may use"
    except OSError as error:
        text = f"cannot be made: {error.strerror}"
        reason = "worker-error"
        if error.errno in _NO_SPACE:
            reason, text = "worker-disk", "the worker's disk is full"
        elif error.errno in _AUTHOR_ERRORS:
            reason = "layer-invalid"
    return {"error": reason, "message": text, "member": None if name is None else shown(name)}


def _what_is_missing(error: OSError) -> str:
    text = f"this host cannot confine the unpacking of layers ({error.args[-1]})"
    if "mount_setattr" in str(error):
        return f"{text}: the state folder's file system cannot map ids; ext4, xfs, btrfs and tmpfs can"
    return text


def _answer(result: dict[str, object]) -> int:
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    return 0
