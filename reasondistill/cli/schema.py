"""`reasondistill schema`: the JSON Schema of report.json and of a pipeline file."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from reasondistill.cli.console import app


class Subject(StrEnum):
    """What has a schema."""

    report = "report"
    pipeline = "pipeline"


def json_schema(subject: Subject) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what this version writes or reads."""
    if subject is Subject.report:
        from reasondistill.stages.report import ReportFile

        return ReportFile.model_json_schema(by_alias=True)
    from reasondistill.config import Pipeline
    from reasondistill.config.keys import keys_of

    schema = Pipeline.model_json_schema(by_alias=True)
    for key in keys_of("pipeline", Pipeline):
        section = schema
        if key.section is not Pipeline:
            section = schema["$defs"][key.section.__name__]
        section["properties"][key.name].setdefault("description", key.about)
    return schema


@app.command()
def schema(subject: Subject) -> None:
    """Print the JSON Schema of report.json or of a pipeline file, for editors and scripts; each key
    of a pipeline file has what `explain` says of it.
    """
    # Not through rich: it would wrap long lines.
    print(json.dumps(json_schema(subject), indent=2))
