"""What LoRA learns is what is saved: merged, reloaded, with new tokens, or refused by name."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from architectures import ARCHITECTURES, make_architecture, mean_loss, save_architecture
from test_distilling import made
from test_students import job
from tiny_model import make_tokenizer

from reasondistill.config import LoraSettings, StudentSettings
from reasondistill.errors import ConfigError, Interrupted, StageError
from reasondistill.runs.store import StopSignal, read_metrics
from reasondistill.stages.students import (
    StudentJob,
    processes,
    read_student,
    run_student,
    snapshots,
)
from reasondistill.stages.students.identity import identity_section

torch = pytest.importorskip("torch")

END = "<|done|>"


def student(base: Path, **changes: object) -> StudentSettings:
    values: dict[str, Any] = {
        "name": "s",
        "base": str(base),
        "bf16": False,
        "lora": LoraSettings(r=4, alpha=8),
        "batch_size": 8,
        "learning_rate": 1e-2,
        "max_length": 200,
        "max_steps": 3,
    }
    return StudentSettings(**(values | changes))


def grown(name: str, folder: Path, **changes: Any) -> Path:
    """A base whose tokenizer has two tokens more than the model has rows."""
    base = save_architecture(name, folder, **({"initializer_range": 0.05} | changes))
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|begun|>", END]})
    tokenizer.save_pretrained(base)
    return base


def moved(model: Any) -> None:
    """Weights of an adapter as they are after some training: not zero."""
    generator = torch.Generator().manual_seed(4)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += 0.05 * torch.randn(weight.shape, generator=generator)


KINDS = [(name, kind) for name in ("llama_tied", "gpt2") for kind in ("use_dora", "use_rslora")]


@pytest.mark.parametrize(("name", "kind"), [(name, "plain") for name in ARCHITECTURES] + KINDS)
def test_a_merged_and_reloaded_student_computes_what_its_adapter_did(
    tmp_path: Path, name: str, kind: str
) -> None:
    from transformers import AutoModelForCausalLM

    from reasondistill.stages.students import adapters
    from reasondistill.stages.students.reloading import row_log_probs
    from reasondistill.stages.students.training import load_start

    base = grown(name, tmp_path / name)
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|begun|>", END]})
    lora = LoraSettings(r=4, alpha=8).model_copy(update={kind: True} if kind != "plain" else {})
    model = load_start(student(base, lora=lora), tokenizer, ())
    moved(model)
    ids = [*range(3, 30), *range(len(tokenizer) - 3, len(tokenizer))]
    before = row_log_probs(model, ids)
    adapters.merged(model, tokenizer).save_pretrained(tmp_path / "merged")
    attention = {"attn_implementation": "eager"} if name == "gemma2" else {}
    served = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", **attention)
    after = row_log_probs(served, ids)
    assert float((after.log_probs - before.log_probs).abs().max()) < 1e-3
    assert before.distance(after) < 1e-8


def end_share(one: StudentJob, end: str = END) -> float:
    """The mean probability of the end after the whole answer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from reasondistill.records import Example
    from reasondistill.runs.store import read_records
    from reasondistill.stages.students.tokens import tokenise

    path = read_student(one.folder).path
    model = AutoModelForCausalLM.from_pretrained(path).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    shares: list[float] = []
    for example in read_records(one.examples / "examples.jsonl", Example):
        row = tokenise(example, tokenizer, plain=False)
        assert tokenizer.convert_ids_to_tokens(row.input_ids[-1]) == end
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row.input_ids])).logits[0, -2]
        shares.append(float(logits.softmax(-1)[row.input_ids[-1]]))
    return sum(shares) / len(shares)


@pytest.mark.parametrize(
    ("name", "method"), [("llama_tied", "sft"), ("llama", "sft"), ("llama_tied", "kd")]
)
def test_a_new_end_of_text_is_learnt_under_lora(tmp_path: Path, name: str, method: str) -> None:
    base = grown(name, tmp_path / "base")
    asked: dict[str, Any] = {"eos_token": END, "max_steps": 60, "learning_rate": 2e-2}
    if method == "kd":
        asked |= {"method": "kd", "kd": {"alpha": 0.0}}
    teacher = grown(name, tmp_path / "teacher", vocab_size=len(make_tokenizer()) + 2)
    one = made(tmp_path, teacher, student(base, **asked))
    run_student(one)
    assert end_share(one) > 0.9  # 0.003, the share of one token, while its rows are not trained


@pytest.mark.parametrize("name", ["llama_tied", "llama"])
def test_an_end_of_text_that_the_base_never_trained_is_learnt(tmp_path: Path, name: str) -> None:
    from transformers import AutoModelForCausalLM

    base = save_architecture(name, tmp_path / "base", initializer_range=0.05)
    tokenizer = make_tokenizer()
    model = AutoModelForCausalLM.from_pretrained(base)
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        module.weight.data[tokenizer.eos_token_id] = 0.0
    model.save_pretrained(base)
    one = job(tmp_path, student(base, max_steps=60, learning_rate=2e-2))
    run_student(one)
    assert end_share(one, tokenizer.eos_token) > 0.9
    (settings,) = (one.folder / "adapter").glob("adapter_config.json")
    indices = json.loads(settings.read_text())["trainable_token_indices"]
    assert set(map(tuple, indices.values())) == {(tokenizer.eos_token_id,)}


def test_an_adapter_with_new_tokens_loads_again_beside_its_base(tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM

    from reasondistill.stages.students.reloading import row_log_probs

    one = job(tmp_path, student(grown("llama_tied", tmp_path / "base"), eos_token=END))
    run_student(one)
    ids = list(range(300, 322))
    adapter = AutoPeftModelForCausalLM.from_pretrained(one.folder / "adapter", dtype=torch.float32)
    whole = AutoModelForCausalLM.from_pretrained(one.folder / "model", dtype=torch.float32)
    assert row_log_probs(adapter, ids).distance(row_log_probs(whole, ids)) < 1e-8


def test_a_stopped_training_of_new_tokens_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    asked = student(grown("llama", tmp_path / "base"), eos_token=END, max_steps=8)
    whole, cut = job(tmp_path, asked, name="whole"), job(tmp_path, asked, name="cut")
    run_student(whole)

    class StopAfter(StopSignal):
        """Asks to stop once the training has written its fourth metrics line."""

        @property
        def requested(self) -> bool:  # type: ignore[override]
            return len(read_metrics(cut.folder)) >= 4

        @requested.setter
        def requested(self, value: bool) -> None: ...

    with pytest.raises(Interrupted, match="same command"):
        run_student(cut, stop=StopAfter())
    run_student(cut)
    weights = [
        AutoModelForCausalLM.from_pretrained(one.folder / "model").state_dict()
        for one in (whole, cut)
    ]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


@pytest.mark.parametrize(
    ("name", "targets", "reason"),
    [
        ("llama", ("q_proj", "lm_head"), "lm_head is the output head"),
        ("llama_tied", ("q_proj", "lm_head"), "lm_head is the output head"),
        ("llama_tied", ("q_proj", "embed_tokens"), "embed_tokens is tied to the output head"),
        ("gpt2", ".*(c_attn|wte)", "transformer.wte is tied to the output head"),
        ("mamba2", ("in_proj", "out_proj"), "'out_proj' is incompatible with Mamba-based models"),
        ("llama", ("q_prj",), "not found in the base model"),
        ("gemma2", ".*(", "unterminated subpattern"),
    ],
)
def test_targets_that_cannot_be_trained_or_merged_are_refused_by_name(
    tmp_path: Path, name: str, targets: Any, reason: str
) -> None:
    base = save_architecture(name, tmp_path / name)
    with pytest.raises(ConfigError, match=reason) as refusal:
        run_student(job(tmp_path, student(base, lora=LoraSettings(r=4, targets=targets))))
    assert "[students] s lora targets = " in str(refusal.value)


def test_an_adapter_on_an_embedding_of_its_own_is_trained_and_merged(tmp_path: Path) -> None:
    targets = ("q_proj", "embed_tokens")
    base = save_architecture("llama", tmp_path / "base")
    one = job(tmp_path, student(base, lora=LoraSettings(r=4, targets=targets)))
    run_student(one)
    assert validation_on_disk(one) == pytest.approx(told(one), rel=1e-3)


@pytest.mark.parametrize("name", ["mamba2", "falcon_h1", "llama_tied"])
def test_all_linear_trains_and_what_is_on_disk_has_the_loss_that_was_told(
    tmp_path: Path, name: str
) -> None:
    one = job(tmp_path, student(save_architecture(name, tmp_path / name, initializer_range=0.1)))
    run_student(one)
    assert validation_on_disk(one) == pytest.approx(told(one), rel=1e-3)


def test_kept_weights_of_a_grown_adapter_are_merged_too(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    base = grown("llama", tmp_path / "base")
    one = job(tmp_path, student(base, eos_token=END, max_steps=4, lora=LoraSettings(dropout=0.1)))
    run_student(replace(one, snapshots=2))
    (step, kept), _ = snapshots(one.folder)
    assert step == 2
    weights = AutoModelForCausalLM.from_pretrained(kept).state_dict()
    last = AutoModelForCausalLM.from_pretrained(one.folder / "model").state_dict()
    start = AutoModelForCausalLM.from_pretrained(base).state_dict()
    head = "lm_head.weight"
    assert torch.equal(weights[head][:-2], start[head])
    assert not torch.equal(weights[head][-2:], last[head][-2:])


def told(one: StudentJob) -> float:
    figures = read_student(one.folder).figures
    assert figures is not None
    assert figures.validation_loss is not None
    return figures.validation_loss


def validation_on_disk(one: StudentJob) -> float:
    """The loss of the validation rows, by hand, under the model on disk."""
    from transformers import AutoModelForCausalLM

    from reasondistill.stages.students.material import material_of, training_examples
    from reasondistill.stages.students.tokens import tokenise_all

    model = AutoModelForCausalLM.from_pretrained(read_student(one.folder).path).eval()
    material = material_of(one, training_examples(one))
    rows = tokenise_all(material.split("validation"), make_tokenizer(), plain=False).rows
    return mean_loss(model, rows)


def test_an_adapter_that_cannot_be_merged_is_no_student() -> None:
    """PEFT merges one on a tied head into the embedding too: were it let through, it would be seen
    here.
    """
    from peft import LoraConfig, get_peft_model

    from reasondistill.stages.students.adapters import merged

    settings = LoraConfig(r=4, target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM")
    model = get_peft_model(make_architecture("llama_tied"), settings)
    moved(model)
    with pytest.raises(StageError, match="cannot be merged into its base"):
        merged(model, make_tokenizer())


def test_new_tokens_beside_an_adapter_are_refused_where_the_model_is_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    from reasondistill.stages.students import adapters

    base = grown("llama", tmp_path / "base")
    monkeypatch.setattr(processes, "sharding", lambda: "fsdp")
    model, tokenizer = make_architecture("llama"), AutoTokenizer.from_pretrained(base)
    with pytest.raises(ConfigError, match=r"2 tokens that .* Take strategy = .ddp."):
        adapters.adapted(model, student(base), tokenizer)


def test_that_new_tokens_are_trained_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import AutoTokenizer

    from reasondistill.stages.students.training import load_start

    base = grown("llama", tmp_path / "base")
    with caplog.at_level(logging.INFO):
        load_start(student(base), AutoTokenizer.from_pretrained(base), ())
    assert (
        "2 tokens that the base does not know are trained beside the adapter: <|begun|>, <|done|>"
        in caplog.text
    )


def test_dora_and_rslora_make_another_student_and_their_absence_the_same(tmp_path: Path) -> None:
    base = save_architecture("llama", tmp_path / "base")

    def section(**lora: bool) -> dict[str, Any]:
        asked = student(base, lora=LoraSettings(r=4, **lora))  # type: ignore[arg-type]
        return identity_section(job(tmp_path, asked))["lora"]

    assert section() == {"r": 4, "alpha": 64, "dropout": 0.0, "targets": "all-linear"}
    assert section(use_dora=True)["use_dora"]
    assert section(use_rslora=True)["use_rslora"]
