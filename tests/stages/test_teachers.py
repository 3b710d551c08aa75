"""Teachers of the student's family: special tokens of other names, weights in few bits, a shorter
context.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_distilling import distils, figures, made, with_stored
from test_students import SHAPE, job, scratch
from tiny_model import make_tiny_model

from reasondistill.config import StudentSettings
from reasondistill.errors import ConfigError, StageError
from reasondistill.stages.students import read_student, run_student
from reasondistill.stages.students.tokens import Row

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("base") / "base", seed=3)


def renamed(model: Path, folder: Path, names: Mapping[str, str], *, extra: str = "") -> Path:
    """A copy of a model whose added tokens have other names, and one more token if it is asked
    for.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

    shutil.copytree(model, folder)
    tokenizer = AutoTokenizer.from_pretrained(model)
    text = tokenizer.backend_tokenizer.to_str()
    template = tokenizer.chat_template
    for old, new in names.items():
        template = template.replace(old, new)
        text = text.replace(json.dumps(old), json.dumps(new, ensure_ascii=False))
    (folder / "renamed.json").write_text(text, encoding="utf-8")
    end = names.get(tokenizer.eos_token, tokenizer.eos_token)
    other = PreTrainedTokenizerFast(tokenizer_file=str(folder / "renamed.json"), eos_token=end)
    other.chat_template = template
    if extra:
        other.add_special_tokens({"additional_special_tokens": [extra]})
        loaded = AutoModelForCausalLM.from_pretrained(model)
        loaded.resize_token_embeddings(len(other))
        loaded.save_pretrained(folder)
    (folder / "renamed.json").unlink()
    other.save_pretrained(folder)
    return folder


NAMES = {"<|im_end|>": "<｜end▁of▁sentence｜>", "<|endoftext|>": "<｜Assistant｜>"}


def start(base: Path) -> dict[str, Any]:
    shape = SHAPE.model_copy(update={"tokenizer": str(base), "num_hidden_layers": 2})
    return {"architecture": shape, "bf16": False, "max_length": 80, "max_steps": 3}


@pytest.mark.parametrize("method", ["kd", "minillm", "distillm2", "feature"])
def test_a_teacher_with_renamed_special_tokens_teaches(
    method: str, tmp_path: Path, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    teacher = renamed(base, tmp_path / "teacher", NAMES, extra="<｜User｜>")
    table: dict[str, Any] = {}
    if method in ("minillm", "distillm2"):
        table[method] = {"max_tokens": 8}
    student = scratch(method=method, **start(base), **table)
    one = made(tmp_path, teacher, student, name=method)
    with caplog.at_level(logging.WARNING):
        run_student(one)
    told = [line for line in caplog.messages if "some special tokens are not the student's" in line]
    assert len(told) == 1
    assert "<|im_end|> is its <｜end▁of▁sentence｜>" in told[0]
    gap = figures(one).teacher_tokens
    assert gap is not None
    assert gap.mapped == {"<|im_end|>": "<｜end▁of▁sentence｜>"}
    assert gap.only_student == ("<|endoftext|>",)
    assert set(gap.only_teacher) == {"<｜Assistant｜>", "<｜User｜>"}
    assert "teacher_tokens" in (one.folder / "student.json").read_text(encoding="utf-8")
    assert figures(one).teacher_kl is not None


def test_a_student_whose_end_alone_is_renamed_learns_what_it_would_from_its_own(
    tmp_path: Path, base: Path
) -> None:
    """All tokens are shared then, under two names."""
    from safetensors.torch import load_file

    learnt: list[dict[str, Any]] = []
    other = renamed(base, tmp_path / "other", {"<|im_end|>": "<EOS>"})
    for name, teacher in (("same", base), ("renamed", other)):
        one = made(tmp_path, teacher, scratch(method="kd", **start(base)), name=name)
        run_student(one)
        learnt.append(load_file(Path(read_student(one.folder).path) / "model.safetensors"))
    for name, tensor in learnt[0].items():
        assert torch.allclose(tensor, learnt[1][name], atol=1e-6), name


def test_records_of_students_with_one_vocabulary_stay_what_they_were(
    tmp_path: Path, base: Path
) -> None:
    one = made(tmp_path, base, distils(base, "kd", max_steps=1))
    run_student(one)
    assert "teacher_tokens" not in (one.folder / "student.json").read_text(encoding="utf-8")


def test_an_ordinary_token_that_differs_is_refused_by_name(tmp_path: Path, base: Path) -> None:
    teacher = renamed(base, tmp_path / "teacher", {})
    facts = json.loads((teacher / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = facts["model"]["vocab"]
    first, second = "!", '"'
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (teacher / "tokenizer.json").write_text(json.dumps(facts), encoding="utf-8")
    number = vocabulary[second]
    with pytest.raises(ConfigError, match=f"""student's: id {number}: '!' here, '"' there"""):
        run_student(made(tmp_path, teacher, scratch(method="kd", **start(base))))


# ---- how much a teacher reads --------------------------------------------------------------------


def gpt2(folder: Path, base: Path, positions: int) -> Path:
    """A GPT-2, whose positions are learnt, with the tokenizer of a base."""
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(base)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=positions, n_embd=32, n_layer=1, n_head=2
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_teacher_that_reads_less_than_the_rows_is_refused_before_training(
    kind: str, tmp_path: Path, base: Path
) -> None:
    if kind == "gpt2":
        teacher = gpt2(tmp_path / "teacher", base, positions=24)
    else:
        teacher = make_tiny_model(tmp_path / "teacher", seed=3, max_position_embeddings=24)
    one = made(tmp_path, teacher, scratch(method="kd", **start(base)))
    with pytest.raises(StageError, match=r"a row has \d+ tokens, the teacher's context is 24\."):
        run_student(one)
    assert not (one.folder / "checkpoints").exists()


def test_what_the_student_may_write_counts_among_the_rows(tmp_path: Path, base: Path) -> None:
    teacher = make_tiny_model(tmp_path / "teacher", seed=3, max_position_embeddings=79)
    table: dict[str, Any] = {"gkd": {"on_policy": 1.0}}
    one = made(tmp_path, teacher, scratch(method="gkd", **start(base), **table))
    with pytest.raises(StageError, match="a row has 80 tokens, the teacher's context is 79"):
        run_student(one)
    table = {"gkd": {"on_policy": 1.0, "max_tokens": 4}}
    run_student(made(tmp_path, teacher, scratch(method="gkd", **start(base), **table), name="few"))


def test_a_base_that_reads_less_than_the_rows_is_refused(tmp_path: Path, base: Path) -> None:
    short = gpt2(tmp_path / "short", base, positions=24)
    student = StudentSettings(name="s", base=str(short), bf16=False)  # type: ignore[call-arg]
    with pytest.raises(StageError, match=r"a row has \d+ tokens, the model's context is 24\."):
        run_student(job(tmp_path, student))


# ---- weights in few bits -------------------------------------------------------------------------


def test_a_quantised_teacher_is_as_large_as_its_files(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoConfig

    from reasondistill.models.weights import weight_bytes
    from reasondistill.stages.students.distilling import teacher as module

    config = AutoConfig.from_pretrained(base)
    size = weight_bytes(base)
    monkeypatch.setattr(module, "free_memory", lambda _: 1.3 * size)
    cpu = torch.device("cpu")
    config.quantization_config = {"quant_method": "gptq", "bits": 4}
    module.check_fits("quantised", config, torch.float32, cpu, folder=base)
    # From a hub its bits say it: less than the float32 of these files, more than an eighth.
    monkeypatch.setattr(module, "free_memory", lambda _: 0.9 * size)
    module.check_fits("quantised", config, torch.float32, cpu)
    monkeypatch.setattr(module, "free_memory", lambda _: 0.1 * size)
    with pytest.raises(StageError, match="GiB in gptq"):
        module.check_fits("quantised", config, torch.float32, cpu)
    # Without a GPU it is unpacked.
    config.quantization_config = {"quant_method": "mxfp4"}
    with pytest.raises(StageError, match="GiB in float32"):
        module.check_fits("quantised", config, torch.float32, cpu, folder=base)


# ---- stored probabilities ------------------------------------------------------------------------


def test_stored_probabilities_of_a_renamed_family_teach_what_the_teacher_in_memory_does(
    tmp_path: Path, base: Path
) -> None:
    """With all tokens stored; the end is the teacher's own, under another name and id."""
    from safetensors.torch import load_file

    teacher = renamed(base, tmp_path / "teacher", NAMES)
    k = 320
    learnt: list[dict[str, Any]] = []
    with torch.no_grad():
        stored = with_stored(tmp_path, teacher, scratch(method="topk_kd", **start(base)), k)
    live = made(tmp_path, teacher, scratch(method="kd", **start(base)), name="live")
    table: dict[str, Any] = {"topk_kd": {"k": k, "alpha": 1.0}}
    student = scratch(method="topk_kd", **start(base), **table)
    kd: dict[str, Any] = {"kd": {"alpha": 1.0, "temperature": 1.0}}
    for one in (
        replace(stored, student=student),
        replace(live, student=scratch(method="kd", **start(base), **kd)),
    ):
        run_student(one)
        assert (figures(one).teacher_kl is None) == (one.student.method == "topk_kd")
        gap = figures(one).teacher_tokens
        assert gap is not None and gap.mapped == {"<|im_end|>": "<｜end▁of▁sentence｜>"}
        learnt.append(load_file(Path(read_student(one.folder).path) / "model.safetensors"))
    for name, tensor in learnt[0].items():
        assert torch.allclose(tensor, learnt[1][name], atol=2e-4), name


def test_a_tag_that_is_one_token_of_the_teacher_alone_is_spelled_and_not_compared(
    tmp_path: Path, base: Path
) -> None:
    """As <think> of R1-Distill-Qwen, which Qwen2.5 spells."""
    import numpy as np
    from transformers import AutoTokenizer

    from reasondistill.models.topk import Source, TopK, TopKWriter
    from reasondistill.models.vocabulary import vocabulary_of
    from reasondistill.stages.students.distilling.stored import StoredTopK

    student = AutoTokenizer.from_pretrained(base)
    tokens = vocabulary_of(student)
    tokens["<reason>"] = len(tokens)
    spelled = student.encode("<reason>", add_special_tokens=False)
    assert len(spelled) > 1
    plain = student.encode("7", add_special_tokens=False)[0]
    written = [tokens["<reason>"], plain, tokens["<|im_end|>"]]
    ids = [[written[0], plain], [plain, written[0]], [written[2], plain]]
    p = [[0.9, 0.1], [0.6, 0.2], [0.7, 0.3]]
    top_k = TopK(
        np.array(written, np.int32), np.array(ids, np.int32), np.log(np.array(p, np.float32))
    )
    with TopKWriter(tmp_path / "topk", Source("t", 2, tokens, len(tokens))) as writer:
        writer.append([("p/1:0", top_k)])
    kept = StoredTopK(tmp_path / "topk", 2, student)
    assert kept.match is not None and kept.match.gap.only_teacher == ("<reason>",)
    prompt = [5, 6]
    answer = [*spelled, plain, student.eos_token_id]
    row = Row([*prompt, *answer], [-100, -100, *answer], "p/1", "p/1:0")
    made_row = next(kept._written([row], 80))  # pyright: ignore[reportPrivateUsage]
    assert made_row == row
    kept._rows = [row]  # pyright: ignore[reportPrivateUsage]
    found = kept.stored(0)
    assert len(found.ids) == len(answer)
    assert (found.ids[: len(spelled)] == -1).all()
    assert found.ids[len(spelled) :].tolist() == [[plain, -1], [student.eos_token_id, plain]]
    wanted = torch.tensor([0.6 / 0.8, 0.7])
    found_p = found.log_probs[len(spelled) :, 0].exp()
    assert torch.allclose(found_p, wanted, atol=1e-3)
