"""LoRA beside a student: what it is put on, the new tokens that are trained with it, and its
weights merged into the model's. Imports torch and transformers; imported late.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, set_seed
from transformers.integrations import is_deepspeed_zero3_enabled

from reasondistill.config import LoraSettings, StudentSettings
from reasondistill.errors import ConfigError, StageError
from reasondistill.models.loading import loading
from reasondistill.models.weights import model_folder
from reasondistill.stages.students import processes
from reasondistill.stages.students.bases import load_config
from reasondistill.stages.students.reloading import MOST_KL, row_log_probs

log = logging.getLogger(__name__)

ALL_LINEAR = "all-linear"
# Kernels of these read the weights of the projection behind the state space directly, past an
# adapter: PEFT refuses it there.
STATE_SPACES = ("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h")
PAST_ADAPTERS = ("conv1d", "out_proj")
# A weight as small as this was never trained.
BLANK = 1e-16
# What is computed to see that merging changed nothing.
PROBE = "Tom has 3 apples and buys 4 more. 3 + 4 = 7"


def adapted(model: Any, student: StudentSettings, tokenizer: Any) -> Any:
    """The model with the student's untrained adapter on it; the same seed, the same adapter. Rows
    of tokens that its base does not have, or never trained, are trained with it, in input and
    output.

    Raises ConfigError for targets that would not be trained, or not be merged rightly.
    """
    from peft import get_peft_model

    assert student.lora is not None
    where = f"[students] {student.name} lora"
    tokens = new_tokens(student, len(tokenizer))
    if processes.sharding() is None:  # else not every process has the weights
        tokens = sorted({*tokens, *blank_tokens(model, tokenizer)})
    if tokens and processes.sharding() is not None:
        raise ConfigError(
            f"{where}: the tokenizer has {len(tokens)} tokens that the base has not; beside an "
            "adapter they are not trained under a [train] strategy that splits the model. Take "
            "strategy = 'ddp', or train without lora."
        )
    set_seed(student.seed)
    # ZeRO-3 gathers weights of one type only (TRL does the same).
    in_float32 = not is_deepspeed_zero3_enabled()
    try:
        settings = adapter_settings(model, student.lora, tokens, where)
        model = get_peft_model(model, settings, autocast_adapter_dtype=in_float32)
    except (ValueError, TypeError, re.error) as error:
        raise ConfigError(f"{where} targets = {student.lora.targets!r}: {error}") from error
    if tokens:
        names = ", ".join(tokenizer.convert_ids_to_tokens(tokens[:5]))
        log.info(
            "%s: %d tokens that the base does not know are trained beside the adapter: %s",
            student.name,
            len(tokens),
            names,
        )
        ready_new_rows(model)
    return model


def new_tokens(student: StudentSettings, vocabulary: int) -> list[int]:
    """The ids of a student's tokenizer for which its base has no rows."""
    if student.architecture is not None:
        return []
    source = str(model_folder(student.base or "") or student.base)
    config = load_config(source, student)
    return list(range(config.get_text_config().vocab_size, vocabulary))


def blank_tokens(model: Any, tokenizer: Any) -> list[int]:
    """The ids of tokens that every row has, the end of text and those that the chat template
    names, whose rows in the model are zero: nobody has trained them (Llama 3's base has such).
    """
    wanted = {tokenizer.eos_token: tokenizer.eos_token_id}
    template = str(tokenizer.chat_template)
    for token, number in tokenizer.get_added_vocab().items():
        if token in template:
            wanted[token] = number
    ids = sorted(wanted.values())
    is_blank = torch.zeros(len(ids), dtype=torch.bool)
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        rows = module.weight.detach()[ids]
        is_blank |= (rows.abs().amax(dim=1) <= BLANK).cpu()
    return [number for number, blank in zip(ids, is_blank.tolist(), strict=True) if blank]


def adapter_settings(model: Any, lora: LoraSettings, tokens: Sequence[int], where: str) -> Any:
    """PEFT's settings of an adapter. Raises ConfigError as `adapted`."""
    from peft import LoraConfig

    targets = lora.targets
    if not isinstance(targets, str):
        targets = list(targets)
    excluded: list[str] | None = None
    if targets == ALL_LINEAR and model.config.model_type in STATE_SPACES:
        excluded = list(PAST_ADAPTERS)
        log.info("%s: out_proj is left out: a state space reads its weights directly", where)
    settings = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        exclude_modules=excluded,
        use_dora=lora.use_dora,
        use_rslora=lora.use_rslora,
        task_type="CAUSAL_LM",
    )
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    names = {module: name for name, module in model.named_modules()}
    is_tied = head.weight is embedding.weight
    if targets != ALL_LINEAR:
        check_targets(settings, names[embedding], names[head], is_tied=is_tied, where=where)
    if tokens:
        if getattr(head, "bias", None) is not None:
            raise ConfigError(
                f"{where}: the base does not know {len(tokens)} tokens of the tokenizer, and a "
                "head with a bias cannot be trained for these alone. Train without lora."
            )
        # A tied head follows its embedding.
        rows = {names[embedding]: list(tokens)}
        if not is_tied:
            rows[names[head]] = list(tokens)
        settings.trainable_token_indices = rows
    return settings


def check_adapter(config: Any, student: StudentSettings) -> None:
    """Raise ConfigError for an adapter that training would refuse on a base of this configuration,
    whose weights are not loaded.
    """
    assert student.lora is not None
    where = f"[students] {student.name} lora"
    with loading(where, student.base or ""), torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(
            config, trust_remote_code=student.trust_remote_code
        )
    adapter_settings(model, student.lora, (), where)


def check_targets(settings: Any, embedding: str, head: str, *, is_tied: bool, where: str) -> None:
    """Raise ConfigError for an adapter on the output head, which losses read past it, or on an
    embedding that is tied to it: merging would change both.
    """
    from peft.tuners.tuners_utils import check_target_module_exists

    fault = f"{where} targets = {settings.target_modules!r}: "
    if check_target_module_exists(settings, head):
        raise ConfigError(
            f"{fault}{head} is the output head. Its weights are read by the losses directly, so "
            "an adapter on it would never be trained. Leave it out."
        )
    if is_tied and check_target_module_exists(settings, embedding):
        raise ConfigError(
            f"{fault}{embedding} is tied to the output head: an adapter on it would be merged "
            "into both, and only one was trained with it. Leave it out."
        )


def ready_new_rows(model: Any) -> None:
    """Let the rows of new tokens be trained as weights are: in float32, and seen by losses that
    read a head's weights and bias.
    """
    from peft.utils.other import TrainableTokensWrapper

    for module in model.modules():
        if not isinstance(module, TrainableTokensWrapper):
            continue
        for rows in module.token_adapter.trainable_tokens_delta.values():
            if not is_deepspeed_zero3_enabled():
                rows.data = rows.data.float()
        if isinstance(module.original_module, torch.nn.Linear):
            module.register_parameter("bias", None)


def merged(model: Any, tokenizer: Any) -> Any:
    """The model with its adapter's weights in its own; the one that came in is used up.

    Raises StageError where it would not say what the adapted model said.
    """
    ids = probe_ids(tokenizer)
    before = row_log_probs(model.get_base_model(), ids)
    model = model.merge_and_unload()
    distance = before.distance(row_log_probs(model, ids))
    if distance > MOST_KL[model.dtype]:
        raise StageError(
            f"the adapter cannot be merged into its base: {distance:.3g} nats per token lie "
            "between the adapted model and the merged one, where rounding makes at most "
            f"{MOST_KL[model.dtype]:g}. Take other targets."
        )
    return model


def probe_ids(tokenizer: Any) -> list[int]:
    """The tokens on which an adapted model and its merged one are compared: a text, the end of one,
    and the newest token.
    """
    ids = list(tokenizer.encode(PROBE))
    if tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
    return [*ids, len(tokenizer) - 1]


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write an adapter, and with one that has new tokens their tokenizer: PEFT then gives the base
    their rows before it loads the adapter's.
    """
    settings = model.peft_config["default"]
    if settings.trainable_token_indices is None:
        model.save_pretrained(folder)
        return
    model.save_pretrained(folder, save_embedding_layers=False)
    tokenizer.save_pretrained(folder)
