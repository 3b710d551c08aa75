"""Keeping all is the identity, what was zero is what goes, and what stays is an ordinary
checkpoint.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from test_students import example, job, weights
from tiny_model import make_tiny_model

from reasondistill.config import ArchitectureSettings, LoraSettings, ShrinkSettings, StudentSettings
from reasondistill.errors import ConfigError
from reasondistill.records import Shrunk
from reasondistill.sections import check_section
from reasondistill.stages.students import check_settings, read_student, run_student

torch = pytest.importorskip("torch")

KINDS = ("llama", "qwen2", "qwen3")
ROWS = 4


def model_of(kind: str, *, tied: bool = True, layers: int = 4, **changes: Any) -> Any:
    """A random model with grouped attention, biases and norms that are not ones, all of which must
    be cut with the rest.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    shape = {
        "hidden_size": 48,
        "intermediate_size": 40,
        "num_hidden_layers": layers,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
    }
    extra = (
        {"head_dim": 16}
        if kind == "qwen3"
        else {"head_dim": 8, "attention_bias": True, "mlp_bias": True}
        if kind == "llama"
        else {}
    )
    ends = {
        "max_position_embeddings": 128,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    common = {"vocab_size": 90, "tie_word_embeddings": tied, "initializer_range": 0.2} | ends
    config = AutoConfig.for_model(kind, **(common | shape | extra | changes))
    model = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=0.0 if name.endswith("bias") else 1.0, std=0.3)
    return model.eval()


def rows(count: int = ROWS, length: int = 20) -> list[Any]:
    from reasondistill.stages.students.tokens import Row

    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(2, 90, (count, length), generator=generator).tolist()
    return [Row(row, [-100] * 5 + row[5:]) for row in ids]


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=torch.tensor([row.input_ids for row in rows()])).logits


def zero(*tensors: Any) -> None:
    for tensor in tensors:
        tensor.data.zero_()


def shrunk(model: Any, **settings: Any) -> Any:
    from reasondistill.stages.students.shrinking import shrink

    return shrink(model, ShrinkSettings(**settings), rows()).eval()


# ---- what stays ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_keeping_all_is_the_identity(kind: str, tied: bool) -> None:
    model = model_of(kind, tied=tied)
    same = shrunk(
        model,
        layers=4,
        hidden_size=48,
        intermediate_size=40,
        num_key_value_heads=3,
        choose="importance",
    )
    assert same is not model and type(same) is type(model)
    assert torch.equal(logits(same), logits(model))
    assert (same.lm_head.weight is same.model.embed_tokens.weight) == tied
    assert not {p.data_ptr() for p in same.parameters()} & {
        p.data_ptr() for p in model.parameters()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_that_does_nothing_is_the_one_that_goes(kind: str) -> None:
    from reasondistill.stages.students.shrinking import choose, measure

    model = model_of(kind)
    idle = model.model.layers[2]
    zero(*idle.self_attn.o_proj.parameters(), *idle.mlp.down_proj.parameters())
    influence = measure(model, rows()).blocks
    assert (
        influence[2] == pytest.approx(0, abs=1e-6) and min(influence[i] for i in (0, 1, 3)) > 0.01
    )
    assert choose(model, ShrinkSettings(layers=3, choose="importance"), rows()).layers == (0, 1, 3)
    assert torch.equal(logits(shrunk(model, layers=3, choose="importance")), logits(model))


def test_an_even_copy_takes_the_layers_that_distilbert_took() -> None:
    from reasondistill.stages.students.shrinking import even_layers, shrink

    assert even_layers(12, 6) == (
        0,
        2,
        4,
        7,
        9,
        11,
    )  # huggingface/transformers scripts/extract_distilbert.py
    assert (
        even_layers(4, 2) == (0, 3)
        and even_layers(4, 4) == (0, 1, 2, 3)
        and even_layers(4, 1) == (0,)
    )
    assert all(
        len(set(even_layers(have, keep))) == keep
        for have in range(1, 40)
        for keep in range(1, have + 1)
    )
    model = model_of("qwen3")
    small = shrink(model, ShrinkSettings(layers=2), [])  # no calibration row is needed
    assert torch.equal(
        small.model.layers[1].mlp.up_proj.weight, model.model.layers[3].mlp.up_proj.weight
    )


@pytest.mark.parametrize("kind", KINDS)
def test_mlp_channels_that_are_silent_go_and_nothing_changes(kind: str) -> None:
    model = model_of(kind)
    for i, layer in enumerate(model.model.layers):
        silent = torch.arange(i, 40, 5)  # other ones in each layer
        layer.mlp.up_proj.weight.data[silent] = 0
        if layer.mlp.up_proj.bias is not None:
            layer.mlp.up_proj.bias.data[silent] = 0
    small = shrunk(model, intermediate_size=32)
    assert small.config.intermediate_size == 32
    assert torch.allclose(logits(small), logits(model), atol=1e-5)
    kept = [i for i in range(40) if i % 5 != 1]
    assert torch.equal(
        small.model.layers[1].mlp.gate_proj.weight, model.model.layers[1].mlp.gate_proj.weight[kept]
    )


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_silent_attention_groups_go_whole_and_nothing_changes(kind: str) -> None:
    model = model_of(kind)
    each = model.config.head_dim
    for i, layer in enumerate(model.model.layers):
        silent = slice(i % 3 * each, (i % 3 + 1) * each)
        layer.self_attn.v_proj.weight.data[silent] = 0
        if layer.self_attn.v_proj.bias is not None:
            layer.self_attn.v_proj.bias.data[silent] = 0
    small = shrunk(model, num_key_value_heads=2)
    assert (
        small.config.num_key_value_heads,
        small.config.num_attention_heads,
        small.config.head_dim,
    ) == (2, 4, each)
    assert torch.allclose(logits(small), logits(model), atol=1e-5)
    before, after = (
        model.model.layers[1].self_attn,
        small.model.layers[1].self_attn,
    )  # group 1 of 3 went, with its two query heads
    stays = [i for i in range(6 * each) if i // (2 * each) != 1]
    assert torch.equal(after.q_proj.weight, before.q_proj.weight[stays])
    assert torch.equal(after.o_proj.weight, before.o_proj.weight[:, stays])


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_channels_that_are_silent_go_and_nothing_changes(kind: str) -> None:
    """RMSNorm divides by the mean over fewer channels then: the scale of its weight makes up for
    it.
    """
    model = model_of(kind, tied=False)
    silent = torch.arange(0, 48, 3 if kind == "qwen2" else 4)
    model.model.embed_tokens.weight.data[:, silent] = 0
    for layer in model.model.layers:
        for written in (layer.self_attn.o_proj, layer.mlp.down_proj):
            written.weight.data[silent] = 0
            if written.bias is not None:
                written.bias.data[silent] = 0
        if kind == "qwen2":  # a third of the heads has to go with a third of the channels
            layer.self_attn.v_proj.weight.data[16:] = 0
            layer.self_attn.v_proj.bias.data[16:] = 0
    small = (
        shrunk(model, hidden_size=32, num_key_value_heads=2)
        if kind == "qwen2"
        else shrunk(model, hidden_size=36)
    )
    assert torch.allclose(
        logits(small), logits(model), atol=2e-3
    )  # the epsilon of a norm weighs a little more


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_model_generates_the_same_with_and_without_a_cache(kind: str) -> None:
    small = shrunk(model_of(kind, layers=5), layers=2, intermediate_size=24)
    assert [layer.self_attn.layer_idx for layer in small.model.layers] == [0, 1]
    assert (
        small.config.num_hidden_layers == 2
        and len(getattr(small.config, "layer_types", None) or [0, 1]) == 2
    )
    prompt = torch.tensor([rows()[0].input_ids])
    one, two = (
        small.generate(prompt, max_new_tokens=20, do_sample=False, use_cache=cache)
        for cache in (True, False)
    )
    assert torch.equal(one, two)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_model_is_saved_and_loaded_as_any_other(
    kind: str, tied: bool, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    sizes = (
        {"hidden_size": 16, "num_key_value_heads": 1}
        if kind == "qwen2"
        else {"hidden_size": 40, "num_key_value_heads": 2}
    )
    small = shrunk(model_of(kind, tied=tied), layers=2, intermediate_size=24, **sizes)
    small.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded) is type(small)
    assert torch.equal(logits(loaded), logits(small))
    assert ("lm_head.weight" in weights(tmp_path)) != tied


def test_the_larger_model_is_not_touched() -> None:
    model = model_of("qwen3").train()
    before = copy.deepcopy(model.state_dict())
    shrunk(model, layers=2, hidden_size=24, choose="importance")
    assert model.training and all(
        torch.equal(weight, before[name]) for name, weight in model.state_dict().items()
    )
    assert not any(module._forward_hooks for module in model.modules())


def test_importance_is_the_mean_over_tokens_then_the_root_of_squares_over_rows() -> None:
    from reasondistill.stages.students.shrinking import measure

    model = model_of("llama")
    read: list[Any] = []
    hook = model.model.layers[1].mlp.down_proj.register_forward_pre_hook(
        lambda _, inputs: read.append(inputs[0][0])
    )
    for row in rows():
        with torch.no_grad():
            model(input_ids=torch.tensor([row.input_ids]))
    hook.remove()
    by_hand = sum(one.abs().mean(0) ** 2 for one in read) ** 0.5
    assert torch.allclose(measure(model, rows()).channels[1].float(), by_hand, rtol=1e-5)


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (
            "llama",
            {"layers": 5},
            r"shrink\.layers = 5: larger than the base, whose num_hidden_layers is 4",
        ),
        ("llama", {"hidden_size": 64}, r"shrink\.hidden_size = 64: larger"),
        ("qwen3", {"intermediate_size": 41}, r"shrink\.intermediate_size = 41: larger"),
        ("qwen3", {"num_key_value_heads": 4}, r"shrink\.num_key_value_heads = 4: larger"),
        (
            "llama",
            {"hidden_size": 40},
            r"shrink\.hidden_size = 40: hidden_size 40 with 6 attention heads; transformers "
            r"needs a multiple",
        ),
        (
            "llama",
            {"hidden_size": 42, "num_key_value_heads": 2},
            r"shrink\.hidden_size = 42: hidden_size 42 with 4 attention heads",
        ),
        ("qwen2", {"hidden_size": 32}, r"shrink\.hidden_size = 32: .*a qwen2 has 8 for each"),
        (
            "qwen2",
            {"num_key_value_heads": 2},
            r"shrink\.num_key_value_heads = 2: .*by the same factor",
        ),
    ],
)
def test_sizes_that_do_not_go_are_refused_by_name(
    kind: str, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model = model_of(kind)
    with pytest.raises(ConfigError, match=message):
        shrunk(model, **settings)
    model.save_pretrained(tmp_path)
    with pytest.raises(
        ConfigError, match=r"\[students\] s " + message
    ):  # known from the folder, before anything starts
        check_settings(
            StudentSettings(name="s", base=str(tmp_path), shrink=ShrinkSettings(**settings))
        )


@pytest.mark.parametrize(
    "settings",
    [{"hidden_size": 40}, {"intermediate_size": 8}, {"layers": 2, "choose": "importance"}],
)
def test_importance_wants_calibration_rows(settings: dict[str, Any]) -> None:
    from reasondistill.stages.students.shrinking import shrink

    key = "choose" if "choose" in settings else next(iter(settings))
    with pytest.raises(ConfigError, match=rf"shrink\.{key} = .*wants calibration rows"):
        shrink(model_of("qwen3"), ShrinkSettings(**settings), [])


@pytest.mark.parametrize("kind", ["qwen3_moe", "gpt2"])
def test_other_models_are_refused_with_those_that_go(kind: str, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=f"type '{kind}'; types that can be shrunk: llama, qwen2, qwen3; mixtures"
    ):
        ShrinkSettings(layers=1).check({"model_type": kind, "num_hidden_layers": 2}, "[students] s")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layers": 0}, r"\[shrink\] layers: .*greater than or equal to 1"),
        ({}, r"shrink: set at least one of layers, hidden_size"),
        ({"calibration": 16}, r"shrink: set at least one of"),
        ({"calibration": 0, "layers": 1}, r"\[shrink\] calibration: "),
        ({"layer": 2}, "Did you mean layers"),
    ],
)
def test_a_section_that_says_nothing_sensible_is_refused(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_section(Path("x.toml"), StudentSettings, {"name": "s", "base": "b", "shrink": values})


def test_a_model_from_scratch_cannot_be_shrunk() -> None:
    shape = ArchitectureSettings(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1
    )
    with pytest.raises(ValueError, match="shrink: cuts a student out of its base"):
        StudentSettings(name="s", architecture=shape, shrink=ShrinkSettings(layers=1))


# ---- how far from the larger model ---------------------------------------------------------------


def by_hand(model: Any, teacher: Any, vocabulary: int) -> tuple[float, float, int]:
    """Perplexity, KL and tokens with all logits at once."""
    loss, divergence, tokens = 0.0, 0.0, 0
    for row in rows():
        with torch.no_grad():
            both = [
                each(input_ids=torch.tensor([row.input_ids])).logits[0, 4:-1, :vocabulary]
                for each in (model, teacher)
            ]
        log_q, log_p = (each.log_softmax(-1) for each in both)
        labels = torch.tensor(row.labels[5:])
        loss -= float(log_q.gather(1, labels[:, None]).sum())
        divergence += float((log_p.exp() * (log_p - log_q)).sum())
        tokens += len(labels)
    return math.exp(loss / tokens), divergence / tokens, tokens


def test_held_out_figures_in_chunks_are_those_of_all_logits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from reasondistill.losses import heads
    from reasondistill.stages.students import held_out as module

    model, teacher = (
        model_of("llama", layers=2),
        model_of("qwen3", vocab_size=96),
    )  # a padded vocabulary
    perplexity, kl, tokens = by_hand(model, teacher, 90)
    monkeypatch.setattr(heads, "CHUNK_ELEMENTS", 90 * 4)  # chunks of four tokens
    largest: list[int] = []
    for each in (model, teacher):
        each.lm_head.register_forward_hook(
            lambda _, inputs, output: largest.append(output.shape[-2])
        )
    found = module.held_out(model, rows(), teacher=teacher)
    assert (found.perplexity, found.kl, found.tokens) == (
        pytest.approx(perplexity, rel=1e-5),
        pytest.approx(kl, rel=1e-5),
        tokens,
    )
    assert max(largest) == 1  # a model's own head sees one position, for form's sake
    assert module.held_out(model, rows(), teacher=model).kl == pytest.approx(0, abs=1e-7)
    assert module.held_out(teacher, rows()).kl is None
    with pytest.raises(ValueError, match="no labelled token"):
        module.held_out(model, [])


def test_held_out_figures_of_a_model_under_lora() -> None:
    from peft import LoraConfig, get_peft_model

    from reasondistill.stages.students.held_out import held_out

    model = model_of("llama")
    plain = held_out(model, rows())
    wrapped: Any = get_peft_model(
        copy.deepcopy(model), LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    assert held_out(wrapped, rows(), teacher=model).perplexity == pytest.approx(
        plain.perplexity, rel=1e-6
    )  # an adapter begins at zero


# ---- whole students ------------------------------------------------------------------------------


def cut_student(base: Path, **changes: Any) -> StudentSettings:
    settings = ShrinkSettings(layers=1, choose="importance", intermediate_size=64, calibration=8)
    values: dict[str, Any] = {
        "name": "s",
        "base": str(base),
        "shrink": settings,
        "max_steps": 6,
        "batch_size": 8,
        "learning_rate": 1e-2,
    }
    return StudentSettings(**(values | {"max_length": 400, "bf16": False} | changes))


def facts(folder: Path) -> Shrunk:
    found = read_student(folder).shrunk
    assert found is not None
    return found


@pytest.mark.engine
def test_every_method_starts_from_the_same_cut_model(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base")
    sft = job(tmp_path, cut_student(base), name="sft")
    untouched = job(tmp_path, cut_student(base, method="base"), name="base-control")
    answers = job(
        tmp_path, cut_student(base, method="answer_only"), name="answers", parent=sft.folder
    )
    for made in (sft, untouched, answers):
        run_student(made)
    model = json.loads((sft.folder / "model" / "config.json").read_text())
    assert (model["num_hidden_layers"], model["intermediate_size"], model["hidden_size"]) == (
        1,
        64,
        64,
    )
    start = weights(untouched.folder / "model")
    assert {name: weight.shape for name, weight in start.items()} == {
        n: w.shape for n, w in weights(sft.folder / "model").items()
    }
    trained, control, never = facts(sft.folder), facts(answers.folder), facts(untouched.folder)
    assert trained.perplexity_before == control.perplexity_before == never.perplexity_before
    assert trained.kl_before == control.kl_before == never.kl_before and never.kl_after is None
    assert trained.perplexity_after is not None and trained.perplexity_before is not None
    assert trained.perplexity_after < trained.perplexity_before / 2
    assert (
        trained.parameters < trained.parameters_before
        and len(trained.layers) == 1
        and trained.tokens > 0
    )
    figures = read_student(sft.folder).figures
    assert figures is not None and figures.parameters == trained.parameters


@pytest.mark.engine
def test_a_cut_model_learns_under_lora_too(tmp_path: Path) -> None:
    made = job(
        tmp_path, cut_student(make_tiny_model(tmp_path / "base"), lora=LoraSettings(r=4, alpha=8))
    )
    run_student(made)
    assert (
        json.loads((made.folder / "model" / "config.json").read_text())["intermediate_size"] == 64
    )
    found = facts(made.folder)
    assert (
        found.perplexity_after is not None
        and found.perplexity_before is not None
        and found.perplexity_after < found.perplexity_before
    )


def test_without_validation_rows_only_the_sizes_are_known(tmp_path: Path) -> None:
    settings = cut_student(
        make_tiny_model(tmp_path / "base"), method="base", shrink=ShrinkSettings(layers=1)
    )
    made = job(tmp_path, settings, examples=[example(i) for i in range(4)])
    run_student(made)
    whole, one = (
        sum(weight.numel() for weight in weights(folder).values())
        for folder in (tmp_path / "base", made.folder / "model")
    )
    assert facts(made.folder) == Shrunk(parameters_before=whole, parameters=one, layers=(0,))


def test_what_is_cut_depends_on_the_examples_where_they_have_a_say(tmp_path: Path) -> None:
    from reasondistill.stages.students import student_identity as identity

    base = make_tiny_model(tmp_path / "base")
    even, measured = (
        cut_student(base, method="base", shrink=shrink)
        for shrink in (ShrinkSettings(layers=1), ShrinkSettings(intermediate_size=64))
    )
    assert set(identity(job(tmp_path, even)).inputs) == {"base"}
    found = identity(job(tmp_path, measured))
    assert (
        set(found.inputs) == {"base", "examples"}
        and found.section["shrink"]["intermediate_size"] == 64
        and "prompt" in found.section
    )
    assert "shrink" not in identity(job(tmp_path, cut_student(base, shrink=None))).section
    assert even.start() != measured.start() != cut_student(base, shrink=None).start()


def test_calibration_examples_are_spread_over_all_of_them(tmp_path: Path) -> None:
    from reasondistill.stages.students.material import calibration_examples as calibration

    made = job(
        tmp_path,
        cut_student(
            make_tiny_model(tmp_path / "base"),
            shrink=ShrinkSettings(intermediate_size=64, calibration=4),
        ),
    )
    chosen = [int(one.id.removeprefix("p/").removesuffix(":0")) for one in calibration(made)]
    assert chosen == [
        1,
        9,
        17,
        25,
    ]  # 28 of 32 are there to train on: every eighth is for validation


@pytest.mark.engine
@pytest.mark.parametrize("kind", ["llama", "qwen2", pytest.param("qwen3", marks=pytest.mark.slow)])
def test_vllm_writes_what_transformers_writes(kind: str, tmp_path: Path) -> None:
    from test_samplers_vllm import requests
    from tiny_model import make_tokenizer
    from transformers import AutoModelForCausalLM

    from reasondistill.models.samplers.vllm import VllmSampler

    tokenizer = make_tokenizer()
    shape = {
        "hidden_size": 192,
        "intermediate_size": 128,
        "vocab_size": len(tokenizer),
        "initializer_range": 0.1,
    }
    each = {} if kind == "qwen2" else {"head_dim": 32}  # vLLM on CPU wants 32 at least
    hidden = 144 if kind == "llama" else 128
    small = shrunk(
        model_of(kind, **shape, **each),
        layers=2,
        intermediate_size=96,
        hidden_size=hidden,
        num_key_value_heads=2,
    )
    small.generation_config.eos_token_id = small.config.eos_token_id = tokenizer.eos_token_id
    small.model.embed_tokens.weight.data[tokenizer.eos_token_id] = 0  # it does not end at once
    small.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    # float32 on any CPU: one with bf16 instructions would round otherwise, and greedy texts part at
    # the first near tie.
    options = {
        "max_num_seqs": 4,
        "cpu_kvcache_gib": 1,
        "gpu_memory_utilization": 0.3,
        "dtype": "float32",
    }
    with VllmSampler(str(tmp_path), **options) as sampler:
        (asked,) = requests(sampler, 1, temperature=0.0, max_tokens=24)
        (written,) = sampler.sample([asked])
    ids = torch.tensor([asked.rendered.token_ids])
    ours = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False
    )[0, ids.shape[1] :]
    text = tokenizer.decode([token for token in ours.tolist() if token != tokenizer.eos_token_id])
    # Half a character at the end is withheld by the engine.
    assert len(ours) > 4 and written.completion.answer_text.rstrip("\ufffd") == text.rstrip(
        "\ufffd"
    )
