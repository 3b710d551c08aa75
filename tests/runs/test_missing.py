"""What a traces folder lacks is read from its manifest, or counted where the manifest does not say
it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fake_run import fail_samples, fake_run

from reasondistill.records import Trace
from reasondistill.runs.missing import Missing, read_missing
from reasondistill.runs.store import read_records, require_complete, write_manifest

QUOTA, LONG = "HTTP 402: quota exhausted", "prompt longer than the context"
FIRST = [f"gsm_symbolic/train/{row}:{sample}" for row in range(3) for sample in range(2)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixty traces."""
    return fake_run(tmp_path, until="traces") / "2-traces"


def make_partial(folder: Path) -> None:
    """As a stage leaves it that has not ended: no counts, no figures."""
    write_manifest(
        folder, replace(require_complete(folder), status="partial", counts={}, figures={})
    )


def test_a_folder_without_failures_lacks_nothing(folder: Path) -> None:
    assert read_missing(folder) == Missing(asked=60, drawn=60)
    assert read_missing(folder.parent / "nowhere").failed == 0


def test_lost_and_refused_samples_are_told_apart_with_their_causes(folder: Path) -> None:
    fail_samples(folder, FIRST[:5], QUOTA)
    fail_samples(folder, FIRST[5:], LONG, fault="input")
    found = read_missing(folder)
    assert found == Missing(60, 60, lost=5, refused=1, causes={QUOTA: 5, LONG: 1})
    assert found.words() == f"54 of 60 samples; 5 lost, 1 refused (5 × {QUOTA}; 1 × {LONG})"
    assert found.remedy("2-traces") == (
        "The same command draws the lost ones again. Refused samples are set aside: see "
        "2-traces/set_aside.jsonl."
    )


def test_folders_of_earlier_versions_are_counted_from_their_lines(folder: Path) -> None:
    fail_samples(folder, FIRST, QUOTA, is_old=True)
    assert "causes" not in require_complete(folder).figures
    assert read_missing(folder) == Missing(60, 60, lost=6, causes={QUOTA: 6})


def test_an_unfinished_folder_says_what_is_lost_and_what_is_not_drawn_yet(folder: Path) -> None:
    fail_samples(folder, FIRST, QUOTA)
    make_partial(folder)
    lines = (folder / "traces.jsonl").read_text().splitlines(keepends=True)
    (folder / "traces.jsonl").write_text("".join(lines[:26]))
    found = read_missing(folder)
    assert found.words() == f"20 of 60 samples; 6 lost ({QUOTA}), 34 not drawn yet"
    assert found.remedy("2-traces") == "The same command draws the rest."
    (folder / "traces.jsonl").write_text("".join(lines[6:26]))
    assert read_missing(folder).words() == "20 of 60 samples, 40 not drawn yet"


def test_what_was_drawn_again_is_lost_no_longer(folder: Path) -> None:
    whole = list(read_records(folder / "traces.jsonl", Trace))
    fail_samples(folder, FIRST, QUOTA)
    make_partial(folder)
    with open(folder / "traces.jsonl", "a") as file:
        file.writelines(f"{trace.to_json()}\n" for trace in whole if trace.id in FIRST[:4])
    assert read_missing(folder) == Missing(60, 60, lost=2, causes={QUOTA: 2})


def test_what_workers_wrote_counts_before_it_is_gathered(folder: Path) -> None:
    fail_samples(folder, FIRST, QUOTA)
    make_partial(folder)
    part = folder / "parts" / "0" / "w1"
    part.mkdir(parents=True)
    (folder / "traces.jsonl").rename(part / "traces.jsonl")
    assert read_missing(folder) == Missing(60, 60, lost=6, causes={QUOTA: 6})


def test_many_causes_are_told_by_the_most_frequent() -> None:
    found = Missing(20, 20, lost=10, causes=dict.fromkeys("abdef", 1) | {"c": 5})
    assert (
        found.words()
        == "10 of 20 samples; 10 lost (5 × c; 1 × a; 1 × b; 1 × d; 1 × e; and 1 other causes)"
    )


def test_a_record_that_did_not_fail_is_byte_for_byte_what_it_was(folder: Path) -> None:
    row = json.loads((folder / "traces.jsonl").read_text().splitlines()[0])
    assert "fault" not in row["completion"]
