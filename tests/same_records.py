"""Are the records of two run folders the same? For a change that must not change what is made.

    python tests/same_records.py runs/demo ../before/runs/demo

Compares every file of records and scores of the stages 1 to 6, record by record, less what a
clock or a machine gives (seconds, prices, environment). Prints one line for each file and exits
with 1 where any differ. Students' weights are compared by what they answer: their evals.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Records of a run that a clock or a machine writes.
NOT_COMPARED = {"metrics.jsonl", "manifest.json", "run.json", "student.json"}
OF_THE_CLOCK = {"seconds", "load_seconds", "time", "environment"}


def without_clock(value: Any) -> Any:
    """A JSON value less what differs from one minute to the next."""
    if isinstance(value, dict):
        return {key: without_clock(item) for key, item in value.items() if key not in OF_THE_CLOCK}
    if isinstance(value, list):
        return [without_clock(item) for item in value]
    return value


def record_files(run: Path) -> dict[str, Path]:
    """The files of records and scores of a run, by their path in it."""
    files: dict[str, Path] = {}
    for stage in sorted(run.glob("[1-6]-*")):
        for path in [*stage.rglob("*.jsonl"), *stage.rglob("scores.json")]:
            # A student's folder holds states of the training, which are no records.
            if path.name not in NOT_COMPARED and stage.name != "5-students":
                files[str(path.relative_to(run))] = path
    return files


def records_of(path: Path) -> list[Any]:
    """What a file holds, one value a record."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return [without_clock(json.loads(text))]
    return [without_clock(json.loads(line)) for line in text.splitlines()]


def differences(ours: Path, theirs: Path) -> Iterator[tuple[str, str]]:
    """Each file with "same" or with the first thing in which it differs."""
    our_files, their_files = record_files(ours), record_files(theirs)
    for name in sorted(our_files.keys() | their_files.keys()):
        if name not in our_files or name not in their_files:
            yield name, "stands in one of the runs only"
            continue
        mine, other = records_of(our_files[name]), records_of(their_files[name])
        unequal = [
            row for row, pair in enumerate(zip(mine, other, strict=False)) if pair[0] != pair[1]
        ]
        if len(mine) != len(other):
            yield name, f"{len(mine)} records and {len(other)}"
        elif unequal:
            yield name, f"{len(unequal)} of {len(mine)} records differ, the first is {unequal[0]}"
        else:
            yield name, "same"


def main(ours: str, theirs: str) -> int:
    """Print the comparison; 0 where all is the same."""
    results = list(differences(Path(ours), Path(theirs)))
    for name, result in results:
        print(f"{name}: {result}")
    return 0 if results and all(result == "same" for _, result in results) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
