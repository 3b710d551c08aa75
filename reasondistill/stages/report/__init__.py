"""Stage 7: a run folder → report.md, report.json and report.html (one file, no network).

    manifest = run_report(run, run / "7-report", settings=pipeline.report, title="demo", about="…")

It reads manifests, metrics and records that the stages left, and says what is there: a run that has
only traces gets a report of its traces. `report.json` is for scripts: `scores`, `differences` (95
%), `funnel`, `stages`, `students`; `missing` (sentences), `refused` and `lost` where samples
failed; `groups` with students of several seeds; `methods`, `costs` and `sizes` where methods are
compared; `forecast` where one was made.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from reasondistill.config import ReportSettings
from reasondistill.config.published import load_published, published_file
from reasondistill.errors import StageError
from reasondistill.records import canonical_json, fingerprint
from reasondistill.runs import layout
from reasondistill.runs.store import (
    Identity,
    Manifest,
    finish_stage,
    open_stage,
    require_complete,
    write_json,
    write_text,
)
from reasondistill.stages.report import evidence, forecast_check, methods, wording
from reasondistill.stages.report.facts import LATENCIES, Facts, Stage, read_facts, read_stages
from reasondistill.stages.report.markdown import render_markdown
from reasondistill.stages.report.page import render_page

VERSION = 3
log = logging.getLogger(__name__)


def run_report(
    run_folder: Path,
    folder: Path,
    *,
    settings: ReportSettings,
    title: str,
    about: str,
    keep_old: bool = False,
) -> Manifest:
    """Write the three reports of what `run_folder` holds now; nothing is done when nothing there
    has changed.

    `keep_old` says what other stages do with old work; a report of old numbers helps nobody, so it
    is made anew all the same. Raises StageError when the folder holds no stage at all.
    """
    started = time.monotonic()
    stages = read_stages(run_folder, besides=folder)
    if not stages:
        raise StageError(
            f"{run_folder}: holds no stage folders; there is nothing to report. Run a stage first."
        )
    published = load_published(published_file()).published if settings.published else ()
    asked = fingerprint(
        {
            "settings": settings.model_dump(mode="json"),
            "title": title,
            "about": about,
            "published": [row.model_dump() for row in published],
        }
    )
    inputs = {"asked": asked} | {stage.place: _state(run_folder, stage) for stage in stages}
    beside = (*run_folder.glob(LATENCIES), *run_folder.glob(layout.FORECAST))
    inputs |= {
        path.relative_to(run_folder).as_posix(): fingerprint(path.read_text()) for path in beside
    }
    if open_stage(folder, Identity("report", VERSION, {}, inputs), derived=True) == "complete":
        return require_complete(folder)
    facts = read_facts(run_folder, stages, traces=settings.traces, published=published)
    title = settings.title or title
    write_json(folder / layout.REPORT_JSON, report_json(facts))
    write_text(
        folder / layout.REPORT_MARKDOWN,
        _encodable(render_markdown(facts, title=title, about=about)),
    )
    write_text(
        folder / layout.REPORT_PAGE, _encodable(render_page(facts, title=title, about=about))
    )
    sentences = wording.headline(facts)
    for sentence in sentences:
        log.info("%s", sentence)
    figures = {"headline": " ".join(sentences), "unfinished": ", ".join(facts.unfinished)}
    return finish_stage(
        folder,
        counts={"in": len(stages), "out": 3},
        figures=figures,
        seconds=time.monotonic() - started,
    )


def _state(run_folder: Path, stage: Stage) -> str:
    """Changes whenever the stage has something new to tell: its manifest, or more lines while it is
    still at work.
    """
    sizes = {path.name: path.stat().st_size for path in (run_folder / stage.place).glob("*.jsonl")}
    return fingerprint([canonical_json(stage.manifest.__dict__), sizes])


def _encodable(text: str) -> str:
    """Lone surrogates, which a broken decoder can leave in a trace, have no UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def report_json(facts: Facts) -> dict[str, Any]:
    """What scripts read; shares and differences are fractions of 1."""
    found: dict[str, Any] = {
        "scores": [
            score.model_dump() | {"outcomes": wording.outcome_shares(facts, score)}
            for score in facts.scores
        ],
        "differences": [row.model_dump() for row in facts.differences],
        "parts": [part.model_dump() for part in facts.parts],
        "prompts": list(facts.prompts),
        "overlap": dict(facts.overlap),
        "published": [
            dict(zip(evidence.PUBLISHED_HEADERS, row, strict=True))
            for row in evidence.published_table(facts).rows
        ],
        "funnel": [
            {
                "stage": step.step,
                "in": step.came_in,
                "out": step.came_out,
                "parts": dict(step.parts),
                "dropped": dict(step.dropped),
            }
            for step in facts.funnel
        ],
        "stages": [_stage_row(stage) for stage in facts.stages],
        "students": [
            made.student.model_dump() for made in facts.students if made.student is not None
        ],
    }
    found |= {"groups": _groups_json(facts)} if facts.seeds.members else {}
    said = wording.missing(facts)
    found |= {"missing": said, "refused": facts.refused, "lost": facts.lost} if said else {}
    return found | methods.methods_json(facts) | forecast_check.foretold_json(facts)


def _groups_json(facts: Facts) -> dict[str, Any]:
    """Students of several seeds: who they are, and every score and comparison with them taken
    together.
    """
    return {
        "members": {name: list(members) for name, members in facts.seeds.members.items()},
        "scores": [
            score.model_dump() | {"outcomes": wording.outcome_shares(facts, score)}
            for score in facts.main_scores
        ],
        "differences": [row.model_dump() for row in facts.main_differences],
        "spread": [row.model_dump() for row in facts.seeds.spread],
        "note": facts.seeds.note,
    }


def _stage_row(stage: Stage) -> dict[str, Any]:
    manifest = stage.manifest
    return {
        "stage": stage.place,
        "status": manifest.status,
        "fingerprint": manifest.fingerprint,
        "counts": manifest.counts,
        "dropped": manifest.dropped,
        "figures": manifest.figures,
        "seconds": manifest.seconds,
        "environment": manifest.environment,
    }
