"""What is asked of the header of a tar member before ``tarfile`` reads it."""

from __future__ import annotations

HEADER_MAX_BYTES = 1024 * 1024
DIGITS_MAX = 300
_DIGITS_AS_ONE = bytes(0x31 if 0x30 <= byte <= 0x39 else 0x30 for byte in range(256))


def has_digit_run(data: bytes) -> bool:
    """Whether a header has more digits in a row than any name may have.

    ``tarfile`` before Python 3.11.10 looks through them in a time that grows with the square of the run
    (CVE-2024-6232): one header of a megabyte is half an hour.
    """
    return b"1" * DIGITS_MAX in data.translate(_DIGITS_AS_ONE)
