"""Another registry, as images are brought from it: its repositories, their tags, and what refers to images.

Nothing of what it says is trusted: names and tags are parsed, lists have an end, and each manifest is
verified by its digest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from registry.cli.artifactclient import ArtifactClient
from registry.cli.client import CallError
from registry.errors import SeatrialError
from registry.layouts.errors import LayoutError
from registry.oci.descriptor import Descriptor, parse_descriptor
from registry.oci.digest import Digest, digest_of, parse_content_digest
from registry.oci.manifest import parse_manifest
from registry.oci.names import ImageName, parse_repository_name, parse_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from pathlib import Path

REPOSITORIES_MAX = 100_000
TAGS_MAX = 100_000
"""Of one repository."""
_REFERRERS_MAX = 10_000
_FALLBACK = re.compile(r"(sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128})")
"""The tag of an index of referrers, for registries without a list of them (distribution-spec, "Referrers Tag
Schema")."""
_ATTACHED = re.compile(r"(sha256-[0-9a-f]{64})\.(?:sig|att|sbom)")
"""The tag under which older cosign keeps what belongs to an image."""


def fallback_tag(digest: Digest) -> str:
    """The tag under which clients list what refers to an image, where the registry does not."""
    return f"{digest.algorithm[:32]}-{digest.encoded[:64]}"


def chosen(listed: Iterable[str], asked: Sequence[str], excluded: Sequence[str]) -> list[str]:
    """The names that are asked for, or fit a pattern (none asked: all that are listed), but for the excluded
    ones.

    Raises:
        NameInvalidError: one is neither.
    """
    found: dict[str, None] = {}
    for one in asked or ("*",):
        if "*" in one:
            found |= dict.fromkeys(name for name in listed if fnmatchcase(name, _literal(one)))
        else:
            found[parse_repository_name(one)] = None
    return [name for name in found if not any(fnmatchcase(name, _literal(one)) for one in excluded)]


def is_fallback_tag(tag: str) -> bool:
    """Whether a tag is such a list, and no name of an image."""
    return _FALLBACK.fullmatch(tag) is not None


@dataclass(slots=True)
class Tags:
    """The tags of a repository: those that are wanted, those that list referrers, and how many else."""

    wanted: list[str] = field(default_factory=list)
    attached: list[str] = field(default_factory=list)
    fallback: set[str] = field(default_factory=set)
    other: int = 0


@dataclass(slots=True)
class OtherRegistry:
    """The registry at ``url``; ``credentials`` and ``authorization`` as of an :class:`ArtifactClient`."""

    url: str
    credentials: tuple[str, str] | None
    authorization: str | None
    ca_file: Path | None
    token_host: str = ""
    """Where besides the registry the credentials may be sent."""
    has_referrers: bool = True
    """Whether it lists what refers to an image; false, once it said that it does not."""

    @property
    def host(self) -> str:
        """What it is called in messages."""
        return urlsplit(self.url).netloc

    def repository(self, name: str) -> ArtifactClient:
        """One of its repositories, for one thread."""
        image = ImageName(self.host, name, None, None)
        client = ArtifactClient(self.url, image, self.credentials, self.authorization, self.ca_file)
        return replace(client, token_host=self.token_host)

    def names(self, asked: Sequence[str], excluded: Sequence[str]) -> list[str]:
        """The repositories of these names and patterns (none: all), but for the excluded ones.

        Raises:
            CallError: it lists none, refuses, or cannot be reached.
        """
        listed: list[str] = []
        if not asked or any("*" in one for one in asked):
            listed = sorted(self._catalog())
        return chosen(listed, asked, excluded)

    def _catalog(self) -> set[str]:
        client = replace(self.repository("_catalog"), scope="registry:catalog:*")
        names = set()
        try:
            for name in client.listed(f"{self.url}/v2/_catalog?n=1000", "repositories"):
                names.add(_checked(parse_repository_name, name, self.host))
                if len(names) > REPOSITORIES_MAX:
                    raise CallError(f"{self.host} has more than {REPOSITORIES_MAX} repositories", status=0)
        except CallError as error:
            if error.status not in (401, 403, 404, 405):
                raise
            raise CallError(
                f"{self.host} does not list its repositories ({error.status}); name those that you want",
                status=error.status,
            ) from None
        return names


def sorted_tags(client: ArtifactClient, means: Sequence[Callable[[str], bool]]) -> Tags:
    """The tags of a repository, of which one of ``means`` holds (none: all).

    Raises:
        CallError: refused, failed or not reached.
    """
    tags = Tags()
    for number, one in enumerate(client.listed("tags/list?n=1000", "tags")):
        tag = _checked(parse_tag, one, client.name.host)
        if number >= TAGS_MAX:
            raise CallError(f"{client.name.repository} has more than {TAGS_MAX} tags", status=0)
        if is_fallback_tag(tag):
            tags.fallback.add(tag)
        elif means and _ATTACHED.fullmatch(tag):
            tags.attached.append(tag)
        elif means and not any(test(tag) for test in means):
            tags.other += 1
        else:
            tags.wanted.append(tag)
    return tags


def attached_to(tags: Tags, digests: Iterable[Digest]) -> list[str]:
    """The tags under which older cosign keeps what belongs to these images."""
    here = {fallback_tag(digest) for digest in digests}
    return [tag for tag in tags.attached if (found := _ATTACHED.fullmatch(tag)) and found[1] in here]


def digest_under(client: ArtifactClient, tag: str) -> Digest:
    """The digest of what a tag names.

    Raises:
        CallError: refused, failed or not reached, or it names nothing.
        SeatrialError: what is answered is no digest.
    """
    stated = client.digest_at(tag)
    if stated is None:
        raise CallError(f"{client.name.host} lists the tag and has nothing under it", status=404)
    return parse_content_digest(stated) if stated else digest_of(client.manifest_of(tag))


def referrers_of(
    other: OtherRegistry, client: ArtifactClient, subject: Digest, fallback: Collection[str]
) -> list[Descriptor]:
    """What refers to an image, as the list of the registry and the tag instead of it say.

    Raises:
        CallError: refused, failed or not reached.
        LayoutError: what is answered are no descriptors.
    """
    found: dict[Digest, Descriptor] = {}
    if other.has_referrers:
        try:
            for one in islice(client.listed(f"referrers/{subject}", "manifests"), _REFERRERS_MAX):
                each = parse_descriptor(one, "a referrer")
                found.setdefault(each.digest, each)
        except CallError as error:
            if error.status not in (404, 405):
                raise
            other.has_referrers = False
        except LayoutError:
            raise
        except SeatrialError as error:
            raise LayoutError("invalid", f"the referrers of {subject}: {error.message}") from None
    tag = fallback_tag(subject)
    if tag in fallback:
        try:
            listed = parse_manifest(client.manifest_of(tag)).children
        except CallError:
            raise
        except SeatrialError as error:
            raise LayoutError("invalid", f"the index under {tag}: {error.message}") from None
        for each in listed[:_REFERRERS_MAX]:
            found.setdefault(each.digest, each)
    return list(found.values())


def _checked(parse: Callable[[str], str], one: object, host: str) -> str:
    try:
        return parse(one if isinstance(one, str) else "")
    except SeatrialError as error:
        raise CallError(f"{host} lists what is none: {error.message}", status=0) from None


def _literal(pattern: str) -> str:
    """``*`` means any characters; what else means something to ``fnmatch`` means itself."""
    return pattern.replace("[", "[[]").replace("?", "[?]")
