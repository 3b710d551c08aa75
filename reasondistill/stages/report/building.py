"""Facts → the content of report.json."""

from __future__ import annotations

from collections.abc import Iterable

from reasondistill.records import Score
from reasondistill.runs.figures import seconds_spent
from reasondistill.stages.report import evidence, forecast_check, methods, wording
from reasondistill.stages.report.content import (
    FunnelRow,
    Groups,
    PublishedRow,
    ReportedScore,
    ReportFile,
    StageRow,
)
from reasondistill.stages.report.facts import Facts, FunnelStep, Stage


def build_report(facts: Facts) -> ReportFile:
    """What scripts read; shares and differences are fractions of 1."""
    published: list[PublishedRow] = []
    for row in evidence.published_table(facts).rows:
        cells = dict(zip(evidence.PUBLISHED_HEADERS, row, strict=True))
        published.append(PublishedRow.model_validate(cells))
    report = ReportFile(
        scores=_reported(facts, facts.scores),
        differences=facts.differences,
        parts=facts.parts,
        prompts=facts.prompts,
        overlap=dict(facts.overlap),
        published=tuple(published),
        funnel=tuple(_funnel_row(step) for step in facts.funnel),
        stages=tuple(_stage_row(stage) for stage in facts.stages),
        students=tuple(folder.record for folder in facts.students if folder.record is not None),
        forecast=forecast_check.checked_forecast(facts),
    )
    changes: dict[str, object] = {}
    if facts.seeds.members:
        changes["groups"] = _groups(facts)
    missing = wording.missing(facts)
    if missing:
        changes |= {"missing": tuple(missing), "refused": facts.refused, "lost": facts.lost}
    if facts.suspects:
        changes["suspects"] = facts.suspects
    if methods.has_methods(facts):
        changes["methods"] = tuple(methods.method_rows(facts))
        changes["costs"] = tuple(methods.costs(facts))
    if methods.has_sizes(facts):
        changes["sizes"] = tuple(methods.sizes(facts))
    if facts.cascades:
        changes["cascades"] = facts.cascades
    return report.model_copy(update=changes)


def _reported(facts: Facts, scores: Iterable[Score]) -> tuple[ReportedScore, ...]:
    rows: list[ReportedScore] = []
    for score in scores:
        outcomes = wording.outcome_shares(facts, score)
        rows.append(ReportedScore(**score.model_dump(), outcomes=outcomes))
    return tuple(rows)


def _funnel_row(step: FunnelStep) -> FunnelRow:
    row = {"stage": step.step, "in": step.came_in, "out": step.came_out}
    return FunnelRow.model_validate(row | {"parts": step.parts, "dropped": step.dropped})


def _stage_row(stage: Stage) -> StageRow:
    manifest = stage.manifest
    return StageRow(
        stage=stage.place,
        status=manifest.status,
        fingerprint=manifest.fingerprint,
        counts=manifest.counts,
        dropped=manifest.dropped,
        figures=manifest.figures,
        seconds=seconds_spent(manifest),
        environment=manifest.environment,
    )


def _groups(facts: Facts) -> Groups:
    seeds = facts.seeds
    return Groups(
        members={name: tuple(names) for name, names in seeds.members.items()},
        scores=_reported(facts, facts.main_scores),
        differences=facts.main_differences,
        spread=seeds.spread,
        note=seeds.note,
    )
