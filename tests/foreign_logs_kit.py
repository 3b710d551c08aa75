"""Small logs in the shapes in which lm-eval 0.4.13, inspect_ai 0.3.285 and lighteval 0.13.0 write
them, by hand.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DATE = "2025-11-30T12-00-00.123456"


# ---- lm-eval -------------------------------------------------------------------------------------


def lm_eval_row(number: int, values: Mapping[str, Any], chosen: str = "none") -> dict[str, Any]:
    """A row of `samples_*.jsonl`: question `number` under one filter."""
    question = f"What is {number} + {number}?"
    return {
        "doc_id": number,
        "doc": {"question": question, "answer": f"Twice {number}.\n#### {2 * number}"},
        "target": f"Twice {number}.\n#### {2 * number}",
        "arguments": {
            "gen_args_0": {
                "arg_0": f"Question: {question}\nAnswer:",
                "arg_1": {"until": ["Question:"], "do_sample": False},
            }
        },
        "resps": [[f"It is #### {2 * number}"]],
        "filtered_resps": [str(2 * number)],
        "filter": chosen,
        "metrics": list(values),
        "doc_hash": "0" * 64,
        "prompt_hash": "1" * 64,
        "target_hash": "2" * 64,
        **values,
    }


def write_rows(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def write_lm_eval(
    folder: Path,
    right: Mapping[str, Sequence[float]],
    *,
    task: str = "sums",
    metric: str = "exact_match",
    results: Mapping[str, Any] | None = None,
) -> Path:
    """`right` has the value of each problem by filter. Beside it the file of results, unless it is
    empty.
    """
    rows: list[Any] = []
    for chosen, values in right.items():
        for number, value in enumerate(values):
            rows.append(lm_eval_row(number, {metric: value}, chosen))
    first = next(iter(right.values()))
    means = {f"{metric},{chosen}": sum(values) / len(values) for chosen, values in right.items()}
    said: dict[str, Any] = {
        "results": {task: {"alias": task, "sample_len": len(first), **means}},
        "configs": {task: {"task": task, "generation_kwargs": {"do_sample": False}, "repeats": 1}},
        "versions": {task: 3.0},
        "n-shot": {task: 0},
        "higher_is_better": {task: {metric: True}},
        "n-samples": {task: {"original": len(first), "effective": len(first)}},
        "config": {"model_args": f"pretrained=toy/{folder.name}", "limit": None},
        "lm_eval_version": "0.4.13",
        "model_name": f"toy/{folder.name}",
    }
    if results is None or results:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"results_{DATE}.json").write_text(json.dumps(said | dict(results or {})))
    return write_rows(folder / f"samples_{task}_{DATE}.jsonl", rows)


# ---- inspect -------------------------------------------------------------------------------------


def inspect_sample(number: int, epoch: int, value: Any, **more: Any) -> dict[str, Any]:
    """A file of `samples/` in an `.eval`: question `number`, once."""
    return {
        "id": number,
        "epoch": epoch,
        "input": [{"role": "user", "content": f"What is {number} + {number}?"}],
        "target": str(2 * number),
        "messages": [],
        "output": {
            "model": "toy/model",
            "choices": [
                {
                    "message": {"role": "assistant", "content": f"It is \\boxed{{{2 * number}}}"},
                    "stop_reason": "stop",
                }
            ],
            "completion": f"It is \\boxed{{{2 * number}}}",
        },
        "scores": {"match": {"value": value, "answer": str(2 * number), "history": []}},
        "attachments": {},
        **more,
    }


def inspect_header(samples: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "task": "sums",
            "model": "toy/model",
            "task_version": 0,
            "dataset": {"name": "sums", "samples": len(samples)},
            "config": {"epochs": 1},
            "packages": {"inspect_ai": "0.3.285"},
        },
        "plan": {"name": "plan", "config": {"temperature": 0.6}},
        "results": {
            "total_samples": len(samples),
            "completed_samples": len(samples),
            "scores": [],
        },
        **more,
    }


def write_inspect(
    path: Path, samples: Sequence[Mapping[str, Any]], *, zstd: bool = False, **header: Any
) -> Path:
    """An `.eval` (packed as before 0.3.2xx, or by zstd as today), or a `.json`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = inspect_header(samples, **header)
    if path.suffix == ".json":
        path.write_text(json.dumps(head | {"samples": list(samples)}))
        return path
    files = {"_journal/start.json": b"{}", "header.json": json.dumps(head).encode()}
    for sample in samples:
        name = f"samples/{sample['id']}_epoch_{sample['epoch']}.json"
        files[name] = json.dumps(sample).encode()
    if zstd:
        path.write_bytes(zstd_zip(files))
        return path
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def zstd_zip(files: Mapping[str, bytes]) -> bytes:
    """A zip whose files are packed by method 93, as the standard library writes from Python 3.14
    on.
    """
    import pyarrow as pa

    codec = pa.Codec("zstd")
    body, entries = b"", b""
    for name, content in files.items():
        packed = codec.compress(content, asbytes=True)
        sizes = struct.pack("<3L", zlib.crc32(content), len(packed), len(content))
        shared = struct.pack("<5H", 63, 0, 93, 0, 33) + sizes
        text = name.encode()
        entries += b"PK\x01\x02" + struct.pack("<H", 63) + shared
        entries += struct.pack("<5H2L", len(text), 0, 0, 0, 0, 0, len(body)) + text
        body += b"PK\x03\x04" + shared + struct.pack("<2H", len(text), 0) + text + packed
    count = len(files)
    end = struct.pack("<4H2LH", 0, 0, count, count, len(entries), len(body), 0)
    return body + entries + b"PK\x05\x06" + end


# ---- lighteval -----------------------------------------------------------------------------------


def lighteval_row(number: int, metric: Mapping[str, Any], texts: int = 1) -> dict[str, Any]:
    """A row of `details_*.parquet`: question `number` with all its samples."""
    return {
        "doc": {
            "query": f"Solve.\nWhat is {number} + {number}?",
            "choices": [str(2 * number)],
            "gold_index": 0,
            "id": str(number),
            "task_name": "sums|0",
            "num_samples": texts,
        },
        "metric": dict(metric),
        "model_response": {
            "input": "…",
            "text": [f"It is \\boxed{{{2 * number}}}"] * texts,
            "input_tokens": [1, 2],
            "output_tokens": [[3]] * texts,
        },
    }


def write_lighteval(
    folder: Path, rows: Sequence[Mapping[str, Any]], *, model: str = "toy/model"
) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "details" / model / DATE / f"details_sums|0_{DATE}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    results = folder / "results" / model / f"results_{DATE}.json"
    results.parent.mkdir(parents=True, exist_ok=True)
    said = {
        "config_general": {"model_name": model, "model_config": {"model_name": model}},
        "results": {"sums|0": {}},
        "config_tasks": {"sums|0": {"effective_num_docs": len(rows)}},
    }
    results.write_text(json.dumps(said))
    return path
