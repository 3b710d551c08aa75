"""The differences between two evals, in every setting that a score depends on: `reasondistill
diff`.

    for change in changes(run_a / "6-evals/gsm8k/base", run_b / "6-evals/gsm8k/base"):
        print(change.name, change.ours, change.theirs)

Read from the manifests that sampling and grading left: model revision, prompt and its hash,
sampling, samples, problems and their hash, grader and policy, engine settings, package versions,
hardware.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from reasondistill.runs.figures import ProblemsFigures, TracesFigures
from reasondistill.runs.layout import BenchmarkFolder, CellFolder
from reasondistill.runs.store import Manifest, require_complete

# Recorded of the machine, but a score cannot depend on it.
_IDLE = {
    "dirty",
    "cores",
    "memory_gib",
    "packages.datasets",
    "packages.trl",
    "packages.peft",
    "packages.accelerate",
}


@dataclass(frozen=True)
class Change:
    """A setting with two values; None where one side has no such setting."""

    name: str
    ours: str | None
    theirs: str | None


def changes(ours: Path, theirs: Path) -> list[Change]:
    """The settings that differ between two cells (`6-evals/<benchmark>/<model>`). Raises StageError
    when one is unfinished.
    """
    return differing(settings_of(ours), settings_of(theirs))


def differing(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[Change]:
    """The settings that differ, by name."""
    return [
        Change(name, ours.get(name), theirs.get(name))
        for name in dict.fromkeys((*ours, *theirs))
        if ours.get(name) != theirs.get(name)
    ]


def settings_of(cell: Path) -> dict[str, str]:
    """Name → value of everything that the cell's score depends on."""
    folder = CellFolder(cell)
    problems = require_complete(BenchmarkFolder(cell.parent).problems_folder)
    traces = require_complete(folder.traces_folder)
    verdicts = require_complete(folder.verdicts_folder)
    return dict(flat(_described(problems, traces, verdicts)))


def _described(problems: Manifest, traces: Manifest, verdicts: Manifest) -> Mapping[str, Any]:
    section = traces.section
    told = section.get("teachers")
    first = _mapping(next(iter(_mapping(told).values()), None))
    strange = None
    if not first:  # of another form: it is told as it stands
        strange = told or None
    graded = _mapping(verdicts.identity.get("inputs"))
    environment = {key: value for key, value in flat(traces.environment) if key not in _IDLE}
    sampled = TracesFigures.of(traces)
    server: Mapping[str, Any] = {}
    if sampled.servers:
        server = sampled.servers[0].to_dict()
    engine: Mapping[str, Any] = {}
    if sampled.engine is not None:
        engine = sampled.engine.to_dict()
    benchmark = ProblemsFigures.of(problems).model_dump(
        include={"dataset", "revision", "split", "content"}, exclude_unset=True
    )
    return {
        "model": first.get("model"),
        "teachers": strange,
        "template_options": first.get("template_options") or None,
        "request": first.get("request"),
        "omit": first.get("omit"),
        "reasoning": first.get("reasoning"),
        "sampler": first.get("sampler"),
        "server": server,
        "prompt": section.get("prompt"),
        "sampling": section.get("sampling"),
        "samples per problem": section.get("n"),
        "problems": section.get("limit"),
        "benchmark": benchmark | {"hash": problems.output},
        "grader": {key: graded.get(key) for key in ("grader", "policy", "deadline_s", "judge")},
        "engine": engine,
        "environment": environment,
    }


def _mapping(value: object) -> Mapping[str, Any]:
    """A part of a manifest; nothing where another version, or somebody, has written something else
    there.
    """
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and values as text; what is None is left out."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            items = cast(Sequence[Any], value)
            yield f"{prefix}{key}", ", ".join(str(item) for item in items)
        elif value is not None:
            yield f"{prefix}{key}", str(value)
