"""Passwords that people chose: argon2id, off the event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import bcrypt
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from registry.auth.apitokens import PREFIX
from registry.errors import RequestInvalidError, TooManyRequestsError

T = TypeVar("T")
MIN_LENGTH = 12
MAX_LENGTH = 256
MAX_WAITING = 128
"""Passwords that may wait to be looked at: some seconds' work. Of one place there is one at a time."""


class Passwords:
    """Hashes and verifies in two threads, so that a flood of logins waits in line and not for memory.

    19 MiB and two passes are OWASP's least for argon2id; the verdict is cached by who asks.
    """

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="argon2")
        self._nobody: str | None = None
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """The text to store for ``password``.

        Raises:
            RequestInvalidError: too short, too long, or it looks like an API token.
        """
        if not MIN_LENGTH <= len(password) <= MAX_LENGTH or password.startswith(PREFIX):
            raise RequestInvalidError(
                f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters and does not start with {PREFIX!r}"
            )
        return await self._run(partial(self._hasher.hash, password))

    async def hash_again(self, password: str) -> str:
        """As :meth:`hash`, for a password that is one already, whatever the rules are by now."""
        return await self._run(partial(self._hasher.hash, password))

    def is_outdated(self, stored: str) -> bool:
        """Whether a hash was made by another method, or with other parameters, than are used today."""
        try:
            return self._hasher.check_needs_rehash(stored)
        except InvalidHashError:
            return True

    def require_room(self) -> None:
        """Let another password wait in line, for somebody who has not signed in from there before.

        Raises:
            TooManyRequestsError: the line is long enough.
        """
        if self._waiting >= MAX_WAITING:
            raise TooManyRequestsError(
                "too many passwords wait to be looked at; try again", headers={"Retry-After": "2"}
            )

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether ``password`` is the stored one. ``None`` (no such account) takes as long and is false."""
        return await self._run(partial(self._verify, stored, password[: MAX_LENGTH + 1]))

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, call: partial[T]) -> T:
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        finally:
            self._waiting -= 1

    def _verify(self, stored: str | None, password: str) -> bool:
        if self._nobody is None:
            self._nobody = self._hasher.hash("nobody has this password")
        if stored is not None and stored.startswith("$2"):
            return _is_bcrypt_of(stored, password)
        try:
            self._hasher.verify(stored or self._nobody, password)
        except VerificationError:
            return False
        return stored is not None


def _is_bcrypt_of(stored: str, password: str) -> bool:
    # Of an imported account that has not signed in here yet. bcrypt looks at 72 bytes and no NUL, as htpasswd
    # did when it made the hash.
    raw = password.encode("utf-8", "surrogatepass")
    return b"\0" not in raw and bcrypt.checkpw(raw[:72], stored.encode())
