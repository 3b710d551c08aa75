"""The `reasondistill` command, and `python -m reasondistill`: it can be stopped from its first
moment on.

Imports take half a second, in which Ctrl-C would otherwise end in a traceback from the middle of
some package.
"""

from __future__ import annotations

import signal
import sys

from reasondistill.interpreter import leave_working_directory


def main() -> None:
    """Entry point: answer signals, then do what the arguments say."""
    leave_working_directory()
    from reasondistill.errors import Stopped
    from reasondistill.imports import no_collections
    from reasondistill.signals import STOPS, stop, watch

    watch()
    try:
        # The first of them may come before the next line.
        for number in STOPS:
            # SIG_IGN: a shell's background job, for which Ctrl-C is not meant.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, stop)
        with no_collections():
            from reasondistill.cli import main as command

        command()
    except Stopped as stopped:  # between two lines here, or before the command could answer
        print(stopped, file=sys.stderr)
        sys.exit(stopped.exit_code)


if __name__ == "__main__":
    main()
