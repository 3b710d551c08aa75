"""`eval`, `compare`, `diff`, `power` as a user types them, on scripted models: no engine, the whole
road otherwise.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_run import fail_samples
from test_cli import run

from reasondistill.records import EvalRecord
from reasondistill.runs.store import read_records, require_complete

QUESTIONS = [f"What is {i} + {i}?" for i in range(12)]


def script(path: Path, right: set[int], *, samples: int = 1, reply: str = r"\boxed{{{}}}") -> Path:
    """A model that answers the questions in `right` rightly, and all others with one too many."""
    rows = [
        {"question": question, "text": reply.format(2 * i if i in right else 2 * i + 1)}
        for i, question in enumerate(QUESTIONS)
        for _ in range(samples)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    return lay_out(tmp_path)


@pytest.fixture(scope="module")
def _measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = lay_out(tmp_path_factory.mktemp("measured"))
    measure(place)
    return place


@pytest.fixture
def measured(_measured: Path, tmp_path: Path) -> Path:
    """A copy of a workplace with the run `trial` in it, measured by default."""
    return shutil.copytree(_measured, tmp_path / "measured")


def lay_out(tmp_path: Path) -> Path:
    """Two benchmark files of six problems each, and three models: strong, weak, and one that is as
    strong.
    """
    for name, part in (("first", range(6)), ("second", range(6, 12))):
        rows = [
            {
                "question": QUESTIONS[i],
                "answer": str(2 * i),
                "kind": "even" if i % 2 == 0 else "odd",
            }
            for i in part
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / f"{name}.toml").write_text(
            f'name = "{name}"\nrows = 6\nn = 2\nprompt = "question"\n'
            f'[problems]\nsource = "file"\ndataset = "{name}.jsonl"\nsubject = "kind"\n'
        )
    script(tmp_path / "strong.jsonl", set(range(12)), samples=2)
    script(tmp_path / "weak.jsonl", {0, 1}, samples=2)
    script(tmp_path / "equal.jsonl", set(range(12)), samples=2)
    return tmp_path


def measure(
    workplace: Path,
    *more: str,
    models: tuple[str, ...] = ("strong", "weak"),
    name: str = "trial",
    code: int = 0,
) -> str:
    named = [f"{model}={model}.jsonl" for model in models]
    return run(
        workplace,
        "eval",
        *named,
        "--benchmarks",
        "first.toml,second.toml",
        "--name",
        name,
        "--sampler",
        "scripted",
        *more,
        code=code,
    )


def scores_of(workplace: Path, name: str = "trial") -> dict[tuple[str, str, str], dict[str, Any]]:
    rows = json.loads((workplace / "runs" / name / "6-evals" / "scores.json").read_text())["scores"]
    return {(row["model"], row["benchmark"], row["metric"]): row for row in rows}


# ---- eval ----------------------------------------------------------------------------------------


def test_models_are_measured_without_a_pipeline_file_with_the_samples_that_the_benchmark_recommends(
    workplace: Path,
) -> None:
    printed = measure(workplace, "--against", "weak")
    scores = scores_of(workplace)
    assert scores["strong", "first", "pass@1"]["mean"] == 1.0 and scores["weak", "first", "pass@1"][
        "mean"
    ] == pytest.approx(2 / 6)
    assert {row["k"] for row in scores.values()} == {2} and {
        row["n"] for row in scores.values()
    } == {6}
    assert {metric for *_, metric in scores} == {"pass@1", "pass@2", "maj@2", "mg-pass@2"}
    assert "strong − weak on first: +66.7 points" in printed and "report.html" in printed
    report = (workplace / "runs" / "trial" / "7-report" / "report.md").read_text()
    assert "maj@2" in report and "by subject" not in report  # three problems of a kind say nothing


def test_scores_stand_apart_by_how_often_a_named_model_solved_a_problem(workplace: Path) -> None:
    models = "".join(
        f'[[evals.models]]\nname = "{name}"\nmodel = "{name}.jsonl"\nsampler = "scripted"\n'
        for name in ("strong", "weak")
    )
    evals = 'name = "apart"\n[evals]\nbenchmarks = ["first.toml"]\ndifficulty = "weak"\n'
    (workplace / "apart.toml").write_text(evals + models)
    run(workplace, "run", "apart.toml")
    folder = workplace / "runs" / "apart"
    parts = json.loads((folder / "6-evals" / "scores.json").read_text())["parts"]
    apart = [row for row in parts if row["part"].startswith("difficulty")]
    assert [(row["model"], row["part"], row["mean"], row["n"]) for row in apart] == [
        ("strong", "difficulty: weak solved 0 %", 1.0, 4),
        ("strong", "difficulty: weak solved 100 %", 1.0, 2),
    ]
    assert "### first by difficulty" in (folder / "7-report" / "report.md").read_text()
    unknown = ["--set", "evals.difficulty=nobody", "--set", "name=other"]
    message = run(workplace, "run", "apart.toml", *unknown, "--dry-run", code=2)
    assert "difficulty: 'nobody' is not among the models that are measured: strong, weak" in message


def test_a_rank_that_another_launcher_has_set_takes_no_environment_from_the_manifests(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubeflow and SageMaker set RANK without a WORLD_SIZE."""
    monkeypatch.setenv("RANK", "3")
    measure(workplace, models=("strong",))
    folder = workplace / "runs" / "trial" / "6-evals"
    for part in (folder, folder / "first" / "strong" / "traces"):
        assert require_complete(part).environment["packages"], part


def test_the_same_command_draws_nothing_again_and_more_models_join_the_table(
    measured: Path,
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (measured / "runs").rglob("traces.jsonl")}
    measure(measured)
    measure(measured, models=("strong", "weak", "equal"))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {model for model, *_ in scores_of(measured)} == {"strong", "weak", "equal"}


def test_models_named_later_join_those_that_the_run_has(measured: Path) -> None:
    printed = measure(measured, models=("equal",))
    assert "also in this run: strong, weak" in printed
    assert {model for model, *_ in scores_of(measured)} == {"strong", "weak", "equal"}
    report = (measured / "runs" / "trial" / "7-report" / "report.md").read_text()
    assert "Not all models were asked alike" not in report


def test_fewer_samples_than_are_there_are_no_reason_to_draw_again(measured: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (measured / "runs").rglob("traces.jsonl")}
    measure(measured, "--n", "1")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {row["k"] for row in scores_of(measured).values()} == {1}


def test_a_lower_limit_reads_the_first_problems_of_those_that_are_there(measured: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (measured / "runs").rglob("traces.jsonl")}
    for limit, n in (("4", 4), ("2", 2), ("6", 6)):
        measure(measured, "--limit", limit)
        assert {path: path.stat().st_mtime_ns for path in before} == before
        assert {row["n"] for row in scores_of(measured).values()} == {n}
    assert scores_of(measured)["weak", "first", "pass@1"]["mean"] == pytest.approx(2 / 6)


def test_a_gold_that_is_put_right_grades_the_same_samples_anew(measured: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (measured / "runs").rglob("traces.jsonl")}
    with open(measured / "first.toml", "a") as file:
        file.write('[[errata]]\nid = "3"\nanswer = "7"\nreason = "to see what happens"\n')
    measure(measured)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    scores = scores_of(measured)
    assert scores["strong", "first", "pass@1"]["mean"] == pytest.approx(5 / 6)
    assert scores["weak", "first", "pass@1"]["mean"] == pytest.approx(3 / 6)  # it had said 7


def test_a_benchmark_that_is_left_out_later_leaves_its_samples_in_peace(measured: Path) -> None:
    for file in (
        "6-evals/manifest.json",
        "6-evals/records.jsonl",
        "6-evals/scores.json",
        "run.json",
    ):  # as if it was stopped before
        (measured / "runs" / "trial" / file).unlink()
    run(
        measured,
        "eval",
        "strong=strong.jsonl",
        "-b",
        "second.toml",
        "--name",
        "trial",
        "--sampler",
        "scripted",
    )
    assert (
        measured / "runs" / "trial" / "6-evals" / "first" / "strong" / "traces" / "traces.jsonl"
    ).exists()


def test_models_that_were_asked_differently_are_flagged(workplace: Path) -> None:
    measure(workplace, "--set", 'evals.models.0.prompt="think"')
    report = (workplace / "runs" / "trial" / "7-report" / "report.md").read_text()
    assert "Not all models were asked alike" in report


def test_a_prompt_may_be_called_like_a_step(workplace: Path) -> None:
    (workplace / "step-by-step.toml").write_text('about = "x"\nuser = "{question} Step by step."\n')
    measure(workplace, "--prompts", "step-by-step.toml")
    assert scores_of(workplace)["strong@step-by-step", "first", "pass@2"]["k"] == 2


def test_names_and_revisions_on_the_command_line() -> None:
    from reasondistill.cli.measuring import parse_model

    assert parse_model("base=org/model@v1") == {
        "name": "base",
        "model": "org/model",
        "revision": "v1",
    }
    assert parse_model("runs/demo/5-students/distilled/model") == {
        "name": "distilled",
        "model": "runs/demo/5-students/distilled/model",
    }
    assert parse_model("runs/lr=1e-5/model")["model"] == "runs/lr=1e-5/model"


def test_further_prompts_stand_apart_with_their_spread(workplace: Path) -> None:
    measure(workplace, "--prompts", "think,qwen_math")
    found = json.loads((workplace / "runs" / "trial" / "6-evals" / "scores.json").read_text())
    assert {(row["model"], row["benchmark"]) for row in found["prompts"]} == {
        (m, b) for m in ("strong", "weak") for b in ("first", "second")
    }
    assert all(
        list(row["scores"]) == ["its own", "think", "qwen_math"] and row["low"] == row["high"]
        for row in found["prompts"]
    )
    manifest = require_complete(
        workplace / "runs" / "trial" / "6-evals" / "first" / "strong@think" / "traces"
    )
    assert manifest.section["prompt"].startswith("think@")
    text = (workplace / "runs" / "trial" / "7-report" / "report.md").read_text()
    assert "Under other prompts" in text and "strong@think answers" not in text


def test_a_benchmark_that_is_not_what_its_file_says_is_refused(workplace: Path) -> None:
    with open(workplace / "first.jsonl", "a") as file:
        file.write('{"question": "One more?", "answer": "1", "kind": "odd"}\n')
    assert "first" in measure(workplace, code=2)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--n", "many"], "--n many"),
        (["--against", "nobody"], "'nobody' is not among the models"),
        (["--prompts", "thnk"], "Did you mean think?"),
        (["--settings", "greedi"], "Did you mean greedy?"),
        (["--temperature", "-1"], "temperature"),
    ],
)
def test_bad_input_is_one_clear_error(workplace: Path, more: list[str], said: str) -> None:
    assert said in measure(workplace, *more, code=2)


def test_a_model_of_ours_is_asked_as_it_was_trained(tmp_path: Path) -> None:
    from reasondistill.config import Cluster, make_pipeline
    from reasondistill.pipeline import Run
    from reasondistill.pipeline.measured import eval_models, sampling_of
    from reasondistill.pipeline.runs import benchmarks

    values = {
        "name": "x",
        "evals": {
            "benchmarks": ["gsm8k"],
            "models": [{"name": "ours", "model": "shipped:demo-teacher"}],
        },
    }
    job = Run(make_pipeline(values, source=tmp_path / "p"), Cluster(), tmp_path, tmp_path / "p")
    assert sampling_of(job, eval_models(job)["ours"], benchmarks(job)[0]).prompt == "question"
    values["evals"]["models"][0]["prompt"] = "think"
    job = Run(make_pipeline(values, source=tmp_path / "p"), Cluster(), tmp_path, tmp_path / "p")
    assert sampling_of(job, eval_models(job)["ours"], benchmarks(job)[0]).prompt == "think"


def test_a_process_that_measures_imports_nothing_that_trains(workplace: Path) -> None:
    from reasondistill.config import Cluster, make_pipeline
    from reasondistill.pipeline import Run, save_run

    model = {"name": "strong", "model": str(workplace / "strong.jsonl"), "sampler": "scripted"}
    values = {
        "name": "x",
        "evals": {"benchmarks": [str(workplace / "first.toml")], "n": 1, "models": [model]},
    }
    source, folder = workplace / "p.toml", workplace / "runs" / "x"
    save_run(Run(make_pipeline(values, source=source), Cluster(), folder, source))
    code = (
        "import sys\nfrom reasondistill.cli import app\n"
        f"app(['task', {str(folder)!r}, 'evals', 'strong'], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'trl', 'peft', 'accelerate', 'datasets', 'vllm'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=workplace
    )
    assert ended.stdout.splitlines()[-1:] == ["[]"], ended.stdout + ended.stderr
    # It measures all models there are, so it has put the tables together too.
    assert (folder / "6-evals" / "scores.json").exists()


# ---- compare -------------------------------------------------------------------------------------


def test_two_models_are_compared_problem_by_problem_and_the_flips_can_be_read(
    workplace: Path,
) -> None:
    measure(workplace, "--n", "1")
    printed = run(
        workplace, "compare", "trial/strong", "trial/weak", "--out", "c.json", "--flips", "1"
    )
    assert "better" in printed and "+66.7" in printed and "all, by problem" in printed
    assert (
        "strong@" in printed and "weak@" in printed and "gold" in printed
    )  # the setting that differs, and a problem that flipped
    assert re.search(r"^ *setting +trial/strong +trial/weak *$", printed, re.M)
    found = json.loads((workplace / "c.json").read_text())
    first = next(row for row in found["differences"] if row["benchmark"] == "first")
    assert (first["gained"], first["lost"], first["n"]) == (4, 0, 6)
    assert {flip["problem"]["question"] for flip in found["flips"]["first"]} == set(QUESTIONS[2:6])
    assert all(flip["answers"][0] == flip["problem"]["answer"] for flip in found["flips"]["first"])


def test_one_model_is_compared_with_each_other_one_of_packed_runs_in_markdown(
    workplace: Path,
) -> None:
    measure(workplace, "--n", "1", models=("strong", "weak", "equal"))
    printed = run(workplace, "pack", "trial", "kept/trial")
    assert "0 are as they were" in printed
    printed = run(
        workplace,
        *("compare", "student=kept/trial/weak", "untouched=kept/trial/strong"),
        *("teacher=trial/equal", "--markdown"),
    )
    lines = printed.splitlines()
    assert lines[0] == "| model | benchmark | pass@1 % | 95 % interval | n × k |"
    assert sum(line.startswith("| student | first |") for line in lines) == 1
    assert "| student | teacher | first | tied | −66.7 |" in printed
    assert sum(line.startswith("| student | untouched | ") for line in lines) == 4
    assert "differ in" not in printed and "gold" not in printed
    shutil.rmtree(workplace / "runs" / "trial")
    assert "complete" in run(workplace, "show", "kept/trial")
    assert "worse" in run(workplace, "compare", "kept/trial/weak", "kept/trial/strong")
    assert "a single model" in run(workplace, "compare", "kept/trial/weak", code=2)
    assert "only read" in run(workplace, "repair", "kept/trial", code=2)


def test_equal_models_are_tied_and_several_are_adjusted_together(workplace: Path) -> None:
    measure(workplace, "--n", "1", models=("strong", "weak", "equal"))
    alone = run(workplace, "compare", "trial/weak", "trial/equal", "--benchmark", "second")
    assert "worse" in alone and "tied" not in alone  # 0 against 6 of 6: p = 1/32
    both = run(
        workplace,
        "compare",
        "trial/strong",
        "trial/weak",
        "--against",
        "trial/equal",
        "--benchmark",
        "second",
        "--out",
        "c.json",
    )
    assert "worse" not in both and "`power` says how many it takes" in both
    rows = {
        row["model"]: row for row in json.loads((workplace / "c.json").read_text())["differences"]
    }
    assert (rows["trial/weak"]["p_value"], rows["trial/weak"]["p_adjusted"]) == pytest.approx(
        (1 / 32, 1 / 16)
    )
    assert rows["trial/strong"]["p_adjusted"] == 1.0


def sampled_n(workplace: Path, benchmark: str, model: str) -> int:
    folder = workplace / "runs" / "trial" / "6-evals" / benchmark / model / "traces"
    return require_complete(folder).section["n"]


def test_greedy_sampling_draws_once_says_so_and_records_it(workplace: Path) -> None:
    measure(workplace, "--n", "4", "--temperature", "0")
    logs = (workplace / "runs" / "trial" / "logs").glob("evals-*.log")
    logged = "".join(path.read_text() for path in logs)
    assert "weak: temperature = 0" in logged and "not 4 times" in logged
    scores = scores_of(workplace)
    assert {row["k"] for row in scores.values()} == {1}
    assert {metric for _, _, metric in scores} == {"pass@1"}
    assert sampled_n(workplace, "first", "weak") == 1
    report = (workplace / "runs" / "trial" / "7-report" / "report.md").read_text()
    assert "temperature 0 answers each problem once" in report


def test_only_the_greedy_one_of_several_models_answers_once(tmp_path: Path) -> None:
    from reasondistill.config import Cluster, make_pipeline
    from reasondistill.pipeline import Run
    from reasondistill.pipeline.measured import eval_models, greedy_models, sampling_of
    from reasondistill.pipeline.runs import benchmarks
    from reasondistill.stages.evals import EvalPlan, Variants

    one = {"name": "one", "model": "shipped:demo-teacher", "temperature": 0.0}
    other = {"name": "other", "model": "shipped:demo-teacher"}
    evals = {"benchmarks": ["gsm8k"], "n": 4, "temperature": 0.7, "models": [one, other]}
    values = {"name": "x", "evals": evals}
    job = Run(make_pipeline(values, source=tmp_path / "p"), Cluster(), tmp_path, tmp_path / "p")
    measured = eval_models(job)
    asked = {name: sampling_of(job, measured[name], benchmarks(job)[0]).n for name in measured}
    assert asked == {"one": 1, "other": 4}
    assert greedy_models(job, measured) == ["one"]

    plan = EvalPlan({"gsm8k": 4}, ["one", "other"], variants=Variants(prompts=("think",)))
    greedy = replace(plan, greedy=["one"])
    wanted = {name: n for (_, name), n in greedy.wanted_samples().items()}
    assert wanted == {"one": 1, "other": 4, "one@think": 1, "other@think": 4}
    assert list(greedy.wanted_samples()) == list(plan.wanted_samples())
    assert greedy.fingerprint("default") != plan.fingerprint("default")


def test_greedy_samples_of_an_earlier_version_are_read_and_count_once(workplace: Path) -> None:
    """A folder with two greedy samples of each problem, as they were drawn before."""
    from reasondistill.config import Cluster, SampledModel, TraceSettings
    from reasondistill.models.samplers.opening import Serving
    from reasondistill.stages.traces import run_traces

    measure(workplace, "--n", "2", "--temperature", "0")
    benchmark = workplace / "runs" / "trial" / "6-evals" / "first"
    folder = benchmark / "weak" / "traces"
    sampling = require_complete(folder).section["sampling"]
    model = SampledModel(model=str(workplace / "weak.jsonl"), sampler="scripted")
    twice = TraceSettings(**sampling, prompt="question", n=2, teachers=(model,))
    run_traces(twice, benchmark / "problems", folder, Serving(Cluster()))
    assert sampled_n(workplace, "first", "weak") == 2
    before = (folder / "traces.jsonl").read_bytes()

    measure(workplace, "--n", "2", "--temperature", "0")

    assert (folder / "traces.jsonl").read_bytes() == before
    assert sampled_n(workplace, "first", "weak") == 2
    assert {row["k"] for row in scores_of(workplace).values()} == {1}


def test_runs_with_other_problems_are_compared_on_the_common_ones_only_when_asked(
    measured: Path,
) -> None:
    measure(measured, "--limit", "4", name="short")
    message = run(measured, "compare", "trial/strong", "short/weak", code=2)
    assert "not the same problems" in message and "4 in common" in message and "--common" in message
    assert "+50.0" in run(
        measured, "compare", "trial/strong", "short/weak", "--benchmark", "first", "--common"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trial/strong"], "no --against"),
        (["strong", "weak"], "want RUN/MODEL"),
        (["other/strong", "trial/weak"], "no such run"),
        (["trial/strng", "trial/weak"], "Did you mean strong?"),
        (["trial/strong", "trial/strong"], "named twice"),
        (["trial/strong", "trial/weak", "--benchmark", "third"], "no benchmark 'third'"),
    ],
)
def test_what_cannot_be_compared_is_said(measured: Path, arguments: list[str], said: str) -> None:
    assert said in run(measured, "compare", *arguments, code=2)


# ---- samples that failed -------------------------------------------------------------------------

LONG = "prompt longer than the context"


def traces_of(workplace: Path, benchmark: str, model: str) -> Path:
    return workplace / "runs" / "trial" / "6-evals" / benchmark / model / "traces"


def test_a_refused_problem_ends_nothing_and_is_left_out_of_comparisons_by_name(
    workplace: Path,
) -> None:
    measure(workplace, "--n", "1")
    fail_samples(traces_of(workplace, "first", "weak"), ["first/train/5:0"], LONG, fault="input")
    printed = measure(workplace, "--n", "1", "--against", "weak")
    assert "cut·none·?·refused %" in printed and "0.0·0.0·0.0·16.7" in printed
    assert (
        f"weak on first: 1 problem refused ({LONG}), which count as not correct: first/train/5."
        in printed
    )
    printed = run(workplace, "compare", "trial/strong", "trial/weak", "--out", "c.json")
    assert "trial/strong − trial/weak on first: compared on 5 problems, 1 left out: " in printed
    assert f"first/train/5 (refused for trial/weak: {LONG})" in printed
    found = json.loads((workplace / "c.json").read_text())
    rows = {row["benchmark"]: row for row in found["differences"]}
    assert (rows["first"]["n"], rows["first"]["gained"]) == (5, 3) and rows["second"]["n"] == 6
    assert len(found["flips"]["first"]) == 3
    assert found["left out"][0]["problems"] == {"first/train/5": f"refused for trial/weak: {LONG}"}
    assert "a guess" not in run(
        workplace, "power", "--problems", "100", "--like", "trial/strong", "--and", "trial/weak"
    )


def test_lost_samples_are_compared_around_where_allowed_and_refused_where_not(
    workplace: Path,
) -> None:
    measure(workplace, "--n", "1")
    cell = traces_of(workplace, "second", "strong")
    fail_samples(cell, ["second/train/0:0", "second/train/4:0"], "HTTP 503", is_old=True)
    assert "2 of 6 samples lost (HTTP 503)" in run(
        workplace, "compare", "trial/strong", "trial/weak", code=2
    )
    fail_samples(cell, ["second/train/0:0", "second/train/4:0"], "HTTP 503")
    printed = run(workplace, "compare", "trial/strong", "trial/weak", "--benchmark", "second")
    assert (
        "compared on 4 problems, 2 left out: second/train/0 (lost for trial/strong)" in printed
        and "4 × 1" in printed
    )


def test_what_nobody_answered_ends_eval_unless_a_share_is_allowed_and_stands_beside_the_score_then(
    workplace: Path,
) -> None:
    lines = (workplace / "weak.jsonl").read_text().splitlines(keepends=True)
    (workplace / "weak.jsonl").write_text(
        "".join(line for line in lines if QUESTIONS[3] not in line)
    )
    assert "the script has no text for this problem" in measure(workplace, code=2)
    printed = measure(workplace, "--set", "evals.failures_allowed=0.2")
    assert (
        "weak on first: 2 samples lost (the script has no text for this problem), 1 "
        "problem left out of its score" in printed
    )
    scores = scores_of(workplace)
    assert (
        scores["weak", "first", "pass@1"]["n"] == 5
        and scores["strong", "first", "pass@1"]["n"] == 6
    )
    shown = run(workplace, "show", "trial")
    assert (
        "6-evals/first/weak/traces: 10 of 12 samples; 2 lost (the script has no text for "
        "this problem)" in shown
    )
    assert "The same command draws the lost ones again." in shown
    text = (workplace / "runs" / "trial" / "7-report" / "report.md").read_text()
    assert (
        "2 samples lost" in text
        and "Two models are compared on the problems that both have" in text
    )


# ---- diff ----------------------------------------------------------------------------------------


def test_diff_names_every_setting_that_differs(workplace: Path) -> None:
    measure(workplace, "--temperature", "0", "--n", "2")
    measure(
        workplace,
        "--temperature",
        "0.6",
        "--prompt",
        "think",
        "--set",
        'verdicts.policy="strict"',
        name="other",
    )
    found = json.loads(run(workplace, "diff", "trial", "other", "--json"))
    assert set(found) == {
        f"{model} on {name}" for model in ("strong", "weak") for name in ("first", "second")
    }
    changed = {row["name"]: (row["ours"], row["theirs"]) for row in found["strong on first"]}
    # At temperature 0 each problem is asked once.
    several = "samples per problem"
    assert set(changed) == {"prompt", "sampling.temperature", "grader.policy", several}
    assert sorted(changed[several]) == ["1", "2"]
    assert changed["grader.policy"] == ("default", "strict") and changed["prompt"][1].startswith(
        "think@"
    )
    assert "no setting differs" in run(workplace, "diff", "trial", "trial")
    differs = run(workplace, "diff", "trial/strong", "trial/weak")
    assert (
        re.search(r"^ *setting +trial/strong +trial/weak *$", differs, re.M) and "model" in differs
    )


# ---- power ---------------------------------------------------------------------------------------


def test_power_says_what_thirty_problems_cannot_show(workplace: Path) -> None:
    printed = run(workplace, "power", "--benchmarks", "aime24", "--effect", "0.03")
    assert (
        "30 problems" in printed and "cannot show +3.0 points with any number of samples" in printed
    )
    assert "problems show +10.0 points" in run(
        workplace, "power", "--problems", "1000", "--effect", "0.1"
    )


def test_power_takes_its_population_from_a_past_run(measured: Path) -> None:
    assert "a guess" not in run(
        measured, "power", "--problems", "100", "--like", "trial/strong", "--and", "trial/weak"
    )
    assert "belong together" in run(
        measured, "power", "--problems", "100", "--like", "trial/strong", code=2
    )
    assert "either --benchmarks or --problems" in run(measured, "power", code=2)


# ---- records -------------------------------------------------------------------------------------


def test_every_sample_of_every_variant_is_a_record(workplace: Path) -> None:
    measure(workplace, "--prompts", "think")
    records = list(
        read_records(workplace / "runs" / "trial" / "6-evals" / "records.jsonl", EvalRecord)
    )
    assert len(records) == 2 * 2 * 12 * 2


def test_stored_samples_are_read_where_nothing_can_be_written(
    measured: Path, mounted: Callable[..., Path]
) -> None:
    mounted("ro", measured / "runs")
    assert "all is done" in measure(measured)
    assert "better" in run(measured, "compare", "trial/strong", "trial/weak")
    assert "no setting differs" in run(measured, "diff", "trial/strong", "trial/strong")
