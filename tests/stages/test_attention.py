"""A model is trained with the attention that it is served with, or refused by name."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
from architectures import make_architecture, mean_loss, save_architecture
from pydantic import ValidationError
from test_distilling import made
from test_students import job, scratch
from tiny_model import make_tokenizer

from reasondistill.config import StudentSettings
from reasondistill.errors import ConfigError
from reasondistill.stages.students import read_student, run_student
from reasondistill.stages.students.identity import identity_section

torch = pytest.importorskip("torch")

IDS = [[5, 9, 30, 41, 77, 120, 8]]


def student(base: Path, **changes: object) -> StudentSettings:
    values: dict[str, Any] = {"name": "s", "base": str(base)}
    return StudentSettings(**(values | changes))


def loaded(settings: StudentSettings) -> Any:
    from reasondistill.stages.students.bases import load_model

    return load_model(settings, make_tokenizer()).eval()


def capped(model: Any) -> Any:
    """Its logits with the soft-cap between scores and softmax, which eager alone applies."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        return model(input_ids=torch.tensor(IDS)).logits


def test_a_soft_capped_model_is_trained_with_its_cap(tmp_path: Path) -> None:
    base = save_architecture("gemma2", tmp_path / "gemma2", initializer_range=1.0)
    served = make_architecture("gemma2", initializer_range=1.0, vocabulary=len(make_tokenizer()))
    served = type(served).from_pretrained(base)
    with torch.no_grad():
        without = served(input_ids=torch.tensor(IDS)).logits
        ours = loaded(student(base))(input_ids=torch.tensor(IDS)).logits
    right = capped(served)
    assert float((without - right).abs().max()) > 0.01  # transformers' own choice leaves it out
    assert torch.allclose(ours, right, atol=1e-5)


def test_a_soft_capped_teacher_is_asked_with_its_cap(tmp_path: Path) -> None:
    from reasondistill.stages.students.distilling.teacher import load_teacher

    base = save_architecture("gemma2", tmp_path / "gemma2", initializer_range=1.0)
    teacher = load_teacher(
        str(base),
        None,
        student_tokenizer=make_tokenizer(),
        trust_remote_code=False,
        device=torch.device("cpu"),
    )
    assert teacher.model.config._attn_implementation == "eager"


def test_that_another_attention_was_chosen_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = save_architecture("gemma2", tmp_path / "gemma2", attn_logit_softcapping=7.25)
    with caplog.at_level(logging.INFO):
        loaded(student(base))
        loaded(student(base))
    assert caplog.text.count("soft-cap of 7.25") == 1


def test_the_attention_that_is_asked_for_is_taken(tmp_path: Path) -> None:
    base = save_architecture("llama", tmp_path / "llama")
    assert loaded(student(base)).config._attn_implementation == "sdpa"
    for name in ("sdpa", "eager"):
        model = loaded(student(base, attn_implementation=name))
        assert model.config._attn_implementation == name
    model = loaded(scratch(attn_implementation="eager"))
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("name", "attention", "reason"),
    [
        ("gemma2", "sdpa", "leaves out the soft-cap"),
        ("gpt_oss", "sdpa", "GptOssForCausalLM does not support"),
        ("llama", "flash_attention_2", "not installed for this machine"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="flash attention may be installed")
def test_an_attention_that_cannot_be_had_is_refused_by_name(
    tmp_path: Path, name: str, attention: str, reason: str
) -> None:
    base = save_architecture(name, tmp_path / name)
    with pytest.raises(ConfigError, match=reason) as refusal:
        loaded(student(base, attn_implementation=attention))
    assert f"[students] s attn_implementation = '{attention}'" in str(refusal.value)


def test_flash_attention_goes_with_bfloat16_alone(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="needs bf16 = true"):
        student(tmp_path, attn_implementation="flash_attention_2", bf16=False)


def test_a_method_that_compares_attention_matrices_wants_eager(tmp_path: Path) -> None:
    teacher = save_architecture("llama_tied", tmp_path / "teacher")
    asked = student(
        teacher,
        method="feature",
        feature={"recipe": "tinybert"},
        attn_implementation="sdpa",
        max_steps=1,
    )
    with pytest.raises(ConfigError, match="which only 'eager' makes"):
        run_student(made(tmp_path, teacher, asked))


def test_a_capped_student_is_trained_and_said_to_be_what_it_is_served_as(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    base = save_architecture("gemma2", tmp_path / "gemma2", final_logit_softcapping=None)
    one = job(tmp_path, student(base, max_steps=2, batch_size=8, bf16=False))
    run_student(one)
    figures = read_student(one.folder).figures
    assert figures is not None
    model = AutoModelForCausalLM.from_pretrained(
        read_student(one.folder).path, attn_implementation="eager"
    )
    assert figures.perplexity == pytest.approx(perplexity(one, model), rel=1e-4)


def perplexity(one: Any, model: Any) -> float:
    """By hand, of the held-out rows."""
    from reasondistill.stages.students.material import material_of, training_examples
    from reasondistill.stages.students.tokens import tokenise_all

    material = material_of(one, training_examples(one))
    rows = tokenise_all(material.held_out, make_tokenizer(), plain=material.plain).rows
    return math.exp(mean_loss(model, rows))


def test_only_an_attention_that_was_asked_for_makes_another_student(tmp_path: Path) -> None:
    plain, asked = scratch(), scratch(attn_implementation="eager")
    assert "attn_implementation" not in identity_section(job(tmp_path, plain))
    assert "attn_implementation" not in plain.recipe()
    assert identity_section(job(tmp_path, asked))["attn_implementation"] == "eager"
