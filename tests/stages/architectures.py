"""Tiny random models of many architectures: each of under 0.2M parameters, with the marks that make
its family differ from a Llama.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny_model import make_tokenizer

from reasondistill.stages.students.tokens import IGNORE, Row

# What all of them have in common, by the usual names.
COMMON: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    # Far from a uniform distribution, so that a head that is applied wrongly is seen.
    "initializer_range": 0.3,
    # Dropout would make training differ from what is measured.
    "attention_dropout": 0.0,
    "hidden_dropout": 0.0,
}
EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2, "router_aux_loss_coef": 0.5}
QWEN_EXPERTS: dict[str, Any] = EXPERTS | {"num_experts": 4, "moe_intermediate_size": 16}
STATE_SPACE: dict[str, Any] = {"state_size": 8, "head_dim": 16, "num_heads": 4, "n_groups": 1}
LINEAR_ATTENTION: dict[str, Any] = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
}
PLAIN_ROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 10_000.0}
GPT2_NAMES: dict[str, Any] = {
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 256,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}
FALCON_H1: dict[str, Any] = {
    "lm_head_multiplier": 0.4,
    "embedding_multiplier": 1.5,
    "mamba_d_ssm": 32,
    "mamba_n_heads": 2,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
}
SMALL_CAP: dict[str, Any] = {"final_logit_softcapping": 3.0, "query_pre_attn_scalar": 16}
LATENT_ATTENTION: dict[str, Any] = {
    "num_key_value_heads": 2,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
}
MPT_NAMES: dict[str, Any] = {"d_model": 32, "n_layers": 2, "n_heads": 2, "max_seq_len": 256}
RECURRENT_GEMMA: dict[str, Any] = {
    "logits_soft_cap": 3.0,
    "lru_width": 32,
    "attention_window_size": 64,
    "block_types": ["recurrent", "attention"],
    "w_init_variance_scale": 0.3,
    "tie_word_embeddings": True,
}

# By name: transformers' own name of the architecture, and what differs from COMMON.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"tie_word_embeddings": False}),
    "llama_tied": ("llama", {"tie_word_embeddings": True}),
    "phi3": ("phi3", {}),
    "gpt2": ("gpt2", GPT2_NAMES),
    "opt": ("opt", {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0}),
    "bloom": ("bloom", {"n_layer": 2, "n_head": 2}),
    "gemma2": ("gemma2", SMALL_CAP | {"attn_logit_softcapping": 5.0}),
    "gemma3": ("gemma3_text", SMALL_CAP),
    "cohere": ("cohere", {"logit_scale": 0.3}),
    "granite": ("granite", {"logits_scaling": 4.0}),
    "falcon_h1": ("falcon_h1", FALCON_H1),
    "mamba2": ("mamba2", STATE_SPACE | {"chunk_size": 16}),
    "qwen3_next": ("qwen3_next", QWEN_EXPERTS | LINEAR_ATTENTION),
    "qwen3_5": ("qwen3_5_text", LINEAR_ATTENTION),
    "qwen3_moe": ("qwen3_moe", QWEN_EXPERTS),
    "gpt_oss": ("gpt_oss", EXPERTS | {"num_local_experts": 4, "rope_parameters": PLAIN_ROPE}),
}
# Whose heads differ in further ways: TRL does not know Recurrent Gemma's soft-cap, Phi's has a
# bias, HyperCLOVA multiplies where Granite divides, MiniCPM 3 divides what its head reads, MPT's
# key does nothing.
FURTHER: dict[str, tuple[str, dict[str, Any]]] = {
    "recurrent_gemma": ("recurrent_gemma", RECURRENT_GEMMA),
    "phi": ("phi", {}),
    "hyperclovax": ("hyperclovax", {"logits_scaling": 0.3}),
    "minicpm3": ("minicpm3", LATENT_ATTENTION | {"dim_model_base": 8}),
    "mpt": ("mpt", MPT_NAMES | {"logit_scale": 0.3}),
    "nanochat": ("nanochat", {"final_logit_softcapping": 3.0}),
    "granitemoe": ("granitemoe", EXPERTS | {"num_local_experts": 4, "logits_scaling": 4.0}),
}
# Whose experts are chosen by a router with a loss of its own.
ROUTED = ("gpt_oss", "qwen3_moe", "qwen3_next")


def make_architecture(
    name: str, *, seed: int = 0, vocabulary: int = 320, dtype: str = "float32", **changes: Any
) -> Any:
    """A random model in evaluation mode. `changes` go over the configuration."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, special = (ARCHITECTURES | FURTHER)[name]
    tokens = {"bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0}
    values = COMMON | {"vocab_size": vocabulary} | tokens | special | changes
    config = AutoConfig.for_model(kind, **values)
    torch.manual_seed(seed)
    # The usual product over experts knows no float64.
    model = AutoModelForCausalLM.from_config(config, experts_implementation="eager")
    bias = getattr(model.get_output_embeddings(), "bias", None)
    if bias is not None:
        torch.nn.init.normal_(bias)  # random models begin with zeros
    return model.to(getattr(torch, dtype)).eval()


def save_architecture(name: str, folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Such a model in float32 with the tiny tokenizer beside it, as a base or teacher for a run."""
    tokenizer = make_tokenizer()
    model = make_architecture(name, seed=seed, vocabulary=len(tokenizer), **changes)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def mean_loss(model: Any, rows: Sequence[Row]) -> float:
    """The cross-entropy per labelled token, in float64, from the model's own logits of each row."""
    import torch

    loss, tokens = 0.0, 0
    for row in rows:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1].double()
        labels = torch.tensor(row.labels[1:])
        loss += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
        tokens += int((labels != IGNORE).sum())
    return loss / tokens
