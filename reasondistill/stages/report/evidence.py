"""The details of scores: parts, curves, the effect of prompts, published numbers. Tables and lines,
no layout.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

from reasondistill.config.published import Published
from reasondistill.records import STEP, VARIANT, Cascade, Score, Student
from reasondistill.runs.environment import Environment
from reasondistill.stages.report.facts import EVALS, Facts
from reasondistill.stages.report.plots import Line
from reasondistill.tables import (
    Table,
    interval,
    p_value,
    percent,
    points,
    score_text,
    size_text,
    whole,
)

PUBLISHED_HEADERS = (
    "benchmark",
    "model",
    "published %",
    "±",
    "samples",
    "how",
    "grader",
    "differs from ours in",
    "source",
)


# ---- parts of a benchmark ------------------------------------------------------------------------


def parts_tables(facts: Facts, kind: str) -> Iterator[tuple[str, Table]]:
    """`benchmark` and a table with one row per part (`level: 3`) and one column per model, for
    `kind` = subject, level or overlap.
    """
    prefix = f"{kind}: "
    by_benchmark: dict[str, list[Score]] = {}
    for score in facts.parts:
        if score.part.startswith(prefix):
            by_benchmark.setdefault(score.benchmark, []).append(score)
    for benchmark in dict.fromkeys(score.benchmark for score in facts.parts):
        if benchmark in by_benchmark:
            yield benchmark, _parts_table(by_benchmark[benchmark], kind, prefix)


def _parts_table(scores: Sequence[Score], kind: str, prefix: str) -> Table:
    models = list(dict.fromkeys(score.model for score in scores))
    rows: list[tuple[str, ...]] = []
    for part in dict.fromkeys(score.part for score in scores):
        scored = {score.model: score for score in scores if score.part == part}
        cells = [part.removeprefix(prefix), _problems(scored.values())]
        for model in models:
            text = ""
            if model in scored:
                text = score_text(scored[model])
            cells.append(text)
        rows.append(tuple(cells))
    return Table((kind, "n", *models), tuple(rows))


def _problems(scores: Iterable[Score]) -> str:
    """How many problems a part has; `29 to 30` where models lost some of them."""
    counts = sorted(score.n for score in scores)
    low, high = counts[0], counts[-1]
    if low == high:
        return whole(high)
    return f"{whole(low)} to {whole(high)}"


def overlap_note(facts: Facts, benchmark: str) -> str:
    overlap = facts.overlap[benchmark]
    if overlap.suspect == overlap.of:
        return (
            f"All problems of {benchmark} share a run of {overlap.n_gram} words with a "
            "training question, as problems made from the same "
            "templates do: the scores say how well these templates were learnt, not what "
            "happens on other ones."
        )
    return (
        f"{whole(overlap.suspect)} of {whole(overlap.of)} problems of {benchmark} share "
        f"a run of {overlap.n_gram} words with a training "
        "question. If the suspect ones score higher, the training set may have given "
        "them away. What a base model saw before is not known."
    )


# ---- curves --------------------------------------------------------------------------------------


def samples_lines(facts: Facts, benchmark: str) -> list[Line]:
    """pass@k and, dashed, maj@k of each model over log2 k; nothing for single samples."""
    lines: list[Line] = []
    for colour, model in enumerate(_models(facts, benchmark)):
        means: dict[str, list[tuple[float, Score]]] = {"pass": [], "maj": []}
        for score in facts.own_scores:
            if (score.model, score.benchmark) != (model, benchmark):
                continue
            kind, _, k = score.metric.partition("@")
            for shown in means:
                if kind == shown or score.metric == "pass@1":
                    means[shown].append((math.log2(int(k)), score))
        for kind, means_by_k in means.items():
            if len(means_by_k) > 2:
                line = _line(f"{model} {kind}@k", means_by_k, colour)
                lines.append(replace(line, dashed=kind == "maj", bounds=()))
    return lines


def _line(name: str, scores: Iterable[tuple[float, Score]], colour: int) -> Line:
    """A curve of scores in percent, each with its interval and its size."""
    ordered = sorted(scores, key=itemgetter(0))
    points: list[tuple[float, float]] = []
    words: list[str] = []
    bounds: list[tuple[float, float]] = []
    for x, score in ordered:
        points.append((x, 100 * score.mean))
        bounds.append((100 * score.low, 100 * score.high))
        part = score.metric
        if score.part:
            part = score.part
        size = f"n={score.n}, k={score.k}"
        words.append(f"{score.model}, {part}: {score_text(score)} %, {size}")
    return Line(name, points, colour, words=words, bounds=bounds)


def budget_lines(facts: Facts, benchmark: str) -> list[Line]:
    """pass@1 of each model over log2 of the token budget at which its one long run is cut again."""
    lines: list[Line] = []
    for colour, model in enumerate(_models(facts, benchmark)):
        curve: list[tuple[float, Score]] = []
        for score in facts.parts:
            kind, _, budget = score.part.partition(": ")
            is_own = (score.model, score.benchmark) == (model, benchmark)
            if is_own and kind == "tokens":
                curve.append((math.log2(int(budget)), score))
        if len(curve) > 1:
            lines.append(replace(_line(model, curve, colour), bounds=()))
    return lines


def _steps(facts: Facts) -> Iterator[tuple[str, int, Score]]:
    """Student, step and pass@1 of every snapshot that was measured, and of the student itself at
    the step that it was delivered with.
    """
    measured: set[tuple[str, str, int]] = set()
    for score in facts.scores:
        model, mark, step = score.model.partition(STEP)
        if mark and score.metric == "pass@1":
            measured.add((model, score.benchmark, int(step)))
            yield model, int(step), score
    followed = {(model, benchmark) for model, benchmark, _ in measured}
    ends = {folder.name: _delivered(folder.record) for folder in facts.students}
    for score in facts.own_scores:
        end = ends.get(score.model)
        place = (score.model, score.benchmark)
        if score.metric != "pass@1" or end is None or place not in followed:
            continue
        if (*place, end) not in measured:
            yield score.model, end, score


def _delivered(student: Student | None) -> int | None:
    """The step of the weights that a student was delivered with; None where there is none."""
    if student is None or student.figures is None:
        return None
    return student.figures.delivered_step or student.figures.steps


def step_lines(facts: Facts, benchmark: str) -> list[Line]:
    """pass@1 over training steps of each student with snapshots."""
    curves: dict[str, list[tuple[float, Score]]] = {}
    for model, step, score in _steps(facts):
        if score.benchmark == benchmark:
            curves.setdefault(model, []).append((step, score))
    lines: list[Line] = []
    for colour, (model, curve) in enumerate(curves.items()):
        line = _line(model, curve, colour)
        steps = [
            f"step {whole(x)}, {words}"
            for (x, _), words in zip(line.points, line.words, strict=True)
        ]
        lines.append(replace(line, words=steps))
    return lines


def steps_table(facts: Facts) -> Table:
    """The same as numbers, with intervals."""
    headers = ("student", "benchmark", "step", "pass@1", "95 % interval", "n × k")
    ordered = sorted(_steps(facts), key=lambda row: (row[0], row[2].benchmark, row[1]))
    rows: list[tuple[str, ...]] = []
    for model, step, score in ordered:
        cells = (percent(score.mean), interval(score), size_text(score))
        rows.append((model, score.benchmark, whole(step), *cells))
    return Table(headers, tuple(rows), numbers=2)


def cascade_lines(cascade: Cascade) -> list[Line]:
    """Accuracy over cost: the cascade by threshold, random routing as the straight line, and one
    sample of the student.
    """
    ends = (cascade.voting, cascade.teacher_alone)
    line = [(end.cost, 100 * end.accuracy.mean) for end in ends]
    curve = [(step.cost.mean, 100 * step.accuracy.mean) for step in cascade.steps]
    once = [(cascade.once.cost, 100 * cascade.once.accuracy.mean)]
    return [
        Line("cascade", [line[0], *sorted(curve)], 0),
        Line("random routing", line, 5, dashed=True),
        Line(f"{cascade.student}, once", once, 2),
    ]


# A chart has so many colours.
MOST_MODELS = 6
# So many settings that models do not share are told one by one.
_MOST_UNLIKE = 3


def _models(facts: Facts, benchmark: str) -> list[str]:
    """The models that a chart shows: all, or the best ones."""
    means: dict[str, float] = {}
    for score in facts.own_scores:
        if score.benchmark == benchmark and score.metric == "pass@1":
            means[score.model] = score.mean
    best = sorted(means, key=lambda model: -means[model])
    return [model for model in means if model in best[:MOST_MODELS]]


def chosen_note(facts: Facts, benchmark: str) -> str:
    models = {score.model for score in facts.own_scores if score.benchmark == benchmark}
    if len(models) <= MOST_MODELS:
        return ""
    return f" The best {MOST_MODELS} of {len(models)} models."


# ---- prompts -------------------------------------------------------------------------------------


def prompts_table(facts: Facts) -> Table:
    """Each model on each benchmark under every prompt, the spread, and whether prompts matter at
    all.
    """
    names: dict[str, None] = {}
    for row in facts.prompts:
        names |= dict.fromkeys(row.scores)
    headers = ("model", "benchmark", *names, "spread", "p", "n × k")
    rows: list[tuple[str, ...]] = []
    for row in facts.prompts:
        cells = [row.model, row.benchmark]
        for name in names:
            text = ""
            if name in row.scores:
                text = percent(row.scores[name])
            cells.append(text)
        cells.append(points(row.high - row.low).removeprefix("+"))
        cells.append(p_value(row.p_value))
        cells.append(size_text(row))
        rows.append(tuple(cells))
    return Table(headers, tuple(rows), numbers=2)


PROMPTS_NOTE = (
    "The same problems under several prompts. spread: highest minus lowest score, in "
    "points; it is above 0 by chance alone. p: how often "
    "shuffling the prompts within each problem gives a spread as large; small means "
    "that the prompt matters. Over the n problems that the "
    "model has under every prompt: none that was lost or refused under one of them."
)


# ---- published numbers ---------------------------------------------------------------------------


def published_table(facts: Facts) -> Table:
    """What eval/published.toml holds of this run's benchmarks, and in what it differs from how this
    run measured.
    """
    rows: list[tuple[str, ...]] = []
    for benchmark in dict.fromkeys(score.benchmark for score in facts.own_scores):
        for row in facts.published:
            if benchmark in row.scores:
                rows.append(_published_row(facts, row, benchmark))
    return Table(PUBLISHED_HEADERS, tuple(rows), numbers=len(PUBLISHED_HEADERS))


def _published_row(facts: Facts, row: Published, benchmark: str) -> tuple[str, ...]:
    score = f"{row.scores[benchmark]:.1f}"
    if benchmark in row.majority:
        score += f"; maj {row.majority[benchmark]:.1f}"
    spread = ""
    if benchmark in row.spread:
        spread = f"{row.spread[benchmark]:.1f} ({row.spread_is})"
    samples = ""
    if benchmark in row.samples:
        samples = whole(row.samples[benchmark])
    settings = (row.harness, _sampling_words(row.sampling.model_dump()))
    how = "; ".join(part for part in settings if part)
    unlike = "; ".join(_differences(facts, row, benchmark))
    return benchmark, row.model, score, spread, samples, how, row.grader, unlike, row.source


def _sampling_words(sampling: Mapping[str, Any]) -> str:
    words: list[str] = []
    for key, name in (("temperature", "T"), ("top_p", "top_p"), ("max_tokens", "max_tokens")):
        value = sampling.get(key)
        if value is not None:
            words.append(f"{name} {value:g}")
    return ", ".join(words)


def _differences(facts: Facts, row: Published, benchmark: str) -> Iterator[str]:
    """`T 0.8 (ours 0.6)`: settings that the source states and this run has otherwise; the grader
    always differs.
    """
    sections = list(_sections(facts, benchmark).values())
    theirs = row.sampling.model_dump(exclude_none=True)
    for key, value in theirs.items():
        ours: set[float] = set()
        for section in sections:
            setting = section.get("sampling", {}).get(key)
            if setting is not None:
                ours.add(float(setting))
        if ours and ours != {float(value)}:
            listed = ", ".join(f"{other:g}" for other in sorted(ours))
            yield f"{key} {value:g} (ours {listed})"
    samples = sorted({int(section["n"]) for section in sections if "n" in section})
    if benchmark in row.samples and samples != [row.samples[benchmark]]:
        listed = ", ".join(map(str, samples))
        yield f"samples {row.samples[benchmark]} (ours {listed})"
    if not theirs:
        yield "sampling not stated"
    problems = facts.stage(f"{EVALS}/{benchmark}/problems")
    if problems is not None:
        limits = [int(section.get("limit", 0)) for section in sections]
        most = max(limits, default=0)
        there_are = problems.counts.get("in", 0)
        if 0 < most < there_are:
            yield f"problems (ours {most} of {there_are})"
    yield "prompt and grader"


def _sections(facts: Facts, benchmark: str) -> dict[str, Mapping[str, Any]]:
    """How this run sampled the benchmark: each model under its own prompt."""
    sections: dict[str, Mapping[str, Any]] = {}
    for stage in facts.stages:
        parts = stage.place.split("/")
        if len(parts) != 4:
            continue
        folder, name, model, work = parts
        is_sampling = folder == EVALS and work == "traces"
        if is_sampling and name == benchmark and VARIANT not in model:
            sections[model] = stage.manifest.section
    return sections


def unlike(facts: Facts) -> Iterator[str]:
    """`gsm8k: prompt think@1a2b for student, question@3c4d for base`, where models of one table
    were not asked alike.
    """
    for benchmark in dict.fromkeys(score.benchmark for score in facts.own_scores):
        models_by_value: dict[str, dict[str, list[str]]] = {}
        for model, section in _sections(facts, benchmark).items():
            settings = {"prompt": section.get("prompt")}
            settings |= section.get("sampling", {})
            for key, value in settings.items():
                values = models_by_value.setdefault(key, {})
                values.setdefault(str(value), []).append(model)
        for key, values in models_by_value.items():
            if len(values) > 1:
                yield f"{benchmark}: {key} {_who(values)}"


def _who(values: Mapping[str, Sequence[str]]) -> str:
    """`0.6 for a and b, 1.0 for c`: each value of a setting with the models that were asked so."""
    words: list[str] = []
    for value, models in values.items():
        names = " and ".join(models)
        words.append(f"{value} for {names}")
    return ", ".join(words)


PUBLISHED_NOTE = (
    "pass@1 in percent as published, from eval/published.toml. One model has had "
    "36.7 and 48.7 on AIME 2024 in two harnesses: read a "
    "published number with its sampling and grader, and measure the model here "
    "(`reasondistill eval`) before you compare."
)
BUDGET_NOTE = (
    "One run cut again: a sample counts when it is right and ended within the "
    "budget, as in a run with that limit (which would draw other "
    "samples of the same kind). A lower bound where an answer stood in the text before its end."
)


def unlike_caveat(facts: Facts) -> list[str]:
    """One line when models that stand beside each other were asked differently."""
    settings = list(unlike(facts))
    if not settings:
        return []
    listed = settings[:_MOST_UNLIKE]
    rest = len(settings) - len(listed)
    if rest:
        listed.append(f"and {rest} more")
    named = "; ".join(listed)
    return [
        f"Not all models were asked alike, so a difference may be that of the settings. {named}."
    ]


# ---- repeating it --------------------------------------------------------------------------------


def repeatability(facts: Facts) -> str:
    """What the engine promises about getting the same numbers again."""
    is_sampled = has_gpu = False
    for stage in facts.stages:
        if stage.place.startswith(EVALS) and stage.place.endswith("/traces"):
            is_sampled = True
            has_gpu = has_gpu or bool(Environment.of(stage.manifest).gpus)
    if not is_sampled:
        return ""
    sentences = [
        "Every sample has a seed of its own, made from model, prompt, sampling and "
        "sample number: any number of processes draws the same."
    ]
    if has_gpu:
        sentences.append(
            "On a GPU vLLM's last bits depend on which requests share a batch: drawn anew, "
            "some samples may differ, greedy ones too."
        )
    else:
        sentences.append(
            "On a CPU in float32 drawing them anew gave the same texts in our tests, in "
            "other batches too; vLLM does not promise it."
        )
    sentences.append("The stored samples do not change, and the same command reads them again.")
    return " ".join(sentences)
