"""Stage 7: a run folder → report.md, report.json and report.html (one file, no network), and all of
its traces in browser/.

    report = pipeline.report
    manifest = run_report(run, run / "7-report", settings=report, title="demo", about="…")

It reads manifests, metrics and records that the stages left, and says what is there: a run that has
only traces gets a report of its traces. `report.json` is for scripts: `scores`, `differences` (95
%), `funnel`, `stages`, `students`; `missing` (sentences), `refused` and `lost` where samples
failed; `suspects`, the first golds under suspicion; `groups` with students of several seeds;
`methods`, `costs` and `sizes` where methods are compared; `forecast` where one was made.
`ReportFile` is its content as a record, and `reasondistill schema report` prints its JSON Schema.
"""

from __future__ import annotations

from reasondistill.stages.report.content import ReportedScore, ReportFile
from reasondistill.stages.report.writing import VERSION, run_report

__all__ = ["VERSION", "ReportFile", "ReportedScore", "run_report"]
