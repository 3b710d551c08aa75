"""Rows are exactly what inference will see; training resumes to the same weights; baselines copy
problems and steps.
"""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Never

import pytest
from tiny_model import make_tiny_model, make_tokenizer

from reasondistill.config import ArchitectureSettings, LoraSettings, StudentSettings, TrainSettings
from reasondistill.errors import ConfigError, DriftError, Interrupted, StageError
from reasondistill.models.prompts import NamedPrompt, Prompt
from reasondistill.records import Dropped, Example, Message, Origin, Problem
from reasondistill.runs.store import (
    Identity,
    StopSignal,
    content_of,
    finish_stage,
    open_stage,
    read_metrics,
    read_records,
    write_records,
)
from reasondistill.stages.students import StudentJob, read_student, run_student, snapshots
from reasondistill.stages.students.checks import check_settings
from reasondistill.stages.students.material import Reread, answers_only, calibrating

torch = pytest.importorskip("torch")

PROMPT = NamedPrompt(name="question", prompt=Prompt(about="", user="{question}"))
SHAPE = ArchitectureSettings(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=1,
    num_attention_heads=1,
    vocab_size=330,
    max_position_embeddings=256,
)
# What DeepSeek-R1-Distill's template does to a finished conversation: everything up to </think> is
# gone.
R1_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ "
    "m['content'].split('</think>')[-1] }}"
    "{% else %}<|im_start|>{{ m['content'] }}<|im_end|>{% endif %}{% endfor %}{% if "
    "add_generation_prompt %}<think>\n{% endif %}"
)


def example(
    number: int, answer: str = "<think>\n3 + 4 = 7\n</think>\n\n\\boxed{7}", split: str = "train"
) -> Example:
    turns = (
        Message(role="user", content=f"Tom has 3 apples and buys {number}."),
        Message(role="assistant", content=answer),
    )
    return Example(
        id=f"p/{number}:0",
        problem_id=f"p/{number}",
        trace_id=f"p/{number}:0",
        messages=turns,
        tokens=9,
        split=split,
    )  # type: ignore[arg-type]


def job(
    folder: Path,
    student: StudentSettings,
    *,
    examples: list[Example] | None = None,
    name: str = "s",
    parent: Path | None = None,
) -> StudentJob:
    rows = examples or [
        example(i, split="validation" if i % 8 == 0 else "train") for i in range(32)
    ]
    origin = Origin(dataset="d", revision="r", split="s", row=0)
    golds = [
        Problem(id=row.problem_id, question=row.messages[0].content, answer="7", origin=origin)
        for row in rows
    ]
    for stage, records in (("examples", rows), ("problems", golds)):
        if not (folder / stage).exists():
            open_stage(folder / stage, Identity(stage, 1, {}, {}))
            write_records(folder / stage / f"{stage}.jsonl", records)
            finish_stage(folder / stage, counts={"in": len(rows), "out": len(rows)}, seconds=0.0)
    settings = TrainSettings(micro_batch_size=4, threads=1)
    return StudentJob(
        student, PROMPT, folder / "problems", folder / "examples", folder / name, settings, parent
    )


def scratch(**changes: object) -> StudentSettings:
    values: dict[str, object] = {
        "name": "s",
        "architecture": SHAPE,
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 5e-3,
        "max_length": 200,
    }
    return StudentSettings(**(values | changes))  # type: ignore[arg-type]


# ---- rows ----------------------------------------------------------------------------------------


def test_examples_are_not_read_for_a_student_that_is_not_measured_on_them() -> None:
    def unread() -> Iterator[Example]:
        raise AssertionError("nothing is cut out of this student's base")
        yield

    assert calibrating(scratch(), unread()) == []


def test_a_student_from_scratch_has_no_base_to_be_looked_at() -> None:
    check_settings(scratch())


def test_loss_is_on_the_completion_and_its_eos_only() -> None:
    from reasondistill.stages.students.tokens import IGNORE, tokenise

    tokenizer = make_tokenizer()
    row = tokenise(example(4), tokenizer, plain=False)
    learned = [
        token for token, label in zip(row.input_ids, row.labels, strict=True) if label != IGNORE
    ]
    assert tokenizer.decode(learned) == "<think>\n3 + 4 = 7\n</think>\n\n\\boxed{7}<|im_end|>"
    hidden = [
        token for token, label in zip(row.input_ids, row.labels, strict=True) if label == IGNORE
    ]
    assert (
        tokenizer.decode(hidden)
        == "<|im_start|>user\nTom has 3 apples and buys 4.<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_template_that_drops_the_reasoning_cannot_drop_it_from_training() -> None:
    from reasondistill.stages.students.tokens import tokenise

    tokenizer = make_tokenizer()
    tokenizer.chat_template = R1_TEMPLATE
    text = tokenizer.decode(tokenise(example(4), tokenizer, plain=False).input_ids)
    assert "3 + 4 = 7" in text
    assert text.count("<think>") == 1  # the template opens the block itself; it is not opened twice


def test_rows_that_are_too_long_are_dropped_whole_and_counted() -> None:
    from reasondistill.stages.students.tokens import tokenise_all

    long = example(5, answer="<think>\n" + "1 + 1 = 2. " * 50 + "\n</think>\n\n\\boxed{2}")
    found = tokenise_all([example(4), long], make_tokenizer(), plain=False, max_length=120)
    assert len(found.rows) == 1
    assert found.dropped == {"longer than max_length": 1}
    assert [one.trace_id for one in found.set_aside] == ["p/5:0"]


def test_a_tokenizer_that_loses_text_is_refused() -> None:
    from tokenizers import normalizers

    from reasondistill.models.tokenising import InputFault
    from reasondistill.stages.students.tokens import tokenise

    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(InputFault, match="tokenizer loses text"):
        tokenise(example(4, answer="Seven is \\boxed{7}"), tokenizer, plain=False)


UNICODE_HALF = example(3, answer="<think>\nhalf a pair: \ud800\n</think>\n\n\\boxed{7}")


def test_one_row_that_no_tokenizer_takes_is_set_aside_and_listed_beside_the_student(
    tmp_path: Path,
) -> None:
    rows = [example(i, split="validation" if i % 8 == 0 else "train") for i in range(32)]
    template = (
        "{% for m in messages %}{% if '13' in m['content'] %}{{ "
        "raise_exception('unlucky') }}{% endif %}"
    )
    template += "{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}\n{% endif %}"
    (tmp_path / "template.jinja").write_text(template, encoding="utf-8")
    student = scratch(epochs=1, chat_template=str(tmp_path / "template.jinja"))
    manifest = run_student(job(tmp_path, student, examples=rows))
    assert manifest.dropped == {"refused by the chat template": 1}
    assert manifest.counts["out"] == manifest.counts["in"] - 1
    (listed,) = read_records(tmp_path / "s" / "set_aside.jsonl", Dropped)
    assert (listed.trace_id, listed.problem_id, listed.reason) == (
        "p/13:0",
        "p/13",
        "refused by the chat template",
    )


def test_a_few_rows_are_set_aside_and_many_stop_the_training() -> None:
    from reasondistill.stages.students.tokens import tokenise_all

    good, bad = [example(4)] * 96, [UNICODE_HALF]
    found = tokenise_all(good[:16] + bad * 4, make_tokenizer(), plain=False)
    assert (len(found.rows), found.dropped) == (16, {"no text of Unicode": 4})
    found = tokenise_all(good + bad * 5, make_tokenizer(), plain=False)
    assert found.dropped == {"no text of Unicode": 5}, "five of 101 are under 5 %"
    with pytest.raises(
        StageError,
        match=r"5 of 21 examples cannot be tokenised; the first: p/3:0: .*half of a surrogate pair",
    ):
        tokenise_all(good[:16] + bad * 5, make_tokenizer(), plain=False)


def test_a_special_token_that_a_trace_quotes_is_not_learnt_as_one() -> None:
    from reasondistill.stages.students.tokens import IGNORE, tokenise

    tokenizer = make_tokenizer()
    answer = (
        "<think>\nI write <|im_end|> and </think>, then <think>.\n</think>\n\n"
        "<|im_end|><|endoftext|>\\boxed{7}"
    )
    row = tokenise(example(4, answer=answer), tokenizer, plain=False)
    learned = [label for label in row.labels if label != IGNORE]
    assert [token for token in learned if token < 5] == [3, 4, 2], "our own two tags and one end"
    assert tokenizer.decode(learned) == answer + "<|im_end|>"
    tokenizer.chat_template = R1_TEMPLATE
    row = tokenise(example(4, answer=answer), tokenizer, plain=False)
    assert [token for token in row.labels if token in range(5)] == [4, 2], (
        "the prompt wrote the first tag"
    )


def test_the_trained_tokenizer_splits_digits_and_is_deterministic() -> None:
    from reasondistill.stages.students.bases import train_tokenizer

    texts = ["There are 1234 apples and 1234 pears", "<think>\n12 + 34 = 46\n</think>"] * 20
    one, two = train_tokenizer(texts, 300), train_tokenizer(texts, 300)
    assert one.tokenize("1234") == ["1", "2", "3", "4"]
    assert one.get_vocab() == two.get_vocab()
    assert one.decode(one("<think>\n7 €\n</think>")["input_ids"]) == "<think>\n7 €\n</think>"


# ---- batches and optimizer -----------------------------------------------------------------------


def test_global_batch_is_kept_whatever_the_machine() -> None:
    from reasondistill.stages.students.trainer_settings import split_batch

    for batch, micro, world in ((32, 8, 1), (32, 5, 2), (7, 4, 1), (128, 1, 16)):
        size, accumulation = split_batch(batch, micro, world)
        assert size * accumulation * world == batch
        assert size <= micro
    with pytest.raises(StageError, match="multiple of 3"):
        split_batch(32, 8, 3)


def test_batches_are_random_but_sorted_inside() -> None:
    from reasondistill.stages.students.sorted_trainer import BatchSortedSampler

    lengths = [(i * 37) % 101 for i in range(100)]
    sampler = BatchSortedSampler(lengths, batch=10, seed=1)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(first) == sorted(second) == list(range(100))
    assert first != second
    for start in range(0, 100, 10):
        inside = [lengths[i] for i in first[start : start + 10]]
        assert inside == sorted(inside)
    spread = [
        max(lengths[i] for i in first[s : s + 10]) - min(lengths[i] for i in first[s : s + 10])
        for s in range(0, 100, 10)
    ]
    assert min(spread) > 30  # whole batches are not grouped by length


# ---- what the loss is the mean of ----------------------------------------------------------------


def test_each_token_of_an_example_weighs_one_by_their_number() -> None:
    from reasondistill.stages.students.weighing import samples_in, token_weights

    # Of three rows: two tokens in the loss, four, none.
    labels = torch.tensor([[-100, -100, 5, 6, -100], [-100, 1, 2, 3, 4], [-100] * 5])
    padded = {"labels": labels}
    expected = [[0, 0.5, 0.5, 0], [0.25] * 4, [0] * 4]
    assert token_weights(padded).tolist() == expected and samples_in(padded) == 2
    # The same without padding, in one row: three tokens, two, one.
    labels = torch.tensor([[-100, 1, 2, 3, -100, -100, 4, 5, -100, 6]])
    flat = {"labels": labels, "position_ids": torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 0, 1]])}
    third = pytest.approx(1 / 3)
    assert token_weights(flat)[0].tolist() == [third, third, third, 0, 0, 0.5, 0.5, 0, 1]
    assert samples_in(flat) == 3


@pytest.mark.parametrize("micro", [1, 2, 4])
def test_a_loss_by_examples_is_the_mean_of_their_means(tmp_path: Path, micro: int) -> None:
    """Whatever the micro-batches: of rows of unequal length, against the logits of each alone."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM

    from reasondistill.stages.students.sorted_trainer import SortedTrainer
    from reasondistill.stages.students.trainer_settings import trainer_settings

    model = AutoModelForCausalLM.from_pretrained(make_tiny_model(tmp_path / "tiny"))
    rows: list[dict[str, Any]] = []
    means: list[Any] = []
    for number, length in enumerate((4, 9, 17, 30)):
        ids = [(7 * number + 3 * place) % 200 + 10 for place in range(length)]
        labels = [-100, -100, *ids[2:]]
        rows.append({"input_ids": ids, "labels": labels, "row": number})
        logits = model(torch.tensor([ids])).logits[0, 1:-1]
        means.append(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[2:])))
    expected = torch.stack(means).mean()
    (gradient,) = torch.autograd.grad(expected, [model.model.norm.weight])
    student = StudentSettings(name="s", base="b", bf16=False, batch_size=4, loss_mean="sample")
    trainer = SortedTrainer(
        model=model,
        args=trainer_settings(student, tmp_path, TrainSettings(micro_batch_size=micro), False),
        train_dataset=Dataset.from_list(rows),
        processing_class=make_tokenizer(),
    )
    trainer.by_sample = True
    device = torch.device("cpu")
    several = [trainer.data_collator(rows[i : i + micro]) for i in range(0, 4, micro)]
    trainer.current_gradient_accumulation_steps = len(several)
    batches, items = trainer.get_batch_samples(iter(several), len(several), device)
    total = sum(float(trainer.training_step(model, batch, items)) for batch in batches)
    assert total == pytest.approx(float(expected.detach()), rel=1e-4)
    found = model.model.norm.weight.grad
    assert torch.allclose(found, gradient, rtol=1e-3, atol=1e-6)


def test_only_methods_without_a_teacher_take_the_mean_of_examples() -> None:
    assert "loss_mean" not in scratch().model_dump(mode="json")
    assert scratch(loss_mean="sample").model_dump(mode="json")["loss_mean"] == "sample"
    with pytest.raises(ValueError, match="loss_mean: method 'kd' takes the mean over tokens"):
        scratch(loss_mean="sample", method="kd")


def test_muon_updates_are_orthogonal() -> None:
    from reasondistill.stages.students.optimizers import orthogonalise

    torch.manual_seed(0)
    for shape in ((8, 32), (32, 8), (16, 16)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(*shape)))
        assert values.max() < 1.3
    assert torch.linalg.svdvals(orthogonalise(torch.randn(8, 32))).min() > 0.6


def test_muon_uses_adamw_for_embeddings_and_norms() -> None:
    from reasondistill.stages.students.optimizers import Muon

    torch.manual_seed(0)
    ours, theirs = torch.nn.Parameter(torch.randn(5)), torch.nn.Parameter(torch.zeros(5))
    theirs.data.copy_(ours.data)
    muon = Muon([("norm.weight", ours)], lr=0.01, weight_decay=0.1)
    adamw = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    for _ in range(5):
        gradient = torch.randn(5)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        muon.step()
        adamw.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


# ---- whole students ------------------------------------------------------------------------------


@pytest.mark.engine
def test_sft_learns_saves_and_is_skipped_when_complete(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    pytest.importorskip("tensorboard")
    made = job(tmp_path, scratch(epochs=12, report_to=("tensorboard",)))
    manifest = run_student(made)
    assert list(made.folder.rglob("events.out.tfevents.*"))
    losses = [line["loss"] for line in read_metrics(made.folder) if "loss" in line]
    assert losses[-1] < losses[0] / 2
    student = read_student(made.folder)
    assert student.figures is not None
    assert student.figures.steps == 12 * math.ceil(28 / 8)
    assert student.figures.validation_loss is not None
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(student.path),
        AutoTokenizer.from_pretrained(student.path),
    )
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.chat_template
    assert {p.suffix for p in Path(student.path).iterdir()} <= {
        ".safetensors",
        ".json",
        ".jinja",
        ".md",
    }  # no pickle
    assert run_student(made) == manifest
    with pytest.raises(DriftError, match="learning_rate"):
        run_student(job(tmp_path, scratch(epochs=12, learning_rate=1e-3)))


def hangs(*args: object, **values: object) -> Never:
    """As a library does that builds a very large model: in Python, and for no end."""
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        sum(range(10_000))
    raise AssertionError("the signal was not heard")


@pytest.mark.parametrize("load", ["load_tokenizer", "load_whole", "untouched"])
def test_the_first_signal_ends_a_training_that_loads_a_model(
    load: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = scratch(epochs=1)
    monkeypatch.setattr(f"reasondistill.stages.students.bases.{load}", hangs)
    if load == "untouched":
        student = student.model_copy(update={"method": "base"})
    began = time.monotonic()
    with StopSignal() as stop, pytest.raises(Interrupted, match="same command") as caught:
        run_student(job(tmp_path, student), stop=stop)
    assert caught.value.exit_code == 128 + signal.SIGTERM
    assert time.monotonic() - began < 30


@pytest.mark.engine
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_interrupted_training_ends_with_the_same_weights(tmp_path: Path, optimizer: str) -> None:
    from safetensors.torch import load_file

    student = scratch(epochs=4, optimizer=optimizer)
    run_student(job(tmp_path, student, name="whole"))

    class StopAfter(StopSignal):
        """Asks to stop once the training has written its fifth metrics line."""

        @property
        def requested(self) -> bool:  # type: ignore[override]
            return len(read_metrics(tmp_path / "cut")) >= 5

        @requested.setter
        def requested(self, value: bool) -> None: ...

    with pytest.raises(Interrupted, match="same command"):
        run_student(job(tmp_path, student, name="cut"), stop=StopAfter())
    run_student(job(tmp_path, student, name="cut"))
    whole, cut = (
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "cut")
    )
    for name, weight in whole.items():
        assert torch.equal(weight, cut[name]), name
    tokens = [
        [(line["step"], line["tokens"]) for line in read_metrics(tmp_path / name)]
        for name in ("whole", "cut")
    ]
    assert tokens[0] == tokens[1], "they go on where the checkpoint left them"
    figures = read_student(tmp_path / "cut").figures
    assert figures is not None and figures.tokens == max(count for _, count in tokens[1] if count)


@pytest.mark.engine
def test_answer_only_takes_the_same_problems_and_steps(tmp_path: Path) -> None:
    parent = job(tmp_path, scratch(epochs=3), name="sft")
    run_student(parent)
    control = job(
        tmp_path, scratch(method="answer_only", epochs=1), name="answer-only", parent=parent.folder
    )
    run_student(control)
    ours, theirs = read_student(control.folder).figures, read_student(parent.folder).figures
    assert ours is not None and theirs is not None
    assert (ours.steps, ours.examples) == (theirs.steps, theirs.examples)
    assert ours.loss_tokens < theirs.loss_tokens


def test_of_several_golds_answer_only_learns_the_first() -> None:
    origin = Origin(dataset="d", revision="1", split="train", row=1)
    several = Problem(id="p/1", question="Half of it?", answer='["1/2", "0.5"]', origin=origin)
    problems = Reread(lambda: [several], lambda: "")
    (learnt,) = answers_only(problems, Reread(lambda: [example(1)], lambda: ""), PROMPT)
    assert learnt.messages[-1].content == "\\boxed{1/2}"


def with_unverified(made: StudentJob) -> StudentJob:
    """The examples folder also holds twice as many traces that nobody verified."""
    rows = [
        example(i, answer=f"<think>\n3 + 4 = {n}\n</think>\n\n\\boxed{{{n}}}")
        for i in range(1, 33)
        for n in (7, 8)
    ]
    write_records(made.examples / "unverified.jsonl", rows)
    return made


@pytest.mark.engine
@pytest.mark.parametrize("packing", [False, True])
def test_the_unverified_control_sees_other_traces_for_as_many_steps(
    tmp_path: Path, packing: bool
) -> None:
    parent = job(tmp_path, scratch(epochs=3, packing=packing, bf16=False), name="sft")
    run_student(parent)
    settings = scratch(method="unverified", epochs=3, packing=packing, bf16=False)
    control = with_unverified(job(tmp_path, settings, name="unverified", parent=parent.folder))
    assert run_student(control).counts == {"in": 64, "out": 64}
    student, theirs = read_student(control.folder), read_student(parent.folder).figures
    assert student.figures is not None and theirs is not None
    assert student.figures.steps == theirs.steps
    assert student.figures.examples == 64 > theirs.examples
    assert student.figures.tokens == pytest.approx(
        theirs.tokens, rel=0.15
    )  # an equal budget, packed or not
    assert student.examples == content_of(control.examples, ["unverified.jsonl"])
    write_records(control.examples / "unverified.jsonl", [example(1)])
    with pytest.raises(DriftError, match="unverified was"):
        run_student(control)
    run_student(parent)  # its student is still the same


def test_an_unverified_student_needs_the_file_that_stage_4_writes_when_asked(
    tmp_path: Path,
) -> None:
    with pytest.raises(StageError, match=r"no unverified\.jsonl.*Run the examples stage again"):
        run_student(job(tmp_path, scratch(method="unverified")))


def test_an_unverified_student_of_a_base_with_a_tokenizer_does_not_depend_on_any_verdict(
    tmp_path: Path,
) -> None:
    from reasondistill.stages.students import student_identity as identity

    settings = StudentSettings(
        name="s", method="unverified", base=str(make_tiny_model(tmp_path / "base"))
    )
    assert set(identity(with_unverified(job(tmp_path, settings))).inputs) == {"base", "unverified"}
    assert set(identity(with_unverified(job(tmp_path, scratch(method="unverified")))).inputs) == {
        "base",
        "examples",
        "unverified",
    }


# ---- weights on the way --------------------------------------------------------------------------


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_weights_are_kept_at_even_distances() -> None:
    from reasondistill.stages.students.saving import snapshot_steps

    assert snapshot_steps(450, 5) == [90, 180, 270, 360]
    assert snapshot_steps(10, 4) == [2, 5, 8]
    assert snapshot_steps(3, 10) == [1, 2]
    assert snapshot_steps(450, 0) == snapshot_steps(450, 1) == []


@pytest.mark.engine
def test_kept_weights_are_models_and_training_does_not_notice(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings = scratch(max_steps=10)
    plain, watched = (
        job(tmp_path, settings, name="plain"),
        replace(job(tmp_path, settings, name="watched"), snapshots=5),
    )
    assert run_student(plain).fingerprint == run_student(watched).fingerprint
    assert same(weights(plain.folder / "model"), weights(watched.folder / "model"))
    kept = snapshots(watched.folder)
    assert [(step, str(path.relative_to(watched.folder))) for step, path in kept] == [
        *((step, f"snapshots/step-{step}") for step in (2, 4, 6, 8)),
        (10, "model"),
    ]
    for (_, one), (_, two) in pairwise(kept):
        assert not same(weights(one), weights(two))
    ours, model = kept[3][1], kept[-1][1]
    names = {path.name for path in model.iterdir()}
    assert {path.name for path in ours.iterdir()} == names - {"README.md"}
    assert {k: (w.dtype, w.shape) for k, w in weights(ours).items()} == {
        k: (w.dtype, w.shape) for k, w in weights(model).items()
    }
    for path in model.iterdir():
        if path.name not in ("model.safetensors", "README.md"):
            assert path.read_bytes() == (ours / path.name).read_bytes(), path.name
    loaded = AutoModelForCausalLM.from_pretrained(ours)
    assert loaded.dtype == torch.bfloat16
    tokenizer = AutoTokenizer.from_pretrained(ours)
    assert tokenizer.apply_chat_template(
        [{"role": "user", "content": "1 + 1"}], add_generation_prompt=True, tokenize=False
    )
    with pytest.raises(StageError, match="train again with evals.checkpoints"):
        snapshots(plain.folder)


@pytest.mark.engine
def test_a_killed_training_keeps_the_earlier_weights_and_makes_the_later_ones(
    tmp_path: Path,
) -> None:
    settings = scratch(max_steps=12, save_every=3)
    whole, cut = (
        replace(job(tmp_path, settings, name=name), snapshots=6) for name in ("whole", "cut")
    )
    run_student(whole)

    class Killed(BaseException):
        """Nothing catches it, as nothing catches a kill."""

    class KillAt8(StopSignal):
        @property
        def requested(self) -> bool:  # type: ignore[override]
            if (cut.folder / "snapshots" / "step-8").exists():
                raise Killed
            return False

        @requested.setter
        def requested(self, value: bool) -> None: ...

    with pytest.raises(Killed):
        run_student(cut, stop=KillAt8())
    kept = cut.folder / "snapshots"
    assert {path.name for path in kept.iterdir()} == {"step-2", "step-4", "step-6", "step-8"}
    assert (
        cut.folder / "checkpoints" / "checkpoint-6"
    ).exists()  # goes on from here: step 8 is made again
    exact = weights(cut.folder / "checkpoints" / "checkpoint-6")
    assert same(
        {name: weight.to(torch.bfloat16) for name, weight in exact.items()},
        weights(kept / "step-6"),
    )
    first = (kept / "step-4" / "model.safetensors").stat().st_mtime_ns
    again = (kept / "step-8" / "model.safetensors").stat().st_mtime_ns
    (kept / "step-10.part").mkdir()
    (kept / "step-7").mkdir()  # of another spacing
    run_student(cut)
    assert (kept / "step-4" / "model.safetensors").stat().st_mtime_ns == first
    assert (kept / "step-8" / "model.safetensors").stat().st_mtime_ns > again
    assert {path.name for path in kept.iterdir()} == {f"step-{step}" for step in (2, 4, 6, 8, 10)}
    for (step, one), (other, two) in zip(
        snapshots(whole.folder), snapshots(cut.folder), strict=True
    ):
        assert step == other and same(weights(one), weights(two)), step


@pytest.mark.engine
def test_under_lora_the_kept_weights_are_merged_and_training_does_not_notice(
    tmp_path: Path,
) -> None:
    base = make_tiny_model(tmp_path / "base")
    lora = LoraSettings(r=4, alpha=8, dropout=0.1)
    values: dict[str, Any] = {
        "schedule": "constant",
        "warmup_ratio": 0,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "max_length": 400,
    }
    settings = StudentSettings(name="s", base=str(base), lora=lora, max_steps=6, **values)
    plain, watched = (
        job(tmp_path, settings, name="plain"),
        replace(job(tmp_path, settings, name="watched"), snapshots=3),
    )
    short = job(tmp_path, settings.model_copy(update={"max_steps": 4}), name="short")
    for made in (plain, watched, short):
        run_student(made)
    assert same(weights(plain.folder / "model"), weights(watched.folder / "model"))
    assert same(weights(short.folder / "model"), weights(watched.folder / "snapshots" / "step-4"))
    kept = dict(snapshots(watched.folder))
    assert list(kept) == [2, 4, 6]
    assert weights(kept[2]).keys() == weights(base).keys()
    assert not (kept[2] / "adapter_config.json").exists()
    assert not same(weights(kept[2]), weights(kept[4])) and not same(
        weights(kept[4]), weights(kept[6])
    )


def test_a_copy_shares_nothing_with_the_model_but_keeps_its_ties(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from reasondistill.stages.students.saving import copy_to_cpu

    model = AutoModelForCausalLM.from_pretrained(make_tiny_model(tmp_path / "base"))
    model(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()
    copied = copy_to_cpu(model, torch.bfloat16)
    assert {p.dtype for p in copied.parameters()} == {torch.bfloat16} and {
        p.dtype for p in model.parameters()
    } == {torch.float32}
    assert copied.lm_head.weight is copied.model.embed_tokens.weight
    assert all(p.grad is None and not p.requires_grad for p in copied.parameters())
    assert all(p.grad is not None and p.requires_grad for p in model.parameters())
    theirs = {p.data_ptr() for p in model.parameters()}
    assert not theirs & {p.data_ptr() for p in copy_to_cpu(model).parameters()}
    assert copied.config is not model.config


def test_an_untouched_base_has_no_steps(tmp_path: Path) -> None:
    made = job(
        tmp_path,
        StudentSettings(name="base", method="base", base=str(make_tiny_model(tmp_path / "base"))),
    )
    with pytest.raises(StageError, match="missing"):
        snapshots(made.folder)
    run_student(made)
    assert snapshots(made.folder) == []


# ---- special cases -------------------------------------------------------------------------------


@pytest.mark.engine
def test_a_student_and_its_adapter_have_cards_that_are_no_part_of_their_weights(
    tmp_path: Path,
) -> None:
    import hashlib

    from reasondistill.models.weights import folder_fingerprint

    base = make_tiny_model(tmp_path / "base")
    lora = LoraSettings(r=4, alpha=8)
    student = StudentSettings(
        name="small", base=str(base), lora=lora, max_steps=2, batch_size=8, max_length=400
    )
    made = job(tmp_path, student)
    manifest = run_student(made)
    model, adapter = made.folder / "model", made.folder / "adapter"
    weights = hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    card = (model / "README.md").read_text()
    for part in ("# small", "| lora.r | 4 |", "| steps | 2 |", weights, manifest.fingerprint):
        assert part in card, part
    assert '"content": "{question}"' in card and "## Scores" not in card
    beside = (adapter / "README.md").read_text()
    assert "library_name: peft" in beside and "AutoPeftModelForCausalLM" in beside
    for text in (card, beside):
        assert str(tmp_path) not in text and "Model Card for" not in text
        assert "None" not in text and "base_model" not in text  # a folder is no base of the hub
    assert {"model/README.md", "adapter/README.md"} <= manifest.files.keys()
    facts = json.loads((model / "reasondistill.json").read_text())
    assert facts["messages"] == [{"role": "user", "content": "{question}"}]
    assert facts["prompt"] == "question" and facts["plain"] is False
    before = folder_fingerprint(model)
    (model / "README.md").unlink()
    (model / "reasondistill.json").unlink()
    assert folder_fingerprint(model) == before


def test_lora_trains_few_weights_and_leaves_a_merged_model(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    base = make_tiny_model(tmp_path / "base")
    student = StudentSettings(
        name="s",
        base=str(base),
        lora=LoraSettings(r=4, alpha=8),
        epochs=2,
        batch_size=8,
        learning_rate=1e-2,
        max_length=400,
    )
    made = job(tmp_path, student)
    run_student(made)
    figures = read_student(made.folder).figures
    assert figures is not None
    assert figures.trained_parameters < figures.parameters / 5
    before, after = (
        load_file(base / "model.safetensors"),
        load_file(made.folder / "model" / "model.safetensors"),
    )
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name].float(), after[name].float()) for name in before)
    assert (made.folder / "adapter" / "adapter_model.safetensors").exists()


@pytest.mark.engine
def test_packing_keeps_rows_apart(tmp_path: Path) -> None:
    """Packed and padded training see the same loss at the first step: no row looks into its
    neighbour.
    """
    first = {}
    for packing in (False, True):
        made = job(
            tmp_path,
            scratch(packing=packing, max_steps=1, batch_size=28 if not packing else 8, bf16=False),
            name=f"p{packing}",
        )
        run_student(made)
        first[packing] = next(line["loss"] for line in read_metrics(made.folder) if "loss" in line)
    assert first[True] == pytest.approx(first[False], abs=0.02)


def test_the_untouched_base_is_not_copied(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base")
    made = job(tmp_path, StudentSettings(name="base", method="base", base=str(base)))
    run_student(made)
    assert read_student(made.folder).path == str(base)


def test_a_base_without_weights_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ConfigError, match="without weights"):
        run_student(job(tmp_path, StudentSettings(name="s", base=str(tmp_path / "empty"))))


def test_a_base_whose_weights_are_pickles_is_refused(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base")
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"pickles .*only safetensors are.*Convert them once"):
        run_student(job(tmp_path, StudentSettings(name="s", base=str(base))))


def test_a_library_finds_no_pickle_where_it_is_told_to_load_safetensors(tmp_path: Path) -> None:
    """As for a hub id, whose files are not looked at before."""
    from transformers import AutoModelForCausalLM

    from reasondistill.models.weights import only_safetensors

    base = make_tiny_model(tmp_path / "base")
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="its weights are pickles"), only_safetensors(str(base)):
        AutoModelForCausalLM.from_pretrained(base, use_safetensors=True)
    with pytest.raises(OSError, match="nowhere"), only_safetensors("x"):
        raise OSError("nowhere")


def test_no_training_examples_is_said(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="nothing to train on"):
        run_student(job(tmp_path, scratch(), examples=[example(1, split="validation")]))


def test_rows_longer_than_the_models_context_are_refused(tmp_path: Path) -> None:
    long = example(5, answer="<think>\n" + "1 + 1 = 2. " * 60 + "\n</think>\n\n\\boxed{2}")
    with pytest.raises(StageError, match="context is 256"):
        run_student(job(tmp_path, scratch(max_length=2000), examples=[example(1), long]))


# ---- records in, a model out ---------------------------------------------------------------------


def test_a_student_is_trained_by_a_plain_function_of_records_and_settings(tmp_path: Path) -> None:
    """Neither a run folder nor a stage: the same weights as the stage makes of the same records."""
    from reasondistill.stages.students import Material, TrainingRun, train_student

    staged = job(tmp_path, scratch(epochs=1))
    run_student(staged)
    rows = [example(i, split="validation" if i % 8 == 0 else "train") for i in range(32)]
    trained = train_student(
        staged.student,
        Material(rows, plain=PROMPT.prompt.plain),
        tmp_path / "plain",
        run=TrainingRun(staged.settings),
    )
    assert trained.model == tmp_path / "plain" / "model"
    assert trained.figures.examples == 28 and not trained.dropped
    assert same(weights(trained.model), weights(staged.folder / "model"))
