"""Starts another program so that it ends with the process that wanted it: `python -I -S starter.py PARENT PROGRAM ...`.

Linux sends the signal even where the parent was killed with SIGKILL and could do nothing itself. The setting outlives
`exec`. This file imports nothing of medfl, so that it costs a few milliseconds.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the program that the arguments name, unless the parent has ended already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
