"""An int8 copy of a finished model, in the format of compressed-tensors, which vLLM serves: weights
of Linear layers in 8 bits, one scale for each output channel, activations rounded to 8 bits token
by token while it computes (W8A8).

copy = make_int8_copy(Path("runs/demo/5-students/distilled/model"), Path("copies/distilled-int8"))
print(copy.weight_bytes, copy.kl, copy.top1)

The library is `compressed_tensors`, which comes with vLLM: its scheme, its rounding, its file
format. Weights are rounded to the nearest, symmetrically; nothing is calibrated. Embeddings, the
head (tied or not), norms and biases stay as they were. Imports transformers and torch; imported
late.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from reasondistill import foreign_json
from reasondistill.errors import ConfigError, DataError, MissingDependencyError, StageError
from reasondistill.foreign_files import read_text
from reasondistill.markdown import inline
from reasondistill.models.loading import loading, require_no_methods
from reasondistill.models.quantised import quantisation_of
from reasondistill.models.tokenizer_files import open_tokenizer
from reasondistill.models.weights import model_identity, verified_folder, weight_bytes
from reasondistill.records import Finite, Natural, Record
from reasondistill.runs import layout
from reasondistill.runs.store import disk_errors, write_json, write_text
from reasondistill.stages.students.bases import PART
from reasondistill.stages.students.distilling.teacher import free_memory
from reasondistill.stages.students.reloading import RowLogProbs, row_log_probs

log = logging.getLogger(__name__)

SCHEME = "W8A8"
# Says of what a copy was made, and how far it is from that.
RECORD = "int8.json"
# Files of the student that are copied as they are: what its tokens and its prompt depend on.
_AS_THEY_ARE = (
    *("generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template*", "vocab.*", "merges.txt", "*.model", layout.OWN_FACTS, "LICENSE*"),
)
# What both models read and go on with. A copy of sound weights differs by 0.001 to 0.02 nats.
_PROMPTS = (
    "Tom has 3 apples and buys 4 more. How many apples does Tom have now?",
    "A train goes 60 miles in an hour. How far does it go in 3 hours?",
    "What is the sum of the first ten even numbers?",
    "If 5x + 3 = 28, what is x?",
)
_WRITTEN = 48
_MOST_KL, _LEAST_TOP1 = 0.5, 0.5
# Of the weights in float32, and what is beside them while they are rounded.
_ROOM = 1.4
# Safetensors of the copy are at most as large as those of the student.
_DISK_ROOM = 1.1


class Int8Copy(Record):
    """What was made: `kl` is the mean KL(student‖copy) in nats per token and `top1` the share of
    `tokens` after which both have the same most likely token, on texts that the student wrote.
    """

    source: str
    scheme: str
    made_with: str
    source_bytes: Natural
    weight_bytes: Natural
    layers: Natural
    kept: tuple[str, ...]
    kl: Finite
    top1: Finite
    tokens: Natural


def make_int8_copy(source: Path, target: Path, *, trust_remote_code: bool = False) -> Int8Copy:
    """Write an int8 copy of the model in `source` to `target`, which appears whole and compared, or
    not at all. A whole copy of the same weights is taken as it is; what a killed command has left
    beside it (`TARGET.part`) is begun anew.

    Raises ConfigError for what is no folder of a model, is quantised already, or has parts that are
    left as they are for want of knowledge (a vision tower, experts); StageError for another folder
    in the way, for want of disk or memory, and for a copy that says something else than the
    student.
    """
    require_library()
    folder = verified_folder(str(source))
    if folder is None:
        raise ConfigError(
            f"model {source}: no such folder. An int8 copy is made of a folder: a student's, or a "
            "hub id's that you have downloaded (`hf download`)."
        )
    part = target.with_name(target.name + PART)
    require_own_place(folder, target, part)
    identity = model_identity(str(folder))
    there = earlier_copy(target, identity)
    if there is not None:
        log.info("%s: is an int8 copy of these weights already", target)
        return there
    require_plain_config(folder)
    with loading(f"model {folder}: its config.json", folder):
        config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    require_no_methods(vars(config), type(config), f"{folder}: config.json")
    dtype = config.dtype or torch.float32
    size = weight_bytes(folder)
    require_room(folder, target, size)
    with loading(f"model {folder}", folder):
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
        )
    kept = kept_modules(model, folder)
    tokenizer = open_tokenizer(str(folder), revision=None, trust_remote_code=trust_remote_code)
    rows = written_rows(model, tokenizer)
    expected = [row_log_probs(model, row) for row in rows]
    with disk_errors(target):
        if part.exists():
            log.info("%s: was left by a command that did not end; it is begun anew", part)
            shutil.rmtree(part)
        part.mkdir(parents=True)
        try:
            layers = write_rounded(model, kept, dtype, part)
            del model
            for name in _names_like(folder, _AS_THEY_ARE):
                shutil.copyfile(folder / name, part / name)
            kl, top1 = distance_of(part, rows, expected, dtype, trust_remote_code)
            copy = Int8Copy(
                source=identity,
                scheme=SCHEME,
                made_with=f"compressed-tensors {version('compressed-tensors')}",
                source_bytes=size,
                weight_bytes=weight_bytes(part),
                layers=layers,
                kept=kept,
                kl=kl,
                top1=top1,
                tokens=sum(map(len, rows)),
            )
            write_json(part / RECORD, copy.model_dump())
            write_text(part / layout.CARD, card_of(copy))
            part.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return copy


# ---- what is refused -----------------------------------------------------------------------------


def require_library() -> None:
    """Raise MissingDependencyError where compressed-tensors is not installed."""
    try:
        import compressed_tensors  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise MissingDependencyError("compressed-tensors", "vllm") from error


def require_own_place(source: Path, *paths: Path) -> None:
    """Raise StageError where one is a link, and where it lies in the model's own folder."""
    for path in paths:
        if path.is_symlink():
            raise StageError(
                f"{path}: is a link. A copy is made in a new folder: name another one, or remove "
                "the link."
            )
        if path.resolve().is_relative_to(source.resolve()):
            raise StageError(
                f"{path}: lies in {source}, which stays as it is. Name a folder beside it."
            )


def earlier_copy(target: Path, identity: str) -> Int8Copy | None:
    """The copy of these weights that `target` holds, None where nothing is there. Raises StageError
    for anything else in its place.
    """
    if not target.exists():
        return None
    found: Int8Copy | None = None
    try:
        found = Int8Copy.model_validate(foreign_json.loads(read_text(target / RECORD)))
    except (OSError, ValueError, DataError, ConfigError) as error:
        log.debug("%s: no record of an int8 copy: %s", target, error)
    size = weight_bytes(target)
    if found is not None and (found.source, found.weight_bytes) == (identity, size):
        return found
    raise StageError(
        f"{target}: is there already and is no whole int8 copy of {identity}. Nothing is "
        "overwritten: name another folder, or remove this one."
    )


def require_plain_config(folder: Path) -> None:
    """Raise ConfigError for a config of a quantised model, and for one of several models in one."""
    config: Any = foreign_json.loads(read_text(folder / "config.json"))
    if not isinstance(config, dict):
        raise ConfigError(f"model {folder}: config.json is no object.")
    values = cast("Mapping[str, Any]", config)
    quantised = quantisation_of(values)
    if quantised is not None:
        method = str(quantised.get("quant_method", "unknown"))[:40]
        raise ConfigError(
            f"model {folder}: its weights are quantised already ({method}). An int8 copy is made "
            "of the model that this one was made of."
        )
    parts = [name for name in values if name.endswith("_config") and name != "quantization_config"]
    if parts:
        raise ConfigError(
            f"model {folder}: config.json has {parts[0]}: several models in one. Which of them may "
            "be rounded is not known here; only models of text alone are copied."
        )


def require_room(folder: Path, target: Path, size: int) -> None:
    """Raise StageError where the disk or the memory has too little room."""
    place = next(parent for parent in target.absolute().parents if parent.exists())
    free = shutil.disk_usage(place).free
    if free < size * _DISK_ROOM:
        raise StageError(
            f"{target}: the copy of {folder} takes up to {size / 1e9:.1f} GB, and {place} has "
            f"{free / 1e9:.1f} GB free. Name a folder on another disk."
        )
    config: Any = foreign_json.loads(read_text(folder / "config.json"))
    name = str(config.get("dtype") or config.get("torch_dtype") or "")
    weights = size / (4 if name.endswith("float32") else 2)
    needed = 4 * weights * _ROOM
    there = free_memory(torch.device("cpu"))
    if there < needed:
        raise StageError(
            f"{folder}: is rounded in float32, which takes {needed / 1e9:.1f} GB of memory; "
            f"{there / 1e9:.1f} GB are free. A machine with more memory makes the same copy."
        )


def kept_modules(model: Any, folder: Path) -> tuple[str, ...]:
    """The Linear layers that stay as they are: the head. Raises ConfigError, naming it, for a
    weight of which we don't know whether it may be rounded.

    Weights of Linear layers are rounded, those of embeddings, and vectors (norms, biases), stay.
    """
    head = model.get_output_embeddings()
    kept: list[str] = []
    rounded = 0
    for name, module in model.named_modules():
        is_linear = isinstance(module, torch.nn.Linear)
        if "experts" in name.split("."):
            raise _unknown(folder, name, "experts of a mixture")
        for own, weight in module.named_parameters(recurse=False):
            is_known = is_linear or isinstance(module, torch.nn.Embedding) or weight.ndim < 2
            if not is_known:
                raise _unknown(folder, f"{name}.{own}", f"a weight of a {type(module).__name__}")
        if module is head and is_linear:
            kept.append(name)
        elif is_linear:
            rounded += 1
    if not rounded:
        raise ConfigError(f"model {folder}: has no Linear layer that could be rounded.")
    return tuple(kept)


def _unknown(folder: Path, name: str, what: str) -> ConfigError:
    return ConfigError(
        f"model {folder}: {name} is {what}. Whether it may be rounded, and how vLLM would read it, "
        "is not known here; only Linear layers, embeddings and vectors are. llm-compressor has "
        "recipes for such models: docs/howto/smaller.md."
    )


# ---- rounding and comparing ----------------------------------------------------------------------


def written_rows(model: Any, tokenizer: Any) -> list[list[int]]:
    """A few questions as the student is asked, each with what it writes: what both are compared on.

    Greedy, and on the CPU; where there is no chat template, the question alone.
    """
    rows: list[list[int]] = []
    for question in _PROMPTS:
        if tokenizer.chat_template is not None:
            turns = [{"role": "user", "content": question}]
            text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        else:
            ids = tokenizer(question)["input_ids"]
        rows.append(greedy(model, ids, _WRITTEN))
    return rows


@torch.no_grad()
def greedy(model: Any, ids: Sequence[int], count: int) -> list[int]:
    """The ids and so many behind them, each the most likely one; whatever it says of its own
    sampling.
    """
    row = list(ids)
    inputs, cache = torch.tensor([row]), None
    model.eval()
    for _ in range(count):
        said = model(input_ids=inputs, past_key_values=cache, use_cache=True)
        cache = said.past_key_values
        row.append(int(said.logits[0, -1].argmax()))
        inputs = torch.tensor([row[-1:]])
    return row


def write_rounded(model: Any, kept: Sequence[str], dtype: torch.dtype, folder: Path) -> int:
    """Round the model in place, which is used up, and write its weights and config; return how many
    layers were rounded. What is not rounded becomes `dtype` again, scales stay float32.
    """
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import (
        QuantizationConfig,
        apply_quantization_config,
        preset_name_to_scheme,
    )
    from compressed_tensors.quantization.utils import calculate_qparams

    scheme = preset_name_to_scheme(SCHEME, ["Linear"])
    groups: dict[str, Any] = {"group_0": scheme}
    apply_quantization_config(model, QuantizationConfig(config_groups=groups, ignore=list(kept)))
    layers = 0
    for module in rounded_modules(model):
        weight = module.weight.data
        low, high = weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
        scale, _ = calculate_qparams(low, high, module.quantization_scheme.weights)
        module.weight_scale.data = scale.to(torch.float32)
        layers += 1
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    scales = {id(module.weight_scale) for module in rounded_modules(model)}
    for tensor in model.parameters():
        if tensor.is_floating_point() and id(tensor) not in scales:
            tensor.data = tensor.data.to(dtype)
    model.config.dtype = dtype
    model.save_pretrained(folder, safe_serialization=True)
    compressor.update_config(str(folder))
    return layers


def rounded_modules(model: Any) -> Iterator[Any]:
    """The layers that the scheme was put on."""
    for module in model.modules():
        if getattr(module, "quantization_scheme", None) is not None:
            yield module


def distance_of(
    folder: Path,
    rows: Sequence[Sequence[int]],
    expected: Sequence[RowLogProbs],
    dtype: torch.dtype,
    trust_remote_code: bool,
) -> tuple[float, float]:
    """Mean KL and share of equal most likely tokens between the student and the copy that was
    written, loaded again by transformers, which rounds activations as well. Raises StageError where
    the copy is another model.
    """
    with loading(f"the copy in {folder}", folder):
        copy: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, trust_remote_code=trust_remote_code
        )
    total, same, tokens = 0.0, 0, 0
    for row, before in zip(rows, expected, strict=True):
        after = row_log_probs(copy, row)
        total += before.distance(after) * len(row)
        if before.log_probs.shape == after.log_probs.shape:
            same += int((before.log_probs.argmax(-1) == after.log_probs.argmax(-1)).sum())
        tokens += len(row)
    kl, top1 = total / tokens, same / tokens
    if not kl <= _MOST_KL or top1 < _LEAST_TOP1:
        raise StageError(
            f"{folder}: rounded to int8 it is another model: {kl:.3g} nats per token from the "
            f"student (at most {_MOST_KL:g} are taken), the same most likely token after "
            f"{100 * top1:.0f} % of {tokens}. Nothing is kept. A few very large weights in a "
            "channel do this; llm-compressor can smooth them: docs/howto/smaller.md."
        )
    return kl, top1


def card_of(copy: Int8Copy) -> str:
    """The README of a copy."""
    same = f"{100 * copy.top1:.1f}"
    return (
        "# int8 copy\n\n"
        f"* Of: {inline(copy.source)}\n"
        f"* Scheme: {copy.scheme}, {copy.layers} Linear layers; weights rounded to the nearest, "
        "a scale for each output channel, activations token by token while it computes. "
        "Embeddings, head, norms and biases are as they were.\n"
        f"* Made with: {copy.made_with}, nothing calibrated\n"
        f"* Weights: {copy.weight_bytes:,} bytes of {copy.source_bytes:,}\n"
        f"* From the student, by transformers, on {copy.tokens} tokens that it wrote: mean KL "
        f"{copy.kl:.4f} nats per token, the same most likely token after {same} %\n\n"
        "That is no score. Measure it beside the student, in the engine that will serve it.\n"
    )


def _names_like(folder: Path, patterns: Sequence[str]) -> list[str]:
    names: set[str] = set()
    for pattern in patterns:
        names.update(path.name for path in folder.glob(pattern) if path.is_file())
    return sorted(names)
