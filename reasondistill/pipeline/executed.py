"""What a run.json makes its next user do: shell lines, modules that are imported, servers that are
asked with keys of the user's environment. A run's folder is code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from reasondistill.foreign_text import shown_line

# So many lines are shown.
_MOST = 40


def refusal(folder: str, lines: Sequence[str]) -> str:
    """Why a stranger's run is not gone on with, and the way to do so."""
    shown_lines = [f"  {shown_line(line)}" for line in lines[:_MOST]]
    if len(lines) > _MOST:
        shown_lines.append(f"  … and {len(lines) - _MOST:,} more")
    listed = "\n".join(shown_lines)
    return (
        f"{folder}: was not started by you with this version (its run.json is not sealed with your "
        f"key). A run's folder is code; going on with it would use:\n{listed}\n"
        "Read this. If you would run it yourself, --trust (of `run`, `resume` and `eval`) takes "
        "the folder for your own; else start from its pipeline file under another name."
    )


def what_it_runs(where: str, section: object) -> list[str]:
    """One line for each thing in the JSON of a pipeline or cluster file that is executed, imported,
    or spoken to with a key of this user's environment.
    """
    return list(_found(where, section))


def _found(where: str, value: object) -> Iterator[str]:
    if isinstance(value, list):
        for number, item in enumerate(cast("list[object]", value)):
            yield from _found(f"{where}.{number}", item)
    if not isinstance(value, dict):
        return
    for key, item in cast("dict[str, Any]", value).items():
        place = f"{where}.{key}"
        if key == "environments" and isinstance(item, dict):
            yield from _of_environments(place, cast("dict[str, Any]", item))
        elif _is_executed(key, item):
            yield f"{place} = {item!r}"
        else:
            yield from _found(place, item)


def _of_environments(where: str, environments: Mapping[str, Any]) -> Iterator[str]:
    """Everything that an environment of a job says is done by a shell."""
    for name, environment in environments.items():
        for key, item in environment.items():
            values = item
            if isinstance(item, dict):
                named = cast("dict[str, Any]", item)
                values = [f"{variable}={value}" for variable, value in named.items()]
            if not isinstance(values, list):
                values = [values]
            for value in cast("list[object]", values):
                if value is not None:
                    yield f"{where}.{name}.{key}: {value}"


# Keys whose value a shell, a scheduler or a server gets.
_EXECUTED = frozenset({"options", "launcher", "base_url", "api_key_env", "rollouts_url", "storage"})
_OF_SLURM = frozenset({"partition", "account", "qos", "constraint"})


def _is_executed(key: str, value: Any) -> bool:
    if not value:
        return False
    if key == "sampler":  # module:NAME is imported
        return ":" in str(value)
    if key == "strategy":  # a file of accelerate's
        return "/" in str(value) or "." in str(value)
    if key == "address":
        return value != "auto"
    if key in _OF_SLURM:
        return not str(value).isprintable()
    return key == "trust_remote_code" or key in _EXECUTED


def imported_samplers(pipeline: object) -> list[str]:
    """Modules that are imported when the pipeline of a run.json is only looked at."""
    return [line for line in what_it_runs("pipeline", pipeline) if ".sampler = " in line]
