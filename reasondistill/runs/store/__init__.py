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
from reasondistill.runs.store.appending import AppendedFile, repair_tail
from reasondistill.runs.store.files import (
    disk_error,
    disk_errors,
    keep_copy,
    remove_all_leftovers,
    remove_leftovers,
    replacing,
    write_json,
    write_text,
)
from reasondistill.runs.store.guards import FORMAT, read_guarded, write_guarded
from reasondistill.runs.store.lines import (
    AppendedLines,
    append_line,
    is_list,
    list_anew,
    list_beside,
    mend,
    move_taken_out,
    require_all_lines,
)
from reasondistill.runs.store.manifests import (
    Identity,
    Manifest,
    StageState,
    changed_keys,
    check_files,
    check_sizes,
    content_of,
    drift_message,
    finish_stage,
    open_stage,
    read_manifest,
    reopen_stage,
    require_complete,
    require_open,
    seal,
    unseal,
    verify_files,
    write_manifest,
)
from reasondistill.runs.store.shards import (
    Shard,
    append_metrics,
    append_shard,
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
    rewrite_shard,
    sort_shard,
    write_records,
)
from reasondistill.runs.store.stopping import GRACE, StopSignal
from reasondistill.runs.store.sums import FileSum, sum_of
from reasondistill.runs.store.verified import (
    exists_verified,
    fits_sums,
    open_sized,
    open_verified,
    read_bytes_verified,
    read_text_verified,
    set_aside,
    verify_below,
    verify_sums,
    write_sums,
)

__all__ = [
    "FORMAT",
    "GRACE",
    "MANIFEST",
    "PARTS",
    "AppendedFile",
    "AppendedLines",
    "FileSum",
    "Identity",
    "Manifest",
    "Shard",
    "StageState",
    "StopSignal",
    "append_line",
    "append_metrics",
    "append_shard",
    "changed_keys",
    "check_files",
    "check_sizes",
    "content_of",
    "count_lines",
    "disk_error",
    "disk_errors",
    "drift_message",
    "drop_lines",
    "drop_rows",
    "exists_verified",
    "finish_stage",
    "fits_sums",
    "is_list",
    "keep_copy",
    "list_anew",
    "list_beside",
    "mend",
    "move_taken_out",
    "numbered_rows",
    "offsets_of",
    "open_sized",
    "open_stage",
    "open_verified",
    "read_bytes_verified",
    "read_guarded",
    "read_keys",
    "read_manifest",
    "read_metrics",
    "read_records",
    "read_rows",
    "read_text_verified",
    "records_at",
    "remove_all_leftovers",
    "remove_leftovers",
    "reopen_stage",
    "repair_tail",
    "replacing",
    "require_all_lines",
    "require_complete",
    "require_open",
    "rewrite_shard",
    "seal",
    "set_aside",
    "sort_shard",
    "sum_of",
    "unseal",
    "verify_below",
    "verify_files",
    "verify_sums",
    "write_guarded",
    "write_json",
    "write_manifest",
    "write_records",
    "write_sums",
    "write_text",
]
