"""Several processes that train one student together: who writes, what all of them know, when all of
them stop.

`accelerate launch` starts them, and the environment (RANK, WORLD_SIZE) tells each which one it is.
It is believed only where our own launcher says, by TOGETHER, that they are several: Kubeflow,
SageMaker, mpirun and torchrun set such variables too, of processes that know nothing of us. A
process that is alone notices nothing of all this.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from reasondistill.errors import ElsewhereError
from reasondistill.runs import loopback
from reasondistill.runs.store import StopSignal

T = TypeVar("T")

# Set for the processes that our launcher starts together.
TOGETHER = "REASONDISTILL_TOGETHER"

# What other launchers tell a process about those beside it, as accelerate, torch, transformers and
# vLLM read it.
_FOREIGN = frozenset(
    {
        "RANK",
        "LOCAL_RANK",
        "GROUP_RANK",
        "ROLE_RANK",
        "NODE_RANK",
        "ROLE_NAME",
        "FORK_LAUNCHED",
        "WORLD_SIZE",
        "LOCAL_WORLD_SIZE",
        "GROUP_WORLD_SIZE",
        "ROLE_WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
    }
)
_FOREIGN_KINDS = (
    "PMI_",
    "OMPI_COMM_WORLD_",
    "MV2_COMM_WORLD_",
    "TORCHELASTIC_",
    "PET_",
    "ACCELERATE_",
    "FSDP_",
    "PARALLELISM_CONFIG_",
)
# These are about the device of one process.
_OWN = frozenset({"ACCELERATE_USE_CPU", "ACCELERATE_TORCH_DEVICE"})

# How long the others wait while the first one measures or saves. One that dies is noticed by its
# launcher at once, whatever this says.
PATIENCE = timedelta(hours=2)

# What gloo and NCCL say when a process they were talking to is gone.
_LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Socket closed",
    "remote process exited",
)


def without_other_launchers(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what another launcher has said about ranks and processes; whole where
    our own is that launcher.
    """
    if TOGETHER in environment:
        return dict(environment)
    return {name: value for name, value in environment.items() if not is_foreign(name)}


def is_foreign(name: str) -> bool:
    """Whether another launcher sets this variable to say which one of several a process is."""
    if name in _OWN:
        return False
    return name in _FOREIGN or name.startswith(_FOREIGN_KINDS)


def forget_other_launchers() -> None:
    """Take that out of this process's own environment.

    Libraries would wait for processes that never come, or save nothing because another one should.
    """
    remaining = without_other_launchers(os.environ)
    for name in set(os.environ) - set(remaining):
        del os.environ[name]


def world_size() -> int:
    """How many processes train this student, over all nodes."""
    if TOGETHER not in os.environ:
        return 1
    return int(os.environ["WORLD_SIZE"])


def rank() -> int:
    """Which of them this one is, from 0."""
    if TOGETHER not in os.environ:
        return 0
    return int(os.environ["RANK"])


def local_rank() -> int:
    """Which of those on this node it is, from 0: the number of its GPU."""
    if TOGETHER not in os.environ:
        return 0
    return int(os.environ["LOCAL_RANK"])


def is_first() -> bool:
    """Whether this is the process that writes: one that is alone, or the first of several."""
    return rank() == 0


def sharding() -> str | None:
    """What has split weights and optimizer over the processes, as the launcher says: `fsdp`,
    `deepspeed`, or None.
    """
    if world_size() <= 1:
        return None
    for name in ("fsdp", "deepspeed"):
        switch = os.environ.get(f"ACCELERATE_USE_{name.upper()}", "false")
        if switch.lower() == "true":
            return name
    return None


@contextmanager
def together() -> Generator[None]:
    """While open, the processes can talk to each other. After an error it is left to the launcher
    to end the others.
    """
    if world_size() == 1:
        forget_other_launchers()
        yield
        return
    import torch
    from accelerate import PartialState

    if loopback.is_wanted():
        loopback.stay_on_loopback()
    PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    yield
    torch.distributed.destroy_process_group()


def on_first(make: Callable[[], T]) -> T:
    """What `make` returns: the first process alone calls it, and every one gets it.

    An error ends all: the first process raises it, the others ElsewhereError.
    """
    if world_size() == 1:
        return make()
    import torch.distributed as dist

    message: list[Any] = [True, None]  # whether it failed, and what came out
    if is_first():
        try:
            message = [False, make()]
        finally:
            dist.broadcast_object_list(message, src=0)
    else:
        dist.broadcast_object_list(message, src=0)
    failed, result = message
    if failed:
        raise ElsewhereError("The first process of this training failed; it says why.")
    return result


def anywhere(is_so: bool) -> bool:
    """Whether it is so in any of the processes; all of them ask at the same point."""
    if world_size() == 1:
        return is_so
    import torch
    from accelerate import PartialState

    flag = torch.tensor(int(is_so), device=PartialState().device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag)


def stop_requested(stop: StopSignal | None) -> bool:
    """Whether any process was asked to stop; then all of them are. A signal reaches them at
    different moments, or only some of them.
    """
    if stop is None:
        return False
    if world_size() == 1:
        return stop.requested
    if anywhere(stop.requested):
        stop.requested = True
    return stop.requested


def what_failed(error: Exception) -> str:
    """An error that no one expected, with the process that it happened in."""
    who = f"process {rank()} of {world_size()}"
    message = str(error)
    if any(sign in message for sign in _LOST):
        return (
            f"{who} lost another one, which was killed (out of memory, perhaps). Run the same "
            "command to go on."
        )
    kind = type(error).__name__
    return f"{who} failed: {kind}: {message}"
