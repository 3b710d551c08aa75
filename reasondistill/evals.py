"""Stage 6: graded samples of models on benchmarks → EvalRecord, scores with intervals, paired differences.

Sampling and grading exist once: the stages of traces and verdicts have filled one folder per benchmark and model,

    6-evals/<benchmark>/problems/problems.jsonl
    6-evals/<benchmark>/<model>/traces/traces.jsonl
    6-evals/<benchmark>/<model>/verdicts/verdicts.jsonl

and `collect` joins them into 6-evals/records.jsonl and 6-evals/scores.json. A model that lacks samples is refused by name:
fewer samples than asked never deflate a score. `undecided` samples (the checker gave up) count as not correct, and their share
stands beside every score.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasondistill import statistics
from reasondistill.errors import StageError
from reasondistill.records import OUTCOMES, Difference, EvalRecord, Score, Trace, Verdict, fingerprint
from reasondistill.store import (
    Identity,
    Manifest,
    finish_stage,
    open_stage,
    read_keys,
    read_records,
    require_complete,
    write_json,
    write_records,
)

VERSION = 1
RECORDS, SCORES = "records.jsonl", "scores.json"
log = logging.getLogger(__name__)


@dataclass
class Sheet:
    """What one model did on one benchmark; `correct` is (problems, samples)."""

    model: str
    benchmark: str
    correct: NDArray[np.bool_]
    outcomes: Counter[str] = field(default_factory=Counter[str])
    tokens: int = 0

    @property
    def samples(self) -> int:
        return int(self.correct.size)

    def shares(self) -> dict[str, float]:
        """The share of each outcome; they add up to 1."""
        return {outcome: self.outcomes[outcome] / self.samples for outcome in OUTCOMES}


def collect(
    evals_folder: Path,
    *,
    benchmarks: Sequence[str],
    models: Sequence[str],
    baselines: Mapping[str, Sequence[str]],
    n: int,
    seed: int = 0,
) -> Manifest:
    """Join samples and grades of every model on every benchmark; write records.jsonl and scores.json.

    `n` samples per problem are wanted; more than that on disk are left aside. `baselines` maps a model to those it is compared
    with. Raises StageError when a set is missing, unfinished, incomplete or holds samples that failed in the engine.
    """
    started = time.monotonic()
    asked = {"benchmarks": benchmarks, "models": models, "baselines": {m: list(b) for m, b in baselines.items()}, "n": n, "seed": seed}
    inputs = {"asked": fingerprint(asked), **_inputs(evals_folder, benchmarks, models)}
    # All of it is an input, nothing a setting: a new model remakes the cheap tables instead of stopping with a drift.
    identity = Identity("evals", VERSION, {}, inputs)
    if open_stage(evals_folder, identity, derived=True, beside=set(benchmarks)) == "complete":
        return require_complete(evals_folder)
    sheets: dict[tuple[str, str], Sheet] = {}
    total = write_records(evals_folder / RECORDS, _records(evals_folder, benchmarks, models, n, sheets))
    scores = _summary(sheets, baselines, seed)
    write_json(evals_folder / SCORES, scores)
    counts = {"in": total, "out": total, "benchmarks": len(benchmarks), "models": len(models)}
    return finish_stage(evals_folder, counts=counts, figures=_figures(scores), seconds=time.monotonic() - started)


def _inputs(folder: Path, benchmarks: Sequence[str], models: Sequence[str]) -> dict[str, str]:
    return {
        f"{benchmark}/{model}/{stage}": require_complete(folder / benchmark / model / stage).output
        for benchmark in benchmarks
        for model in models
        for stage in ("traces", "verdicts")
    }


# ---- joining ------------------------------------------------------------------------------------------------------


def _records(
    folder: Path, benchmarks: Sequence[str], models: Sequence[str], n: int, sheets: dict[tuple[str, str], Sheet]
) -> Iterator[EvalRecord]:
    """Yield every record, benchmark by benchmark and model by model, and leave one filled Sheet of each in `sheets`."""
    for benchmark in benchmarks:
        known = list(read_keys(folder / benchmark / "problems" / "problems.jsonl"))
        asked = {model: _asked(folder / benchmark / model / "traces", known) for model in models}
        _same_problems(folder / benchmark, asked)
        for model in models:
            sheet = Sheet(model, benchmark, np.zeros((len(asked[model]), n), dtype=np.bool_))
            yield from _fill(sheet, asked[model], _pairs(folder / benchmark / model), where=folder / benchmark / model)
            sheets[benchmark, model] = sheet
            log.info("%s on %s: %d samples collected", model, benchmark, sheet.samples)


def _asked(traces_folder: Path, known: Sequence[str]) -> dict[str, int]:
    """Problem id → row, for the problems that these traces were asked for (all, or the first `limit`)."""
    limit = require_complete(traces_folder).section.get("limit")
    return {problem: row for row, problem in enumerate(islice(known, limit))}


def _same_problems(folder: Path, asked: Mapping[str, Mapping[str, int]]) -> None:
    sizes = {model: len(problems) for model, problems in asked.items()}
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{model} {size}" for model, size in sizes.items())
        raise StageError(f"{folder}: models answered different numbers of problems ({found}); run the evals of all with the same limit.")
    if 0 in sizes.values():
        raise StageError(f"{folder}: holds no problems; there is nothing to score.")


def _pairs(folder: Path) -> Iterator[tuple[Trace, Verdict]]:
    """Each trace with its verdict; they stand in the same order. Raises StageError when they do not belong together."""
    traces = read_records(folder / "traces" / "traces.jsonl", Trace)
    verdicts = read_records(folder / "verdicts" / "verdicts.jsonl", Verdict)
    for trace, verdict in zip_longest(traces, verdicts):
        if trace is None or verdict is None or trace.id != verdict.trace_id:
            found = "no trace" if trace is None else trace.id
            graded = "no verdict" if verdict is None else f"the verdict of {verdict.trace_id}"
            raise StageError(f"{folder}: traces and verdicts do not match: {found} stands beside {graded}. Grade these traces again.")
        yield trace, verdict


def _fill(sheet: Sheet, rows: Mapping[str, int], pairs: Iterable[tuple[Trace, Verdict]], *, where: Path) -> Iterator[EvalRecord]:
    """Yield the wanted records and fill the sheet. Raises StageError, naming the first gap, unless all problems × samples came."""
    seen = np.zeros_like(sheet.correct)
    failed: list[str] = []
    for trace, verdict in pairs:
        row = rows.get(trace.problem_id)
        if row is None or trace.sample >= seen.shape[1]:
            continue
        if trace.completion.finish == "error":
            failed.append(trace.id)
            continue
        seen[row, trace.sample] = True
        sheet.correct[row, trace.sample] = verdict.grade.is_correct
        sheet.outcomes[verdict.grade.outcome] += 1
        sheet.tokens += trace.completion.tokens
        yield _record(sheet, trace, verdict)
    if failed:
        raise StageError(
            f"{where}: {len(failed)} samples failed in the engine, {failed[0]} first. Run the same command: they are drawn again."
        )
    if not seen.all():
        raise StageError(_gap(seen, list(rows), where))


def _record(sheet: Sheet, trace: Trace, verdict: Verdict) -> EvalRecord:
    return EvalRecord(
        model=sheet.model,
        benchmark=sheet.benchmark,
        problem_id=trace.problem_id,
        sample=trace.sample,
        trace_id=trace.id,
        finish=trace.completion.finish,
        tokens=trace.completion.tokens,
        grade=verdict.grade,
    )


def _gap(seen: NDArray[np.bool_], problems: Sequence[str], where: Path) -> str:
    row, sample = (int(place) for place in np.argwhere(~seen)[0])
    return (
        f"{where}: {int(seen.sum())} of {seen.size} samples ({seen.shape[0]} problems × {seen.shape[1]}); the first that is missing is "
        f"{problems[row]}:{sample}. A score of fewer samples would mislead: run the same command, it draws what is missing."
    )


# ---- scoring ------------------------------------------------------------------------------------------------------


def _summary(sheets: Mapping[tuple[str, str], Sheet], baselines: Mapping[str, Sequence[str]], seed: int) -> dict[str, Any]:
    """The content of scores.json."""
    outcomes: dict[str, dict[str, dict[str, float]]] = {}
    tokens: dict[str, dict[str, float]] = {}
    for (benchmark, model), sheet in sheets.items():
        outcomes.setdefault(benchmark, {})[model] = sheet.shares()
        tokens.setdefault(benchmark, {})[model] = sheet.tokens / sheet.samples
    return {
        "scores": [score.model_dump() for sheet in sheets.values() for score in score_sheet(sheet)],
        "differences": [difference.model_dump() for difference in _differences(sheets, baselines)],
        "bootstrap": [_bootstrap_row(sheet, seed) for sheet in sheets.values() if sheet.correct.shape[1] > 1],
        "outcomes": outcomes,
        "tokens": tokens,
    }


def score_sheet(sheet: Sheet) -> list[Score]:
    """pass@1 over all samples; with several samples also pass@k for that k."""
    k = sheet.correct.shape[1]
    scores = [_score(sheet, "pass@1", statistics.mean_interval(sheet.correct), k)]
    if k > 1:
        solved = statistics.pass_at_k(sheet.correct.sum(axis=1), k, k)
        scores.append(_score(sheet, f"pass@{k}", statistics.mean_interval(solved[:, None]), k))
    return scores


def _score(sheet: Sheet, metric: str, found: statistics.Estimate, k: int) -> Score:
    return Score(
        model=sheet.model,
        benchmark=sheet.benchmark,
        metric=metric,
        mean=found.mean,
        low=found.low,
        high=found.high,
        n=found.n,
        k=k,
        method=found.method,
    )


def _bootstrap_row(sheet: Sheet, seed: int) -> dict[str, Any]:
    """The interval by another road, to stand beside the closed form."""
    found = statistics.bootstrap_interval(sheet.correct, seed=seed)
    return {
        "model": sheet.model,
        "benchmark": sheet.benchmark,
        "metric": "pass@1",
        "low": found.low,
        "high": found.high,
        "method": found.method,
    }


def _differences(sheets: Mapping[tuple[str, str], Sheet], baselines: Mapping[str, Sequence[str]]) -> Iterator[Difference]:
    for benchmark in dict.fromkeys(benchmark for benchmark, _ in sheets):
        for model, others in baselines.items():
            for other in others:
                yield _difference(_sheet(sheets, benchmark, model), _sheet(sheets, benchmark, other))


def _sheet(sheets: Mapping[tuple[str, str], Sheet], benchmark: str, model: str) -> Sheet:
    if (benchmark, model) not in sheets:
        raise StageError(f"{model}: is to be compared on {benchmark} but is not among the models that answered it.")
    return sheets[benchmark, model]


def _difference(ours: Sheet, theirs: Sheet) -> Difference:
    gap = statistics.paired_difference(ours.correct, theirs.correct)
    return Difference(
        model=ours.model,
        baseline=theirs.model,
        benchmark=ours.benchmark,
        metric="pass@1",
        mean=gap.mean,
        low=gap.low,
        high=gap.high,
        n=gap.n,
        k=gap.k,
        p_value=gap.p_value,
    )


def _figures(scores: Mapping[str, Any]) -> dict[str, Any]:
    """One line of text per model and benchmark."""
    return {
        f"{row['model']} on {row['benchmark']}": f"{100 * row['mean']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        for row in scores["scores"]
        if row["metric"] == "pass@1"
    }
