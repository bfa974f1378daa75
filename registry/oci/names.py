"""Names: repository, tag, reference, and the full image name a person types."""

from __future__ import annotations

import re
from dataclasses import dataclass

from registry.errors import DigestInvalidError, NameInvalidError, TagInvalidError
from registry.oci.digest import Digest, parse_content_digest, parse_digest

NAME_MAX = 255
COMPONENT_MAX = 128
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_HOST = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]{0,251}[a-zA-Z0-9])?|\[[0-9a-fA-F:.]{2,45}\])(?::[0-9]{1,5})?"
)


def parse_repository_name(text: str) -> str:
    """Check a repository name (distribution-spec, "Pulling manifests", the name grammar) and return it.

    Raises:
        NameInvalidError: outside the grammar, or longer than the limits.
    """
    if not text or len(text) > NAME_MAX:
        raise NameInvalidError(f"a repository name has 1 to {NAME_MAX} characters, this one has {len(text)}")
    for component in text.split("/"):
        if len(component) > COMPONENT_MAX or not _COMPONENT.fullmatch(component):
            raise NameInvalidError(
                f"{component[:80]!r} in {text[:80]!r} breaks the grammar of repository names: lower-case "
                "letters and digits, separated by single '.', '_', '__' or dashes"
            )
    return text


def parse_tag(text: str) -> str:
    """Check a tag and return it.

    Raises:
        TagInvalidError: outside the grammar (128 characters at most).
    """
    if not _TAG.fullmatch(text):
        raise TagInvalidError(
            f"{text[:80]!r} is not a tag: 1 to 128 letters, digits, '_', '.', '-', the first no '.' or '-'"
        )
    return text


def parse_reference(text: str) -> str | Digest:
    """A tag (``str``) or a digest of stored content (:class:`Digest`), as in ``manifests/<reference>``.

    Raises:
        TagInvalidError, DigestInvalidError: neither.
    """
    return parse_content_digest(text) if ":" in text else parse_tag(text)


@dataclass(frozen=True, slots=True)
class ImageName:
    """``HOST/NAME:TAG`` or ``HOST/NAME@DIGEST``; a name with both keeps both, and the digest decides."""

    host: str
    repository: str
    tag: str | None
    digest: Digest | None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.host}/{self.repository}{tag}{digest}"

    @property
    def reference(self) -> str:
        """What goes after ``/manifests/``."""
        return str(self.digest) if self.digest else (self.tag or "latest")


def parse_image_name(text: str) -> ImageName:
    """Parse the full name of an image in a registry; the host is required, the tag defaults to ``latest``.

    Raises:
        NameInvalidError, TagInvalidError, DigestInvalidError: with the part that is wrong.
    """
    host, slash, rest = text.partition("/")
    if not slash or not _HOST.fullmatch(host) or not ("." in host or ":" in host or host == "localhost"):
        raise NameInvalidError(
            f"{text[:80]!r} does not start with a registry host, as in host.example/team/app:tag"
        )
    repository, tag, digest = split_repository_reference(rest)
    return ImageName(host, repository, tag if (tag or digest) else "latest", digest)


def split_repository_reference(text: str) -> tuple[str, str | None, Digest | None]:
    """Split ``NAME[:TAG][@DIGEST]`` into its checked parts.

    Raises:
        NameInvalidError, TagInvalidError, DigestInvalidError: with the part that is wrong.
    """
    rest, at, digest_text = text.partition("@")
    if at and not digest_text:
        raise DigestInvalidError(f"nothing follows the '@' in {text[:80]!r}")
    digest = parse_digest(digest_text) if at else None
    name, colon, tag_text = rest.partition(":")
    tag = parse_tag(tag_text) if colon else None
    return parse_repository_name(name), tag, digest
