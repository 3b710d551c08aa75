"""The `reasondistill` command, and `python -m reasondistill`: it can be stopped from its first
moment on.

Imports take half a second, in which Ctrl-C would otherwise end in a traceback from the middle of
some package.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

from reasondistill.errors import Stopped
from reasondistill.interpreter import leave_working_directory


def main() -> None:
    """Entry point: answer signals, then do what the arguments say."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # SIG_IGN: a shell's background job, for which Ctrl-C is not meant.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    leave_working_directory()
    from reasondistill.cli import main as command

    command()


def stop(number: int, frame: FrameType | None) -> None:
    """End at once in an import, where an exception may be lost or come out as another one; else
    unwind by raising Stopped.
    """
    if is_importing(frame):
        os.write(2, b"Stopped.\n")
        os._exit(128 + number)
    raise Stopped(number)


def is_importing(frame: FrameType | None) -> bool:
    """Whether this frame, or one that called it, runs an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


if __name__ == "__main__":
    main()
