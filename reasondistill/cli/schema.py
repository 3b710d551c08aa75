"""`reasondistill schema`: the JSON Schema of report.json and of each kind of settings file."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from reasondistill.cli.console import app

if TYPE_CHECKING:
    from pydantic import BaseModel


class Subject(StrEnum):
    """What has a schema."""

    report = "report"
    pipeline = "pipeline"
    cluster = "cluster"
    benchmark = "benchmark"
    prompt = "prompt"


def json_schema(subject: Subject) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what this version writes or reads."""
    if subject is Subject.report:
        from reasondistill.stages.report import ReportFile

        return ReportFile.model_json_schema(by_alias=True)
    from reasondistill.config.keys import keys_of

    kind = settings_files()[subject]
    schema = kind.model_json_schema(by_alias=True)
    for key in keys_of(subject.value, kind):
        section = schema
        if key.section is not kind:
            section = schema["$defs"][key.section.__name__]
        section["properties"][key.name].setdefault("description", key.about)
    return schema


def settings_files() -> dict[Subject, type[BaseModel]]:
    """What a file of each kind is checked as."""
    from reasondistill.config import Benchmark, Cluster, Pipeline
    from reasondistill.models.prompts import Prompt

    return {
        Subject.pipeline: Pipeline,
        Subject.cluster: Cluster,
        Subject.benchmark: Benchmark,
        Subject.prompt: Prompt,
    }


@app.command(epilog="Example:\n\n  reasondistill schema pipeline")
def schema(subject: Subject) -> None:
    """Print the JSON Schema of report.json, or of a pipeline, cluster, benchmark or prompt file,
    for editors and scripts; each key of a file has what `explain` says of it.
    """
    # Not through rich: it would wrap long lines.
    print(json.dumps(json_schema(subject), indent=2))
