"""Problems beside each other and beside benchmarks, through the stage: what is set aside, what is
written, and that the counts add up.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from draws import draws
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planted import COUNT, plant

from reasondistill.config import Benchmark, Pipeline, ProblemMixture, ProblemSource
from reasondistill.curation import comparing
from reasondistill.curation.benchmarks import HeldOut
from reasondistill.errors import ConfigError, DataError
from reasondistill.grading import GradingPool
from reasondistill.records import Leak, NearDuplicate, Problem, SetAside
from reasondistill.runs import store
from reasondistill.runs.figures import ProblemsFigures
from reasondistill.stages.problems import run_problems
from reasondistill.stages.report.building import build_report
from reasondistill.stages.report.facts import read_facts, read_stages
from reasondistill.stages.report.wording import leaks_table

FARM = (
    "A farmer has 17 sheep and 25 goats on a meadow behind the mill. Every evening 3 of the goats "
    "climb over the fence and come back in the morning. How many animals are on the meadow at "
    "night?"
)
TRAIN = (
    "A train leaves the station at noon and rides 240 kilometres along the coast in 3 hours. After "
    "a rest of 20 minutes it returns at twice that speed. How long is it away in all?"
)
EDITED = FARM.replace("behind the mill", "behind the old mill")
OTHER_NUMBERS = FARM.replace("17", "19")
INSIDE = f"Read this, then think.\n\n{FARM}\n\nThere are 5 points for it."
NEAR = "near-duplicate question"
UNEQUAL = "near-duplicate question, unequal golds"


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=1) as opened:
        yield opened


def write_rows(path: Path, rows: Sequence[tuple[str, str]]) -> Path:
    lines = (json.dumps({"question": question, "answer": answer}) for question, answer in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


class Stage:
    """The problems stage of a run on these rows."""

    def __init__(self, folder: Path, rows: Sequence[tuple[str, str]], **tables: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = write_rows(folder / "rows.jsonl", rows)
        self.run = folder / "run"
        self.out = self.run / "1-problems"
        self.tables = tables

    def source(self, **tables: Any) -> ProblemSource:
        keys = {"source": "file", "dataset": str(self.path), "name": "d"}
        return ProblemSource.model_validate(keys | self.tables | tables)

    def make(
        self, pool: GradingPool, held_out: Sequence[HeldOut] = (), **tables: Any
    ) -> store.Manifest:
        return run_problems(self.source(**tables), self.out, pool=pool, held_out=held_out)

    @property
    def kept(self) -> list[int]:
        """The rows that became problems."""
        problems = store.read_records(self.out / "problems.jsonl", Problem)
        return [problem.origin.row for problem in problems]

    @property
    def aside(self) -> dict[int, SetAside]:
        entries = store.read_records(self.out / "set_aside.jsonl", SetAside)
        return {entry.origin.row: entry for entry in entries}

    @property
    def leaks(self) -> list[Leak]:
        return list(store.read_records(self.out / "leaks.jsonl", Leak))

    @property
    def near(self) -> list[NearDuplicate]:
        return list(store.read_records(self.out / "near_duplicates.jsonl", NearDuplicate))


def bench(*questions: str, name: str = "bench") -> list[HeldOut]:
    return [HeldOut(name, f"{name}/{place}", text) for place, text in enumerate(questions)]


# ---- planted -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_what_was_planted_is_set_aside_and_look_alikes_stay(
    tmp_path: Path, pool: GradingPool, seed: int
) -> None:
    planted = plant(seed)
    half = COUNT // 2
    leaked = planted.leaked[:half]
    kept = [*planted.originals[half:], *planted.look_alikes]
    edited = planted.edited[half:]
    questions = [*leaked, *kept, *edited]
    stage = Stage(tmp_path, [(text, "7") for text in questions])
    manifest = stage.make(
        pool, bench(*planted.originals[:half]), near_duplicates={}, decontaminate={}
    )
    reasons = {row: entry.reason for row, entry in stage.aside.items()}
    places = range(len(questions))
    found_leaks = [row for row in places[:half] if "held out" in reasons.get(row, "")]
    # Some are edited in their capitals alone, and so are equal.
    alike = {NEAR, "duplicate question"}
    found_edits = [row for row in places[-len(edited) :] if reasons.get(row) in alike]
    assert len(found_leaks) >= 0.95 * half and len(found_edits) >= 0.95 * len(edited)
    assert set(reasons) == {*found_leaks, *found_edits}, "no false alarm"
    assert manifest.counts == {"in": len(questions), "out": len(questions) - len(reasons)}
    assert manifest.dropped == Counter(reasons.values())
    assert {leak.kind for leak in stage.leaks} == {"leak", "look_alike"}
    for found in stage.near:
        row, of = int(found.id.split("/")[-1]), int(found.of.split("/")[-1])
        assert planted.originals.index(questions[of]) == row - len(kept)


# ---- near-duplicates -----------------------------------------------------------------------------


def test_of_near_duplicates_the_first_stays_and_unequal_golds_are_both_shown(
    tmp_path: Path, pool: GradingPool, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [(FARM, "39"), (TRAIN, "5"), (EDITED, "39.0"), (OTHER_NUMBERS, "41")]
    rows.append((FARM.replace("come back", "come home"), "42"))
    stage = Stage(tmp_path, rows, near_duplicates={})
    manifest = stage.make(pool)
    assert stage.kept == [0, 1, 3]
    assert {row: entry.reason for row, entry in stage.aside.items()} == {2: NEAR, 4: UNEQUAL}
    assert stage.aside[2].detail.endswith("like d/train/0")
    assert stage.aside[4].detail.startswith("'42' here, '39' there: 0.")
    assert [(found.id, found.of) for found in stage.near] == [
        ("d/train/2", "d/train/0"),
        ("d/train/4", "d/train/0"),
    ]
    assert "near-duplicate questions with unequal golds, of each the first stays: 1" in caplog.text
    assert "near_duplicates.jsonl" in manifest.files and "leaks.jsonl" not in manifest.files


def test_a_problem_stands_for_others_only_if_its_gold_can_be_graded(
    tmp_path: Path, pool: GradingPool
) -> None:
    stage = Stage(tmp_path, [(FARM, "See solution."), (EDITED, "39")], near_duplicates={})
    stage.make(pool)
    assert stage.kept == [1] and stage.aside[0].reason == "gold is no answer"
    assert stage.near == []


@pytest.mark.parametrize(
    ("table", "reasons"),
    [
        ({}, {2: NEAR}),
        ({"numbers": "ignored"}, {1: NEAR, 2: NEAR}),
        ({"words": 5, "threshold": 0.95}, {}),
    ],
)
def test_what_counts_as_near_can_be_set(
    tmp_path: Path, pool: GradingPool, table: dict[str, Any], reasons: dict[int, str]
) -> None:
    stage = Stage(tmp_path, [(FARM, "39"), (OTHER_NUMBERS, "41"), (EDITED, "39")])
    stage.make(pool, near_duplicates=table)
    assert {row: entry.reason for row, entry in stage.aside.items()} == reasons


def test_nothing_is_compared_and_nothing_is_another_stage_unless_it_is_asked(
    tmp_path: Path, pool: GradingPool
) -> None:
    stage = Stage(tmp_path, [(FARM, "39"), (EDITED, "39")])
    manifest = stage.make(pool, bench(INSIDE))
    assert stage.kept == [0, 1]
    assert sorted(path.name for path in stage.out.iterdir() if path.name[0] != ".") == [
        "manifest.json",
        "problems.jsonl",
        "set_aside.jsonl",
    ]
    assert not {"near_duplicates", "decontaminate"} & set(manifest.section)
    assert "decontaminate" not in manifest.identity["inputs"]
    # Asked for later they are looked for, and no more when they are not.
    stage.make(pool, bench(INSIDE), near_duplicates={})
    assert stage.kept == [0] and stage.near[0].of == "d/train/0"
    stage.make(pool, bench(INSIDE))
    assert stage.kept == [0, 1] and not (stage.out / "near_duplicates.jsonl").exists()


# ---- questions of benchmarks ---------------------------------------------------------------------


def test_each_way_of_holding_a_question_has_its_reason_and_both_texts_are_kept(
    tmp_path: Path, pool: GradingPool
) -> None:
    half = FARM.replace("Every evening", "After that").replace("climb over", "jump")
    half = half.replace("are on the", "stay on this")
    rows = [(FARM.upper(), "39"), (INSIDE, "39"), (half, "39"), (OTHER_NUMBERS, "41")]
    stage = Stage(tmp_path, [*rows, (TRAIN, "5")], decontaminate={})
    manifest = stage.make(pool, [*bench(FARM), *bench("What is 1 + 1?", name="sums")])
    assert stage.kept == [3, 4]
    assert manifest.dropped == {
        "held out: in benchmark bench": 1,
        "held out: near a question of bench": 1,
        "held out: 13 words of a question of bench": 1,
    }
    assert [(leak.method, leak.kind) for leak in stage.leaks] == [
        ("equal", "leak"),
        ("near", "leak"),
        ("run", "leak"),
        ("near", "look_alike"),
    ]
    assert {leak.question for leak in stage.leaks} == {FARM}
    assert [leak.text for leak in stage.leaks] == [text for text, _ in rows]
    counted = {"equal": 1, "near": 1, "run": 1, "look-alike": 1}
    assert ProblemsFigures.of(manifest).leaks == {"bench": counted, "sums": {}}
    page = (stage.out / "leaks.md").read_text(encoding="utf-8")
    assert "| bench | 1 | 1 | 1 | 1 |" in page and "| sums | 0 | 0 | 0 | 0 |" in page
    side_by_side = [line for line in page.splitlines() if FARM in line]
    assert len(side_by_side) == 4 and sum("look\\_alike" in line for line in page.splitlines()) <= 1
    assert {"leaks.jsonl", "leaks.md"} <= set(manifest.files)


def test_problems_whose_words_hide_a_leak_are_told_by_number(
    tmp_path: Path, pool: GradingPool
) -> None:
    thai = "\u0e2a\u0e21\u0e0a\u0e32\u0e22\u0e21\u0e35 17 \u0e1c\u0e25"
    look_alike = FARM.replace("a", "\u0430")
    stage = Stage(tmp_path, [(thai, "17"), (look_alike, "39"), (TRAIN, "5")], decontaminate={})
    manifest = stage.make(pool, bench(FARM))
    assert stage.kept == [0, 1, 2]
    assert ProblemsFigures.of(manifest).noticed == {
        "not checked well for leaks: in a script without spaces, of which only equal parts are "
        "compared": 1,
        "not checked well for leaks: with letters of two alphabets in a word, which is another "
        "word to us": 1,
    }
    page = (stage.out / "leaks.md").read_text(encoding="utf-8")
    assert page.count("Not checked well: 1 problems ") == 2


def test_instructions_of_a_set_are_no_evidence(tmp_path: Path, pool: GradingPool) -> None:
    shared = (
        "Express your answer as a common fraction in lowest terms, and write down each of the "
        "steps that lead to it."
    )
    ours = [(f"What part of {n} is {m}? {shared}", "1/2") for n in (8, 9) for m in (2, 3, 4)]
    theirs = [f"Divide {n} by the number of days in week {n}. {shared}" for n in range(20, 26)]
    stage = Stage(tmp_path, ours, decontaminate={})
    stage.make(pool, bench(*theirs))
    assert len(stage.kept) == len(ours) and stage.leaks == []


def test_named_files_are_compared_with_too(tmp_path: Path, pool: GradingPool) -> None:
    lines = [json.dumps({"problem": text}) for text in (FARM, "What is this?", FARM)]
    (tmp_path / "hidden_test.jsonl").write_text("\n".join(lines))
    table = {"files": [str(tmp_path / "hidden_test.jsonl")], "question": "problem"}
    stage = Stage(tmp_path / "s", [(INSIDE, "39"), (TRAIN, "5")], decontaminate=table)
    manifest = stage.make(pool)
    assert stage.kept == [1]
    assert stage.aside[0].reason == "held out: near a question of hidden_test.jsonl"
    assert stage.leaks[0].question_id == "hidden_test/train/0"
    # Where a file lies is no part of what a run is; what it holds is.
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "hidden_test.jsonl"
    shutil.move(tmp_path / "hidden_test.jsonl", moved)
    there = {"files": [str(moved)], "question": "problem"}
    assert stage.make(pool, decontaminate=there) == manifest
    moved.write_text(json.dumps({"problem": TRAIN}) + "\n")
    stage.make(pool, decontaminate=there)
    assert stage.kept == [0] and stage.leaks[0].id == "d/train/1"


def test_a_changed_benchmark_is_compared_anew(tmp_path: Path, pool: GradingPool) -> None:
    stage = Stage(tmp_path, [(INSIDE, "39"), (TRAIN, "5")], decontaminate={})
    first = stage.make(pool, bench(FARM))
    assert stage.make(pool, bench(FARM)) == first
    # Its normalised text is the same, its sentences are others.
    again = stage.make(pool, bench(FARM.replace(". Every", " every")))
    assert again.fingerprint != first.fingerprint
    stage.make(pool, bench(TRAIN))
    assert stage.kept == [0] and [leak.id for leak in stage.leaks] == ["d/train/1"]


@pytest.mark.parametrize(
    ("files", "kind", "message"),
    [
        (
            ["nowhere.jsonl"],
            ConfigError,
            r'^problems\.decontaminate\.files = "nowhere\.jsonl": no such',
        ),
        (["b"], ConfigError, r'^problems\.decontaminate\.files = "b": is a folder'),
        (
            ["notes.txt"],
            ConfigError,
            r'^problems\.decontaminate\.files = "notes\.txt": cannot read',
        ),
        (["a.jsonl", "b/a.jsonl"], ConfigError, "two are called a.jsonl"),
        (["empty.jsonl"], DataError, "no row has a question in 'question'"),
        (["broken.jsonl"], DataError, "broken.jsonl:1"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    tmp_path: Path,
    pool: GradingPool,
    monkeypatch: pytest.MonkeyPatch,
    files: list[str],
    kind: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("b").mkdir()
    write_rows(Path("a.jsonl"), [(FARM, "")])
    write_rows(Path("b/a.jsonl"), [(TRAIN, "")])
    write_rows(Path("empty.jsonl"), [("", "")])
    Path("broken.jsonl").write_text("{\n")
    Path("notes.txt").write_text("a question\n")
    stage = Stage(tmp_path / "s", [(TRAIN, "5")], decontaminate={"files": files})
    with pytest.raises(kind, match=message):
        stage.make(pool)


def test_where_nothing_is_left_the_error_has_the_funnel(tmp_path: Path, pool: GradingPool) -> None:
    stage = Stage(tmp_path, [(INSIDE, "39"), (FARM, "39"), (TRAIN, "See solution.")])
    with pytest.raises(DataError) as failed:
        stage.make(pool, bench(FARM), decontaminate={})
    said = str(failed.value)
    assert "all 3 rows were set aside" in said
    assert "held out: near a question of bench (1)" in said
    assert "held out: in benchmark bench (1)" in said and "gold is no answer (1)" in said
    assert len(stage.leaks) == 2, "what was found stands there all the same"


# ---- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["near_duplicates", "decontaminate"])
def test_a_benchmark_is_measured_whole(table: str) -> None:
    problems = {"source": "file", "dataset": "d.jsonl", table: {}}
    with pytest.raises(ValueError, match=f"{table}: a benchmark is measured as it is"):
        Benchmark.model_validate({"name": "b", "problems": problems})


def test_there_must_be_something_to_be_cleaned_of() -> None:
    problems = {"source": "file", "dataset": "d.jsonl", "decontaminate": {}}
    traces = {"prompt": "question", "teachers": [{"model": "t"}]}
    values = {"name": "p", "problems": problems, "traces": traces}
    with pytest.raises(ValueError, match="nothing to compare with"):
        Pipeline.model_validate(values)
    Pipeline.model_validate(values | {"evals": {"benchmarks": ["gsm8k"]}})
    problems["decontaminate"] = {"files": ["x.jsonl"]}
    Pipeline.model_validate(values)


@pytest.mark.parametrize(
    "table",
    [
        {"near_duplicates": {"threshold": 0}},
        {"near_duplicates": {"threshold": 1.1}},
        {"near_duplicates": {"numbers": "differ"}},
        {"decontaminate": {"files": [""]}},
        {"decontaminate": {"n_gram": 0}},
        {"decontaminate": {"numbers": "ignored"}},
    ],
)
def test_settings_without_a_meaning_are_refused(table: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        ProblemSource.model_validate({"source": "file", "dataset": "d.jsonl"} | table)


# ---- stops ---------------------------------------------------------------------------------------

BOTH: dict[str, Any] = {"near_duplicates": {}, "decontaminate": {}}
MANY = [
    (FARM, "39"),
    (EDITED, "39"),
    (INSIDE, "39"),
    (TRAIN, "5"),
    (f"{TRAIN} Say it in hours.", "5"),
    ("broken", "none"),
    (FARM, "39"),
    ("\ud800 is what?", "1"),
]


@pytest.mark.parametrize("last", ["leaks.jsonl", "leaks.md", "near_duplicates.jsonl"])
def test_a_stage_that_was_killed_between_its_files_ends_as_if_it_had_not_been(
    tmp_path: Path, pool: GradingPool, last: str
) -> None:
    whole = Stage(tmp_path / "whole", MANY, **BOTH)
    expected = whole.make(pool, bench(FARM))
    stage = Stage(tmp_path / "killed", MANY, **BOTH)
    child = os.fork()
    if child == 0:
        try:
            _die_after(last)
            with GradingPool(workers=1) as own:
                stage.make(own, bench(FARM))
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 9
    assert (stage.out / last).exists() and not (stage.out / "problems.jsonl").exists()
    manifest = stage.make(pool, bench(FARM))
    assert (manifest.dropped, manifest.figures) == (expected.dropped, expected.figures)
    assert (manifest.counts, manifest.output) == (expected.counts, expected.output)
    for name in ("problems.jsonl", "set_aside.jsonl", "leaks.jsonl", "near_duplicates.jsonl"):
        assert (stage.out / name).read_bytes() == (whole.out / name).read_bytes()


def _die_after(last: str) -> None:
    """This process ends when the file of this name has been written."""
    for name in ("write_records", "write_text"):
        write = getattr(store, name)

        def and_die(path: Path, content: Any, write: Any = write) -> Any:
            written = write(path, content)
            if path.name == last:
                os._exit(9)
            return written

        setattr(comparing.store, name, and_die)


# ---- several sources -----------------------------------------------------------------------------

LAKE = (
    "A lake loses 14 litres through its floor each minute and gains 60 litres from two brooks in "
    "an hour. By how many litres does the lake shrink between noon and midnight?"
)
POND = "How deep is a round pond of 3 metres across that holds 40 cubic metres of clear water?"


def cut(folder: Path, **rows: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """A mixture of sources, each with its rows in a file."""
    sources = [
        {"name": name, "source": "file", "dataset": str(write_rows(folder / f"{name}.jsonl", own))}
        for name, own in rows.items()
    ]
    return {"sources": sources}


def test_of_several_sources_each_row_counts_for_its_own_whatever_it_is_like(
    tmp_path: Path, pool: GradingPool
) -> None:
    write_rows(tmp_path / "other.jsonl", [(POND, "7")])
    values = cut(
        tmp_path,
        a=[
            (FARM, "39"),
            (TRAIN, "5"),
            (f"Read this, then think.\n\n{LAKE}\n\nThere are 5 points for it.", "9360"),
        ],
        b=[
            (EDITED, "39"),
            (FARM.replace("come back", "come home"), "42"),
            (OTHER_NUMBERS, "41"),
            (f"Well: {OTHER_NUMBERS}", "41"),
            (TRAIN, "5"),
            (LAKE, "9360"),
            (POND, "5.66"),
            ("What is 1 + 1?", "See solution."),
            ("Why 7?", "7"),
        ],
    )
    tables = {"near_duplicates": {}, "decontaminate": {"files": [str(tmp_path / "other.jsonl")]}}
    mixture = ProblemMixture.model_validate(values | tables)
    out = tmp_path / "run" / "1-problems"
    lakes = bench(LAKE, name="lakes")
    manifest = run_problems(mixture, out, pool=pool, held_out=lakes)
    kept = [problem.id for problem in store.read_records(out / "problems.jsonl", Problem)]
    assert kept == ["a/train/0", "a/train/1", "b/train/2", "b/train/8"]
    assert manifest.counts == {"in": 12, "out": 4}
    a, b = ProblemsFigures.of(manifest).sources
    assert (a.rows, a.problems, a.dropped) == (3, 2, {"held out: near a question of lakes": 1})
    assert (b.rows, b.problems) == (9, 2)
    assert b.dropped == {
        f"{NEAR}, b repeats a": 1,
        f"{UNEQUAL}, b repeats a": 1,
        NEAR: 1,
        "duplicate question, b repeats a": 1,
        "held out: in benchmark lakes": 1,
        "held out: in benchmark other.jsonl": 1,
        "gold is no answer": 1,
    }
    assert manifest.dropped == Counter(a.dropped) + Counter(b.dropped)
    assert ProblemsFigures.of(manifest).leaks == {
        "lakes": {"near": 1, "equal": 1},
        "other.jsonl": {"equal": 1},
    }
    found = store.read_records(out / "near_duplicates.jsonl", NearDuplicate)
    assert {one.id: one.of for one in found} == {
        "b/train/0": "a/train/0",
        "b/train/1": "a/train/0",
        "b/train/3": "b/train/2",
    }
    aside = {entry.id: entry for entry in store.read_records(out / "set_aside.jsonl", SetAside)}
    assert aside["b/train/1"].detail.startswith("'42' here, '39' there: 0.")
    assert aside["b/train/0"].detail.endswith("like a/train/0")

    assert run_problems(mixture, out, pool=pool, held_out=lakes) == manifest
    write_rows(tmp_path / "other.jsonl", [(FARM, "7")])
    changed = run_problems(mixture, out, pool=pool, held_out=lakes)
    assert ProblemsFigures.of(changed).leaks["other.jsonl"] == {"equal": 1, "near": 2}


def test_a_mixture_that_asks_for_no_comparison_is_what_it_was(
    tmp_path: Path, pool: GradingPool
) -> None:
    values = cut(tmp_path, a=[(FARM, "39")], b=[(EDITED, "39")])
    mixture = ProblemMixture.model_validate(values)
    manifest = run_problems(mixture, tmp_path / "out", pool=pool)
    assert manifest.counts == {"in": 2, "out": 2}
    assert set(manifest.section) == {"sources", "order", "limit"}
    assert not any("near_duplicates" in source for source in manifest.section["sources"].values())


# ---- random funnels ------------------------------------------------------------------------------

QUESTIONS = (
    *(FARM, EDITED, OTHER_NUMBERS, INSIDE, TRAIN, FARM.upper()),
    *(f"{TRAIN} Say it in hours.", "What is 1 + 1?", "", "\ud800 is what?", "Why?"),
)
GOLDS = ("39", "39.0", "5", "none", "")


@given(
    rows=st.lists(
        st.tuples(st.sampled_from(QUESTIONS), st.sampled_from(GOLDS)), min_size=1, max_size=12
    ),
    held_out=st.sets(st.sampled_from([FARM, TRAIN, "What is 1 + 1?"])),
    tables=st.sets(st.sampled_from(sorted(BOTH))),
    numbers=st.sampled_from(["count", "words", "ignored"]),
)
@settings(max_examples=draws(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_counts_add_up_in_files_manifest_and_report_whatever_is_compared(
    tmp_path_factory: pytest.TempPathFactory,
    pool: GradingPool,
    rows: list[tuple[str, str]],
    held_out: set[str],
    tables: set[str],
    numbers: str,
) -> None:
    asked: dict[str, Any] = {name: {} for name in tables}
    if "near_duplicates" in asked:
        asked["near_duplicates"] = {"numbers": numbers}
    stage = Stage(tmp_path_factory.mktemp("run"), rows, **asked)
    try:
        manifest = stage.make(pool, bench(*sorted(held_out)))
    except DataError as error:
        aside = stage.aside
        assert f"all {len(rows)} rows were set aside" in str(error) and len(aside) == len(rows)
        return
    kept, aside = stage.kept, stage.aside
    assert sorted([*kept, *aside]) == list(range(len(rows))), "each row once"
    assert kept == sorted(kept) and list(aside) == sorted(aside), "in the order of the source"
    by_reason = Counter(entry.reason for entry in aside.values())
    assert manifest.dropped == by_reason
    assert manifest.counts == {"in": len(rows), "out": len(kept)}
    if "near_duplicates" in asked:
        near = sum(count for reason, count in by_reason.items() if reason.startswith(NEAR))
        assert near == len(stage.near)
        assert {int(found.of.split("/")[-1]) for found in stage.near} <= set(kept)
    if "decontaminate" in asked:
        leaking = {int(leak.id.split("/")[-1]) for leak in stage.leaks if leak.kind == "leak"}
        assert leaking == {row for row, entry in aside.items() if "held out" in entry.reason}
    stages = read_stages(stage.run, besides=stage.run / "7-report")
    facts = read_facts(stage.run, stages, traces=0)
    (step,) = build_report(facts).funnel
    assert step.came_in == step.came_out + sum(step.dropped.values()) == len(rows)
    assert step.dropped == by_reason
    counted = [sum(map(int, cells[1:])) for cells in leaks_table(facts).rows]
    if "decontaminate" in asked:
        assert sum(counted) == len(stage.leaks) and bool(counted) == bool(held_out)
    else:
        assert counted == []


@given(
    rows=st.lists(
        st.tuples(st.sampled_from(QUESTIONS), st.sampled_from(GOLDS)), min_size=2, max_size=12
    ),
    place=st.integers(1, 11),
    tables=st.sets(st.sampled_from(sorted(BOTH)), min_size=1),
)
@settings(max_examples=draws(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_in_two_sources_are_compared_as_in_one(
    tmp_path_factory: pytest.TempPathFactory,
    pool: GradingPool,
    rows: list[tuple[str, str]],
    place: int,
    tables: set[str],
) -> None:
    place = min(place, len(rows) - 1)
    asked: dict[str, Any] = {name: {} for name in tables}
    folder = tmp_path_factory.mktemp("run")
    values = cut(folder, a=rows[:place], b=rows[place:])
    mixture = ProblemMixture.model_validate(values | asked)
    stage = Stage(folder, rows, **asked)
    try:
        alone = stage.make(pool, bench(FARM))
    except DataError:
        with pytest.raises(DataError, match=f"all {len(rows)} rows were set aside"):
            run_problems(mixture, folder / "both", pool=pool, held_out=bench(FARM))
        return
    manifest = run_problems(mixture, folder / "both", pool=pool, held_out=bench(FARM))
    assert manifest.counts == alone.counts

    def row(entry: Problem | SetAside) -> int:
        return entry.origin.row + (place if entry.origin.source == "b" else 0)

    problems = store.read_records(folder / "both" / "problems.jsonl", Problem)
    assert [row(problem) for problem in problems] == stage.kept
    aside = list(store.read_records(folder / "both" / "set_aside.jsonl", SetAside))
    without_names = {row(entry): entry.reason.partition(", b repeats a")[0] for entry in aside}
    assert without_names == {row: entry.reason for row, entry in stage.aside.items()}
    figures = ProblemsFigures.of(manifest)
    assert [one.rows for one in figures.sources] == [place, len(rows) - place]
    dropped = Counter[str]()
    for one in figures.sources:
        assert one.rows == one.problems + sum(one.dropped.values())
        dropped.update(one.dropped)
    assert dropped == manifest.dropped == Counter(entry.reason for entry in aside)
