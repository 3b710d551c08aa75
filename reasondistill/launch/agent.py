"""`accelerate launch` without the working directory on the path of what it starts, and on one
machine with a store that listens on loopback:

python -m reasondistill.launch.agent --num_processes 2 … --no_python python -m reasondistill task …

The processes begin in the folder that this one was started in, wherever that is.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from reasondistill.imports import no_collections
from reasondistill.interpreter import safe_environment
from reasondistill.runs import loopback

# accelerate puts the folder that it stands in on the path of DeepSpeed's processes, before all
# modules: here lies nothing to import.
_NOWHERE = "/"
# It starts the processes of every strategy, when accelerate has made their environment.
_STARTER = "torch.distributed.run"


def main() -> None:
    """Start the processes that the arguments ask for, and wait for them."""
    with no_collections():
        from accelerate.commands.launch import main as launch

    if loopback.is_wanted():
        loopback.stay_on_loopback()
    prepare_nowhere()
    launch()


def prepare_nowhere() -> None:
    """Leave the working directory until the processes are started. Imports torch."""
    here = os.getcwd()
    # Relative entries are meant from here.
    safe = safe_environment(os.environ)
    for name in set(os.environ) - set(safe):
        del os.environ[name]
    os.environ.update(safe)
    starter: Any = importlib.import_module(_STARTER)
    run = starter.run

    def run_here(arguments: Any) -> None:
        os.chdir(here)
        run(arguments)

    starter.run = run_here
    os.chdir(_NOWHERE)


if __name__ == "__main__":
    main()
