"""Rows become problems, or are set aside with a reason."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reasondistill.config import ProblemSource
from reasondistill.curation.benchmarks import HeldOut
from reasondistill.curation.rows import BLOCK, SEED_STRIDE
from reasondistill.curation.words import normalise_question
from reasondistill.errors import ConfigError, DataError, DriftError
from reasondistill.grading import GradeItem, GradingPool
from reasondistill.records import Grade, Problem, SetAside
from reasondistill.runs import store
from reasondistill.stages.problems import VERSION, read_problems, run_problems

ROWS = [
    {
        "question": "What is 1+1?",
        "answer": "One and one.\n#### 2",
        "level": 5,
        "meta": {"cot": "so 2", "n": 1},
    },
    {
        "question": "What is 2+3?",
        "answer": "Two and three.\n#### 5",
        "level": "5",
        "meta": {"cot": "so 5", "n": 2},
    },
    {
        "question": "What is 4+4?",
        "answer": "Four twice.\n#### 8",
        "level": 3,
        "meta": {"cot": "so 8", "n": 3},
    },
]


class DigitPool:
    """A pool that finds golds with a digit in them correct, and notes how far it was ahead of its
    reader.
    """

    def __init__(self) -> None:
        self.items: list[GradeItem] = []

    def grade_many(self, items: Iterable[GradeItem]) -> Iterator[tuple[str, Grade]]:
        for item in items:
            self.items.append(item)
            outcome = "correct" if any(c.isdigit() for c in item.gold) else "undecided"
            yield (
                item.id,
                Grade(
                    outcome=outcome,
                    extracted=item.gold,
                    layer="fake",
                    reason="fake",
                    grader="fake@1",
                    seconds=0.0,
                ),
            )


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def from_file(path: Path, **keys: Any) -> ProblemSource:
    return ProblemSource(source="file", dataset=str(path), **keys)


def gsm_symbolic(**keys: Any) -> ProblemSource:
    return ProblemSource(source="procedural", dataset="gsm_symbolic", **keys)


def problems(source: ProblemSource, base: Path | None = None) -> list[Problem]:
    return [entry for entry in read_problems(source, base=base) if isinstance(entry, Problem)]


def set_aside(source: ProblemSource) -> list[SetAside]:
    return [entry for entry in read_problems(source) if isinstance(entry, SetAside)]


# ---- files and fields ----------------------------------------------------------------------------


def test_a_gsm8k_row_gives_question_marked_answer_and_whole_solution(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "gsm8k_train.jsonl", ROWS)
    first = problems(
        from_file(path, answer_after="####", solution="answer", level="level", subject="meta.cot")
    )[0]
    assert (first.id, first.question, first.answer) == ("gsm8k_train/train/0", "What is 1+1?", "2")
    assert first.reference_solution == "One and one.\n#### 2"
    assert (first.level, first.subject) == ("5", "so 2")
    assert (
        first.origin.row == 0
        and first.origin.dataset == "gsm8k_train.jsonl"
        and len(first.origin.revision) == 16
    )


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_every_file_kind_gives_the_same_problems(tmp_path: Path, kind: str) -> None:
    rows = [{"q": f'What is {i}, "twice"?\nSay.', "a": str(2 * i)} for i in range(5)]
    path = tmp_path / f"twice.{kind}"
    if kind == "jsonl":
        write_jsonl(path, rows)
    elif kind == "json":
        path.write_text(json.dumps(rows, indent=1))
    elif kind == "csv":
        with open(path, "w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, ["q", "a"])
            writer.writeheader()
            writer.writerows(rows)
    else:
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(rows), path)
    read = problems(from_file(path, question="q", answer="a"))
    assert [(p.id, p.question, p.answer) for p in read] == [
        (f"twice/train/{i}", rows[i]["q"], rows[i]["a"]) for i in range(5)
    ]


def test_numbers_lists_and_blank_lines_are_read_as_meant(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(
        '{"q": "a?", "a": 43.0}\n\n{"q": "b?", "a": 0.5}\n{"q": "c?", "a": [7, 8]}\n'
        '{"q": "d?", "a": ["7"]}\n{"q": "e?", "a": ["34", "68/2"]}\n{"q": "f?", "a": []}\n'
    )
    assert [p.answer for p in problems(from_file(path, question="q", answer="a"))] == [
        "43",
        "0.5",
        "7",
        '["34", "68/2"]',
    ]
    assert [s.reason for s in set_aside(from_file(path, question="q", answer="a"))] == [
        "answer is not text",
        "answer is not text",
    ]
    assert [
        p.answer
        for p in problems(
            from_file(write_jsonl(path, [{"q": "c?", "a": ["7"]}]), question="q", answer="a.0")
        )
    ] == ["7"]


def test_rows_that_lack_something_are_set_aside_with_their_reason(tmp_path: Path) -> None:
    rows = [
        {"question": "Good?", "answer": "#### 1 #### 2"},
        {"question": "No mark?", "answer": "2"},
        {"question": "Nothing after?", "answer": "so ####  "},
        {"question": " ", "answer": "#### 2"},
        {"question": "No answer?", "answer": None},
        {"question": "No field?"},
        {"question": "Half a pair \ud800?", "answer": "#### 2"},
        {"question": "  good", "answer": "#### 3"},
    ]
    source = from_file(write_jsonl(tmp_path / "x.jsonl", rows), answer_after="####")
    assert [p.answer for p in problems(source)] == ["2"]
    reasons = [s.reason for s in set_aside(source)]
    assert reasons == [
        "no answer mark",
        "no answer",
        "no question",
        "no answer",
        "no answer",
        "broken text",
        "duplicate question, unequal golds",
    ]
    assert set_aside(source)[-1].detail.endswith("x/train/0")


def test_a_question_can_be_put_together_from_fields(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "svamp.jsonl",
        [{"Body": "I have {2} pens.", "Question": "How many?", "Answer": 2.0}],
    )
    (read,) = problems(from_file(path, question="{Body} {Question}", answer="Answer"))
    assert (read.question, read.answer) == ("I have {2} pens. How many?", "2")
    with pytest.raises(ConfigError, match='question = "Bdy".*Did you mean Body'):
        list(read_problems(from_file(path, question="{Bdy} {Question}", answer="Answer")))


def test_the_answer_can_be_the_last_box_of_a_solution(tmp_path: Path) -> None:
    solutions = ["First \\boxed{0}, then \\boxed{\\frac{1}{2}} cm.", "No box.", "Cut \\boxed{3"]
    rows = [
        {"question": f"Question {i}?", "answer": solution} for i, solution in enumerate(solutions)
    ]
    source = from_file(
        write_jsonl(tmp_path / "math.jsonl", rows), answer_after="\\boxed", solution="answer"
    )
    assert [p.answer for p in problems(source)] == ["\\frac{1}{2}"]
    assert [s.reason for s in set_aside(source)] == ["no answer mark", "no answer"]


def test_a_trace_is_neither_a_gold_nor_a_solution(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trace = "<think>One and one.</think> So \\boxed{2}."
    whole = "One and one are two, as $1+1=2$ says. " * 12 + "So \\boxed{2}."
    rows = [
        {"question": "1+1?", "answer": trace, "solution": "a"},
        {"question": "2+2?", "answer": whole, "solution": "a"},
        {"question": "3+3?", "answer": "6", "solution": trace},
    ]
    path = write_jsonl(tmp_path / "x.jsonl", rows)
    assert [s.reason for s in set_aside(from_file(path))] == [
        "gold holds a model's reasoning",
        "gold is a whole solution",
    ]
    boxed = from_file(path, answer_after="\\boxed", limit=2)
    assert [p.answer for p in problems(boxed)] == ["2"], "of the solution, not of the trace"
    (last,) = problems(from_file(path, solution="solution"))
    assert last.reference_solution is None
    assert "solution holds a model's reasoning, and is not taken" in caplog.text


def test_a_list_of_traces_is_no_solution(tmp_path: Path) -> None:
    rows = [{"question": "1+1?", "answer": "2", "generations": ["\\boxed{3}", "\\boxed{4}"]}]
    path = write_jsonl(tmp_path / "x.jsonl", rows)
    with pytest.raises(DataError, match=r'row 0 holds a list.*sampler = "stored"'):
        problems(from_file(path, solution="generations"))
    (one,) = problems(from_file(path, solution="generations.0"))
    assert one.reference_solution == "\\boxed{3}"


def test_a_field_that_does_not_exist_names_the_nearest_and_lists_some(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", ROWS)
    with pytest.raises(
        ConfigError, match=r'question = "questoin".*Did you mean question\?.*Fields: .*meta\.cot'
    ):
        list(read_problems(from_file(path, question="questoin")))
    with pytest.raises(ConfigError, match=r'solution = "meta\.cto".*meta\.cot'):
        list(read_problems(from_file(path, solution="meta.cto")))
    with pytest.raises(ConfigError, match=r"filter\.lvel.*Did you mean level"):
        list(read_problems(from_file(path, filter={"lvel": [5]})))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", '{"question": "a"}\n{"question": \n', r"x\.jsonl:2: broken JSON"),
        ("x.jsonl", '{"question": "a"}\n[1]\n', r"x\.jsonl:2: expected a JSON object, found list"),
        ("x.json", '[\n{"question": "a"},\n{,}]', r"x\.json:3: broken JSON"),
        ("x.json", '{"question": "a"}', r"x\.json:1: expected a JSON list"),
        ("x.csv", "question,answer\na,b,c\n", r"x\.csv:2: more cells"),
        ("x.parquet", "no parquet", r"x\.parquet:1: not a readable Parquet"),
        ("x.jsonl", "", r"x\.jsonl: no rows"),
        ("x.csv", "question,answer\n", r"x\.csv: no rows"),
    ],
)
def test_a_broken_file_is_one_clear_error_with_its_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        list(read_problems(from_file(tmp_path / name)))


def test_text_that_is_not_utf8_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"question": "a", "answer": "1"}\n{"question": "\xff"}\n')
    with pytest.raises(DataError, match=r"x\.jsonl:2: not UTF-8"):
        list(read_problems(from_file(path)))


def test_a_missing_file_and_an_unknown_kind_are_config_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        list(read_problems(from_file(tmp_path / "none.jsonl"), base=tmp_path))
    (tmp_path / "x.xlsx").write_text("")
    with pytest.raises(ConfigError, match=r"\.xlsx.*\.jsonl"):
        list(read_problems(from_file(tmp_path / "x.xlsx")))
    with pytest.raises(ConfigError, match="is a folder"):
        list(read_problems(from_file(tmp_path)))


def test_a_relative_path_is_looked_up_here_and_then_beside_the_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here := tmp_path / "here").mkdir()
    (base := tmp_path / "base").mkdir()
    monkeypatch.chdir(here)
    write_jsonl(base / "x.jsonl", [{"question": "base?", "answer": "1"}])
    source = from_file(Path("x.jsonl"))
    assert problems(source, base)[0].question == "base?"
    write_jsonl(here / "x.jsonl", [{"question": "here?", "answer": "1"}])
    assert problems(source, base)[0].question == "here?"


# ---- choosing rows -------------------------------------------------------------------------------


def test_a_filter_compares_numbers_and_their_text_alike(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", ROWS)
    for wanted in (5, "5", 5.0):
        assert [p.origin.row for p in problems(from_file(path, filter={"level": [wanted]}))] == [
            0,
            1,
        ]
    assert [
        p.origin.row for p in problems(from_file(path, filter={"level": [5], "meta.n": [2, 3]}))
    ] == [1]
    with pytest.raises(ConfigError, match=r"no row of .* matches.*level is one of '3', '5'"):
        list(read_problems(from_file(path, filter={"level": [9]})))


def test_shuffle_is_fixed_by_its_seed_and_limit_takes_its_head(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "x.jsonl", ({"question": f"What is {i}?", "answer": i} for i in range(50))
    )

    def rows(**keys: Any) -> list[int]:
        return [p.origin.row for p in problems(from_file(path, **keys))]

    assert rows(limit=7) == list(range(7))
    assert rows(shuffle=True, seed=1) == rows(shuffle=True, seed=1) != rows(shuffle=True, seed=2)
    assert sorted(rows(shuffle=True, seed=1)) == list(range(50)) != rows(shuffle=True, seed=1)
    assert rows(shuffle=True, seed=1, limit=7) == rows(shuffle=True, seed=1)[:7]


def test_reading_is_lazy(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write_jsonl(path, ({"question": f"What is {i}?", "answer": i} for i in range(1000)))
    with open(path, "a") as file:
        file.write("broken\n")
    entries = read_problems(from_file(path))
    assert next(entries).id == "x/train/0"
    with pytest.raises(DataError, match="x.jsonl:1001"):
        list(entries)


# ---- ids -----------------------------------------------------------------------------------------


def test_ids_from_a_field_are_safe_and_unique(tmp_path: Path) -> None:
    names = ["test/algebra/1.json", "two words\n", "a", "a", "a-row3", None, "a:b"]
    rows = [{"question": f"What is {i}?", "answer": i, "key": name} for i, name in enumerate(names)]
    ids = [
        p.id
        for p in problems(
            from_file(write_jsonl(tmp_path / "x.jsonl", rows), id="key", name="math", split="test")
        )
    ]
    assert ids == [
        "math/test/test-algebra-1.json",
        "math/test/two-words",
        "math/test/a",
        "math/test/a-row3",
        "math/test/a-row3-row4",
        "math/test/5",
        "math/test/a-b",
    ]


def test_normalising_folds_prose_and_keeps_what_carries_meaning() -> None:
    assert normalise_question("  What's  $x$, then?\n") == normalise_question("whats x then")
    assert (
        len(
            {
                normalise_question(q)
                for q in ("3+4", "3-4", "3.5", "35", "f(1,2)", "f(12)", "(2+3)*4", "2+(3*4)")
            }
        )
        == 8
    )


# ---- hub -----------------------------------------------------------------------------------------


@pytest.fixture
def dataset_folder(tmp_path: Path) -> Path:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "sums"
    (folder / "main").mkdir(parents=True)
    for split, first in (("train", 0), ("test", 100)):
        rows = [
            {"question": f"What is {i}+1?", "answer": str(i + 1), "meta": {"n": i}}
            for i in range(first, first + 10)
        ]
        parquet.write_table(
            pyarrow.Table.from_pylist(rows), folder / "main" / f"{split}-00000-of-00001.parquet"
        )
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files:\n  - {split: train, path: "
        "main/train-*}\n"
        "  - {split: test, path: main/test-*}\n---\n"
    )
    return folder


def test_a_hub_dataset_is_read_by_config_and_split(dataset_folder: Path) -> None:
    source = ProblemSource(
        source="hub", dataset=str(dataset_folder), config="main", split="test", solution="meta.n"
    )
    read = problems(source)
    assert [p.id for p in read] == [f"sums/test/{i}" for i in range(10)]
    assert read[0].question == "What is 100+1?" and read[0].reference_solution == "100"
    assert read[0].origin.split == "test" and len(read[0].origin.revision) == 16
    limited = problems(source.model_copy(update={"limit": 3}))
    assert limited == read[:3]
    shuffled = problems(source.model_copy(update={"limit": 3, "shuffle": True}))
    assert {p.id for p in shuffled} < {p.id for p in read} and len(shuffled) == 3


def test_two_splits_are_read_one_after_the_other(dataset_folder: Path) -> None:
    read = problems(
        ProblemSource(source="hub", dataset=str(dataset_folder), config="main", split="train+test")
    )
    assert [p.answer for p in read] == [str(i + 1) for i in (*range(10), *range(100, 110))]
    assert read[12].id == "sums/train-test/12"


@pytest.mark.parametrize(
    "wrong", [{"split": "tset"}, {"config": "mian"}, {"dataset": "/no/such/folder"}]
)
def test_a_wrong_split_config_or_dataset_is_a_config_error(
    dataset_folder: Path, wrong: dict[str, str]
) -> None:
    keys = {"dataset": str(dataset_folder), "config": "main", "split": "test"} | wrong
    with pytest.raises(ConfigError, match="|".join(wrong.values())):
        list(read_problems(ProblemSource(source="hub", **keys)))  # type: ignore[arg-type]


def test_a_finished_stage_needs_no_hub(tmp_path: Path) -> None:
    source = ProblemSource(source="hub", dataset="nobody/no-such-set", revision="abc")
    identity = store.Identity(
        "problems", VERSION, source.model_dump(mode="json", exclude={"choices"}), {}
    )
    store.open_stage(tmp_path / "out", identity)
    done = store.finish_stage(tmp_path / "out", counts={"in": 1, "out": 1}, seconds=0.0)
    assert run_problems(source, tmp_path / "out", pool=DigitPool()) == done


def test_remote_code_is_refused_where_datasets_no_longer_runs_it(dataset_folder: Path) -> None:
    with pytest.raises(ConfigError, match="trust_remote_code"):
        list(
            read_problems(
                ProblemSource(source="hub", dataset=str(dataset_folder), trust_remote_code=True)
            )
        )


# ---- procedural ----------------------------------------------------------------------------------


def test_a_procedural_set_gives_its_worked_solutions_and_says_where_they_come_from() -> None:
    read = problems(
        gsm_symbolic(seed=7, limit=5, solution="metadata.answer_cot", subject="template")
    )
    assert [p.id for p in read] == [f"gsm_symbolic/seed7/{i}" for i in range(5)]
    assert all(
        p.reference_solution and "####" in p.reference_solution and p.subject is not None
        for p in read
    )
    assert read[0].origin.revision.startswith("reasoning-gym 0.") and read[
        0
    ].origin.revision.endswith("seed 7")


def test_raising_the_limit_keeps_the_problems_that_were_there() -> None:
    few, more = (
        gsm_symbolic(seed=1, limit=60, filter={"template": [1, 4]}),
        gsm_symbolic(seed=1, limit=5, filter={"template": [1, 4]}),
    )
    assert problems(few)[:5] == problems(more)
    assert max(p.origin.row for p in problems(few)) > BLOCK, "the filter reaches over blocks"


def test_neighbouring_seeds_share_no_random_numbers() -> None:
    # gsm_symbolic draws row i from Random(seed + i): with the seeds 0 and 1 as they are, row 1 of
    # one is row 0 of the other.
    def drawn(seed: int) -> set[str]:
        return {
            str(p.subject)
            for p in problems(gsm_symbolic(seed=seed, limit=500, subject="metadata.variables"))
        }

    first, second = drawn(0), drawn(1)
    assert len(first) > 450 and not first & second
    assert SEED_STRIDE % BLOCK == 0


def test_template_is_a_field_to_filter_by() -> None:
    read = problems(gsm_symbolic(seed=3, limit=12, filter={"template": [4]}, subject="template"))
    assert {p.subject for p in read} == {"4"} and len({p.question for p in read}) == len(read)


def test_a_filter_that_matches_no_procedural_row_ends_with_an_error() -> None:
    with pytest.raises(
        ConfigError, match=r"filter: 0 of the first 20,0.. rows match.*template is one of"
    ):
        list(read_problems(gsm_symbolic(seed=3, limit=12, filter={"template": [1000]})))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"dataset": "gsm_symbolc"}, "Did you mean gsm_symbolic"),
        ({"options": {"difficulti": 2}}, "difficulti"),
        ({"options": {"difficulty": 99.0}}, "options"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_a_wrong_procedural_setting_is_a_config_error(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        list(
            read_problems(
                ProblemSource(
                    **({"source": "procedural", "dataset": "gsm_symbolic", "limit": 3} | keys)
                )
            )
        )


# ---- the stage -----------------------------------------------------------------------------------


def test_the_stage_writes_both_files_and_its_counts_add_up(tmp_path: Path) -> None:
    rows = [
        *ROWS,
        {"question": "What is one?", "answer": "#### one"},
        {"question": "In the test?", "answer": "#### 1"},
        ROWS[0],
    ]
    source = from_file(write_jsonl(tmp_path / "x.jsonl", rows), answer_after="####")
    manifest = run_problems(
        source,
        tmp_path / "out",
        pool=DigitPool(),
        held_out=[HeldOut("gsm8k", "q", "IN the test")],
    )
    assert manifest.status == "complete" and manifest.counts == {"in": 6, "out": 3}
    assert manifest.dropped == {
        "gold does not grade itself": 1,
        "held out: in benchmark gsm8k": 1,
        "duplicate question": 1,
    }
    kept = list(store.read_records(tmp_path / "out" / "problems.jsonl", Problem))
    aside = list(store.read_records(tmp_path / "out" / "set_aside.jsonl", SetAside))
    assert [p.origin.row for p in kept] == [0, 1, 2] and [s.origin.row for s in aside] == [3, 4, 5]
    assert "'one'" in aside[0].detail and "undecided" in aside[0].detail


def test_golds_are_graded_against_themselves_in_a_box(tmp_path: Path) -> None:
    pool = DigitPool()
    run_problems(
        from_file(write_jsonl(tmp_path / "x.jsonl", ROWS), answer_after="####"),
        tmp_path / "out",
        pool=pool,
    )
    assert [(item.answer_text, item.gold) for item in pool.items] == [
        ("\\boxed{2}", "2"),
        ("\\boxed{5}", "5"),
        ("\\boxed{8}", "8"),
    ]


def test_a_finished_stage_is_not_made_again_and_a_changed_file_is_drift(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", ROWS)
    source = from_file(path, answer_after="####")
    first = run_problems(source, tmp_path / "out", pool=DigitPool())
    idle = DigitPool()
    assert run_problems(source, tmp_path / "out", pool=idle) == first and not idle.items
    (moved := tmp_path / "elsewhere").mkdir()
    path.rename(moved / "x.jsonl")
    assert (
        run_problems(from_file(moved / "x.jsonl", answer_after="####"), tmp_path / "out", pool=idle)
        == first
    ), "a path is no identity"
    write_jsonl(moved / "x.jsonl", ROWS[:2])
    with pytest.raises(DriftError, match="content"):
        run_problems(
            from_file(moved / "x.jsonl", answer_after="####"), tmp_path / "out", pool=DigitPool()
        )
    with pytest.raises(DriftError, match="shuffle was false, is true"):
        run_problems(
            from_file(write_jsonl(moved / "x.jsonl", ROWS), answer_after="####", shuffle=True),
            tmp_path / "out",
            pool=DigitPool(),
        )


def test_a_source_without_one_usable_row_is_an_error_that_says_why(tmp_path: Path) -> None:
    source = from_file(write_jsonl(tmp_path / "x.jsonl", ROWS), answer_after="THE ANSWER:")
    with pytest.raises(DataError, match=r"all 3 rows were set aside: no answer mark \(3\)"):
        run_problems(source, tmp_path / "out", pool=DigitPool())
    assert store.count_lines(tmp_path / "out" / "set_aside.jsonl") == 3


def test_the_real_grader_sets_a_gold_aside_that_it_cannot_read(tmp_path: Path) -> None:
    answers = ["1,000", "\\frac{3}{4}", "x^2+1", "-5", "nan", "(1, 2)", "See solution.", "proof"]
    answers += ["['34', '68/2']"]
    rows = [{"question": f"Question {i}?", "answer": answer} for i, answer in enumerate(answers)]
    with GradingPool(workers=1) as pool:
        manifest = run_problems(
            from_file(write_jsonl(tmp_path / "x.jsonl", rows)), tmp_path / "out", pool=pool
        )
    assert manifest.counts == {"in": 9, "out": 6}
    assert manifest.dropped == {"gold is no answer": 3}


def test_problems_without_answers_are_kept_when_the_file_says_so(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "rows.jsonl",
        [{"question": "What is 1+1?"}, {"question": ""}, {"question": "And 2+3?"}],
    )
    with GradingPool(workers=1) as pool:
        run_problems(from_file(path, answer=""), tmp_path / "out", pool=pool)
    kept = list(store.read_records(tmp_path / "out" / "problems.jsonl", Problem))
    assert [(problem.question, problem.answer) for problem in kept] == [
        ("What is 1+1?", ""),
        ("And 2+3?", ""),
    ]


# ---- what the rows show together -----------------------------------------------------------------


def test_equal_questions_with_unequal_golds_show_both(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {"question": "What is 1 + 1?", "answer": "3"},
        {"question": "what is 1 + 1 ?", "answer": "2"},
        {"question": "What is 1000 + 0?", "answer": "1000"},
        {"question": "What is 1000 + 0?", "answer": "1,000.0"},
    ]
    source = from_file(write_jsonl(tmp_path / "x.jsonl", rows))
    unequal, equal = set_aside(source)
    assert unequal.reason == "duplicate question, unequal golds"
    assert unequal.detail == "'2' here, '3' there: the same question as x/train/0"
    assert equal.reason == "duplicate question"
    assert "questions with unequal golds, of each the first stays: 1 (x/train/0" in caplog.text


@pytest.mark.parametrize(
    ("gold", "other", "is_equal"),
    [
        ("1234567890123456789012345678901", "1234567890123456789012345678902", False),
        (f"{'1 + ' * 20}2", f"{'1 + ' * 20}3", False),
        (f"{'1 + ' * 20}2", f"{'1 + ' * 20}2.", True),
    ],
)
def test_golds_are_compared_to_their_last_digit(
    tmp_path: Path, gold: str, other: str, is_equal: bool
) -> None:
    rows = [{"question": "What is it?", "answer": answer} for answer in (gold, other)]
    (entry,) = set_aside(from_file(write_jsonl(tmp_path / "x.jsonl", rows)))
    assert (entry.reason == "duplicate question") == is_equal


def test_a_part_of_a_question_that_is_missing_or_a_list_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {"a": "Tom has 3.", "b": "How many?", "answer": "3"},
        {"b": "How many are there?", "answer": "3"},
        {"a": ["Tom", "Ann"], "b": "Who?", "answer": "3"},
        {"a": None, "b": "How many has Ann?", "answer": "3"},
    ]
    source = from_file(write_jsonl(tmp_path / "x.jsonl", rows), question="{a} {b}")
    assert [p.question for p in problems(source)] == ["Tom has 3. How many?", "How many has Ann?"]
    missing, listed = set_aside(source)
    assert (missing.reason, missing.detail) == ("a part of the question is missing", "no a")
    assert listed.reason == "question is not text" and listed.detail.startswith("a: found list")
    assert "question: {a} is empty: 1 row, first x/train/3" in caplog.text
    with GradingPool() as pool:
        manifest = run_problems(source, tmp_path / "out", pool=pool)
    assert manifest.figures["noticed"] == {"question: {a} is empty": 1}
