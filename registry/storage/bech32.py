"""Bech32 (BIP 173), in which age writes keys: a readable prefix, and a checksum against typing errors."""

from __future__ import annotations

_DIGITS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_SUM_DIGITS = 6


def encode(prefix: str, content: bytes) -> str:
    """``prefix``, in lower case, and ``content``."""
    digits = _regrouped(content, 8, 5)
    checked = _polymod([*_spread(prefix), *digits, *([0] * _SUM_DIGITS)]) ^ 1
    digits += [(checked >> 5 * (_SUM_DIGITS - 1 - place)) & 31 for place in range(_SUM_DIGITS)]
    return f"{prefix}1{''.join(_DIGITS[digit] for digit in digits)}"


def decode(text: str) -> tuple[str, bytes]:
    """The prefix, in lower case, and the content.

    Raises:
        ValueError: it is no such text, or has a typing error.
    """
    if text not in (text.lower(), text.upper()):
        raise ValueError("small and capital letters are mixed")
    prefix, one, rest = text.lower().rpartition("1")
    digits = [_DIGITS.find(letter) for letter in rest]
    if not (prefix and one and prefix.isascii()) or len(digits) < _SUM_DIGITS or -1 in digits:
        raise ValueError("it is no Bech32")
    if _polymod([*_spread(prefix), *digits]) != 1:
        raise ValueError("its checksum is wrong: a letter is missing or another")
    content = _regrouped(digits[:-_SUM_DIGITS], 5, 8)
    if _regrouped(bytes(content), 8, 5) != digits[:-_SUM_DIGITS]:
        raise ValueError("it is no Bech32")
    return prefix, bytes(content)


def _spread(prefix: str) -> list[int]:
    letters = prefix.encode()
    return [*(letter >> 5 for letter in letters), 0, *(letter & 31 for letter in letters)]


def _polymod(digits: list[int]) -> int:
    checked = 1
    for digit in digits:
        top = checked >> 25
        checked = (checked & 0x1FFFFFF) << 5 ^ digit
        for place, value in enumerate(_GENERATOR):
            if top >> place & 1:
                checked ^= value
    return checked


def _regrouped(groups: bytes | list[int], bits: int, into: int) -> list[int]:
    """The same bits in groups of another size. What is left over is filled up only for digits."""
    held = number = 0
    made: list[int] = []
    for group in groups:
        held, number = (held << bits | group) & 0xFFFF, number + bits
        while number >= into:
            number -= into
            made.append(held >> number & ((1 << into) - 1))
    if number and into < bits:
        made.append(held << (into - number) & ((1 << into) - 1))
    return made
