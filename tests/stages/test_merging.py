"""An adapter that others trained is merged into what peft itself computes with it, or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from adapter_kit import logits_by_peft, logits_of, make_adapter
from tiny_model import make_tiny_model, make_tokenizer

from reasondistill import config
from reasondistill.config import Cluster, ModelSettings
from reasondistill.errors import ConfigError, ReasonDistillError
from reasondistill.models.adapters import PLACE, Adapter, adapter_of
from reasondistill.pipeline import Run, plan, run_task
from reasondistill.records import Trace
from reasondistill.runs.store import StopSignal, read_records

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(PLACE, str(tmp_path / "merged"))
    return tmp_path / "merged"


def adapter_in(folder: Path, **keys: Any) -> Adapter:
    found = adapter_of(ModelSettings(model=str(folder), **keys))
    assert found is not None
    return found


KINDS: dict[str, dict[str, Any]] = {
    "dora, rslora, a norm and new tokens": {
        "use_dora": True,
        "use_rslora": True,
        "modules_to_save": ["norm"],
        "trainable_token_indices": {"embed_tokens": [5, 320, 321]},
        "grown": True,
    },
    "ranks and alphas by name, and an embedding": {
        "target_modules": ["q_proj", "up_proj", "embed_tokens"],
        "rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 6},
        "alpha_pattern": {"q_proj": 3, "layers.1.mlp.up_proj": 24},
    },
    "a pattern, and a head of its own": {
        "target_modules": r".*\.layers\.1\..*_proj",
        "modules_to_save": ["lm_head"],
    },
    "a grown embedding": {"modules_to_save": ["embed_tokens"], "grown": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_adapter_computes_what_peft_computes(
    tmp_path: Path, tiny: Path, kind: str
) -> None:
    from transformers import AutoTokenizer

    from reasondistill.stages.students.merging import merge

    settings = KINDS[kind]
    folder = make_adapter(tiny, tmp_path / "mine", **settings)
    adapter = adapter_in(folder)
    merge(adapter)
    rows = len(make_tokenizer()) + 2 if settings.get("grown") else None
    wanted = logits_by_peft(tiny, folder, rows=rows)
    # Two orders of the same sums in float32.
    torch.testing.assert_close(logits_of(adapter.merged), wanted, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(wanted[..., :320], logits_of(tiny), atol=1e-2), "it changes something"
    tokenizer = AutoTokenizer.from_pretrained(adapter.merged)
    assert len(tokenizer) == wanted.shape[-1]


def test_what_does_not_fit_its_base_is_refused_before_weights_are_loaded(
    tmp_path: Path, tiny: Path, place: Path
) -> None:
    from reasondistill.stages.students.merging import merge

    folder = make_adapter(tiny, tmp_path / "mine")
    for name, changed in (
        ("narrow", {"hidden_size": 32, "intermediate_size": 64}),
        ("shallow", {"num_hidden_layers": 1}),
    ):
        other = tmp_path / name
        shutil.copytree(tiny, other)
        values = json.loads((other / "config.json").read_text())
        (other / "config.json").write_text(json.dumps(values | changed))
    words = make_tokenizer()
    words.add_tokens(["apple"])
    with pytest.raises(ConfigError, match=r"shallow, as that is here: it has no model.layers.1"):
        merge(adapter_in(folder, base=str(tmp_path / "shallow")))
    with pytest.raises(ConfigError, match=r"narrow, as that is here: .*_proj is .* there and"):
        merge(adapter_in(folder, base=str(tmp_path / "narrow")))
    words.save_pretrained(folder)
    with pytest.raises(
        ConfigError, match="rows for 320, and the adapter holds none for the token 320"
    ):
        merge(adapter_in(folder))
    quantised = tmp_path / "quantised"
    shutil.copytree(tiny, quantised)
    late = adapter_in(folder, base=str(quantised))
    values = json.loads((quantised / "config.json").read_text())
    values["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (quantised / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"quantised is quantised \(gptq\)"):
        merge(late)  # as one of the hub, which was not here when it was named
    make_other_tokenizer(folder)
    with pytest.raises(ConfigError, match=r"its tokenizer is not that of .*tiny: "):
        merge(adapter_in(folder))
    assert not list(place.glob("*/model"))


def make_other_tokenizer(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    values = json.loads(text)
    vocabulary = values["model"]["vocab"]
    vocabulary["0"], vocabulary["1"] = vocabulary["1"], vocabulary["0"]
    (folder / "tokenizer.json").write_text(json.dumps(values), encoding="utf-8")


def test_merged_models_are_written_through_no_link_and_into_no_folder_of_others(
    tmp_path: Path, tiny: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reasondistill.stages.students import merging

    adapter = adapter_in(make_adapter(tiny, tmp_path / "mine"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    place.mkdir()
    adapter.place.symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="is a link; merged models are not written through one"):
        merging.merge(adapter)
    assert not list(elsewhere.iterdir())
    monkeypatch.setenv(PLACE, str(adapter.folder / "sub"))
    with pytest.raises(ConfigError, match=r"lies in .*mine, which stays as it is"):
        merging.merge(adapter)
    monkeypatch.setenv(PLACE, str(tmp_path / "full"))
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: full)
    with pytest.raises(ConfigError, match="and .* has room for 0.0. Make room"):
        merging.merge(adapter)
    assert not adapter.is_merged


def test_an_eval_measures_an_adapter_as_a_model_and_a_changed_one_as_another(
    tmp_path: Path, tiny: Path
) -> None:
    folder = make_adapter(tiny, tmp_path / "mine")
    rows = [{"question": f"{n} + {n} =", "answer": "4"} for n in range(3)]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "b.toml").write_text(
        'name = "b"\nprompt = "question"\n[problems]\nsource = "file"\ndataset = "b.jsonl"\n'
    )
    kind = {"sampler": "adapter_kit:WRITER"}
    values = {
        "name": "measured",
        "evals": {
            "benchmarks": [str(tmp_path / "b.toml")],
            "n": 1,
            "models": [
                {"name": "lora", "model": str(folder), **kind},
                {"name": "base", "model": str(tiny), **kind},
            ],
            "against": ["base"],
        },
    }
    source = tmp_path / "p.toml"
    run = Run(config.make_pipeline(values, [], source=source), Cluster(), tmp_path / "run", source)
    adapter = adapter_in(folder)

    def measure() -> list[Trace]:
        with StopSignal() as stop:
            for task in plan(run, ["evals"], share_engine_process=False):
                run_task(run, task, stop)
        traces = tmp_path / "run" / "6-evals" / "b" / "lora" / "traces" / "traces.jsonl"
        return list(read_records(traces, Trace))

    first = measure()
    assert {trace.model for trace in first} == {adapter.identity}
    assert adapter.identity.startswith("mine@") and f"+{tiny.name}@" in adapter.identity
    assert [trace.completion.answer_text for trace in first] == by_peft(tiny, folder, rows)
    scores = json.loads((tmp_path / "run" / "6-evals" / "scores.json").read_text())
    sizes = {model["name"]: model["parameters"] for model in scores["models"]}
    assert sizes["lora"] == sizes["base"] > 0
    shutil.rmtree(adapter.place)
    assert measure() == first and not adapter.is_merged, "what is drawn wants no weights"
    make_adapter(tiny, folder, r=2)
    with pytest.raises(ReasonDistillError, match="model"):
        measure()


def by_peft(base: Path, adapter: Path, rows: list[dict[str, str]]) -> list[str]:
    """What the adapted model writes, four greedy tokens for each question."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    model: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter))
    texts: list[str] = []
    for row in rows:
        ids = tokenizer(row["question"], return_tensors="pt")
        made = model.eval().generate(
            **ids, max_new_tokens=4, do_sample=False, temperature=None, top_k=None
        )
        texts.append(tokenizer.decode(made[0, ids["input_ids"].shape[1] :]))
    return texts
