"""A finished run with a real student's folder, and what must never go out beside it: for tests of
`push` and of cards.

    run = published_run(tmp_path / "runs" / "made")     # students sft, answer-only, base
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from fake_run import fake_run

from reasondistill.config.resources import shipped_model
from reasondistill.grading import GradingPool
from reasondistill.runs.store import read_manifest, write_manifest
from reasondistill.stages import evals

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BASE = f"Qwen/Qwen2.5-0.5B@{COMMIT}"
PROMPT = [
    {"role": "system", "content": "Think step by step."},
    {"role": "user", "content": "{question}\nPut the answer in \\boxed{}."},
]


def published_run(folder: Path, *, has_scores: bool = True) -> Path:
    run = fake_run(folder, problems=12)
    if has_scores:
        plan = evals.EvalPlan(
            {"gsm_symbolic": 1},
            ("sft", "answer-only", "base", "teacher"),
            {"sft": ["answer-only", "base", "teacher"]},
        )
        with GradingPool(workers=1) as pool:
            evals.collect(run / "6-evals", plan, pool)
    manifest = read_manifest(run / "1-problems")
    assert manifest is not None
    section = {"source": "hub", "dataset": "openai/gsm8k", "limit": 15}
    figures = {"dataset": "openai/gsm8k", "revision": COMMIT, "split": "train"}
    identity = {**manifest.identity, "section": section}
    write_manifest(run / "1-problems", replace(manifest, identity=identity, figures=figures))
    student = run / "5-students" / "sft"
    record = json.loads((student / "student.json").read_text())
    (student / "student.json").write_text(json.dumps(record | {"base": BASE}))
    model = Path(shutil.copytree(shipped_model("demo-teacher"), student / "model"))
    facts = {"prompt": "think", "method": "sft", "plain": False, "messages": PROMPT}
    (model / "reasondistill.json").write_text(json.dumps(facts))
    lay_out_what_stays(run, student)
    return run


def lay_out_what_stays(run: Path, student: Path) -> None:
    """Files of a training that nobody else should see, and paths of this machine where libraries
    write them.
    """
    here = str(run.resolve())
    checkpoint = student / "checkpoints" / "checkpoint-5"
    checkpoint.mkdir(parents=True)
    (checkpoint / "optimizer.pt").write_bytes(b"momentum")
    (student / "checkpoints" / "README.md").write_text("fine-tuned version of None")
    model = student / "model"
    (model / "README.md").write_text("fine-tuned version of None")
    (model / "training_args.bin").write_bytes(here.encode())
    (model / ".cache").mkdir()
    (model / ".cache" / "notes.json").write_text(json.dumps({"at": here}))
    (model / "trainer_state.json").write_text(json.dumps({"best_model_checkpoint": here}))
    (run / "logs").mkdir()
    (run / "logs" / "students.log").write_text(here)
    config = json.loads((model / "config.json").read_text())
    config |= {"_name_or_path": f"{here}/5-students/warm/model"}
    (model / "config.json").write_text(json.dumps(config))
    adapter = student / "adapter"
    adapter.mkdir()
    shutil.copy(model / "model.safetensors", adapter / "adapter_model.safetensors")
    about = {"base_model_name_or_path": f"{here}/models/qwen", "peft_type": "LORA", "r": 8}
    (adapter / "adapter_config.json").write_text(json.dumps(about))
    (adapter / "README.md").write_text("# Model Card for Model ID")
