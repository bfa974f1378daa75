"""Chain IDs: what stands for a layer and all below it (image-spec, config.md, "Layer ChainID")."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from registry.oci.digest import Digest, digest_of


def chain_ids(diff_ids: Sequence[Digest]) -> Iterator[Digest]:
    """The chain ID of each layer, the lowest first."""
    chain: Digest | None = None
    for diff_id in diff_ids:
        chain = diff_id if chain is None else digest_of(f"{chain} {diff_id}".encode())
        yield chain
