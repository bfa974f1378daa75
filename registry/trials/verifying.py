"""What the signed statements about an image amount to, for somebody who trusts keys and nobody else. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from registry.errors import SeatrialError
from registry.oci.digest import Digest
from registry.oci.names import parse_image_name
from registry.trials.sigstore import (
    OWN_MAX_BYTES,
    BundleInvalidError,
    PublicKey,
    Statement,
    is_signed_by,
    parse_bundle,
    parse_statement,
)
from registry.trials.statements import PREDICATES, WITHOUT_ADDRESS, Signer, resource_uri

_END = "-----END PUBLIC KEY-----"


@dataclass(frozen=True, slots=True)
class Read:
    """One bundle found beside an image: the ``statement`` about the image that a trusted key signed, or else
    why it is none."""

    source: str
    statement: Statement | None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Word:
    """The registry's word on an image: its newest summary, and the newest result under each run spec."""

    summary: Mapping[str, object] | None
    results: Sequence[Mapping[str, object]]


def parse_keys(pem: str) -> list[PublicKey]:
    """The public keys of a text, one after another.

    Raises:
        ValueError: there is none, or one that cannot be used.
    """
    found: list[PublicKey] = []
    *blocks, _ = pem.split(_END)
    for block in blocks:
        try:
            key = serialization.load_pem_public_key(f"{block.strip()}\n{_END}\n".encode())
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("it holds a public key that cannot be read") from None
        if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey):
            raise ValueError("it holds a key of a kind that signs nothing here")
        found.append(key)
    if not found:
        raise ValueError("it holds no public key (PEM)")
    return found


def read_bundle(
    source: str, raw: bytes, digest: Digest, keys: Sequence[PublicKey], *, repository: str
) -> Read:
    """What a bundle says about the image ``digest`` in this repository, if one of ``keys`` signed it: what is
    good enough for one repository is not for another."""
    try:
        bundle = parse_bundle(raw, limit_bytes=OWN_MAX_BYTES)
        if not any(is_signed_by(bundle, key) for key in keys):
            return Read(source, None, "no key that is trusted here signed it")
        statement = parse_statement(bundle.payload)
    except BundleInvalidError as error:
        return Read(source, None, str(error))
    if digest not in statement.subjects:
        return Read(source, None, "it is about another image")
    if not _names(statement, digest, repository):
        return Read(source, None, f"it is about the image in {statement.subjects[digest] or 'no repository'}")
    return Read(source, statement)


def word_of(read: Iterable[Read]) -> Word:
    """What the statements say, of each kind the newest: an older one that somebody kept hides none."""
    summary: Mapping[str, object] | None = None
    results: dict[str, Mapping[str, object]] = {}
    for one in read:
        if one.statement is None:
            continue
        predicate = one.statement.predicate
        if one.statement.predicate_type == PREDICATES["summary"]:
            if summary is None or str(predicate.get("timeVerified")) > str(summary.get("timeVerified")):
                summary = predicate
        elif one.statement.predicate_type == PREDICATES["result"]:
            spec = str(predicate.get("configuration"))
            if spec not in results or _finished(predicate) > _finished(results[spec]):
                results[spec] = predicate
    return Word(summary, sorted(results.values(), key=_finished))


def own(predicate: Mapping[str, object]) -> Mapping[str, object]:
    """What a predicate has of our own."""
    members = predicate.get("seatrial")
    return members if isinstance(members, dict) else {}


def _names(statement: Statement, digest: Digest, repository: str) -> bool:
    """Whether what was signed names the image in this repository, of whichever address."""
    place, predicate = statement.subjects[digest], statement.predicate
    if statement.predicate_type != PREDICATES["summary"]:
        return repository in (place, _without_host(place))
    # Only this decides, and it says as well of which address: no name is taken for one that ends with it.
    verifier = predicate.get("verifier")
    address = verifier.get("id") if isinstance(verifier, dict) else None
    signer = Signer("", None if address == WITHOUT_ADDRESS else str(address))
    return place == signer.place_of(repository) and predicate.get("resourceUri") == resource_uri(
        place, str(digest)
    )


def _without_host(place: str) -> str:
    try:
        return parse_image_name(place).repository
    except SeatrialError:
        return place


def _finished(predicate: Mapping[str, object]) -> str:
    return str(own(predicate).get("finishedOn"))
