"""LoRA adapters as peft writes them, on the tiny model: weights that were moved, and what peft
itself computes with them. `adapter_kit:WRITER` samples with transformers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tiny_model import make_tokenizer

from reasondistill.models.samplers import Rendered, Request, Sampled, SamplerBase, SamplerKind
from reasondistill.models.samplers.reasoning import split_reasoning
from reasondistill.records import Message

IDS = [5, 6, 7, 8, 9, 40, 41]
NEW_TOKENS = ["<|begun|>", "<|done|>"]

Q = "base_model.model.model.layers.0.self_attn.q_proj"
# One value a half: rank 1 on a layer of one.
HALVES = {f"{Q}.lora_A.weight": [1, 1], f"{Q}.lora_B.weight": [1, 1]}


def write_adapter(
    folder: Path, base: str, shapes: Mapping[str, list[int]] | None = None, **config: Any
) -> Path:
    """An adapter written by hand, all zeros: nothing heavy is imported."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"peft_type": "LORA", "base_model_name_or_path": base, "r": 1}
    (folder / "adapter_config.json").write_text(json.dumps(values | config), encoding="utf-8")
    entries: dict[str, Any] = {}
    offset = 0
    for name, shape in (shapes or HALVES).items():
        end = offset + 4 * math.prod(shape)
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    head = json.dumps(entries).encode()
    content = len(head).to_bytes(8, "little") + head + bytes(offset)
    (folder / "adapter_model.safetensors").write_bytes(content)
    return folder


def make_adapter(base: Path, folder: Path, *, grown: bool = False, **settings: Any) -> Path:
    """An adapter of `base` in `folder`; with `grown` it has tokens that the base has not."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base)
    if grown:
        tokenizer = make_tokenizer()
        tokenizer.add_special_tokens({"additional_special_tokens": NEW_TOKENS})
        tokenizer.save_pretrained(folder)
        model.resize_token_embeddings(len(tokenizer))
    keys = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]} | settings
    adapted: Any = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **keys))
    generator = torch.Generator().manual_seed(4)
    for weight in adapted.parameters():
        if weight.requires_grad:
            weight.data += 0.05 * torch.randn(weight.shape, generator=generator)
    is_by_rows = settings.get("trainable_token_indices") is not None
    adapted.save_pretrained(folder, save_embedding_layers=False if is_by_rows else "auto")
    return folder


def logits_by_peft(base: Path, adapter: Path, *, rows: int | None = None) -> Any:
    """What peft's own loading of both says of IDS."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base)
    if rows is not None:
        model.resize_token_embeddings(rows)
    with torch.no_grad():
        adapted = PeftModel.from_pretrained(model, str(adapter)).eval()
        return adapted(torch.tensor([IDS])).logits


def logits_of(folder: Path) -> Any:
    """What a model in a folder says of IDS."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder).eval()(torch.tensor([IDS])).logits


class Writer(SamplerBase):
    """Writes four greedy tokens with transformers."""

    def __init__(self, folder: str) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        super().__init__()
        self.model = folder
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._weights: Any = AutoModelForCausalLM.from_pretrained(folder).eval()

    def render(self, messages: Sequence[Message], *, plain: bool) -> Rendered:
        return Rendered(messages)

    def sample(self, requests: Iterator[Request]) -> Iterator[Sampled]:
        for request in requests:
            ids = self._tokenizer(request.rendered.messages[-1].content, return_tensors="pt")
            made = self._weights.generate(
                **ids, max_new_tokens=4, do_sample=False, temperature=None, top_k=None
            )
            text = self._tokenizer.decode(made[0, ids["input_ids"].shape[1] :])
            completion = split_reasoning(
                text, opens=None, finish="length", prompt_tokens=1, tokens=4, seconds=0.0
            )
            yield Sampled(request, completion)


WRITER = SamplerKind(
    open=lambda model, cluster, problems: Writer(model.model),
    has_weights=True,
    answers_anything=True,
)
