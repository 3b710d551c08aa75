"""The logs at a path: the file itself, or those that a tool wrote into a folder.

find_logs(Path("out/Qwen__Qwen3-4B"))           # {"gsm8k": LmEvalLog, "math": LmEvalLog}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path

from reasondistill.curation.packed import unpacked, without_packing
from reasondistill.errors import ConfigError, DataError
from reasondistill.foreign_json import bounded_lines
from reasondistill.foreign_logs.inspect_ai import InspectLog
from reasondistill.foreign_logs.lighteval import LightevalLog
from reasondistill.foreign_logs.lm_eval import LmEvalLog, is_lm_eval
from reasondistill.foreign_logs.log import Log
from reasondistill.foreign_logs.values import parsed

_KINDS: Mapping[str, Callable[[Path], Log]] = {
    ".eval": InspectLog,
    ".json": InspectLog,
    ".jsonl": LmEvalLog,
    ".parquet": LightevalLog,
}
READ = (
    "lm-eval's samples_*.jsonl, inspect's .eval and .json, lighteval's details_*.parquet, or the "
    "folder that holds them"
)
# In a folder, by their names; a .json beside them is a file of results.
_IN_A_FOLDER = ("samples_*.jsonl", "samples_*.jsonl.gz", "*.eval", "details_*.parquet")


def is_log(path: Path) -> bool:
    """Whether a path is a log of another tool, or a folder with some: by names, and of lines of
    JSON by the first one.
    """
    if path.is_dir():
        return bool(_files_in(path))
    if not path.is_file():
        return False
    kind = without_packing(path).suffix
    if kind == ".jsonl":
        with unpacked(path) as file:
            for line in islice(bounded_lines(file, path), 1):
                try:
                    return is_lm_eval(parsed(line, str(path)))
                except DataError:
                    return False
    return kind in _KINDS


def find_logs(path: Path) -> dict[str, Log]:
    """The logs of a file or folder, by benchmark. Raises ConfigError for what is none, and for a
    folder with several of one benchmark, or of several models.
    """
    files = [path]
    if path.is_dir():
        files = _files_in(path)
    logs: dict[str, Log] = {}
    for file in files:
        open_log = _KINDS.get(without_packing(file).suffix)
        if open_log is None:
            raise ConfigError(f"{file}: no log of a tool that we know. Read are {READ}.")
        log = open_log(file)
        other = logs.setdefault(log.benchmark, log)
        if other is not log:
            raise ConfigError(
                f"{path}: holds several logs of {log.benchmark}: {other.path.name} and "
                f"{file.name}. Name one of them."
            )
    if not logs:
        raise ConfigError(f"{path}: holds no log of a tool that we know. Read are {READ}.")
    require_one_model(path, logs)
    return logs


def require_one_model(path: Path, logs: Mapping[str, Log]) -> None:
    """Raise ConfigError for a folder with logs of several models: one would pass for the other."""
    known = [log for log in logs.values() if log.model is not None]
    for log in known[1:]:
        if log.model != known[0].model:
            raise ConfigError(
                f"{path}: holds logs of several models: {known[0].path.name} is of "
                f"{known[0].model}, {log.path.name} of {log.model}. Name one of the logs."
            )


def _files_in(folder: Path) -> list[Path]:
    found = (file for pattern in _IN_A_FOLDER for file in folder.glob(pattern))
    return sorted(file for file in found if file.is_file())
