"""Losses and perplexity are those of `model(...).logits`, whatever the architecture does after its
head; what it does that is not known is refused by name.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from architectures import (
    ARCHITECTURES,
    FURTHER,
    ROUTED,
    make_architecture,
    save_architecture,
)
from tiny_model import make_tokenizer

from reasondistill.config import StudentSettings, TrainSettings
from reasondistill.stages.students.tokens import IGNORE, Row

torch = pytest.importorskip("torch")

VOCABULARY = 320
# How far losses in float64 may be apart, relatively: TRL's fused head adds up in float32, as our
# weights of tokens are; Mamba rounds its logits to it.
NEAR = 1e-6


def rows(count: int = 2) -> list[Row]:
    """Rows of unequal lengths: three tokens of a prompt, the rest of an answer."""
    generator = torch.Generator().manual_seed(7)
    made: list[Row] = []
    for number in range(count):
        size = (11 + 4 * number,)
        ids = torch.randint(5, VOCABULARY, size, generator=generator).tolist()
        made.append(Row(ids, [IGNORE] * 3 + ids[3:]))
    return made


def logits_at_labels(model: Any, of: list[Row]) -> tuple[Any, Any]:
    """The model's own logits at the positions that predict a label, and these labels: each row by
    itself.
    """
    logits: list[Any] = []
    labels: list[Any] = []
    for row in of:
        computed = model(input_ids=torch.tensor([row.input_ids]), use_cache=False).logits[0]
        logits.append(computed[2:-1])
        labels.append(torch.tensor(row.labels[3:]))
    return torch.cat(logits), torch.cat(labels)


def cross_entropy(model: Any, of: list[Row]) -> Any:
    logits, labels = logits_at_labels(model, of)
    return torch.nn.functional.cross_entropy(logits.double(), labels)


def hinton(student: Any, teacher: Any, of: list[Row]) -> Any:
    """½·T²·KL(p_T‖q_T) + ½·CE at T = 2, from the logits."""
    ours, _ = logits_at_labels(student, of)
    theirs, _ = logits_at_labels(teacher, of)
    log_q = torch.log_softmax(ours.double() / 2, -1)
    log_p = torch.log_softmax(theirs.detach().double() / 2, -1)
    kl = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    return 0.5 * 4 * kl + 0.5 * cross_entropy(student, of)


def columns(of: list[Row]) -> list[dict[str, Any]]:
    """What a trainer reads of rows."""
    read: list[dict[str, Any]] = []
    for number, row in enumerate(of):
        read.append({"input_ids": row.input_ids, "labels": row.labels, "row": number})
    return read


def arguments(folder: Path, model: Any, of: list[Row]) -> dict[str, Any]:
    """What a trainer is made of, as `train_student` does it."""
    from datasets import Dataset

    from reasondistill.stages.students.trainer_settings import trainer_settings

    student = StudentSettings(name="s", base="b", bf16=False, batch_size=len(of))
    settings = TrainSettings(micro_batch_size=len(of))
    return {
        "model": model,
        "args": trainer_settings(student, folder, settings, False),
        "train_dataset": Dataset.from_list(columns(of)),
        "processing_class": make_tokenizer(),
    }


def supervised(folder: Path, model: Any, of: list[Row]) -> Any:
    from reasondistill.stages.students.sorted_trainer import SortedTrainer

    return SortedTrainer(**arguments(folder, model, of))


def distilling(folder: Path, model: Any, teacher: Any, of: list[Row]) -> Any:
    from reasondistill.methods.kd import Kd, KdSettings
    from reasondistill.stages.students.distilling.teacher import Teacher
    from reasondistill.stages.students.distilling.trainer import DistillTrainer

    nobody: Any = None
    made = arguments(folder, model, of)
    made["args"].remove_unused_columns = False
    return DistillTrainer(
        method=Kd(KdSettings(), seed=0),
        rows=of,
        held_out=[],
        teacher=Teacher(teacher),
        writers=nobody,
        vocabulary=VOCABULARY,
        max_length=64,
        grade=None,
        flat=False,
        **made,
    )


def loss(trainer: Any, of: list[Row], *, training: bool = True) -> Any:
    """The loss of all rows as one micro-batch, which is a whole step."""
    batch = trainer.data_collator(columns(of))
    trainer.current_gradient_accumulation_steps = 1
    items = torch.tensor(sum(len(row.labels) - 3 for row in of))
    model = trainer.model.train(training)
    return trainer.compute_loss(model, batch, num_items_in_batch=items)


def check(model: Any, vocabulary: int = VOCABULARY) -> Any:
    from reasondistill.stages.students.heads import check_head

    return check_head(model, rows()[0].input_ids, "it", vocabulary, remedy="Do this.")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_losses_and_perplexity_are_those_of_the_models_own_logits(
    name: str, tmp_path: Path
) -> None:
    from reasondistill.stages.students.held_out import held_out

    of = rows()
    student = make_architecture(name, seed=1, dtype="float64")
    teacher = make_architecture(name, seed=2, dtype="float64")
    measured = held_out(student, of, teacher=teacher)
    wanted = float(cross_entropy(student, of).detach())
    assert math.log(measured.perplexity) == pytest.approx(wanted, rel=NEAR)
    expected = float(hinton(student, teacher, of).detach())
    found = loss(distilling(tmp_path, student, teacher, of), of)
    assert float(found.detach()) == pytest.approx(expected, rel=NEAR)
    learned = loss(supervised(tmp_path, student, of), of)
    assert float(learned.detach()) == pytest.approx(wanted, rel=NEAR)


@pytest.mark.parametrize("name", FURTHER)
def test_further_heads_are_known(name: str) -> None:
    from reasondistill.stages.students.held_out import held_out

    of = rows()
    model = make_architecture(name, dtype="float64")
    check(model)
    wanted = float(cross_entropy(model, of).detach())
    assert math.log(held_out(model, of).perplexity) == pytest.approx(wanted, rel=NEAR)


@pytest.mark.parametrize("name", ["gemma2", "cohere", "granite", "falcon_h1"])
def test_gradients_go_through_what_comes_after_the_head(name: str, tmp_path: Path) -> None:
    of = rows()
    student = make_architecture(name, seed=1, dtype="float64").train()
    teacher = make_architecture(name, seed=2, dtype="float64")
    hinton(student, teacher, of).backward()
    wanted = [weight.grad for weight in student.parameters()]
    student.zero_grad(set_to_none=True)
    loss(distilling(tmp_path, student, teacher, of), of).backward()
    largest = 0.0
    for weight, gradient in zip(student.parameters(), wanted, strict=True):
        largest = max(largest, float((weight.grad - gradient).abs().max()))
    assert largest < 1e-6


@pytest.mark.parametrize("name", ["llama_tied", "gemma2", "granite"])
def test_supervised_training_scores_the_labelled_positions_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl.trainer import utils as trl_utils

    scored: list[int] = []
    own: Any = vars(trl_utils)["_ChunkedLogProbFunction"]

    class Watched:
        @staticmethod
        def apply(hidden: Any, *others: Any) -> Any:
            scored.append(len(hidden))
            return own.apply(hidden, *others)

    monkeypatch.setattr(trl_utils, "_ChunkedLogProbFunction", Watched)
    of = rows(3)
    model = make_architecture(name, seed=1, dtype="float64").train()
    cross_entropy(model, of).backward()
    wanted = [weight.grad for weight in model.parameters()]
    model.zero_grad(set_to_none=True)
    loss(supervised(tmp_path, model, of), of).backward()
    assert scored == [sum(len(row.labels) - 3 for row in of)]
    for weight, gradient in zip(model.parameters(), wanted, strict=True):
        assert torch.allclose(weight.grad, gradient, atol=1e-6)


def test_a_micro_batch_without_a_label_has_no_loss_and_no_gradient(tmp_path: Path) -> None:
    blank = [Row([5, 6, 7, 8], [IGNORE] * 4)]
    trainer = supervised(tmp_path, make_architecture("llama_tied").train(), blank)
    none = loss(trainer, blank)
    none.backward()
    assert float(none.detach()) == 0.0
    for weight in trainer.model.parameters():
        assert weight.grad is None or not weight.grad.any()


# ---- what is not known ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_a_known_head_is_taken_in_every_type(dtype: str) -> None:
    for name in ("gemma2", "cohere", "granite", "llama_tied", "gpt2"):
        check(make_architecture(name, dtype=dtype))


def odd_forward(model: Any, change: Any) -> Any:
    """The model with logits that are changed after its head."""
    own = model.forward

    def forward(*given: Any, **named: Any) -> Any:
        output = own(*given, **named)
        output.logits = change(output.logits)
        return output

    model.forward = forward
    return model


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_a_model_that_changes_its_logits_in_a_way_of_its_own_is_refused(dtype: str) -> None:
    from reasondistill.errors import ConfigError

    model = odd_forward(make_architecture("llama", dtype=dtype), lambda logits: logits * 1.1)
    with pytest.raises(ConfigError, match=r"it: its logits are up to .* from what .*Do this"):
        check(model)


def test_a_model_that_cuts_its_logits_is_refused_below_the_vocabulary() -> None:
    from reasondistill.errors import ConfigError

    model = odd_forward(make_architecture("llama"), lambda logits: logits[..., :300])
    check(model, 300)
    with pytest.raises(ConfigError, match=r"gives 300 logits, .* at least 320"):
        check(model)


def test_logits_that_are_no_numbers_are_refused() -> None:
    from reasondistill.errors import ConfigError

    model = make_architecture("llama")
    model.lm_head.weight.data[7, 0] = float("nan")
    with pytest.raises(ConfigError, match="up to nan"):
        check(model)


def test_an_adapter_on_the_head_is_refused() -> None:
    from peft import LoraConfig, get_peft_model

    from reasondistill.errors import ConfigError
    from reasondistill.stages.students.heads import head_of

    model = get_peft_model(make_architecture("llama"), LoraConfig(target_modules=["lm_head"]))
    with pytest.raises(ConfigError, match=r"an adapter .* Leave lm_head out of lora.targets"):
        head_of(model)


# ---- in a training -------------------------------------------------------------------------------


def save_odd(folder: Path) -> Path:
    """A model on disk that halves its logits, which no key of its configuration says."""
    from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    class OddConfig(LlamaConfig):
        model_type = "odd"

    class OddModel(LlamaForCausalLM):
        config_class = OddConfig

        def forward(self, *given: Any, **named: Any) -> Any:
            output = super().forward(*given, **named)
            output.logits = output.logits * 0.5
            return output

    AutoConfig.register("odd", OddConfig, exist_ok=True)
    AutoModelForCausalLM.register(OddConfig, OddModel, exist_ok=True)
    plain = make_architecture("llama", seed=5)
    shape = {key: value for key, value in plain.config.to_dict().items() if key != "model_type"}
    model = OddModel(OddConfig(**shape))
    model.load_state_dict(plain.state_dict())
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def trained(folder: Path, base: Path, method: str, teacher: Path | None = None) -> Any:
    from test_students import example

    from reasondistill.stages.students import train_student
    from reasondistill.stages.students.material import Material, TeacherSource

    student = StudentSettings(
        name="s", base=str(base), method=method, bf16=False, batch_size=4, max_steps=1
    )
    source = None
    if teacher is not None:
        source = TeacherSource(model=str(teacher))
    return train_student(student, Material([example(i) for i in range(8)]), folder, teacher=source)


def test_a_student_and_a_teacher_with_an_unknown_head_are_refused_before_the_first_step(
    tmp_path: Path,
) -> None:
    from reasondistill.errors import ConfigError

    odd = save_odd(tmp_path / "odd")
    plain = save_architecture("llama", tmp_path / "plain")
    with pytest.raises(ConfigError, match=r"\[students\] s base = '.*odd': its logits are up to"):
        trained(tmp_path / "sft", odd, "sft")
    with pytest.raises(ConfigError, match=r"teacher .*odd: its logits .* method = 'topk_kd'"):
        trained(tmp_path / "kd", plain, "kd", odd)
    assert not (tmp_path / "sft" / "model").exists()


def test_a_head_that_only_trl_does_not_know_is_distilled_and_not_supervised(tmp_path: Path) -> None:
    from reasondistill.errors import ConfigError

    base = save_architecture("recurrent_gemma", tmp_path / "base")
    with pytest.raises(ConfigError, match="log-probabilities that TRL's SFTTrainer learns by"):
        trained(tmp_path / "sft", base, "sft")
    made = trained(tmp_path / "kd", base, "kd", base)
    assert made.figures.steps == 1


# ---- routers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROUTED)
def test_the_loss_of_routers_is_in_every_training_where_the_model_says_so_and_in_no_evaluation(
    name: str, tmp_path: Path
) -> None:
    of = rows()
    teacher = make_architecture(name, seed=2)
    for is_on in (False, True):
        student = make_architecture(name, seed=1, output_router_logits=is_on)
        batch = {"input_ids": torch.tensor([row.input_ids + [0] * 4 for row in of[:1]])}
        batch["attention_mask"] = torch.tensor([[1] * 11 + [0] * 4])
        balance = student(**batch, output_router_logits=True).aux_loss
        share = 0.5 * float(balance.detach()) * is_on
        one = of[:1]
        expected = {
            "sft": float(cross_entropy(student, one).detach()),
            "kd": float(hinton(student, teacher, one).detach()),
        }
        made = {
            "sft": supervised(tmp_path, student, one),
            "kd": distilling(tmp_path, student, teacher, one),
        }
        for method, trainer in made.items():
            found = loss(trainer, one)
            assert float(found.detach()) == pytest.approx(expected[method] + share, rel=1e-4)
            evaluated = loss(trainer, one, training=False)
            assert float(evaluated.detach()) == pytest.approx(expected["sft"], rel=1e-5)
        assert student.config.output_router_logits == is_on
        assert student.config.router_aux_loss_coef == 0.5


def test_a_head_that_is_quantised_is_refused_by_name() -> None:
    import torch

    from reasondistill.errors import ConfigError
    from reasondistill.stages.students.heads import head_of

    class Packed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qweight = torch.zeros(4, 4, dtype=torch.int32)

    model = make_architecture("llama")
    model.set_output_embeddings(Packed())
    with pytest.raises(ConfigError, match="quantised"):
        head_of(model)
