"""Rows that are packed into one learn what they learn apart, or packing is refused by name."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from architectures import ARCHITECTURES, make_architecture, save_architecture
from test_distilling import made
from test_students import job
from tiny_model import make_tiny_model

from reasondistill.config import StudentSettings
from reasondistill.errors import ConfigError
from reasondistill.stages.students import read_student, run_student
from reasondistill.stages.students.tokens import Row

torch = pytest.importorskip("torch")

# Those whose layers carry a row's state or position on to the next one, without CUDA kernels.
LEAKY = {"opt", "bloom", "falcon_h1", "mamba2", "qwen3_next", "qwen3_5", "gpt_oss"}
LENGTHS = (23, 9, 31)


def rows() -> list[Row]:
    generator = torch.Generator().manual_seed(1)
    drawn: list[Row] = []
    for length in LENGTHS:
        ids = torch.randint(3, 320, (length,), generator=generator).tolist()
        drawn.append(Row(ids, ids))
    return drawn


def trl_collator() -> Any:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    return DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)


def our_collator(features: list[dict[str, Any]]) -> dict[str, Any]:
    """What methods with a teacher pack with."""
    from reasondistill.methods.texts import Text
    from reasondistill.stages.students.distilling.batches import collate

    texts = [Text(one["input_ids"], one["labels"], one["row"]) for one in features]
    return collate(texts, pad=0, flat=True)


def features() -> list[dict[str, Any]]:
    return [
        {"input_ids": row.input_ids, "labels": row.labels, "row": number}
        for number, row in enumerate(rows())
    ]


def packed_by_hand(model: Any) -> float:
    """How far the logits of three packed rows are from those of each alone, at most."""
    from reasondistill.stages.students.hidden import model_inputs

    with torch.no_grad():
        together = model(**model_inputs(trl_collator()(features())), use_cache=False).logits[0]
        alone = [
            model(input_ids=torch.tensor([row.input_ids]), use_cache=False).logits[0]
            for row in rows()
        ]
    spread = float(together.std())
    return float((together - torch.cat(alone)).abs().max()) / spread


HALVES = [(name, "bfloat16") for name in ("llama", "qwen3_moe", "falcon_h1", "bloom")]


@pytest.mark.parametrize(("name", "dtype"), [(name, "float32") for name in ARCHITECTURES] + HALVES)
def test_packed_rows_are_as_alone_or_refused(name: str, dtype: str) -> None:
    from reasondistill.stages.students.isolation import check_isolation

    model = make_architecture(name, dtype=dtype)
    check = partial(
        check_isolation,
        model,
        trl_collator(),
        rows(),
        device="cpu",
        dtype=model.dtype,
        student="s",
        whose="this model",
    )
    if name in LEAKY:
        with pytest.raises(ConfigError, match="lets packed rows see each other"):
            check()
    else:
        check()
    if dtype == "float32":
        assert (packed_by_hand(model) > 1e-4) == (name in LEAKY)


@pytest.mark.parametrize("name", ["llama", "mamba2", "gpt_oss"])
def test_a_neighbour_changes_nothing_where_rows_are_apart_whatever_the_type(name: str) -> None:
    from reasondistill.stages.students.isolation import change_by_packing

    for dtype in ("float64", "float32", "bfloat16"):
        model = make_architecture(name, dtype=dtype)
        change = change_by_packing(model, trl_collator(), rows(), "cpu")
        assert (change.by_neighbour > 0) == (name in LEAKY)


def test_positions_that_are_not_those_of_the_row_are_seen_without_any_leak() -> None:
    """GPT-2 reads position_ids; a collator that counts on across rows is refused."""
    from reasondistill.stages.students.isolation import change_by_packing

    def counting_on(features: list[dict[str, Any]]) -> dict[str, Any]:
        batch = our_collator(features)
        total = batch["input_ids"].shape[1]
        starts = batch["position_ids"][0] == 0
        positions = torch.arange(total) + 40 * (starts.cumsum(0) - 1)
        return batch | {"position_ids": positions[None]}

    model = make_architecture("gpt2")
    change = change_by_packing(model, counting_on, rows(), "cpu")
    assert change.by_neighbour == 0
    assert not change.is_of_rounding(torch.float32)
    assert change_by_packing(model, our_collator, rows(), "cpu").is_of_rounding(torch.float32)


def test_both_collators_tell_a_model_the_same() -> None:
    from reasondistill.stages.students.hidden import model_inputs

    theirs, ours = model_inputs(trl_collator()(features())), model_inputs(our_collator(features()))
    assert theirs.keys() == ours.keys()
    assert "attention_mask" not in ours
    for name, value in theirs.items():
        if isinstance(value, int):
            assert ours[name] == value
        else:
            assert ours[name].dtype == value.dtype
            assert torch.equal(ours[name], value)


def test_what_tells_rows_apart_reaches_student_and_teacher() -> None:
    """A layer with a kernel for packed rows reads it among its keywords."""
    from reasondistill.stages.students.hidden import states

    model = make_architecture("llama")
    told: dict[str, Any] = {}
    attention = model.model.layers[0].self_attn
    attention.register_forward_pre_hook(lambda _, __, words: told.update(words), with_kwargs=True)
    batch = our_collator(features())
    states(model, model, batch)
    assert torch.equal(told["cu_seq_lens_q"], torch.tensor([0, 23, 32, 63], dtype=torch.int32))
    assert told["max_length_k"] == 31
    assert told["seq_idx"].shape == batch["input_ids"].shape


def test_a_model_that_takes_no_boundaries_is_refused_by_name() -> None:
    from reasondistill.stages.students.isolation import check_isolation

    class OwnModel(torch.nn.Module):
        def forward(self, input_ids: Any, use_cache: bool) -> Any:
            raise AssertionError("not reached")

    with pytest.raises(ConfigError, match="does not take what keeps packed rows apart"):
        check_isolation(
            OwnModel(),
            trl_collator(),
            rows(),
            device="cpu",
            dtype=torch.float32,
            student="s",
            whose="this model",
        )


def asked(base: Path, **changes: object) -> StudentSettings:
    values: dict[str, Any] = {"name": "s", "base": str(base), "bf16": False, "packing": True}
    return StudentSettings(**(values | {"max_steps": 1, "batch_size": 4} | changes))


@pytest.mark.parametrize("method", ["sft", "kd"])
def test_packed_validation_rows_have_the_loss_that_they_have_apart(
    tmp_path: Path, method: str
) -> None:
    teacher = make_tiny_model(tmp_path / "base")
    losses: list[float] = []
    for packing in (True, False):
        values = {"method": method, "packing": packing, "learning_rate": 1e-12}
        one = made(tmp_path, teacher, asked(teacher, **values), name=f"packed-{packing}", micro=4)
        run_student(one)
        figures = read_student(one.folder).figures
        assert figures is not None
        assert figures.validation_loss is not None
        losses.append(figures.validation_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_packing_is_refused_before_a_model_that_leaks_is_trained(tmp_path: Path) -> None:
    base = save_architecture("bloom", tmp_path / "bloom")
    one = job(tmp_path, asked(base))
    with pytest.raises(ConfigError, match=r"s packing = true: this model lets") as refusal:
        run_student(one)
    assert "Set packing = false" in str(refusal.value)
    assert not (one.folder / "model").exists()
    run_student(job(tmp_path, asked(base, packing=False), name="apart"))


def test_packing_is_refused_where_the_teacher_leaks(tmp_path: Path) -> None:
    teacher = save_architecture("opt", tmp_path / "teacher")
    base = save_architecture("llama_tied", tmp_path / "base")
    with pytest.raises(ConfigError, match="packing = true: its teacher lets packed rows"):
        run_student(made(tmp_path, teacher, asked(base, method="kd")))
