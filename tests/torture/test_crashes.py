"""A sample of the crash matrix on the run without models: whatever hurts it, the same command ends
with the records of a run that nothing happened to. All of it: `make torture`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from beds import PLANS, SUMS, Bed
from crashes import FAULTS, WAYS, Cell, Trial, cells
from warm import Warm

SEED = 21
# A stage and a last stage for each way; in `make torture` all commands go to the report.
SAMPLE = (
    ("traces", "kill", "verdicts"),
    ("verdicts", "term", "examples"),
    ("evals", "int-twice", "evals"),
    ("judge", "oom-kill", "verdicts"),
    ("examples", "no-memory", "examples"),
    ("report", "disk-full", "report"),
    ("problems", "file-for-folder", "traces"),
    ("verdicts", "cut", "examples"),
    ("examples", "flip", "examples"),
    ("traces", "delete", "verdicts"),
    ("evals", "open-cut", "evals"),
)


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """The run without models; its states are made once, and what nothing disturbs is forked."""
    with Warm(tmp_path_factory.mktemp("warm"), of="light") as warm:
        yield Bed(SUMS, tmp_path_factory.mktemp("torture"), warm.python)


@pytest.mark.parametrize(("part", "fault", "last"), SAMPLE)
def test_a_hurt_run_ends_with_the_records_of_an_undisturbed_one(
    bed: Bed, part: str, fault: str, last: str
) -> None:
    result = Trial(bed, Cell("sums", part, fault, 0, SEED), last).result()
    print(result)
    if result.word == "skipped":
        pytest.skip(result.why)
    assert result.word not in (*FAULTS, "refused"), result


def test_every_stage_is_hurt_in_every_way() -> None:
    names = {(cell.part, cell.fault) for cell in cells(SEED, 1)}
    parts = {part.name for plan in PLANS.values() for part in plan.parts}
    assert {"problems", "traces", "verdicts", "examples", "students", "evals", "report"} <= parts
    assert names == {(part, way) for part in parts for way in WAYS}
    assert {fault for _, fault, _ in SAMPLE} <= set(WAYS)


def test_a_record_that_differs_is_seen(bed: Bed, tmp_path: Path) -> None:
    """The matrix can fail: a verdict that nobody's command has changed is told."""
    part = SUMS.part("verdicts")
    expected = bed.expected(part)
    assert {"2-traces/traces.jsonl", "6-evals/scores.json", "7-report/report.json"} <= set(expected)
    trial = Trial(bed, Cell("sums", "verdicts", "kill", 0, SEED))
    bed.restore("report")
    said = bed.command(*bed.until("report"))
    assert trial.differing(said, expected) == []
    verdicts = bed.run / "3-verdicts" / "verdicts.jsonl"
    verdicts.write_text(verdicts.read_text().replace('"wrong"', '"correct"', 1))
    assert trial.differing(said, expected) == ["3-verdicts/verdicts.jsonl"]
