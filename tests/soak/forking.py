"""How long this host takes to fork and to execute a program, and how long to wake a process that sleeps.

A process of its own, until its standard input closes: in that of the soak, the soak's other work would count.
A line for each look: seconds too late awake; seconds that fork took; with a program in the child, to its end.
"""

from __future__ import annotations

import os
import select
import time

PROGRAM = "/bin/true"
_EVERY_SECONDS = 0.1
_NAP_SECONDS = 0.005


def main() -> None:
    """Look again and again."""
    while not select.select([0], [], [], _EVERY_SECONDS)[0]:
        due = time.monotonic() + _NAP_SECONDS
        time.sleep(_NAP_SECONDS)
        late = time.monotonic() - due
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            os.execv(PROGRAM, [PROGRAM])
        forked = time.monotonic() - began
        os.waitpid(pid, 0)
        print(f"{late:.6f} {forked:.6f} {time.monotonic() - began:.6f}", flush=True)


if __name__ == "__main__":
    main()
