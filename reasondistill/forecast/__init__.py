"""Beforehand: what a run will cost, stage by stage, each number with its interval and with where it
is from.

    told = make_forecast(run, like=[Path("runs/demo")], given=Given())
    told.total.wall_hours                            # Range(expected=3.1, low=2.6, high=3.8)
    save(told, run.folder)                           # runs/NAME/forecast.json, which the report compares with what came

Numbers come from the run's own folder as far as it is done, from the folders that `like` names,
from a calibration (`calibration_run`), and from what the user gives, which stands over what was
measured. Where none of them knows, a stage says so. Intervals hold 90 % of simulated runs
(draws.py) over text lengths, speeds and the share of usable traces. *Not* covered: waiting in a
queue, crashes, a machine that differs from the measured one, problems that differ from those
measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from reasondistill.forecast.calibrating import calibration_folder, calibration_run
from reasondistill.forecast.costs import (
    CALIBRATE,
    HOW_MANY,
    Charge,
    Context,
    Cost,
    Given,
    charge,
    finished,
    known_sum,
    to_record,
    without_seed,
    workers,
)
from reasondistill.forecast.evidence import Evidence, folder_bytes, read_evidence
from reasondistill.forecast.monte_carlo import ONCE, Draws, exact
from reasondistill.forecast.sampling_cost import evals_costs, traces_cost
from reasondistill.forecast.training_cost import examples_draws, students_costs, students_wall
from reasondistill.pipeline.runs import Run
from reasondistill.records import Forecast
from reasondistill.runs import layout
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.store import count_lines, write_json

__all__ = ["Given", "calibration_run", "make_forecast", "save"]

# The time of fewer rows or traces may be that of starting alone (processes, imports).
_MANY = 1_000
_FEW_SEEN = "measured on a few only, which may have been all start-up: a wide interval"


def make_forecast(run: Run, *, like: Sequence[Path] = (), given: Given | None = None) -> Forecast:
    """Forecast every stage of a run. A calibration of it that lies beside its folder is taken into
    account.

    Raises ConfigError as the pipeline file does, DataError for a shard that cannot be read.
    """
    context = read_context(run, like, given)
    costs = list(stage_costs(context))
    charges = [charge(cost, run.cluster) for cost in costs]
    whole = Charge(
        *(known_sum(getattr(one, name) for one in charges) for name in ("gpu_s", "cpu_s", "money"))
    )
    return Forecast(
        run=run.pipeline.name,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        cluster=run.cluster.about or run.cluster.kind,
        sources=tuple(evidence.source for evidence in context.everything if _tells(evidence)),
        stages=tuple(
            to_record(cost, charged) for cost, charged in zip(costs, charges, strict=True)
        ),
        total=to_record(_total(context, costs), whole),
    )


def save(told: Forecast, folder: Path) -> Path:
    """Write `forecast.json` into a run folder. One of a run that is finished leaves the earlier
    one: it foretold, this one only counts.
    """
    path = folder / layout.FORECAST
    if not (path.exists() and all(stage.state == "done" for stage in told.stages)):
        write_json(path, told.model_dump(mode="json"))
    return path


def read_context(run: Run, like: Sequence[Path] = (), given: Given | None = None) -> Context:
    """Everything that a forecast stands on."""
    settings = run.pipeline.examples
    others = [read_evidence(folder, str(folder), settings) for folder in like]
    scratch = calibration_folder(run)
    if scratch.is_dir():
        others.append(read_evidence(scratch, "calibration", settings, is_calibration=True))
    return Context(
        run, read_evidence(run.folder, "this run", settings), tuple(others), given or Given()
    )


def _tells(evidence: Evidence) -> bool:
    return bool(evidence.manifests or evidence.answers)


# ---- stage by stage ------------------------------------------------------------------------------


def stage_costs(context: Context) -> Iterator[Cost]:
    """The costs of all stages, students and measured models, in the order of the run."""
    if context.run.pipeline.traces is not None:
        rows = (
            context.run.pipeline.problems.limit
            if context.run.pipeline.problems is not None
            else None
        )
        yield _counted(context, "problems", "rows", exact(rows) if rows is not None else None)
        yield traces_cost(context)
        samples = exact(context.samples) if context.samples is not None else None
        yield _verdicts(context, samples)
        yield replace(_counted(context, "examples", "traces", samples), **_examples_words(context))
        yield from students_costs(context)
    yield from evals_costs(context)
    yield _counted(context, "report", "report", exact(1.0))


def _examples_words(context: Context) -> dict[str, str]:
    examples = examples_draws(context)
    return (
        {}
        if examples is None
        else {
            "work": f"about {examples[0]:,.0f} examples"
            if examples[1:].std()
            else f"{examples[0]:,.0f} examples"
        }
    )


def _counted(context: Context, stage: str, unit: str, amount: Draws | None) -> Cost:
    """A cheap stage: so many seconds for each thing that goes in, as the longest run known took."""
    done = context.own.manifests.get(stage)
    if (
        done is not None
        and done.status == "complete"
        and (amount is None or stage != "examples" or done.counts.get("in", 0) >= amount[0])
    ):
        size = folder_bytes(context.run.stage(stage))
        return finished(
            stage, f"{done.counts.get('in', 0):,} {unit}", seconds=done.seconds, size=size
        )
    work = "" if stage == "report" else f"{amount[0]:,.0f} {unit}" if amount is not None else unit
    measured = [
        (e, m)
        for e in context.others
        if (m := e.manifests.get(stage)) is not None
        and m.status == "complete"
        and m.counts.get("in")
    ]
    if stage == "report" and not measured:
        return Cost(stage, "new", "", notes=("seconds: not counted",))
    if amount is None or not measured:
        return Cost(stage, "new", work, unknown=HOW_MANY if amount is None else CALIBRATE)
    evidence, manifest = max(measured, key=lambda pair: pair[1].counts["in"])
    seen = manifest.counts["in"]
    share = amount / seen if stage != "report" else exact(1.0)
    seconds = (
        manifest.seconds * context.dice.factor(stage, ONCE) * _grown(context, stage, share, seen)
    )
    size = share * folder_bytes(evidence.folder / context.run.stage(stage).name)
    notes = (_FEW_SEEN,) if seen < _MANY and stage != "report" else ()
    return Cost(
        stage, "new", work, None, seconds, seconds, seconds, size, (evidence.source,), notes
    )


def _grown(context: Context, stage: str, share: Draws, seen: int) -> Draws:
    """How many times longer `share` times as much takes: as often, or, where few were seen,
    anything from no longer at all to that.
    """
    return (
        share
        if seen >= _MANY or share[0] <= 1
        else context.dice.between(f"growth of {stage}", float(share[0]))
    )


def _verdicts(context: Context, samples: Draws | None) -> Cost:
    """Traces per second and core; what a judge takes is not counted."""
    done = context.own.manifests.get("verdicts")
    if samples is None:
        return Cost("verdicts", "new", "one for each trace", unknown=HOW_MANY)
    work = f"{samples[0]:,.0f} traces"
    if done is not None and done.status == "complete" and done.counts.get("out", 0) >= samples[0]:
        return finished(
            "verdicts", work, seconds=done.seconds, size=folder_bytes(context.run.stage("verdicts"))
        )
    told = [evidence for evidence in context.everything if evidence.verdicts_speed is not None]
    if not told:
        return Cost("verdicts", "new", work, unknown=CALIBRATE)
    evidence = max(told, key=lambda found: count_lines(RunFolder(found.folder).verdicts))
    graded = count_lines(RunFolder(evidence.folder).verdicts)
    speed, cores = evidence.verdicts_speed, _cores_of(evidence)
    assert speed is not None
    rate = (
        speed.tokens_per_s
        / cores
        * _cores(context.run)
        * context.dice.factor("verdicts", speed.spread)
    )
    shards, rounds = workers(context.run.cluster.stages.of("verdicts"))
    work_s = graded / rate * _grown(context, "verdicts", samples / max(1, graded), graded)
    notes = [f"{speed.tokens_per_s / cores:,.0f} traces/s per core"]
    notes += [_FEW_SEEN] if graded < _MANY else []
    notes += ["without the judge"] if context.run.pipeline.verdicts.judge is not None else []
    size = samples * (folder_bytes(RunFolder(evidence.folder).stage("verdicts")) / max(1, graded))
    wall = work_s * rounds / shards
    return Cost(
        "verdicts", "new", work, None, wall, wall, work_s, size, (evidence.source,), tuple(notes)
    )


def _cores_of(evidence: Evidence) -> int:
    """The cores that graded there."""
    return int(evidence.manifests["verdicts"].environment.get("cores") or 1)


def _cores(run: Run) -> int:
    """The cores of one worker that will grade here."""
    asked = (
        run.cluster.stages.of("verdicts").cpus if run.cluster.kind != "local" else os.cpu_count()
    )
    return run.cluster.grade.workers or asked or 1


# ---- together ------------------------------------------------------------------------------------


def _total(context: Context, costs: Sequence[Cost]) -> Cost:
    """The sum of what is known; students side by side as the cluster file lets them."""
    students = {
        cost.stage.partition("/")[2]: cost for cost in costs if cost.stage.startswith("students/")
    }
    others = [cost for cost in costs if not cost.stage.startswith("students/")]
    wall, left = students_wall(context, students) if students else (exact(0.0), exact(0.0))
    unknown = [cost.stage for cost in costs if cost.unknown is not None]
    names = ", ".join(dict.fromkeys(map(without_seed, unknown)))
    is_done = all(cost.state == "done" for cost in costs)
    return Cost(
        "total",
        "done" if is_done else "new" if all(cost.state == "new" for cost in costs) else "partial",
        f"{len(costs) - len(unknown)} of {len(costs)} known" if unknown else "",
        tokens=known_sum([cost.tokens for cost in costs]),
        wall_s=known_sum([wall, *(cost.wall_s for cost in others)]),
        left_s=known_sum([left, *(cost.left_s for cost in others)]),
        worker_s=known_sum([cost.worker_s for cost in costs]),
        bytes=known_sum([cost.bytes for cost in costs]),
        unknown=f"without what is unknown: {names}" if unknown else None,
    )
