"""The model a student starts from: a hub id, a folder, or an architecture from scratch with its own
tokenizer.

Imports transformers and torch; imported late.
"""

from __future__ import annotations

import copy
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedTokenizerFast,
    set_seed,
)

from reasondistill.config import ArchitectureSettings, StudentSettings
from reasondistill.errors import ConfigError, StageError
from reasondistill.models.attention import attention_options
from reasondistill.models.loading import loading, require_no_methods
from reasondistill.models.templates import CHATML, set_template_and_end
from reasondistill.models.tokenizer_files import open_tokenizer
from reasondistill.models.weights import (
    model_folder,
    named_folder,
    only_safetensors,
    require_sound_snapshot,
    verified_folder,
)
from reasondistill.records import Example
from reasondistill.runs import layout
from reasondistill.runs.store import disk_errors, verify_below
from reasondistill.stages.students import shrinking
from reasondistill.stages.students.finite import bad_weight
from reasondistill.stages.students.tokens import Row, tokenise_all

log = logging.getLogger(__name__)

# What a model's folder is called until it is whole.
PART = ".part"
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")


def load_tokenizer(student: StudentSettings, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """The student's tokenizer with a chat template, an EOS that training will teach, and a pad
    token.
    """
    architecture = student.architecture
    if architecture is not None and architecture.tokenizer == "train":
        tokenizer = train_tokenizer(texts, architecture.vocab_size)
    else:
        source = student.base or ""
        if architecture is not None:
            source = architecture.tokenizer
        folder = named_folder(source)
        if folder.is_dir():
            verify_below(folder)
            source = str(folder)
        with loading(f"[students] {student.name}: the tokenizer of {source}", source):
            tokenizer = open_tokenizer(
                source, revision=student.revision, trust_remote_code=student.trust_remote_code
            )
    set_template_and_end(
        tokenizer,
        f"[students] {student.name}",
        chat_template=student.chat_template,
        options=student.template_options,
        eos_token=student.eos_token,
    )
    if tokenizer.pad_token_id is None:
        # Safe: labels are explicit, padding never hides an EOS.
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE that splits digits, so that small models can do sums; deterministic for the
    same texts.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<think>", "</think>"],
        chat_template=CHATML,
        clean_up_tokenization_spaces=False,
    )


def load_model(
    student: StudentSettings, tokenizer: PreTrainedTokenizerFast, calibration: Sequence[Row] = ()
) -> Any:
    """The untrained student in float32 master weights (bfloat16 under LoRA), its EOS and context
    set.

    `calibration` rows say what a student that is cut out of its base keeps; the same rows, the same
    model.
    """
    model = load_whole(student, tokenizer)
    if student.shrink is None:
        return model
    return shrinking.shrink(model, student.shrink, calibration)


def load_whole(student: StudentSettings, tokenizer: PreTrainedTokenizerFast) -> Any:
    """What `load_model` gives, before anything is cut out of it."""
    where = f"[students] {student.name}"
    if student.architecture is not None:
        set_seed(student.seed)
        config = scratch_config(student.architecture, tokenizer)
        attention = attention_options(config, student.attn_implementation, where)
        model = AutoModelForCausalLM.from_config(config, **attention)
    else:
        source = str(verified_folder(student.base or "") or student.base)
        config = load_config(source, student)
        set_context(config, student)
        attention = attention_options(
            config,
            student.attn_implementation,
            where,
            trust_remote_code=student.trust_remote_code,
        )
        dtype = torch.float32
        if student.lora is not None and torch.cuda.is_available():
            dtype = torch.bfloat16
        if not Path(source).is_dir():
            require_sound_snapshot(source, student.revision)
        with loading(f"{where} base = {source}:", source), only_safetensors(source):
            model = AutoModelForCausalLM.from_pretrained(
                source,
                revision=student.revision,
                config=config,
                dtype=dtype,
                trust_remote_code=student.trust_remote_code,
                use_safetensors=True,
                **attention,
            )
        require_no_methods(
            vars(model.generation_config), GenerationConfig, f"{source}: generation_config.json"
        )
    embeddings: Any = model.get_input_embeddings()
    if len(tokenizer) > embeddings.num_embeddings:
        set_seed(student.seed)  # transformers draws the new rows
        model.resize_token_embeddings(len(tokenizer))
    ends: set[int] = set()
    if student.architecture is None:
        ends = set(end_tokens(model.generation_config))
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    # The base's own end of text stays a clean stop too: a base model never emits <|im_end|>.
    end: Any = tokenizer.eos_token_id
    model.generation_config.eos_token_id = end
    if ends:
        model.generation_config.eos_token_id = sorted({*ends, end})
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config = valid_generation(model.generation_config, student.name)
    return model


def load_config(source: str, student: StudentSettings) -> Any:
    """transformers' config of a base. Raises ConfigError for one that it does not take."""
    what = f"[students] {student.name} base = {source}: its config.json"
    with loading(what, source):
        config: Any = AutoConfig.from_pretrained(
            source, revision=student.revision, trust_remote_code=student.trust_remote_code
        )
    require_no_methods(vars(config), type(config), what)
    return config


def valid_generation(given: GenerationConfig, student: str) -> GenerationConfig:
    """The generation config of a base without the values that transformers would refuse to save
    (a temperature without do_sample, say), which are named in a warning; itself where there are
    none.
    """
    if is_valid(given):
        return given
    values = given.to_diff_dict()
    kept = GenerationConfig()
    dropped: list[str] = []
    for name in sorted(values, key=lambda name: name != "do_sample"):  # others depend on it
        trial = copy.deepcopy(kept)
        setattr(trial, name, values[name])
        if is_valid(trial):
            kept = trial
        else:
            dropped.append(f"{name} = {values[name]!r}")
    log.warning(
        "%s: the base's generation_config.json is not valid; the student's is without %s",
        student,
        ", ".join(dropped),
    )
    return kept


def is_valid(generation_config: GenerationConfig) -> bool:
    """Whether transformers would save it."""
    try:
        generation_config.validate(strict=True)
    except (ValueError, TypeError, AttributeError, KeyError):  # of values that are no numbers
        return False
    return True


def require_finite(model: Any, what: str) -> None:
    """Raise ConfigError, saying `what` it is, for a model that was loaded with weights that are
    not finite.
    """
    weight = bad_weight(model)
    if weight is not None:
        raise ConfigError(
            f"{what}: its weight {weight} is not finite (NaN or infinity): a damaged copy, or one "
            "that overflowed in float16. Fetch it again, or take another."
        )


def end_tokens(generation_config: Any) -> list[int]:
    """The ids that end a text: a generation config holds none, one, or a list. Raises ConfigError
    for what is no id.
    """
    ids = generation_config.eos_token_id
    if ids is None:
        return []
    if not isinstance(ids, list):
        ids = [ids]
    ends: list[int] = []
    for end in ids:
        if isinstance(end, bool) or not isinstance(end, int):
            raise ConfigError(
                f"eos_token_id holds {str(end)[:60]!r}, in the model's generation_config.json or "
                "config.json; want the id of a token, or a list of ids."
            )
        ends.append(end)
    return ends


def untouched(
    student: StudentSettings,
    folder: Path,
    texts: Iterable[str],
    *,
    calibration: Sequence[Example] = (),
    plain: bool = False,
) -> Path:
    """Where evals find the untouched base.

    Its own folder or hub id, when it can be served as the students are. From scratch a saved random
    initialisation, of a larger model what was cut out of it, neither of them trained; where the
    students get a chat template, an EOS or a longer context that the base lacks, the same weights
    saved with these.
    """
    changed = (student.architecture, student.shrink, student.chat_template, student.eos_token)
    longer = (student.rope_theta, student.max_position_embeddings)
    is_as_served = all(setting is None for setting in (*changed, *longer))
    if is_as_served and has_template(student):
        return model_folder(student.base or "") or Path(student.base or "")
    tokenizer = load_tokenizer(student, texts)
    rows = tokenise_all(calibration, tokenizer, plain=plain).rows
    model = load_model(student, tokenizer, rows)
    if student.bf16:
        model = model.to(torch.bfloat16)
    save(model, tokenizer, folder / layout.MODEL)
    return folder / layout.MODEL


def has_template(student: StudentSettings) -> bool:
    """Whether the base's own tokenizer comes with a chat template."""
    source = str(verified_folder(student.base or "") or student.base)
    tokenizer = open_tokenizer(
        source, revision=student.revision, trust_remote_code=student.trust_remote_code
    )
    return tokenizer.chat_template is not None


def save(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    check: Callable[[Path], None] | None = None,
) -> None:
    """Write safetensors, config and tokenizer; the folder appears whole, and after `check` has
    looked at what was written, or not at all.

    Raises StageError for what the disk refuses, and for weights that are not finite.
    """
    weight = bad_weight(model)
    if weight is not None:
        raise StageError(
            f"{folder}: weight {weight} is not finite (NaN or infinity); such a model is not saved."
        )
    temporary = folder.with_name(folder.name + PART)
    with disk_errors(folder):
        _remove(temporary)  # a killed process's, perhaps with files that this model has not
        try:
            model.save_pretrained(temporary, safe_serialization=True)
            tokenizer.save_pretrained(temporary)
            for path in filter(Path.is_file, temporary.iterdir()):
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
            if check is not None:
                check(temporary)
            _remove(folder)
            temporary.rename(folder)
        finally:
            _remove(temporary)


def save_description(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write what `save` writes, but for the weights."""
    with disk_errors(folder):
        model.config.save_pretrained(folder)
        if model.can_generate():
            model.generation_config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def scratch_config(architecture: ArchitectureSettings, tokenizer: PreTrainedTokenizerFast) -> Any:
    """transformers' config of a model from scratch, its vocabulary that of the tokenizer."""
    shape = architecture.model_dump(
        exclude={"type", "tokenizer", "vocab_size", "rope_theta"}, exclude_none=True
    )
    shape.setdefault("num_key_value_heads", architecture.num_attention_heads)
    return AutoConfig.for_model(
        architecture.type,
        vocab_size=len(tokenizer),
        rope_parameters={"rope_type": "default", "rope_theta": architecture.rope_theta},
        head_dim=architecture.hidden_size // architecture.num_attention_heads,
        bos_token_id=None,
        **shape,
    )


def set_context(config: Any, student: StudentSettings) -> None:
    """Set the RoPE base and the context length that the file asks for."""
    if student.rope_theta is not None:
        if getattr(config, "rope_parameters", None):
            config.rope_parameters["rope_theta"] = student.rope_theta
        else:
            config.rope_theta = student.rope_theta
    if student.max_position_embeddings is not None:
        config.max_position_embeddings = student.max_position_embeddings
