"""The cost of stages without an engine, and of all stages in their order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from reasondistill.forecast.costs import (
    CALIBRATE,
    HOW_MANY,
    Context,
    Cost,
    finished,
    workers,
)
from reasondistill.forecast.evidence import Evidence, folder_bytes
from reasondistill.forecast.monte_carlo import ONCE, Draws, exact
from reasondistill.forecast.sampling_cost import evals_costs, traces_cost
from reasondistill.forecast.training_cost import examples_draws, students_costs
from reasondistill.launch.launcher import launcher_of
from reasondistill.pipeline.runs import Run
from reasondistill.runs.environment import Environment
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.store import Manifest, count_lines

# The time of fewer rows or traces may be that of starting alone (processes, imports).
_MANY = 1_000
_FEW_SEEN = "measured on a few only, which may have been all start-up: a wide interval"


def stage_costs(context: Context) -> Iterator[Cost]:
    """The costs of all stages, students and measured models, in the order of the run."""
    pipeline = context.run.pipeline
    if pipeline.traces is not None:
        rows = None
        if pipeline.problems is not None and pipeline.problems.most_problems is not None:
            rows = exact(pipeline.problems.most_problems)
        yield counted_cost(context, "problems", "rows", rows)
        yield traces_cost(context)
        samples = None
        if context.samples is not None:
            samples = exact(context.samples)
        yield verdicts_cost(context, samples)
        yield examples_cost(context, samples)
        yield from students_costs(context)
    yield from evals_costs(context)
    yield report_cost(context)


def examples_cost(context: Context, samples: Draws | None) -> Cost:
    """The cost of making examples."""
    cost = counted_cost(context, "examples", "traces", samples)
    examples = examples_draws(context)
    if examples is None:
        return cost
    is_uncertain = examples[1:].std() > 0
    about = "about " if is_uncertain else ""
    return replace(cost, work=f"{about}{examples[0]:,.0f} examples")


def report_cost(context: Context) -> Cost:
    """The report takes as long as the longest known report, whatever its content."""
    done = context.this_run.manifests.get("report")
    if done is not None and done.status == "complete":
        return _as_it_was(context, "report", "report", done)
    longest = _longest_known(context, "report")
    if longest is None:
        return Cost("report", "new", "", notes=("seconds: not counted",))
    evidence, manifest = longest
    seconds = manifest.seconds * context.dice.factor("report", ONCE)
    size = exact(folder_bytes(RunFolder(evidence.folder).stage("report")))
    sources = (evidence.source,)
    return Cost("report", "new", "", None, seconds, seconds, seconds, size, sources=sources)


def counted_cost(context: Context, stage: str, unit: str, amount: Draws | None) -> Cost:
    """A cheap stage: its seconds per input are those of the largest known run."""
    done = context.this_run.manifests.get(stage)
    if done is not None and done.status == "complete":
        is_enough = amount is None or done.counts.get("in", 0) >= amount[0]
        if is_enough or stage != "examples":
            return _as_it_was(context, stage, unit, done)
    if amount is None:
        return Cost(stage, "new", unit, unknown=HOW_MANY)
    work = f"{amount[0]:,.0f} {unit}"
    longest = _longest_known(context, stage)
    if longest is None:
        return _not_known(context, stage, work)
    evidence, manifest = longest
    seen = manifest.counts["in"]
    share = amount / seen
    once = manifest.seconds * context.dice.factor(stage, ONCE)
    seconds = once * growth(context, stage, share, seen)
    size = share * folder_bytes(RunFolder(evidence.folder).stage(stage))
    notes: tuple[str, ...] = ()
    if seen < _MANY:
        notes = (_FEW_SEEN,)
    sources = (evidence.source,)
    return Cost(
        stage, "new", work, None, seconds, seconds, seconds, size, sources=sources, notes=notes
    )


def _not_known(context: Context, stage: str, work: str) -> Cost:
    """A stage that no run tells of; beside GPUs on paper its minutes of a CPU do not count."""
    if context.paper is None:
        return Cost(stage, "new", work, unknown=CALIBRATE)
    return Cost(stage, "new", work, notes=("needs no GPU: not counted",))


def _as_it_was(context: Context, stage: str, unit: str, done: Manifest) -> Cost:
    entered = done.counts.get("in", 0)
    size = folder_bytes(context.run.stage(stage))
    return finished(stage, f"{entered:,} {unit}", seconds=done.seconds, size=size)


def _longest_known(context: Context, stage: str) -> tuple[Evidence, Manifest] | None:
    """The finished stage with the most inputs, of all other folders."""
    longest: tuple[Evidence, Manifest] | None = None
    most = 0
    for evidence in context.others:
        manifest = evidence.manifests.get(stage)
        if manifest is None or manifest.status != "complete":
            continue
        entered = manifest.counts.get("in", 0)
        if entered > most:
            longest, most = (evidence, manifest), entered
    return longest


def growth(context: Context, stage: str, share: Draws, seen: int) -> Draws:
    """The factor on the time for `share` times as many inputs: `share` itself, or, where few were
    measured, anything from 1 to `share`.
    """
    if seen >= _MANY or share[0] <= 1:
        return share
    return context.dice.between(f"growth of {stage}", float(share[0]))


def verdicts_cost(context: Context, samples: Draws | None) -> Cost:
    """The cost of grading, by traces per second and core; a judge's time is not counted."""
    if samples is None:
        return Cost("verdicts", "new", "one for each trace", unknown=HOW_MANY)
    run = context.run
    work = f"{samples[0]:,.0f} traces"
    done = context.this_run.manifests.get("verdicts")
    if done is not None and done.status == "complete" and done.counts.get("out", 0) >= samples[0]:
        size = folder_bytes(run.stage("verdicts"))
        return finished("verdicts", work, seconds=done.seconds, size=size)
    evidence, speed, graded = None, None, -1
    for other in context.everything:
        if other.verdicts_speed is None:
            continue
        lines = count_lines(RunFolder(other.folder).verdicts)
        if lines > graded:
            evidence, speed, graded = other, other.verdicts_speed, lines
    if evidence is None or speed is None:
        return _not_known(context, "verdicts", work)
    cores_there = Environment.of(evidence.manifests["verdicts"]).cores or 1
    per_core = speed.tokens_per_s / cores_there
    rate = per_core * _cores_here(run) * context.dice.factor("verdicts", speed.spread)
    shards, rounds = workers(run.cluster.stages.of("verdicts"))
    share = samples / max(1, graded)
    work_s = graded / rate * growth(context, "verdicts", share, graded)
    wall = work_s * rounds / shards
    bytes_each = folder_bytes(RunFolder(evidence.folder).stage("verdicts")) / max(1, graded)
    size = samples * bytes_each
    notes = [f"{per_core:,.0f} traces/s per core"]
    if graded < _MANY:
        notes.append(_FEW_SEEN)
    if run.pipeline.verdicts.judge is not None:
        notes.append("without the judge")
    return Cost(
        "verdicts",
        "new",
        work,
        None,
        wall,
        wall,
        work_s,
        size,
        sources=(evidence.source,),
        notes=tuple(notes),
    )


def _cores_here(run: Run) -> int:
    """The cores of one worker that will grade on this cluster."""
    return run.cluster.grade.workers or launcher_of(run).resources("verdicts").cpus
