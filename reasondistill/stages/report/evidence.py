"""What stands behind a score: its parts, its curves, how much the prompt matters, what others
published. Tables and lines, no layout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from reasondistill.config.published import Published
from reasondistill.records import STEP, VARIANT, Score
from reasondistill.runs.scores import PromptSpread
from reasondistill.stages.report.facts import EVALS, Facts
from reasondistill.stages.report.plots import Line
from reasondistill.stages.report.wording import (
    Table,
    interval,
    p_value,
    percent,
    points,
    score_text,
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
    for benchmark in dict.fromkeys(part.benchmark for part in facts.parts):
        found = [
            part
            for part in facts.parts
            if part.benchmark == benchmark and part.part.startswith(f"{kind}: ")
        ]
        models = list(dict.fromkeys(part.model for part in found))
        cells = {(part.part, part.model): part for part in found}
        rows = tuple(
            (name.removeprefix(f"{kind}: "), _problems(cells, name), *_row(cells, name, models))
            for name in dict.fromkeys(part.part for part in found)
        )
        if rows:
            yield benchmark, Table((kind, "n", *models), rows)


def _problems(cells: Mapping[tuple[str, str], Score], name: str) -> str:
    """How many problems a part has; `29 to 30` where models lost some of them."""
    counts = [score.n for (part, _), score in cells.items() if part == name]
    low, high = min(counts), max(counts)
    if low == high:
        return whole(high)
    return f"{whole(low)} to {whole(high)}"


def _row(cells: Mapping[tuple[str, str], Score], name: str, models: list[str]) -> Iterator[str]:
    for model in models:
        score = cells.get((name, model))
        if score is None:
            yield ""
        else:
            yield score_text(score)


def overlap_note(facts: Facts, benchmark: str) -> str:
    found = facts.overlap[benchmark]
    if found.suspect == found.of:
        return (
            f"All problems of {benchmark} share a run of {found.n_gram} words with a "
            "training question, as problems made from the same "
            "templates do: the scores say how well these templates were learnt, not what "
            "happens on other ones."
        )
    return (
        f"{whole(found.suspect)} of {whole(found.of)} problems of {benchmark} share "
        f"a run of {found.n_gram} words with a training "
        "question. If the suspect ones score higher, the training set may have given "
        "them away. What a base model saw before is not known."
    )


# ---- curves --------------------------------------------------------------------------------------


def samples_lines(facts: Facts, benchmark: str) -> list[Line]:
    """pass@k and, dashed, maj@k of each model over log2 k; nothing for single samples."""
    lines: list[Line] = []
    for colour, model in enumerate(_models(facts, benchmark)):
        for metric, dashed in (("pass", False), ("maj", True)):
            found = sorted(
                (int(score.metric.partition("@")[2]), score.mean)
                for score in facts.own_scores
                if (score.model, score.benchmark) == (model, benchmark)
                and (score.metric.startswith(f"{metric}@") or score.metric == "pass@1")
            )
            if len(found) > 2:
                curve = [(math.log2(k), 100 * mean) for k, mean in found]
                lines.append(Line(f"{model} {metric}@k", curve, colour, dashed))
    return lines


def budget_lines(facts: Facts, benchmark: str) -> list[Line]:
    """pass@1 of each model over log2 of the token budget at which its one long run is cut again."""
    lines: list[Line] = []
    for colour, model in enumerate(_models(facts, benchmark)):
        found = [
            (math.log2(int(part.part.removeprefix("tokens: "))), 100 * part.mean)
            for part in facts.parts
            if (part.model, part.benchmark) == (model, benchmark)
            and part.part.startswith("tokens: ")
        ]
        if len(found) > 1:
            lines.append(Line(model, found, colour))
    return lines


def _steps(facts: Facts) -> Iterator[tuple[str, int, Score]]:
    """Student, step and pass@1 of every snapshot that was measured."""
    for score in facts.scores:
        model, mark, step = score.model.partition(STEP)
        if mark and score.metric == "pass@1":
            yield model, int(step), score


def step_lines(facts: Facts, benchmark: str) -> list[Line]:
    """pass@1 over training steps of each student with snapshots."""
    found: dict[str, list[tuple[float, float]]] = {}
    for model, step, score in _steps(facts):
        if score.benchmark == benchmark:
            found.setdefault(model, []).append((step, 100 * score.mean))
    return [Line(model, sorted(line), colour) for colour, (model, line) in enumerate(found.items())]


def steps_table(facts: Facts) -> Table:
    """The same as numbers, with intervals."""
    headers = ("student", "benchmark", "step", "pass@1", "95 % interval", "n", "k")
    ordered = sorted(_steps(facts), key=lambda found: (found[0], found[2].benchmark, found[1]))
    rows = tuple(
        (
            model,
            score.benchmark,
            whole(step),
            percent(score.mean),
            interval(score.low, score.high),
            whole(score.n),
            str(score.k),
        )
        for model, step, score in ordered
    )
    return Table(headers, rows, numbers=2)


# A chart has so many colours.
MOST_MODELS = 6


def _models(facts: Facts, benchmark: str) -> list[str]:
    """The models that a chart shows: all, or the best ones."""
    found = {
        score.model: score.mean
        for score in facts.own_scores
        if score.benchmark == benchmark and score.metric == "pass@1"
    }
    best = sorted(found, key=lambda model: -found[model])[:MOST_MODELS]
    return [model for model in found if model in best]


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
    names = list(dict.fromkeys(name for row in facts.prompts for name in row.scores))
    headers = ("model", "benchmark", *names, "spread", "p", "n", "k")
    return Table(headers, tuple(_prompt_row(row, names) for row in facts.prompts), numbers=2)


def _prompt_row(row: PromptSpread, names: list[str]) -> tuple[str, ...]:
    scores = {name: percent(score) for name, score in row.scores.items()}
    spread = points(row.high - row.low).removeprefix("+")
    return (
        row.model,
        row.benchmark,
        *[scores.get(name, "") for name in names],
        spread,
        p_value(row.p_value),
        whole(row.n),
        str(row.k),
    )


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
    benchmarks = dict.fromkeys(score.benchmark for score in facts.own_scores)
    rows = tuple(
        _published_row(facts, row, name)
        for name in benchmarks
        for row in facts.published
        if name in row.scores
    )
    return Table(PUBLISHED_HEADERS, rows, numbers=len(PUBLISHED_HEADERS))


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
    return (
        benchmark,
        row.model,
        score,
        spread,
        samples,
        "; ".join(part for part in settings if part),
        row.grader,
        "; ".join(_differences(facts, row, benchmark)),
        row.source,
    )


def _sampling_words(sampling: Mapping[str, Any]) -> str:
    shown = {"temperature": "T", "top_p": "top_p", "max_tokens": "max_tokens"}
    return ", ".join(
        f"{word} {sampling[key]:g}" for key, word in shown.items() if sampling.get(key) is not None
    )


def _differences(facts: Facts, row: Published, benchmark: str) -> Iterator[str]:
    """`T 0.8 (ours 0.6)`: settings that the source states and this run has otherwise; the grader
    always differs.
    """
    sections = _sections(facts, benchmark).values()
    theirs = row.sampling.model_dump(exclude_none=True)
    for key, value in theirs.items():
        ours = {
            float(section["sampling"][key])
            for section in sections
            if section.get("sampling", {}).get(key) is not None
        }
        if ours and ours != {float(value)}:
            listed = ", ".join(f"{other:g}" for other in sorted(ours))
            yield f"{key} {value:g} (ours {listed})"
    samples = sorted({int(section["n"]) for section in sections if "n" in section})
    if benchmark in row.samples and samples != [row.samples[benchmark]]:
        yield f"samples {row.samples[benchmark]} (ours {', '.join(map(str, samples))})"
    if not theirs:
        yield "sampling not stated"
    problems = facts.stage(f"{EVALS}/{benchmark}/problems")
    asked = max((int(section.get("limit", 0)) for section in sections), default=0)
    if problems is not None and 0 < asked < problems.counts.get("in", 0):
        yield f"problems (ours {asked} of {problems.counts['in']})"
    yield "prompt and grader"


def _sections(facts: Facts, benchmark: str) -> dict[str, Mapping[str, Any]]:
    """How this run sampled the benchmark: each model under its own prompt."""
    found: dict[str, Mapping[str, Any]] = {}
    for stage in facts.stages:
        place = stage.place.split("/")
        if (
            len(place) == 4
            and (place[0], place[1], place[3]) == (EVALS, benchmark, "traces")
            and VARIANT not in place[2]
        ):
            found[place[2]] = stage.manifest.section
    return found


def unlike(facts: Facts) -> Iterator[str]:
    """`gsm8k: prompt think@1a2b for student, question@3c4d for base`, where models of one table
    were not asked alike.
    """
    for benchmark in dict.fromkeys(score.benchmark for score in facts.own_scores):
        asked: dict[str, dict[str, list[str]]] = {}
        for model, section in _sections(facts, benchmark).items():
            settings = {"prompt": section.get("prompt"), **dict(section.get("sampling", {}))}
            for key, value in settings.items():
                asked.setdefault(key, {}).setdefault(str(value), []).append(model)
        for key, values in asked.items():
            if len(values) > 1:
                who = [f"{value} for {' and '.join(models)}" for value, models in values.items()]
                yield f"{benchmark}: {key} " + ", ".join(who)


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
    listed = "; ".join(settings[:3])
    if len(settings) > 3:
        listed += f"; and {len(settings) - 3} more"
    return [
        f"Not all models were asked alike, so a difference may be that of the settings. {listed}."
    ]


# ---- repeating it --------------------------------------------------------------------------------


def repeatability(facts: Facts) -> str:
    """What the engine promises about getting the same numbers again."""
    sampled = [
        stage.manifest
        for stage in facts.stages
        if stage.place.endswith("/traces") and stage.place.startswith(EVALS)
    ]
    if not sampled:
        return ""
    said = (
        "Every sample has a seed of its own, made from model, prompt, sampling and "
        "sample number: any number of processes draws the same."
    )
    if any(manifest.environment.get("gpus") for manifest in sampled):
        said += (
            " On a GPU vLLM's last bits depend on which requests share a batch: drawn anew, "
            "some samples may differ, greedy ones too."
        )
    else:
        said += (
            " On a CPU in float32 drawing them anew gave the same texts in our tests, in "
            "other batches too; vLLM does not promise it."
        )
    return f"{said} The stored samples do not change, and the same command reads them again."
