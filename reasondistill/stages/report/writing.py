"""The report stage: read a run folder, and write its three reports."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from reasondistill.bounds import BROWSER_TRACES
from reasondistill.config import ReportSettings
from reasondistill.config.published import load_published, published_file
from reasondistill.errors import StageError
from reasondistill.foreign_files import read_text
from reasondistill.foreign_json import with_numbers
from reasondistill.foreign_text import shown_json
from reasondistill.records import canonical_json, fingerprint
from reasondistill.runs import layout
from reasondistill.runs.figures import ReportFigures
from reasondistill.runs.store import (
    Identity,
    Manifest,
    disk_errors,
    finish_stage,
    open_stage,
    require_complete,
    write_text,
)
from reasondistill.secrets import cleaned
from reasondistill.stages.report import wording
from reasondistill.stages.report.browser import count_traces, write_browser
from reasondistill.stages.report.building import build_report
from reasondistill.stages.report.facts import LATENCIES, Stage, read_facts, read_stages
from reasondistill.stages.report.markdown import render_markdown
from reasondistill.stages.report.page import render_page

VERSION = 5
log = logging.getLogger(__name__)


def run_report(
    run_folder: Path,
    folder: Path,
    *,
    settings: ReportSettings,
    title: str,
    about: str,
    keep_old: bool = False,
    expected: Iterable[str] = (),
) -> Manifest:
    """Write the three reports of what `run_folder` holds now; nothing is done when nothing there
    has changed. Of the `expected` places (`5-students/sft`) those that nobody has begun are named.

    `keep_old` says what other stages do with old work; a report of old numbers helps nobody, so it
    is made anew all the same. Raises StageError when the folder holds no stage at all.
    """
    started = time.monotonic()
    stages = read_stages(run_folder, besides=folder)
    if not stages:
        raise StageError(
            f"{run_folder}: holds no stage folders; there is nothing to report. Run a stage first."
        )
    begun = {stage.place for stage in stages}
    absent = tuple(place for place in expected if place not in begun)
    published = load_published(published_file()).published if settings.published else ()
    contents: dict[str, Any] = {
        "settings": settings.model_dump(mode="json"),
        "title": title,
        "about": about,
        "published": [row.model_dump() for row in published],
    }
    if absent:
        contents["absent"] = absent
    inputs = {"asked": fingerprint(contents)}
    for stage in stages:
        inputs[stage.place] = _state(run_folder, stage)
    for path in (*run_folder.glob(LATENCIES), *run_folder.glob(layout.FORECAST)):
        inputs[path.relative_to(run_folder).as_posix()] = fingerprint(
            read_text(path, errors="surrogateescape")
        )
    if open_stage(folder, Identity("report", VERSION, {}, inputs), derived=True) == "complete":
        return require_complete(folder)

    facts = read_facts(run_folder, stages, traces=settings.traces, published=published)
    title = settings.title or title
    has_browser = _write_browser(run_folder, folder / layout.BROWSER, settings, title)
    traces = count_traces(run_folder)
    facts = replace(facts, traces=traces, has_browser=has_browser, absent=absent)
    markdown = render_markdown(facts, title=title, about=about)
    page = render_page(facts, title=title, about=about)
    write_text(folder / layout.REPORT_JSON, json_of(build_report(facts).to_dict()))
    write_text(folder / layout.REPORT_MARKDOWN, _encodable(cleaned(markdown)))
    write_text(folder / layout.REPORT_PAGE, _encodable(cleaned(page)))
    sentences = wording.headline(facts)
    for sentence in sentences:
        log.info("%s", sentence)
    figures = ReportFigures(headline=" ".join(sentences), unfinished=", ".join(facts.unfinished))
    return finish_stage(
        folder,
        counts={"in": len(stages), "out": 3},
        figures=figures.to_dict(),
        seconds=time.monotonic() - started,
    )


def _write_browser(run_folder: Path, folder: Path, settings: ReportSettings, title: str) -> bool:
    """Write the trace browser in the place of an earlier one, unless no traces are to be shown or
    there are too many for a folder; whether it was written.
    """
    if folder.exists():
        with disk_errors(folder):
            shutil.rmtree(folder)
    traces = count_traces(run_folder)
    if not settings.traces or not traces:
        return False
    if traces > BROWSER_TRACES.most:
        log.info(
            "%s traces: `reasondistill view` shows them; a folder of them beside the report has at "
            "most %s.",
            f"{traces:,}",
            BROWSER_TRACES,
        )
        return False
    write_browser(run_folder, folder, title=title)
    return True


def json_of(content: Mapping[str, Any]) -> str:
    """Indented JSON that every reader takes, with `\\u` escapes where a terminal would do
    something, and null for what is no number: a stranger's manifest may hold NaN.
    """
    text = json.dumps(with_numbers(content), indent=2, ensure_ascii=False, allow_nan=False)
    return f"{shown_json(text)}\n"


def _state(run_folder: Path, stage: Stage) -> str:
    """Changes whenever the stage has something new to tell: its manifest, or more lines while it is
    still at work.
    """
    shards = (run_folder / stage.place).glob("*.jsonl")
    sizes = {path.name: path.stat().st_size for path in shards}
    return fingerprint([canonical_json(stage.manifest.described()), sizes])


def _encodable(text: str) -> str:
    """Lone surrogates, which a broken decoder can leave in a trace, have no UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")
