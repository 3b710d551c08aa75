"""Shards and manifests: append, fsync, resume, read back, fingerprint.

A stage folder holds shards (`*.jsonl`, one record a line), `metrics.jsonl` and `manifest.json`. One
writer per shard. A line counts once its newline is on disk: a torn last line is dropped and its
record made again. Finished files appear by rename. File locks serve only to recognise leftovers of
killed writers.

    state = open_stage(folder, Identity("traces", 1, section, inputs), grows=("n",))
    with Shard(folder / "traces.jsonl") as shard:
        shard.append(records)
    finish_stage(folder, counts={"out": 12}, dropped={}, seconds=3.5)
"""

from __future__ import annotations

from reasondistill.runs.layout import MANIFEST, PARTS
from reasondistill.runs.store.files import (
    disk_error,
    disk_errors,
    remove_all_leftovers,
    remove_leftovers,
    replacing,
    write_json,
    write_records,
    write_text,
)
from reasondistill.runs.store.manifests import (
    Identity,
    Manifest,
    StageState,
    changed_keys,
    content_of,
    drift_message,
    finish_stage,
    open_stage,
    read_manifest,
    reopen_stage,
    require_complete,
    require_open,
    write_manifest,
)
from reasondistill.runs.store.shards import (
    AppendedFile,
    Shard,
    append_metrics,
    count_lines,
    drop_lines,
    drop_rows,
    numbered_rows,
    offsets_of,
    read_keys,
    read_metrics,
    read_records,
    read_rows,
    records_at,
    repair_tail,
    sort_shard,
)
from reasondistill.runs.store.stopping import GRACE, StopSignal

__all__ = [
    "GRACE",
    "MANIFEST",
    "PARTS",
    "AppendedFile",
    "Identity",
    "Manifest",
    "Shard",
    "StageState",
    "StopSignal",
    "append_metrics",
    "changed_keys",
    "content_of",
    "count_lines",
    "disk_error",
    "disk_errors",
    "drift_message",
    "drop_lines",
    "drop_rows",
    "finish_stage",
    "numbered_rows",
    "offsets_of",
    "open_stage",
    "read_keys",
    "read_manifest",
    "read_metrics",
    "read_records",
    "read_rows",
    "records_at",
    "remove_all_leftovers",
    "remove_leftovers",
    "reopen_stage",
    "repair_tail",
    "replacing",
    "require_complete",
    "require_open",
    "sort_shard",
    "write_json",
    "write_manifest",
    "write_records",
    "write_text",
]
