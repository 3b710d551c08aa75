"""Published traces as a teacher's: from the rows of a data set to traces with their true
provenance, graded by us as all others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from published_run import COMMIT, published_run
from test_cli import run as command
from traces_kit import ONE_WORKER, traces_in, write_problems

from reasondistill.config import TraceSettings
from reasondistill.curation.model_card import model_card
from reasondistill.curation.provenance import MadeStudent, card_facts, stages_of
from reasondistill.errors import ConfigError, DataError
from reasondistill.models.samplers.opening import Serving
from reasondistill.models.samplers.stored.sampler import check_first_rows
from reasondistill.records import FewerTraces, Verdict
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.missing import read_missing
from reasondistill.runs.session import Session
from reasondistill.runs.store import read_manifest, read_records
from reasondistill.runs.work_sharing import Share
from reasondistill.stages.traces import run_traces

SERVING = Serving(ONE_WORKER)


def row(number: int, *texts: str, **more: Any) -> dict[str, Any]:
    return {"problem": f"What is {number}+1?", "generations": list(texts), **more}


ROWS = (
    row(3, "<think>easy</think> \\boxed{4}", "<think>no</think> \\boxed{5}"),
    row(0, "\\boxed{1}", finish_reasons=["stop"]),
    row(77, "of no problem", "nor this"),
    row(3, "\\boxed{4} again"),
    row(1, "", "<think>never ends"),
)


def write_rows(path: Path, rows: Sequence[dict[str, Any]] = ROWS) -> Path:
    path.write_text("".join(f"{json.dumps(one)}\n" for one in rows), encoding="utf-8")
    return path


def stored(path: Path, n: int = 2, **keys: object) -> TraceSettings:
    teacher = {"model": str(path), "sampler": "stored", "stored": keys}
    return TraceSettings.model_validate({"prompt": "question", "n": n, "teachers": [teacher]})


def texts_of(folder: Path) -> dict[str, str]:
    return {
        trace.id: f"{trace.completion.reasoning or ''}|{trace.completion.answer_text}"
        for trace in traces_in(folder)
    }


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    return write_problems(tmp_path / "1-problems", 5)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "set.jsonl")


def test_a_problem_gets_the_traces_of_the_rows_that_ask_it(
    problems: Path, rows: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "2-traces"
    run_traces(stored(rows, n=4), problems, folder, SERVING)
    assert texts_of(folder) == {
        "sums/train/0:0": "|\\boxed{1}",
        "sums/train/1:0": "never ends|",
        "sums/train/3:0": "easy| \\boxed{4}",
        "sums/train/3:1": "no| \\boxed{5}",
        "sums/train/3:2": "|\\boxed{4} again",
    }


def test_a_trace_says_where_it_stands_and_that_nobody_knows_how_it_was_drawn(
    problems: Path, rows: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "2-traces"
    run_traces(stored(rows, teacher="deepseek-ai/DeepSeek-R1"), problems, folder, SERVING)
    traces = {trace.id: trace for trace in traces_in(folder)}
    trace = traces["sums/train/3:1"]
    published = trace.published
    assert published is not None and trace.model.startswith("set@")
    assert (published.dataset, published.row, published.place) == ("set.jsonl", 0, 1)
    assert published.teacher == "deepseek-ai/DeepSeek-R1"
    assert (trace.sampling, trace.seed, trace.prompt) == (None, None, "published")
    assert trace.completion.is_estimated and trace.completion.finish == "unknown"
    assert traces["sums/train/0:0"].completion.finish == "stop"
    line = (folder / "traces.jsonl").read_text(encoding="utf-8").splitlines()[0]
    assert '"sampling":null' in line and '"seed":null' in line


def test_what_is_fewer_is_named_and_what_is_left_out_is_counted(
    problems: Path, rows: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "2-traces"
    manifest = run_traces(stored(rows, n=3), problems, folder, SERVING)
    assert manifest.counts == {"in": 5, "out": 5, "absent": 10}
    fewer = {one.problem_id: one for one in read_records(folder / "fewer.jsonl", FewerTraces)}
    assert {name: one.traces for name, one in fewer.items()} == {
        "sums/train/0": 1,
        "sums/train/1": 1,
        "sums/train/2": 0,
        "sums/train/4": 0,
    }
    assert fewer["sums/train/2"].reason == "no published trace"
    (told,) = manifest.figures["servers"]
    assert (told["rows"], told["traces"], told["matched"]) == ([5], [7], [5])
    assert told["left_out"] == [{"no problem asks this": 2, "no text": 1}]
    assert told["first_rows_left_out"] == [{"no problem asks this": [2], "no text": [4]}]
    words = read_missing(folder).words()
    assert words == "5 of 15 samples; 10 are not in the data set"
    assert "fewer.jsonl" in read_missing(folder).remedy("2-traces")


def test_more_samples_top_up_from_the_data_set(problems: Path, rows: Path, tmp_path: Path) -> None:
    folder = tmp_path / "2-traces"
    run_traces(stored(rows, n=1), problems, folder, SERVING)
    before = texts_of(folder)
    run_traces(stored(rows, n=3), problems, folder, SERVING)
    whole = tmp_path / "whole"
    run_traces(stored(rows, n=3), problems, whole, SERVING)
    assert before.items() <= texts_of(folder).items()
    assert (folder / "traces.jsonl").read_bytes() == (whole / "traces.jsonl").read_bytes()


def test_a_lower_n_asks_for_fewer_and_a_larger_one_for_all_again(
    problems: Path, rows: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "2-traces"
    first = run_traces(stored(rows, n=3), problems, folder, SERVING)
    traces, fewer = ((folder / name).read_bytes() for name in ("traces.jsonl", "fewer.jsonl"))
    part = run_traces(stored(rows, n=1), problems, folder, SERVING)
    assert part.counts == {"in": 5, "out": 5, "absent": 2} and part.figures["beyond"] == 2
    asked = {one.asked for one in read_records(folder / "fewer.jsonl", FewerTraces)}
    assert asked == {1} and (folder / "traces.jsonl").read_bytes() == traces
    again = run_traces(stored(rows, n=3), problems, folder, SERVING)
    assert again.counts == first.counts and (folder / "fewer.jsonl").read_bytes() == fewer


def test_workers_take_the_same_traces_and_a_killed_one_loses_none(
    problems: Path, rows: Path, tmp_path: Path
) -> None:
    alone, shared, killed = (tmp_path / name for name in ("alone", "shared", "killed"))
    run_traces(stored(rows), problems, alone, SERVING)
    for share in (Share("open", of=2), Share("work", 0, 2), Share("work", 1, 2), Share("close")):
        run_traces(stored(rows), problems, shared, SERVING, Session(share=share))
    for share in (Share("open", of=2), Share("work", 0, 2), None):
        run_traces(stored(rows), problems, killed, SERVING, Session(share=share))
    for name in ("traces.jsonl", "fewer.jsonl"):
        expected = (alone / name).read_bytes()
        assert (shared / name).read_bytes() == (killed / name).read_bytes() == expected
    assert read_manifest(shared).counts == read_manifest(alone).counts  # type: ignore[union-attr]


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_parquet_file_and_a_dataset_folder_are_read_alike(
    problems: Path, tmp_path: Path, as_folder: bool
) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    if as_folder:
        pytest.importorskip("datasets")
    place = tmp_path / "set"
    place.mkdir()
    several = [
        {"input": f"What is {i}+1?", "output": f"\\boxed{{{i + 1}}}", "meta": "m"}
        | {"token_ids": [i, 7, 9], "logprobs": [-0.5, -1.0, 0.0]}
        for i in (4, 2)
    ]
    pq.write_table(pa.Table.from_pylist(several), place / "train.parquet")
    model = place if as_folder else place / "train.parquet"
    folder = tmp_path / "2-traces"
    run_traces(stored(model, n=1), problems, folder, SERVING)
    assert texts_of(folder) == {"sums/train/2:0": "|\\boxed{3}", "sums/train/4:0": "|\\boxed{5}"}
    trace = traces_in(folder)[0]
    assert trace.completion.tokens == 3 and trace.published is not None
    assert (trace.published.row, trace.published.mean_logprob) == (1, -0.5)


def test_the_same_row_counts_where_the_question_stands_among_other_words(tmp_path: Path) -> None:
    rows = [
        {"input": f"Reason step by step. {one} Thank you.", "output": "\\boxed{1}", "q": one}
        for one in ("What is 5-4?", "What is 6-4?")
    ]
    rows[1]["q"] = "What else?"
    text = PIPELINE.replace('"problem"', '"q"').replace('answer = "answer"', 'answer = "n"')
    write_rows(tmp_path / "math.jsonl", [one | {"n": 1} for one in rows])
    (tmp_path / "own.toml").write_text(text)
    command(tmp_path, "run", "own.toml", "--until", "traces")
    folder = tmp_path / "runs" / "own" / "2-traces"
    assert texts_of(folder) == {"math/train/0:0": "|\\boxed{1}"}
    (told,) = read_manifest(folder).figures["servers"]  # type: ignore[union-attr]
    assert told["first_rows_left_out"] == [{"no problem asks this": [1]}]


def test_a_data_set_of_other_questions_stops_the_stage(problems: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "other.jsonl", [row(50, "\\boxed{51}")])
    with pytest.raises(DataError, match="none of the 5 problems has a trace in the data set"):
        run_traces(stored(rows), problems, tmp_path / "2-traces", SERVING)


def test_a_data_set_that_changed_is_another_teacher(
    problems: Path, rows: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "2-traces"
    run_traces(stored(rows), problems, folder, SERVING)
    write_rows(rows, ROWS[:2])
    with pytest.raises(Exception, match=r"teachers\.1\.model"):
        run_traces(stored(rows), problems, folder, SERVING)


def test_a_list_that_is_no_text_ends_the_stage_with_its_row(problems: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "set.jsonl", [ROWS[0], row(1, "a") | {"generations": [["a"]]}])
    with pytest.raises(DataError, match=r"set\.jsonl: row 1: generations: holds a list whose item"):
        run_traces(stored(rows), problems, tmp_path / "2-traces", SERVING)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"temperature": 0.5}, "temperature: every teacher is a data set of published traces"),
        ({"teachers": [{"model": "m", "stored": {}}]}, 'sampler = "vllm" does not'),
        ({"teachers": [{"model": "m", "sampler": "stored", "stored": {"tex": "a"}}]}, "tex"),
    ],
)
def test_settings_that_have_no_effect_are_refused(keys: dict[str, Any], message: str) -> None:
    teachers = [{"model": "m", "sampler": "stored"}]
    with pytest.raises(ValueError, match=message):
        TraceSettings.model_validate({"teachers": teachers} | keys)


def test_a_file_that_is_not_there_is_an_error_of_the_file(tmp_path: Path) -> None:
    from reasondistill.models.samplers.opening import identity_of

    teacher = stored(tmp_path / "none.jsonl").teachers[0]
    with pytest.raises(ConfigError, match="no such data set of traces"):
        identity_of(teacher)
    notes = write_rows(tmp_path / "notes.txt")
    with pytest.raises(ConfigError, match=r'^model = ".*notes\.txt": cannot read "\.txt" files'):
        check_first_rows(stored(notes).teachers[0])


def test_the_card_of_a_student_names_who_wrote_the_traces_and_where_they_came_from(
    problems: Path, tmp_path: Path
) -> None:
    run = RunFolder(published_run(tmp_path / "made", has_scores=False))
    made, stages = MadeStudent.of(run.student("sft")), dict(stages_of(run))
    rows = [row(3, "a", by="gemini"), row(0, "b", by="deepseek-ai/DeepSeek-R1"), row(1, "c")]
    rows += [row(4, "d", "e", by="deepseek-ai/DeepSeek-R1"), row(77, "of no problem", by="other")]
    path = write_rows(tmp_path / "set.jsonl", rows)
    traces = run_traces(stored(path, teacher_field="by"), problems, tmp_path / "2", SERVING)
    name = str(traces.section["teachers"]["1"]["model"])
    stages["traces"] = traces
    card = model_card(card_facts(made, stages))
    writers = "deepseek-ai/DeepSeek-R1 and gemini and unknown, published in"
    assert f"solutions by {writers} {name}. Made by" in card
    assert f"| teacher | {writers} {name} |" in card
    assert "| teacher's samples | published, at most 2 each |" in card
    assert "temperature" not in card and "teacher's prompt" not in card
    assert card_facts(made, stages).datasets == ["openai/gsm8k"]

    hub = f"open-r1/OpenR1-Math-220k@{COMMIT}"
    beside = {"model": "demo-teacher@a1b2c3d4", "sampler": "vllm"}
    teachers = {"1": {"model": hub, "sampler": "stored"}, "2": beside}
    sampling = {"temperature": 0.5, "max_tokens": 64}
    section = traces.section | {"teachers": teachers, "sampling": sampling}
    servers = [{"teacher": hub, "written_by": [{"gemini": 3}, {"gemini": 3, "R1": 9}]}]
    stages["traces"] = replace(
        traces, identity={**traces.identity, "section": section}, figures={"servers": servers}
    )
    facts = card_facts(made, stages)
    assert facts.datasets == ["openai/gsm8k", "open-r1/OpenR1-Math-220k"]
    assert facts.origins["teacher"] == f"R1 and gemini, published in {hub}; demo-teacher@a1b2c3d4"
    assert facts.origins["teacher's samples"].endswith("64 tokens; published ones as they are")


# ---- the road to examples ------------------------------------------------------------------------

PIPELINE = """
name = "own"
[problems]
source = "file"
dataset = "math.jsonl"
question = "problem"
answer = "answer"
[traces]
prompt = "question"
n = 4
[[traces.teachers]]
model = "math.jsonl"
sampler = "stored"
[examples]
validation = 0.0
export = ["messages"]
"""
MATH = (
    row(
        3,
        "<think>3 and 1</think>So \\boxed{4}.",
        "<think>3 and 2</think>So \\boxed{5}.",
        answer="4",
        correctness_math_verify=[False, True],
    ),
    row(8, "<think>8 and 1</think>So \\boxed{9}.", answer="9", correctness_math_verify=[False]),
    row(9, answer="10", correctness_math_verify=[]),
)


def test_published_traces_become_examples_by_our_verdicts_alone(tmp_path: Path) -> None:
    write_rows(tmp_path / "math.jsonl", MATH)
    (tmp_path / "own.toml").write_text(PIPELINE)
    printed = command(tmp_path, "run", "own.toml", "--dry-run")
    assert "at most 12 traces; those of a data set are read, not drawn" in printed
    command(tmp_path, "run", "own.toml", "--until", "examples")
    run = tmp_path / "runs" / "own"
    verdicts = {
        verdict.trace_id: verdict.grade.outcome
        for verdict in read_records(run / "3-verdicts" / "verdicts.jsonl", Verdict)
    }
    assert verdicts == {
        "math/train/0:0": "correct",
        "math/train/0:1": "wrong",
        "math/train/1:0": "correct",
    }
    exported = (run / "4-examples" / "exports" / "messages.train.jsonl").read_text()
    assert len(exported.splitlines()) == 2 and "3 and 1" in exported
    card = (run / "4-examples" / "dataset" / "README.md").read_text()
    assert "unknown, published in math@" in card
    shown = command(tmp_path, "show", "own")
    assert "9 are not in the data set" in shown, shown
    assert "no published trace" in command(tmp_path, "walk", "own", "math/train/2")


def test_a_data_set_of_another_shape_is_found_before_anything_runs(tmp_path: Path) -> None:
    broken = [{"problem": "1+1?", "answer": "2", "generations": "a", "finish_reasons": ["b", "c"]}]
    write_rows(tmp_path / "math.jsonl", broken)
    (tmp_path / "own.toml").write_text(PIPELINE)
    printed = command(tmp_path, "run", "own.toml", "--dry-run", code=2)
    assert "math.jsonl: row 0: finish_reasons: holds a list, want a list of 1 reasons" in printed
    write_rows(tmp_path / "math.jsonl", [{"problem": "1+1?", "answer": "2"}])
    printed = command(tmp_path, "run", "own.toml", "--dry-run", code=2)
    assert "none of the known shapes of published traces" in printed
