"""Each method is what its paper says, against the others and by hand; batches, processes, packing
and kills change nothing.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_saving import StopAt
from test_students import SHAPE, example, job, scratch
from tiny_model import make_tiny_model, make_tokenizer

from reasondistill.config import StudentSettings, TrainSettings
from reasondistill.errors import ConfigError, Interrupted, StageError
from reasondistill.records import TrainingFigures
from reasondistill.runs.store import StopSignal, read_metrics
from reasondistill.stages.students import StudentJob, check_settings, read_student, run_student
from reasondistill.stages.students.processes import TOGETHER

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("teacher") / "teacher", seed=3)


def distils(teacher: Path, method: str, **changes: object) -> StudentSettings:
    shape = SHAPE.model_copy(update={"tokenizer": str(teacher), "num_hidden_layers": 2})
    return scratch(
        **({"method": method, "architecture": shape, "bf16": False, "max_length": 80} | changes)
    )


def made(
    folder: Path,
    teacher: Path,
    student: StudentSettings,
    *,
    name: str = "s",
    micro: int | None = None,
) -> StudentJob:
    one = replace(job(folder, student, name=name), teacher=str(teacher))
    return (
        one
        if micro is None
        else replace(one, settings=one.settings.model_copy(update={"micro_batch_size": micro}))
    )


def weights(one: StudentJob) -> dict[str, Any]:
    from transformers import AutoModelForCausalLM

    return dict(
        AutoModelForCausalLM.from_pretrained(
            read_student(one.folder).path, dtype=torch.float32
        ).state_dict()
    )


def trained(one: StudentJob) -> dict[str, Any]:
    run_student(one)
    return weights(one)


def figures(one: StudentJob) -> TrainingFigures:
    found = read_student(one.folder).figures
    assert found is not None
    return found


def distance(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


# ---- what the methods are ------------------------------------------------------------------------


def test_kd_without_labels_at_temperature_one_is_gkd_without_student_text_and_forward_kl(
    tmp_path: Path, teacher: Path
) -> None:
    kd = trained(
        made(
            tmp_path,
            teacher,
            distils(teacher, "kd", kd={"alpha": 1.0, "temperature": 1.0}),
            name="kd",
        )
    )
    gkd = trained(
        made(
            tmp_path,
            teacher,
            distils(teacher, "gkd", gkd={"on_policy": 0.0, "beta": 0.0}),
            name="gkd",
        )
    )
    sft = trained(made(tmp_path, teacher, distils(teacher, "sft"), name="sft"))
    assert distance(kd, gkd) < 1e-6 < distance(kd, sft)


def test_kd_of_labels_alone_is_supervised_fine_tuning(tmp_path: Path, teacher: Path) -> None:
    kd = trained(made(tmp_path, teacher, distils(teacher, "kd", kd={"alpha": 0.0}), name="kd"))
    assert (
        distance(kd, trained(made(tmp_path, teacher, distils(teacher, "sft"), name="sft"))) < 1e-5
    )


def test_minillm_that_looks_at_one_step_is_on_policy_reverse_kl(
    tmp_path: Path, teacher: Path
) -> None:
    settings = {"gamma": 0.0, "teacher_mix": 0.0, "reuse": 1, "max_tokens": 12}
    minillm = made(
        tmp_path, teacher, distils(teacher, "minillm", minillm=settings, epochs=1), name="minillm"
    )
    reverse = made(
        tmp_path,
        teacher,
        distils(teacher, "reverse_kl", reverse_kl={"max_tokens": 12}, epochs=1),
        name="reverse",
    )
    assert distance(trained(minillm), trained(reverse)) < 1e-6
    assert figures(minillm).rollout_tokens == figures(reverse).rollout_tokens > 0


def test_gkd_with_beta_one_and_only_student_text_is_reverse_kl(
    tmp_path: Path, teacher: Path
) -> None:
    gkd = distils(teacher, "gkd", gkd={"on_policy": 1.0, "beta": 1.0, "max_tokens": 8}, epochs=1)
    reverse = distils(teacher, "reverse_kl", reverse_kl={"max_tokens": 8}, epochs=1)
    assert (
        distance(
            trained(made(tmp_path, teacher, gkd, name="gkd")),
            trained(made(tmp_path, teacher, reverse, name="reverse")),
        )
        < 1e-7
    )


def test_the_share_of_student_text_is_that_of_the_coin_and_all_ranks_toss_the_same() -> None:
    from reasondistill.methods.method import coin

    tosses = [coin(7, step) < 0.3 for step in range(4000)]
    assert 0.27 < sum(tosses) / len(tosses) < 0.33
    assert (
        tosses
        == [coin(7, step) < 0.3 for step in range(4000)]
        != [coin(8, step) < 0.3 for step in range(4000)]
    )


def test_later_rewards_are_discounted_clipped_and_divided_by_what_is_left() -> None:
    from reasondistill.methods.minillm import importance, later_rewards, whitened

    assert later_rewards([1.0, 2.0, 4.0], 1.0) == [3.0, 4.0, 0.0]
    assert later_rewards([1.0, 2.0, 4.0], 0.5, normalise=False) == [
        0.5 * 2 + 0.25 * 4,
        0.5 * 4,
        0.0,
    ]
    assert later_rewards([0.0, 100.0, -100.0], 1.0, clip=10, normalise=False) == [0.0, -10.0, 0.0]
    assert later_rewards([1.0, 2.0, 4.0], 0.0) == [0.0, 0.0, 0.0]
    assert importance([-1.0], [-2.0], 0.2)[0] == pytest.approx(
        2.718281828**-1 / (0.8 * 2.718281828**-1 + 0.2 * 2.718281828**-2)
    )
    assert whitened([[0.0], [0.0, 0.0]]) == [[0.0], [0.0, 0.0]]
    assert whitened([[1.0], [3.0]]) == [[-1.0], [1.0]]


def test_skew_kl_lets_the_student_write_once_its_loss_has_risen() -> None:
    from reasondistill.methods.skew_kl import SkewKl, SkewKlSettings
    from reasondistill.methods.step import Moment
    from reasondistill.methods.texts import Text

    lesson, written = (
        SkewKl(SkewKlSettings(start_share=0.0, tolerance=0.1, checks=10, capacity=2), seed=0),
        list[Text](),
    )
    told = iter([2.0, 2.05, 2.11, 2.15, 2.30])
    fixed = [Text([1, 2, 3], [-100, 2, 3], 0)]

    def moment(step: int) -> Moment:
        def write(texts: Any, *_: Any) -> list[Text]:
            written.extend(texts)
            return [replace(text, by_student=True) for text in texts]

        nothing: Any = None
        return Moment(step, 50, 0, write, nothing, lambda: next(told), nothing)

    shares: list[float] = []
    for step in range(0, 25, 5):
        lesson.texts(fixed, moment(step))
        shares.append(round(lesson.share, 2))
    assert shares == [
        0.0,
        0.0,
        0.1,
        0.1,
        0.2,
    ]  # 2.11 rose by 0.11 over 2.00, 2.30 by 0.19 over 2.11
    lesson.share = 1.0
    for _ in range(2):
        assert lesson.texts(fixed, moment(0))[0].by_student  # early: it writes
    assert len(lesson.buffer) == 2
    written.clear()
    again = SkewKl(SkewKlSettings(), seed=0)
    again.restore(json.loads(json.dumps(lesson.state())))
    assert again.buffer == lesson.buffer and again.share == lesson.share
    assert (
        lesson.texts(fixed, moment(49))[0] in lesson.buffer and not written
    )  # late: it reads again what it wrote
    lesson.buffer.pop()
    lesson.texts(fixed, moment(49))
    assert written  # as long as the buffer is not full it goes on writing


def test_distillm2_learns_from_both_texts_of_each_prompt(tmp_path: Path, teacher: Path) -> None:
    one = made(
        tmp_path, teacher, distils(teacher, "distillm2", distillm2={"max_tokens": 10}, epochs=2)
    )
    run_student(one)
    fixed = made(tmp_path, teacher, distils(teacher, "kd", epochs=2), name="kd")
    run_student(fixed)
    assert (figures(fixed).teacher or "").startswith(
        "teacher@"
    )  # its name and content, not where it lies
    # 28 training rows in 4 batches of 8, twice; the student answered each of the 28 prompts once
    # per epoch.
    assert figures(one).loss_tokens > figures(fixed).loss_tokens
    assert figures(one).loss_tokens <= figures(fixed).loss_tokens + figures(one).rollout_tokens


def test_wrong_student_texts_are_marked_and_weigh_what_the_file_says(
    tmp_path: Path, teacher: Path
) -> None:
    settings = {"max_tokens": 8, "wrong_weight": 0.0}
    one = made(tmp_path, teacher, distils(teacher, "reverse_kl", reverse_kl=settings, epochs=1))
    before = trained(made(tmp_path, teacher, distils(teacher, "base"), name="base"))
    # A random model never boxes a 7: all its texts weigh nothing, and nothing is learnt.
    assert distance(trained(one), before) == 0
    assert figures(one).rollouts_correct == 0.0
    last = [line for line in read_metrics(one.folder) if "loss" in line][-1]
    assert (
        last["rollouts_correct"] == 0.0
        and last["rollout_tokens"] == figures(one).rollout_tokens > 0
    )


# ---- classic methods -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opens", "text"), [("", "[THINK]Maybe \\boxed{7}. Hmm"), ("[THINK]", "Maybe \\boxed{7}. Hmm")]
)
def test_a_rollout_that_ends_while_it_thinks_is_not_correct(opens: str, text: str) -> None:
    from reasondistill.stages.students.distilling.teaching import grade_item
    from reasondistill.stages.students.tokens import IGNORE, Row

    tokenizer, eos = make_tokenizer(), [2]
    prompt = tokenizer(f"What is 3 + 4?{opens}")["input_ids"]
    row = Row([*prompt, *eos], [IGNORE] * len(prompt) + eos)
    cut = grade_item("0", tokenizer, row, tokenizer(text)["input_ids"], "7", eos)
    assert (cut.answer_text, cut.finish, cut.think) == ("", "length", "open")
    whole = grade_item(
        "0",
        tokenizer,
        row,
        [*tokenizer(f"{text}[/THINK]\\boxed{{7}}")["input_ids"], *eos],
        "7",
        eos,
    )
    assert (whole.answer_text, whole.finish, whole.think) == ("\\boxed{7}", "stop", "closed")


@pytest.mark.parametrize("recipe", ["distilbert", "tinybert", "layers"])
def test_projectors_are_trained_and_stay_out_of_the_finished_model(
    tmp_path: Path, teacher: Path, recipe: str
) -> None:
    one = made(
        tmp_path, teacher, distils(teacher, "feature", feature={"recipe": recipe}, save_every=4)
    )
    with pytest.raises(Interrupted):
        run_student(one, stop=StopAt(one, 2))
    saved = next((one.folder / "checkpoints").glob("checkpoint-*/model.safetensors"))
    from safetensors import safe_open

    with safe_open(saved, "pt") as kept:
        projectors = [name for name in kept.keys() if "projector" in name]  # noqa: SIM118 - no mapping
    after = trained(one)
    assert not [name for name in after if "project" in name]
    # 32 wide against 64: one for the last layer, for the embeddings and both layers, for both
    # layers
    assert len(projectors) == {"distilbert": 1, "tinybert": 3, "layers": 2}[recipe]


def test_a_student_deeper_than_its_teacher_has_no_layers_to_imitate(
    tmp_path: Path, teacher: Path
) -> None:
    shape = SHAPE.model_copy(update={"tokenizer": str(teacher), "num_hidden_layers": 3})
    with pytest.raises(ConfigError, match=r"student has 3 layers and the teacher 2.*method = 'kd'"):
        run_student(made(tmp_path, teacher, distils(teacher, "feature", architecture=shape)))


def test_relations_want_three_answers_in_a_micro_batch(tmp_path: Path, teacher: Path) -> None:
    run_student(
        made(tmp_path, teacher, distils(teacher, "relation", epochs=1), name="four", micro=4)
    )
    with pytest.raises(
        ConfigError, match=r"angles between 3 answers; raise \[train\] micro_batch_size"
    ):
        run_student(
            made(tmp_path, teacher, distils(teacher, "relation", epochs=1), name="two", micro=2)
        )


def test_what_an_epoch_leaves_over_has_no_angles_and_is_no_error(
    tmp_path: Path, teacher: Path
) -> None:
    # 28 rows in batches of six: the last one is three answers and a single one.
    run_student(
        made(tmp_path, teacher, distils(teacher, "relation", epochs=1, batch_size=6), micro=3)
    )


# ---- one batch, however it is dealt --------------------------------------------------------------


@pytest.mark.parametrize("method", ["kd", "reverse_kl", "minillm"])
def test_accumulation_gives_the_gradient_of_one_big_batch(
    tmp_path: Path, teacher: Path, method: str
) -> None:
    table = {} if method == "kd" else {method: {"max_tokens": 12}}
    student = distils(teacher, method, epochs=1, max_grad_norm=1e9, optimizer="adamw", **table)
    jobs = [made(tmp_path, teacher, student, name=f"micro{micro}", micro=micro) for micro in (8, 2)]
    assert distance(*map(trained, jobs)) < 2e-5
    # AdamW forgives a constant factor; the loss does not.
    losses = [[line["loss"] for line in read_metrics(one.folder) if "loss" in line] for one in jobs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_loss_of_a_step_is_the_mean_over_all_its_tokens(tmp_path: Path, teacher: Path) -> None:
    """Not the mean of means: accumulated over micro-batches of unequal length it is the same
    number.
    """
    told = []
    for micro in (1, 8):
        student = distils(teacher, "kd", max_steps=1)
        one = made(tmp_path, teacher, student, name=f"micro{micro}", micro=micro)
        run_student(one)
        told.append(next(line["loss"] for line in read_metrics(one.folder) if "loss" in line))
    assert told[0] == pytest.approx(told[1], rel=1e-5)


def test_texts_without_padding_are_kept_apart(tmp_path: Path, teacher: Path) -> None:
    padded = trained(made(tmp_path, teacher, distils(teacher, "kd", epochs=1), name="padded"))
    flat = trained(
        made(tmp_path, teacher, distils(teacher, "kd", epochs=1, packing=True), name="flat")
    )
    assert distance(padded, flat) < 2e-5


def test_packed_rows_of_supervised_training_do_not_see_each_other(teacher: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(teacher, dtype=torch.float32)
    a, b = torch.tensor([[5, 9, 30, 41]]), torch.tensor([[17, 8, 99]])
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2]])
    together = model(
        input_ids=torch.cat([a, b], dim=1), position_ids=positions, use_cache=False
    ).logits
    alone = torch.cat(
        [model(input_ids=a, use_cache=False).logits, model(input_ids=b, use_cache=False).logits],
        dim=1,
    )
    assert float((together - alone).abs().max()) < 1e-5


@pytest.mark.parametrize("method", ["kd", "gkd", "feature"])
def test_two_processes_learn_what_one_does(tmp_path: Path, teacher: Path, method: str) -> None:
    # The texts of gkd stay the traces here: what a rank writes depends on its number.
    table = {
        "gkd": {"gkd": {"on_policy": 0.0}},
        "feature": {"feature": {"recipe": "tinybert"}},
    }.get(method, {})
    student = distils(teacher, method, epochs=1, max_grad_norm=1e9, **table)
    alone = made(tmp_path, teacher, student, name="alone", micro=4)
    both = made(tmp_path, teacher, student, name="both", micro=2)
    run_student(alone)
    _run_together(both, 2, tmp_path)
    assert distance(weights(alone), weights(both)) < 2e-5
    assert figures(both).loss_tokens == figures(alone).loss_tokens
    losses = [
        [line["loss"] for line in read_metrics(one.folder) if "loss" in line]
        for one in (alone, both)
    ]
    assert losses[0] == pytest.approx(
        losses[1], rel=1e-4
    )  # AdamW forgives a constant factor; the loss does not


def _run_together(one: StudentJob, processes: int, folder: Path) -> None:
    """Data parallel over gloo."""
    import pickle

    (folder / "job").write_bytes(pickle.dumps(one))  # between processes of this test
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "import pickle, sys; from reasondistill.stages.students import run_student; "
        "run_student(pickle.load(open(sys.argv[1], 'rb')))"
    )
    shared = os.environ | {
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
    }
    shared |= {TOGETHER: "1", "OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": str(processes)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(folder / "job")],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
        )
        for rank in range(processes)
    ]
    for rank in ranks:
        _, told = rank.communicate(timeout=240)
        assert rank.returncode == 0, told.decode()[-2000:]


def test_the_head_is_applied_in_the_precision_of_the_training(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """accelerate casts inside the model's forward; what follows it would fall back to float32, ten
    times slower on a GPU.
    """
    from reasondistill.methods.kd import Kd
    from reasondistill.stages.students import trainer_settings

    seen: list[bool] = []
    plain = Kd.loss
    monkeypatch.setattr(trainer_settings, "bf16_is_fast", lambda: True)
    monkeypatch.setattr(
        Kd,
        "loss",
        lambda self, micro: seen.append(torch.is_autocast_enabled("cpu")) or plain(self, micro),
    )
    run_student(made(tmp_path, teacher, distils(teacher, "kd", max_steps=2, bf16=True)))
    assert seen and all(seen)


# ---- interruptions -------------------------------------------------------------------------------


class StopAfter(StopSignal):
    """Asked to stop once so many metrics lines have been written."""

    def __init__(self, folder: Path, lines: int) -> None:
        super().__init__()
        self.folder, self.lines = folder, lines

    @property
    def requested(self) -> bool:
        return len(read_metrics(self.folder)) >= self.lines

    @requested.setter
    def requested(self, value: bool) -> None: ...


@pytest.mark.parametrize("method", ["gkd", "skew_kl", "distillm2", "minillm", "feature"])
def test_an_interrupted_training_goes_on_to_the_same_student(
    tmp_path: Path, teacher: Path, method: str
) -> None:
    tables = {
        "gkd": {"max_tokens": 10},
        "skew_kl": {"start_share": 0.9, "max_tokens": 10},
        "distillm2": {"max_tokens": 10},
        "minillm": {"max_tokens": 10, "reuse": 3},
        "feature": {"recipe": "layers"},
    }
    student = distils(teacher, method, **{method: tables[method]})
    whole = trained(made(tmp_path, teacher, student, name="whole"))
    cut = made(tmp_path, teacher, student, name="cut")
    with pytest.raises(Interrupted):
        run_student(cut, stop=StopAfter(cut.folder, 3))
    run_student(cut)
    assert distance(whole, weights(cut)) < 1e-6
    tokens = [
        [line["tokens"] for line in read_metrics(tmp_path / name)] for name in ("whole", "cut")
    ]
    assert tokens[0] == tokens[1]
    assert (
        figures(cut).loss_tokens
        == figures(made(tmp_path, teacher, student, name="whole")).loss_tokens
    )


# ---- what the student writes ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folders = [
        make_tiny_model(tmp_path_factory.mktemp("models") / str(seed), seed=seed) for seed in (5, 6)
    ]
    models = [
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        for folder in folders
    ]
    return models[0], models[1], AutoTokenizer.from_pretrained(folders[0])


PROMPTS = [[5, 6, 7], [40, 41, 42, 43, 44, 45], [99]]


def test_equal_seeds_write_equal_texts_and_the_prompts_order_does_not_matter_to_the_training_mode(
    two_models: Any,
) -> None:
    from reasondistill.stages.students.distilling.rollouts import TransformersWriter

    model, _, tokenizer = two_models
    writer = TransformersWriter(model, eos=[tokenizer.eos_token_id], pad=tokenizer.pad_token_id)
    state = torch.get_rng_state()
    first = writer.write(PROMPTS, 12, temperature=1.0, seed=3)
    assert (
        first
        == writer.write(PROMPTS, 12, temperature=1.0, seed=3)
        != writer.write(PROMPTS, 12, temperature=1.0, seed=4)
    )
    assert torch.equal(state, torch.get_rng_state())  # the training's own dice are not touched
    assert all(len(ids) <= 12 for ids in first)


def test_nothing_is_written_that_is_no_token_and_no_default_of_a_vendor_has_a_say(
    two_models: Any,
) -> None:
    from transformers import GenerationConfig

    from reasondistill.stages.students.distilling.rollouts import TransformersWriter

    model, _, tokenizer = two_models
    writer = TransformersWriter(
        model, eos=[tokenizer.eos_token_id], pad=tokenizer.pad_token_id, vocabulary=100
    )
    own, plain = model.generation_config, writer.write([[5, 6, 7]] * 8, 12, temperature=5.0, seed=0)
    assert max(token for ids in plain for token in ids) < 100
    model.generation_config = GenerationConfig(
        suppress_tokens=list(range(90)), min_new_tokens=5, repetition_penalty=9.0
    )
    try:
        assert writer.write([[5, 6, 7]] * 8, 12, temperature=5.0, seed=0) == plain
    finally:
        model.generation_config = own


def test_a_mixture_that_is_nearly_all_teacher_writes_what_the_teacher_does(two_models: Any) -> None:
    """Also checks the teacher's cache: left-padded prompts of unequal length, token by token."""
    from reasondistill.stages.students.distilling.rollouts import TransformersWriter

    student, teacher, tokenizer = two_models
    eos, pad = [tokenizer.eos_token_id], tokenizer.pad_token_id
    mixed = TransformersWriter(student, eos=eos, pad=pad, teacher=teacher, mix=1 - 1e-9).write(
        PROMPTS, 16, temperature=0.7, seed=1
    )
    alone = TransformersWriter(teacher, eos=eos, pad=pad).write(
        PROMPTS, 16, temperature=0.7, seed=1
    )
    other = TransformersWriter(student, eos=eos, pad=pad).write(
        PROMPTS, 16, temperature=0.7, seed=1
    )
    assert mixed == alone != other


def test_a_mixture_draws_from_the_weighted_mean_of_both(two_models: Any) -> None:
    from reasondistill.stages.students.distilling.rollouts import _Mixture

    student, teacher, _ = two_models
    ids = torch.tensor([PROMPTS[1]])
    with torch.no_grad():
        scores = student(ids).logits[:, -1]
        theirs = teacher(ids).logits[:, -1]
        mixed = _Mixture(teacher, 0.3, torch.ones_like(ids), 1.0)(ids, scores)
    wanted = 0.3 * theirs.softmax(-1) + 0.7 * scores.softmax(-1)
    assert float((mixed.softmax(-1) - wanted).abs().max()) < 1e-6


def test_vllm_writes_with_the_weights_of_the_moment(tmp_path: Path) -> None:
    """The real engine: after the student has changed, what it serves is the changed student."""
    pytest.importorskip("vllm")
    code = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}, "
        f"{str(Path(__file__).parents[1])!r}]; import test_distilling as t; "
        f"t.vllm_follows({str(tmp_path)!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("followed")


def vllm_follows(folder: str) -> None:
    """In a process of its own: vLLM changes threads and environment of the one that it lives in."""
    from accelerate import Accelerator
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from vllm.model_executor.layers import utils

    from reasondistill.stages.students.distilling.rollouts import VllmWriter

    utils.dispatch_cpu_unquantized_gemm = (
        packed_away  # as on CPUs with AVX-512 or AMX, whichever this is
    )
    source = make_tiny_model(Path(folder) / "model", seed=5)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(source)
    engine = VllmWriter(
        model,
        tokenizer,
        Accelerator(cpu=True),
        start=Path(folder) / "start",
        url=None,
        memory=0.3,
        context=128,
    )
    greedy = {"temperature": 0.01, "seed": 0}
    before = engine.write(PROMPTS, 10, **greedy)
    # vLLM computes in bfloat16 here: log-probabilities are compared, since the texts of a random
    # model hang on the last bit.
    assert gap(engine, model) < 0.1
    torch.manual_seed(0)
    for _ in range(3):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        assert gap(engine, model) > 1
        assert engine.write(PROMPTS, 10, **greedy) != before
        assert gap(engine, model) < 0.3
    served = dict(
        engine._engine.llm.llm_engine.model_executor.driver_worker.model_runner.model.named_parameters()
    )
    ours = model.state_dict()
    for name in (
        "model.embed_tokens.weight",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.1.self_attn.o_proj.weight",
        "model.norm.weight",
    ):
        assert torch.equal(served[name], ours[name].to(served[name].dtype)), name
    print("followed")


class Served(torch.nn.Module):
    """An engine's model of one layer, as vLLM has it: its weight knows how it is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2, bias=False)
        self.layer.weight.weight_loader = lambda parameter, loaded: parameter.data.copy_(loaded)

    def load(self, weight: Any) -> None:
        self.layer.weight.weight_loader(self.layer.weight, weight)


def packed_away(layer: Any, remove_weight: bool = True) -> None:
    """What vLLM does to a linear layer on CPUs with AVX-512 or AMX."""
    layer.weight = torch.nn.Parameter(torch.empty(0), requires_grad=False)


def packed_in_place(layer: Any) -> None:
    layer.weight.data = layer.weight.detach().flatten().flip(0).reshape(2, 3)


def packed_anew(layer: Any) -> None:
    layer.weight = torch.nn.Parameter(layer.weight.detach().clone())


@pytest.mark.parametrize(
    ("pack", "found"),
    [
        (packed_away, "layer.weight.*packed copy"),
        (packed_in_place, "layer.weight.*another layout"),
        (packed_anew, "no attribute"),
    ],
)
def test_an_engine_that_packed_its_weights_away_is_refused(pack: Any, found: str) -> None:
    from reasondistill.stages.students.distilling.rollouts import check_takes_weights

    served = Served()
    weight = served.layer.weight.detach().clone()
    check_takes_weights(served, lambda: served.load(weight))
    pack(served.layer)
    with pytest.raises(ConfigError, match=f"{found}.*rollouts = 'transformers'"):
        check_takes_weights(served, lambda: served.load(weight))


def test_vllm_leaves_weights_plain_for_rollouts_on_every_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """vLLM's own layers, on a CPU for which it would pack them."""
    pytest.importorskip("vllm")
    from vllm.model_executor.layers import utils
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod
    from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod
    from vllm.platforms import current_platform

    from reasondistill.stages.students.distilling.rollouts import weights_stay_plain

    if not current_platform.is_cpu():
        pytest.skip("this vLLM is for GPUs")
    monkeypatch.setattr(utils, "dispatch_cpu_unquantized_gemm", packed_away)
    for method in (UnquantizedLinearMethod(), UnquantizedEmbeddingMethod()):
        layer = Served().layer
        with weights_stay_plain():
            method.process_weights_after_loading(layer)
        layer.weight.weight_loader(layer.weight, torch.ones(2, 3))
        assert utils.cpu_unquantized_gemm(layer, torch.ones(3), layer.weight).tolist() == [3.0, 3.0]
        method.process_weights_after_loading(
            layer
        )  # an engine elsewhere in the process packs as ever
        assert layer.weight.numel() == 0


def gap(engine: Any, model: Any) -> float:
    """How far the log-probabilities that vLLM gives the prompts are from the student's own, at
    most.
    """
    from vllm import SamplingParams

    asked = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
    served = engine._engine.llm.generate(
        [{"prompt_token_ids": ids} for ids in PROMPTS], asked, use_tqdm=False
    )
    gaps: list[float] = []
    for ids, output in zip(PROMPTS, served, strict=True):
        with torch.no_grad():
            ours = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        gaps += [
            abs(
                output.prompt_logprobs[place][ids[place]].logprob
                - float(ours[place - 1, ids[place]])
            )
            for place in range(1, len(ids))
        ]
    return max(gaps)


@pytest.mark.parametrize("method", ["kd", "reverse_kl"])
def test_an_adapter_learns_from_distributions_too(
    tmp_path: Path, teacher: Path, method: str
) -> None:
    base = make_tiny_model(tmp_path / "base", seed=8)
    table = {"reverse_kl": {"max_tokens": 6}} if method == "reverse_kl" else {}
    student = StudentSettings(
        name="s",
        method=method,
        base=str(base),
        lora={"r": 4},
        bf16=False,
        max_steps=2,
        batch_size=8,
        learning_rate=1e-2,
        **table,
    )  # type: ignore[arg-type]
    one = made(tmp_path, teacher, student)
    merged = trained(one)
    assert (one.folder / "adapter" / "adapter_model.safetensors").exists()
    assert figures(one).trained_parameters < figures(one).parameters / 4
    assert (
        float(
            (
                merged["model.layers.0.mlp.up_proj.weight"]
                - start_of(base)["model.layers.0.mlp.up_proj.weight"]
            )
            .abs()
            .max()
        )
        > 0
    )
    if method == "reverse_kl":
        served = replace(
            one,
            folder=tmp_path / "vllm",
            settings=one.settings.model_copy(update={"rollouts": "vllm"}),
        )
        with pytest.raises(ConfigError, match="under LoRA writes with rollouts = 'transformers'"):
            run_student(served)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_server_for_rollouts_wants_a_gpu_that_sends_it_the_weights(
    tmp_path: Path, teacher: Path
) -> None:
    base = make_tiny_model(tmp_path / "base", seed=8)
    student = StudentSettings(
        name="s", method="reverse_kl", base=str(base), max_steps=1, reverse_kl={"max_tokens": 6}
    )  # type: ignore[arg-type]
    settings = TrainSettings(rollouts="vllm_server", rollouts_url="http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="sends weights by NCCL, from a CUDA device only"):
        run_student(replace(made(tmp_path, teacher, student), settings=settings))


def test_the_first_signal_ends_a_training_that_loads_its_teacher(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hangs(*_: object, **__: object) -> None:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            sum(range(10_000))
        raise AssertionError("the signal was not heard")

    monkeypatch.setattr("reasondistill.stages.students.distilling.teaching.load_teacher", hangs)
    base = make_tiny_model(tmp_path / "base", seed=8)
    student = StudentSettings(name="s", method="kd", base=str(base), max_steps=1)
    with StopSignal() as stop, pytest.raises(Interrupted, match="same command"):
        run_student(made(tmp_path, teacher, student), stop=stop)


def start_of(base: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(base / "model.safetensors")


# ---- refusals ------------------------------------------------------------------------------------


def test_another_tokenizer_is_refused_and_the_tokens_are_named(
    tmp_path: Path, teacher: Path
) -> None:
    with pytest.raises(
        ConfigError,
        match=r"its tokenizer is not the student's: id \d+: '.*' here, '.*' there; .* more",
    ):
        run_student(made(tmp_path, teacher, scratch(method="kd", bf16=False)))


def test_a_teacher_that_does_not_fit_is_refused_with_its_size_and_a_way_out(
    teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoConfig

    from reasondistill.stages.students.distilling import teacher as module

    monkeypatch.setattr(module, "free_memory", lambda _: 100_000.0)
    with pytest.raises(
        StageError, match=r"does not fit: [\d,]+ parameters want 0\.0 GiB in float32.*topk_kd"
    ):
        module.check_fits(
            "wide", AutoConfig.from_pretrained(teacher), torch.float32, torch.device("cpu")
        )


def test_a_student_without_anybody_to_learn_from_is_refused(tmp_path: Path, teacher: Path) -> None:
    one = replace(made(tmp_path, teacher, distils(teacher, "kd")), teacher=None)
    with pytest.raises(ConfigError, match="needs a teacher in memory"):
        run_student(one)


def test_skew_kl_without_held_out_traces_says_what_it_wants(tmp_path: Path, teacher: Path) -> None:
    rows = [example(i) for i in range(16)]
    one = replace(job(tmp_path, distils(teacher, "skew_kl"), examples=rows), teacher=str(teacher))
    with pytest.raises(ConfigError, match=r"\[examples\] validation above 0"):
        run_student(one)


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("kd", {"gkd": {}}, "gkd: a table for another method"),
        ("sft", {"teacher": "x"}, "teacher: method 'sft' has no teacher"),
        ("kd", {"kd": {"temperature": 0}}, "temperature"),
        ("topk_kd", {"topk_kd": {"temperature": 2}}, "temperature"),
        ("topk_kd", {"topk_kd": {"beta": 1}}, "beta"),
    ],
)
def test_settings_that_a_method_does_not_have_are_refused(
    method: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        scratch(method=method, **changes)


def test_feature_losses_train_the_whole_student(teacher: Path) -> None:
    with pytest.raises(ConfigError, match="leave lora out"):
        check_settings(StudentSettings(name="s", method="feature", base=str(teacher), lora={}))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="set packing = false"):
        check_settings(
            StudentSettings(
                name="s",
                method="feature",
                base=str(teacher),
                packing=True,
                feature={"recipe": "tinybert"},
            )
        )  # type: ignore[arg-type]


# ---- stored log-probabilities --------------------------------------------------------------------


def store(
    folder: Path, teacher: Path, k: int, texts: dict[str, tuple[list[int], list[int]]]
) -> None:
    """The teacher's K best tokens at each place of completions, computed by transformers: trace id
    → prompt, completion.
    """
    import numpy as np
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from reasondistill.models.samplers import TopK
    from reasondistill.models.topk import Source, TopKWriter
    from reasondistill.models.vocabulary import vocabulary_of

    model = AutoModelForCausalLM.from_pretrained(teacher, dtype=torch.float32)
    vocabulary = vocabulary_of(AutoTokenizer.from_pretrained(teacher))
    source = Source(model="teacher", k=k, vocabulary=vocabulary, vocabulary_size=len(vocabulary))
    with TopKWriter(folder, source) as writer, torch.no_grad():
        for name, (prompt, completion) in texts.items():
            logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
            values, ids = torch.log_softmax(logits.double(), -1).topk(k)
            kept = TopK(
                np.array(completion, np.int32),
                ids.numpy().astype(np.int32),
                values.numpy().astype(np.float32),
            )
            writer.append([(name, kept)])


def with_stored(
    tmp_path: Path,
    teacher: Path,
    student: StudentSettings,
    k: int,
    name: str = "topk",
    *,
    other_text: bool = False,
) -> StudentJob:
    from transformers import AutoTokenizer

    from reasondistill.records import Example
    from reasondistill.runs.store import read_records
    from reasondistill.stages.students.tokens import IGNORE, tokenise

    one = replace(made(tmp_path, teacher, student, name=name), traces=tmp_path / "traces")
    if not (tmp_path / "traces").exists():
        tokenizer = AutoTokenizer.from_pretrained(teacher)
        rows = [
            tokenise(row, tokenizer, plain=False)
            for row in read_records(one.examples / "examples.jsonl", Example)
        ]
        starts = [sum(label == IGNORE for label in row.labels) for row in rows]
        texts = {
            row.trace_id or "": (row.input_ids[:at], row.input_ids[at:])
            for row, at in zip(rows, starts, strict=True)
        }
        if other_text:
            prompt, completion = texts["p/1:0"]
            texts["p/1:0"] = prompt, completion[3:]
            del texts["p/2:0"]
        store(tmp_path / "traces" / "topk", teacher, k, texts)
    return one


def test_all_tokens_stored_teach_what_a_teacher_in_memory_does(
    tmp_path: Path, teacher: Path
) -> None:
    """K = V: forward KL, to what sixteen bits keep of a log-probability."""
    from transformers import AutoTokenizer

    size = len(AutoTokenizer.from_pretrained(teacher))
    stored = trained(
        with_stored(
            tmp_path,
            teacher,
            distils(teacher, "topk_kd", topk_kd={"k": size, "alpha": 1.0}, epochs=1),
            size,
        )
    )
    live = trained(
        made(
            tmp_path,
            teacher,
            distils(teacher, "kd", kd={"alpha": 1.0, "temperature": 1.0}, epochs=1),
            name="kd",
        )
    )
    start = trained(made(tmp_path, teacher, distils(teacher, "base"), name="base"))

    def apart(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
        # Not the largest entry: AdamW takes the sign of gradients that are all but zero.
        return sum(float((ours[name] - theirs[name]).square().sum()) for name in ours) ** 0.5

    assert apart(stored, live) < 0.03 * apart(stored, start)


def test_fewer_stored_tokens_than_asked_for_are_refused_with_the_way_out(
    tmp_path: Path, teacher: Path
) -> None:
    with pytest.raises(ConfigError, match=r"k = 16.*holds 4 per token. Raise \[traces\] logprobs"):
        run_student(with_stored(tmp_path, teacher, distils(teacher, "topk_kd"), 4))


def test_traces_that_were_stored_otherwise_are_dropped_with_the_reason(
    tmp_path: Path, teacher: Path
) -> None:
    """As when the teacher's prompt opened the think block and the student's leaves that to the
    answer.
    """
    manifest = run_student(
        with_stored(
            tmp_path, teacher, distils(teacher, "topk_kd", max_steps=1), 16, other_text=True
        )
    )
    assert manifest.dropped == {
        "written after another kind of prompt than the student's": 1,
        "no stored log-probabilities": 1,
    }
    assert manifest.counts["in"] - manifest.counts["out"] == 2


def test_stored_traces_that_end_otherwise_than_the_students_texts_say_so(
    tmp_path: Path, teacher: Path
) -> None:
    student = distils(teacher, "topk_kd", max_steps=1, eos_token="<|endoftext|>")
    with pytest.raises(
        StageError, match=r"the teacher ends with <\|im_end\|>, the student's texts with <\|endof"
    ):
        run_student(with_stored(tmp_path, teacher, student, 16))


def test_nothing_stored_is_said_before_training(tmp_path: Path, teacher: Path) -> None:
    one = replace(made(tmp_path, teacher, distils(teacher, "topk_kd")), traces=tmp_path / "nothing")
    with pytest.raises(StageError, match=r"\[traces\] logprobs = 16"):
        run_student(one)


def test_stored_log_probabilities_of_another_tokenizer_are_refused(
    tmp_path: Path, teacher: Path
) -> None:
    one = with_stored(tmp_path, teacher, scratch(method="topk_kd", bf16=False), 16)
    with pytest.raises(ConfigError, match="do not have the same tokens"):
        run_student(one)


def test_the_students_identity_holds_what_was_stored(tmp_path: Path, teacher: Path) -> None:
    from reasondistill.stages.students import student_identity as identity

    one = with_stored(tmp_path, teacher, distils(teacher, "topk_kd"), 16)
    before = identity(one).inputs["top_k"]
    (tmp_path / "traces" / "topk").rename(tmp_path / "old")
    (tmp_path / "traces").rmdir()
    other = make_tiny_model(tmp_path / "other", seed=9)
    assert (
        identity(with_stored(tmp_path, other, distils(teacher, "topk_kd"), 16)).inputs["top_k"]
        != before
    )
