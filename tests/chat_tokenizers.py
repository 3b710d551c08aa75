"""Small tokenizers in the manner of well-known families, each with its own kind of chat template,
made on the spot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tiny_model import CORPUS, make_tokenizer

# Cuts earlier reasoning out of assistant turns, as Qwen3's does.
CHATML = (
    "{% for m in messages %}{% set c = m['content'] %}"
    "{% if m['role'] == 'assistant' and '</think>' in c %}"
    "{% set c = c.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ c }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{% set first = messages[0]['content'] + '\n\n' %}{% set loop_messages = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set loop_messages = messages %}{% endif %}"
    "{% for m in loop_messages %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "<start_of_turn>{{ role }}\n{% if loop.first %}{{ first }}{% endif %}"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}"
    " {{ m['content'] | trim }}{{ eos_token }}"
    "{% elif m['role'] == 'system' %}[SYSTEM_PROMPT] {{ m['content'] }}[/SYSTEM_PROMPT]"
    "{% else %}[INST] {{ m['content'] }}[/INST]{% endif %}{% endfor %}"
)
DEEPSEEK = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ m['content'] }}"
    "{% elif m['role'] == 'user' %}<｜User｜>{{ m['content'] }}"
    "{% else %}<｜Assistant｜>{{ m['content'].split('</think>')[-1] }}<｜end▁of▁sentence｜>"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)

_LLAMA3_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|reserved_special_token_0|>",
)
_GEMMA_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
_MISTRAL_TOKENS = (
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[THINK]",
    "[/THINK]",
)
_DEEPSEEK_TOKENS = (
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<think>",
    "</think>",
)


def chatml() -> Any:
    """Byte-level BPE with ChatML's tokens and tags of reasoning (Qwen3)."""
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHATML
    return tokenizer


def llama3() -> Any:
    """Byte-level BPE whose BOS is added to plain text, and no token for tags of reasoning."""
    return _byte_level(_LLAMA3_TOKENS, LLAMA3, bos=0, eos=4)


def deepseek() -> Any:
    """Byte-level BPE; the template opens a block of reasoning."""
    return _byte_level(_DEEPSEEK_TOKENS, DEEPSEEK, bos=0, eos=1)


def gemma() -> Any:
    """SentencePiece's BPE with bytes for what it does not know, and HTML among the added tokens."""
    tokenizer = _sentence_piece(_GEMMA_TOKENS, GEMMA, bos=2, eos=1, unk=3)
    tokenizer.add_tokens(["<h1>", "\n\n", "▁▁"])
    return tokenizer


def mistral() -> Any:
    """SentencePiece's BPE whose template has no words of its own between the turns."""
    return _sentence_piece(_MISTRAL_TOKENS, MISTRAL, bos=1, eos=2, unk=0)


def unigram() -> Any:
    """SentencePiece's unigram model, the special tokens among its pieces."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    special = ["<pad>", "</s>", "<unk>"]
    pieces = [(token, 0.0) for token in special]
    pieces += [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    words = sorted({word for line in CORPUS for word in line.split()})
    pieces += [("▁", -3.0), *((f"▁{word}", -8.0) for word in words)]
    pieces += [(chr(code), -10.0) for code in range(33, 127)]
    core = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    return _finished(core, special, template, eos=1, unk=2)


def _byte_level(special: Sequence[str], template: str, *, bos: int, eos: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=list(special),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    core.train_from_iterator(CORPUS, trainer)
    core.post_processor = processors.TemplateProcessing(
        single=f"{special[bos]} $A", special_tokens=[(special[bos], bos)]
    )
    return _finished(core, special, template, bos=bos, eos=eos)


def _sentence_piece(special: Sequence[str], template: str, *, bos: int, eos: int, unk: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers
    from tokenizers.processors import TemplateProcessing

    core = Tokenizer(models.BPE(unk_token=special[unk], byte_fallback=True, fuse_unk=True))
    core.normalizer = normalizers.Replace(" ", "▁")
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=520, special_tokens=[*special, *byte_tokens], show_progress=False
    )
    core.train_from_iterator([line.replace(" ", "▁") for line in CORPUS], trainer)
    facts = _without_added(core, set(byte_tokens))
    facts.post_processor = TemplateProcessing(
        single=f"{special[bos]} $A", special_tokens=[(special[bos], bos)]
    )
    return _finished(facts, special, template, bos=bos, eos=eos, unk=unk)


def _without_added(core: Any, ordinary: set[str]) -> Any:
    """The same tokenizer in which these are no added tokens."""
    import json

    from tokenizers import Tokenizer

    facts = json.loads(core.to_str())
    facts["added_tokens"] = [
        token for token in facts["added_tokens"] if token["content"] not in ordinary
    ]
    return Tokenizer.from_str(json.dumps(facts))


def _finished(core: Any, special: Sequence[str], template: str, **places: int) -> Any:
    from transformers import PreTrainedTokenizerFast

    named = {f"{name}_token": special[place] for name, place in places.items()}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, clean_up_tokenization_spaces=False, **named
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    tokenizer.chat_template = template
    return tokenizer


FAMILIES = {
    "chatml": chatml,
    "llama3": llama3,
    "gemma": gemma,
    "mistral": mistral,
    "deepseek": deepseek,
    "unigram": unigram,
}
