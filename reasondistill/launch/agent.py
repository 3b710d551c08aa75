"""`accelerate launch` on one machine, whose store listens on loopback:

python -m reasondistill.launch.agent --num_processes 2 … -m reasondistill task …
"""

from __future__ import annotations

from reasondistill.runs.loopback import stay_on_loopback


def main() -> None:
    """Start the processes that the arguments ask for, and wait for them."""
    from accelerate.commands.launch import main as launch

    stay_on_loopback()
    launch()


if __name__ == "__main__":
    main()
