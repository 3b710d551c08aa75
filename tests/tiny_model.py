"""A random Llama of 0.2M parameters with a byte-level BPE and a ChatML template: real engines start
on it in seconds.
"""

from __future__ import annotations

from pathlib import Path

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ "
    "message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if open_think is "
    "defined and open_think %}<think>\n{% endif %}{% endif %}"
)

CORPUS = [
    "Tom has 3 apples and buys 4 more. How many apples does Tom have now?",
    "Put the final answer in \\boxed{7}. She sells 12 eggs for 2 dollars each.",
    "<think>\nThere are 5 cars and each has 4 wheels, so 5 * 4 = 20 wheels.\n"
    "</think>\n\nThe answer is \\boxed{20}.",
    "A train goes 60 miles in an hour. How far does it go in 3 hours? 60 * 3 = 180 miles.",
]


def make_tiny_model(folder: Path, *, seed: int = 0, max_position_embeddings: int = 512) -> Path:
    """Write config, random float32 weights, tokenizer, chat template and generation config into
    `folder`; return it.

    `<|im_end|>` is the EOS. The generation config carries vendor sampling defaults that must never
    leak into our samples.
    """
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=max_position_embeddings,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.01,
        top_k=1,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    return folder


def make_tokenizer():  # noqa: ANN201 - a transformers tokenizer, imported late
    """A byte-level BPE of about 320 tokens that splits digits, with a ChatML template."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(CORPUS, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
