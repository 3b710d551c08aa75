"""How several processes share the training of a student: `[train] strategy`, and what each of them
cannot do.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from reasondistill.config import StudentSettings, TrainSettings, resources
from reasondistill.errors import ConfigError
from reasondistill.foreign_files import read_text

# accelerate's names for: each process holds the whole model; FSDP; ZeRO.
COPIES, FSDP, DEEPSPEED = "MULTI_GPU", "FSDP", "DEEPSPEED"
# The line of its file, YAML or JSON, that says which.
_DISTRIBUTED_TYPE = re.compile(r"""^[\s{"']*distributed_type["']?\s*:\s*["']?(\w+)""", re.MULTILINE)


def strategy_file(strategy: str) -> Path:
    """accelerate's configuration for a strategy: a shipped one by its name, or a file of your own.
    Raises ConfigError.
    """
    given = Path(strategy)
    if given.suffix in (".yaml", ".yml", ".json") and given.is_file():
        return given
    return resources.find("accelerate", strategy)


def check_strategy(student: StudentSettings, train: TrainSettings, processes: int) -> None:
    """Refuse, before anything starts, what so many processes cannot train together. Raises
    ConfigError.
    """
    if processes == 1 or student.method == "base":
        return
    kind = distributed_type(strategy_file(train.strategy))
    where = f"[students] {student.name}"
    if student.batch_size % processes:
        raise ConfigError(
            f"{where} batch_size = {student.batch_size} cannot be dealt evenly to "
            f"{processes} processes; take a multiple."
        )
    if kind == COPIES:
        return
    if kind == DEEPSPEED and importlib.util.find_spec("deepspeed") is None:
        raise ConfigError(
            f"[train] strategy = {train.strategy!r} needs DeepSpeed: pip install deepspeed, "
            "or take fsdp2."
        )
    # Their losses read the head's weights, Muon a whole matrix, shrinking a whole model: no process
    # has these.
    cannot = {
        f"method = {student.method!r}": student.distils(),
        f"optimizer = {student.optimizer!r}": student.optimizer != "adamw",
        "shrink": student.shrink is not None,
    }
    for what, is_asked in cannot.items():
        if is_asked:
            raise ConfigError(
                f"{where} {what} does not go with [train] strategy = {train.strategy!r}, "
                "which splits the model; take ddp."
            )


def distributed_type(file: Path) -> str:
    """What accelerate is asked for in one of its files. Raises ConfigError where that starts other
    than one process per device.
    """
    text = read_text(file)
    match = _DISTRIBUTED_TYPE.search(text)
    kind = "none"
    if match is not None:
        kind = match[1]
    if kind not in (COPIES, FSDP, DEEPSPEED):
        raise ConfigError(
            f"{file} distributed_type: {kind}; known are {COPIES} (on a CPU too), {FSDP} "
            f"and {DEEPSPEED}."
        )
    return kind
