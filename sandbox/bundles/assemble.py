"""From plan and image to the document of one run, with the image's tree made ready and everything checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.bundles.checks import Bundle, check_config, check_image
from sandbox.bundles.config import Surroundings, make_config
from sandbox.bundles.prepare import prepare_rootfs
from sandbox.bundles.users import random_user, resolve_user

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Address
    from pathlib import Path

    from registry.contract.plan import Plan
    from registry.oci.imageconfig import ImageConfig
    from sandbox.bundles.rootfs import Rootfs
    from sandbox.ids import IdRange


def assemble(
    plan: Plan,
    config: ImageConfig,
    *,
    rootfs: Rootfs,
    root: Path,
    ids: IdRange,
    hosts: Sequence[tuple[IPv4Address, str]] = (),
    cgroups_path: str | None,
    surroundings: Surroundings,
    downgrades: frozenset[str],
) -> dict[str, Any]:
    """The document, as :func:`make_config` says; ``rootfs`` is the open tree at ``root``, ``hosts`` what its
    /etc/hosts names beside loopback.

    Raises:
        SandboxError: ``image-refused``, ``start-failed``, ``user-unknown``, ``isolation-missing``,
            ``worker-error``.
    """
    document = make_config(
        plan,
        config,
        ids=ids,
        user=random_user(rootfs, size=ids.size)
        if plan.random_user
        else resolve_user(rootfs, plan.user, size=ids.size),
        root=root,
        cgroups_path=cgroups_path,
        surroundings=surroundings,
        downgrades=downgrades,
    )
    init = surroundings.init if plan.init else None
    given = frozenset(plan.capabilities)
    bundle = Bundle(
        document,
        rootfs,
        config.volumes,
        downgrades,
        plan.command[0],
        init,
        given,
        surroundings.network,
        surroundings.binds,
    )
    check_image(bundle)
    folders = [one.destination for one in surroundings.binds]
    prepare_rootfs(rootfs, plan, config, ids=ids, hosts=hosts, folders=folders)
    # Once more, now that what was missing is there: nothing below the mount points may have been a link.
    check_image(bundle)
    check_config(bundle)
    return document
