"""Making and saving a forecast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from reasondistill.forecast.calibrating import calibration_folder
from reasondistill.forecast.costs import (
    Charge,
    Context,
    Cost,
    Given,
    State,
    charge,
    known_sum,
    to_record,
    without_seed,
)
from reasondistill.forecast.evidence import Evidence, read_evidence
from reasondistill.forecast.light_stages import stage_costs
from reasondistill.forecast.on_paper import Paper, assumptions
from reasondistill.forecast.training_cost import students_wall
from reasondistill.pipeline.runs import Run
from reasondistill.records import Forecast
from reasondistill.runs import layout
from reasondistill.runs.store import write_guarded


def make_forecast(
    run: Run,
    *,
    like: Sequence[Path] = (),
    given: Given | None = None,
    paper: Paper | None = None,
    usd_hour: float | None = None,
) -> Forecast:
    """Forecast every stage of a run. A calibration of the run, beside the run's folder, is taken
    into account. With `paper` it is for these GPUs, at `usd_hour` each, by their data sheet.

    Raises ConfigError as the pipeline file does, and for a model whose shape nothing here tells;
    DataError for a shard that cannot be read.
    """
    context = read_context(run, like, given)
    if paper is not None:
        run = replace(run, cluster=paper.cluster(run.cluster, usd_hour))
        context = replace(context, run=run, paper=paper)
    costs = list(stage_costs(context))
    charges = [charge(cost, run.cluster) for cost in costs]
    together = total_cost(context, costs)
    whole = Charge()
    if together.worker_s is not None:
        whole = Charge(
            gpu_s=known_sum(one.gpu_s for one in charges),
            cpu_s=known_sum(one.cpu_s for one in charges),
            money=known_sum(one.money for one in charges),
        )
    return Forecast(
        run=run.pipeline.name,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        cluster=run.cluster.about or run.cluster.kind,
        sources=tuple(evidence.source for evidence in context.everything if _tells(evidence)),
        assumed=() if paper is None else assumptions(paper, run.cluster.prices.gpu_hour),
        stages=tuple(
            to_record(cost, charged) for cost, charged in zip(costs, charges, strict=True)
        ),
        total=to_record(together, whole),
    )


def save(forecast: Forecast, folder: Path) -> Path:
    """Write `forecast.json` into a run folder. The forecast of a finished run does not replace an
    earlier one, because it only counts what was done.
    """
    path = folder / layout.FORECAST
    if not (path.exists() and all(stage.state == "done" for stage in forecast.stages)):
        value = forecast.model_dump(mode="json")
        write_guarded(folder / layout.FORECAST_COPY, value)
        write_guarded(path, value)
    return path


def read_context(run: Run, like: Sequence[Path] = (), given: Given | None = None) -> Context:
    """The evidence for a forecast."""
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


def _takes_something(cost: Cost) -> bool:
    parts = (cost.tokens, cost.worker_s)
    return any(part is not None and bool(part.any()) for part in parts)


def total_cost(context: Context, costs: Sequence[Cost]) -> Cost:
    """The sum of the known costs; students in parallel as far as the cluster file allows."""
    students: dict[str, Cost] = {}
    others: list[Cost] = []
    for cost in costs:
        if cost.stage.startswith("students/"):
            students[cost.stage.partition("/")[2]] = cost
        else:
            others.append(cost)
    wall = left = None
    if students:
        wall, left = students_wall(context, students)
    states = {cost.state for cost in costs}
    state: State = "partial"
    if not states or states == {"done"}:
        state = "done"
    elif states == {"new"}:
        state = "new"
    unknown = [cost.stage for cost in costs if cost.unknown is not None]
    work, without = "", None
    if unknown:
        names = ", ".join(dict.fromkeys(map(without_seed, unknown)))
        work = f"{len(costs) - len(unknown)} of {len(costs)} known"
        without = f"without what is unknown: {names}"
        if not any(map(_takes_something, costs)):
            # What is known takes nothing: its sum would read like a forecast.
            return Cost("total", state, work, unknown=without)
    return Cost(
        "total",
        state,
        work,
        tokens=known_sum([cost.tokens for cost in costs]),
        wall_s=known_sum([wall, *(cost.wall_s for cost in others)]),
        left_s=known_sum([left, *(cost.left_s for cost in others)]),
        worker_s=known_sum([cost.worker_s for cost in costs]),
        bytes=known_sum([cost.bytes for cost in costs]),
        unknown=without,
    )
