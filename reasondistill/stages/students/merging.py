"""An adapter that others trained, merged into its base: `python -m` this module in a process of its
own, so that its memory is given back before an engine starts. Imports torch and transformers;
imported late.

    merge(adapter)          # adapter.merged is there, whole, or not at all

What LoRA and DoRA have learnt is added by peft, as for our own students; whole weights and rows of
tokens take the place of the base's. No setting of the adapter reaches peft but numbers, and the
exact names of the modules that its weights have.
"""

from __future__ import annotations

import fcntl
import logging
import re
import shutil
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from reasondistill import foreign_json
from reasondistill.config import ModelSettings
from reasondistill.errors import ConfigError, ReasonDistillError
from reasondistill.models.adapters import (
    PLACE,
    SAID,
    Adapter,
    Lora,
    adapter_of,
    read_lora,
    require_whole_weights,
    whole_weight,
)
from reasondistill.models.loading import loading, require_no_methods
from reasondistill.models.tokenizer_files import open_tokenizer
from reasondistill.models.vocabulary import vocabulary_of
from reasondistill.models.weights import (
    ADAPTER_WEIGHTS,
    hub_commit,
    only_safetensors,
    require_sound_snapshot,
    verified_folder,
)
from reasondistill.runs.store import disk_errors, open_to_write, write_sums
from reasondistill.stages.students import adapters, bases, reloading
from reasondistill.stages.students.distilling.teacher import free_memory

log = logging.getLogger(__name__)

# Weights, and what merging and comparing need beside them.
_ROOM = 1.5
_STORED = {torch.float16, torch.bfloat16, torch.float32}


def merge(adapter: Adapter) -> None:
    """Write the merged model and then its sums, unless they are there; another process that merges
    the same is waited for.

    Raises ConfigError for an adapter that does not fit its base, and where there is no room for
    both; StageError for what the disk refuses, and for a merged model that says something else.
    """
    _require_own_place(adapter)
    with _alone(adapter.place):
        if adapter.is_merged:
            return
        lora = read_lora(adapter.folder)
        log.info("%s: is merged with its base %s", adapter.folder, adapter.base)
        tokenizer, model, dtype = _load(adapter, lora)
        _require_disk(adapter, model, dtype)
        merged = _merged(adapter, lora, model, tokenizer)
        ids = adapters.probe_ids(tokenizer)
        reloading.cast(merged, dtype)
        merged.config.dtype = dtype

        def check(written: Path) -> None:
            reloading.require_same(merged, written, ids, adapter.trust_remote_code)

        bases.save(merged, tokenizer, adapter.merged, check)
        write_sums(adapter.sums, sorted(filter(Path.is_file, adapter.merged.iterdir())))
        log.info("%s: merged, in %s", adapter.folder, adapter.merged)


# ---- where ---------------------------------------------------------------------------------------


def _require_own_place(adapter: Adapter) -> None:
    """Make the folder of the merged model. Raises ConfigError where it would lie in the adapter's
    or the base's own folder, or behind a link.
    """
    for place in (adapter.merged, adapter.place, adapter.place.parent):
        if place.is_symlink():
            raise ConfigError(f"{place}: is a link; merged models are not written through one.")
    owners = [adapter.folder.resolve()]
    if Path(adapter.base).is_dir():
        owners.append(Path(adapter.base).resolve())
    for owner in owners:
        if adapter.place.resolve().is_relative_to(owner):
            raise ConfigError(
                f"{adapter.place}: lies in {owner}, which stays as it is. Set {PLACE} to another "
                "folder."
            )
    with disk_errors(adapter.place):
        adapter.place.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def _alone(place: Path) -> Generator[None]:
    """Nobody else merges into this place meanwhile."""
    with open_to_write(place / "lock", "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except (
            OSError
        ) as error:  # a file system without locks: the folder appears whole all the same
            log.info("%s: cannot be locked (%s)", place, error.strerror)
        yield


def _require_disk(adapter: Adapter, model: Any, dtype: torch.dtype) -> None:
    needed = sum(weight.numel() for weight in model.parameters()) * dtype.itemsize
    free = shutil.disk_usage(adapter.place).free
    log.info("%s: the merged model has %.2f GiB", adapter.folder, needed / 2**30)
    if needed > free:
        raise ConfigError(
            f"model {adapter.folder}: merged with its base it has {needed / 2**30:,.1f} GiB, and "
            f"{adapter.place} has room for {free / 2**30:,.1f}. Make room, or set {PLACE} to a "
            "folder on another disk."
        )


# ---- the base ------------------------------------------------------------------------------------


def _load(adapter: Adapter, lora: Lora) -> tuple[Any, Any, torch.dtype]:
    """The tokenizer, the base with what replaces its weights, and the type in which both are kept.

    It is in float32 where there is room for it, else in bfloat16.
    """
    source = str(verified_folder(adapter.base) or adapter.base)
    revision = None
    if not Path(source).is_dir():
        revision = hub_commit(source, adapter.base_revision) or adapter.base_revision
        require_sound_snapshot(source, revision)
    what = f"model {adapter.folder}: its base {source}"
    own_code = adapter.trust_remote_code
    with loading(f"{what}: its config.json", source):
        config: Any = AutoConfig.from_pretrained(
            source, revision=revision, trust_remote_code=own_code
        )
    require_no_methods(vars(config), type(config), what)
    require_whole_weights(what, config.to_dict())  # of the hub it may just have been fetched
    with loading(what, source), torch.device("meta"):
        blank: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=own_code)
    tokenizer = _tokenizer(adapter, source, revision)
    _require_fit(adapter, lora, blank, len(tokenizer))
    stored = getattr(config, "dtype", None)
    if stored not in _STORED:
        stored = torch.float32
    count = sum(weight.numel() for weight in blank.parameters())
    dtype = torch.float32
    if free_memory(torch.device("cpu")) < count * dtype.itemsize * _ROOM:
        dtype = torch.bfloat16
    with loading(what, source), only_safetensors(source):
        model: Any = AutoModelForCausalLM.from_pretrained(
            source,
            revision=revision,
            config=config,
            dtype=dtype,
            trust_remote_code=own_code,
            use_safetensors=True,
        )
    model.generation_config = bases.valid_generation(model.generation_config, str(adapter.folder))
    return tokenizer, model.eval(), stored


def _tokenizer(adapter: Adapter, source: str, revision: str | None) -> Any:
    """The adapter's own tokenizer, which may have more tokens than the base's, or the base's."""
    where = f"model {adapter.folder}"
    with loading(f"{where}: the tokenizer of its base {source}", source):
        base: Any = open_tokenizer(
            source, revision=revision, trust_remote_code=adapter.trust_remote_code
        )
    if not adapter.has_tokenizer:
        return base
    # Nobody has said that code in an adapter's folder may run.
    with loading(f"{where}: its tokenizer", adapter.folder):
        own: Any = open_tokenizer(str(adapter.folder), revision=None, trust_remote_code=False)
    mine, theirs = vocabulary_of(own), vocabulary_of(base)
    for token, number in sorted(theirs.items(), key=lambda entry: entry[1]):
        if mine.get(token) != number:
            raise ConfigError(
                f"{where}: its tokenizer is not that of {source}: {token!r} has the id {number} "
                f"there and {mine.get(token)} here. Is this the base that it was trained on?"
            )
    return own


# ---- does it fit ---------------------------------------------------------------------------------


def _require_fit(adapter: Adapter, lora: Lora, blank: Any, vocabulary: int) -> None:
    """Raise ConfigError unless each weight of the adapter has its place in the base, whose weights
    are not loaded.
    """
    where = f"model {adapter.folder}: it was not trained on {adapter.base}, as that is here:"
    modules: dict[str, Any] = dict(blank.named_modules())
    embedding = blank.get_input_embeddings()
    rows = _rows(lora, blank)
    for module, sizes in lora.sizes.items():
        weight = getattr(modules.get(module), "weight", None)
        if weight is None:
            raise ConfigError(f"{where} it has no {module[:200]} with weights.")
        shape = tuple(weight.shape)
        if weight is embedding.weight:
            shape = (rows, *shape[1:])
        if tuple(sorted(shape)) != sizes:
            raise ConfigError(
                f"{where} {module[:200]} is {shape} there and {sizes} in the adapter."
            )
    weights: Mapping[str, Any] = dict(blank.named_parameters(remove_duplicate=False))
    for name, shape in lora.whole.items():
        wanted = weights.get(name)
        if wanted is None:
            raise ConfigError(f"{where} it has no weight {name[:200]}.")
        is_grown = wanted.shape[0] == embedding.weight.shape[0] and shape[0] == rows
        if tuple(wanted.shape) != shape and not (is_grown and tuple(wanted.shape[1:]) == shape[1:]):
            raise ConfigError(
                f"{where} {name[:200]} is {tuple(wanted.shape)} there and {shape} in the adapter."
            )
    for module, ids in lora.tokens.items():
        if not hasattr(modules.get(module), "weight"):
            raise ConfigError(f"{where} it has no {module[:200]} with weights.")
        if max(ids) >= max(rows, vocabulary):
            raise ConfigError(f"{where} the token {max(ids)} that it trains is no token.")
    if vocabulary > rows:
        trained = {number for ids in lora.tokens.values() for number in ids}
        untrained = set(range(rows, vocabulary)) - trained
        if untrained:
            raise ConfigError(
                f"{where} its tokenizer has {vocabulary:,} tokens, the base has rows for {rows:,}, "
                f"and the adapter holds none for the token {min(untrained)}."
            )


def _rows(lora: Lora, model: Any) -> int:
    """How many rows the embedding has with those that the adapter holds whole."""
    names = {module: name for name, module in model.named_modules()}
    embedding = model.get_input_embeddings()
    shape = lora.whole.get(f"{names[embedding]}.weight")
    return shape[0] if shape else embedding.weight.shape[0]


# ---- both together -------------------------------------------------------------------------------


def _merged(adapter: Adapter, lora: Lora, model: Any, tokenizer: Any) -> Any:
    from safetensors.torch import load_file

    with loading(f"model {adapter.folder}", adapter.folder):
        state = load_file(adapter.folder / ADAPTER_WEIGHTS)
    rows = max(_rows(lora, model), len(tokenizer))
    if lora.tokens or lora.whole:
        _resize(model, rows, lora)
    _untie(model, lora)
    with torch.no_grad():
        _take_whole(model, lora, state)
    if not lora.ranks:
        return model
    return adapters.merged(_adapted(adapter, lora, model, state), tokenizer)


def _resize(model: Any, rows: int, lora: Lora) -> None:
    """Give the embedding as many rows as the adapter has tokens for."""
    before = model.get_input_embeddings().weight.shape[0]
    grows = rows > before
    shrinks = rows < before and _rows(lora, model) == rows
    if grows or shrinks:
        model.resize_token_embeddings(rows, mean_resizing=False)


def _untie(model: Any, lora: Lora) -> None:
    """Give a head that is tied to its embedding weights of its own, where the adapter changes but
    one of both. Rows of tokens are changed in both.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None or head.weight is not embedding.weight:
        return
    names = {module: name for name, module in model.named_modules()}
    ends = {names[embedding], names[head]}
    changed = ends & ({name.rpartition(".")[0] for name in lora.whole} | set(lora.ranks))
    if changed:
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False


def _take_whole(model: Any, lora: Lora, state: Mapping[str, torch.Tensor]) -> None:
    """Put the adapter's whole weights, and rows of tokens, in the place of the base's."""
    weights: dict[str, Any] = dict(model.named_parameters(remove_duplicate=False))
    # Of a weight that peft has saved twice the trained one comes last.
    for key in sorted(state, key=lambda key: ".modules_to_save." in key):
        name = whole_weight(key)
        if name is not None and name in lora.whole:
            weights[name].copy_(state[key])
    for module, ids in lora.tokens.items():
        tensor = state[f"base_model.model.{module}.token_adapter.trainable_tokens_delta"]
        weights[f"{module}.weight"][list(ids)] = tensor.to(weights[f"{module}.weight"].dtype)


def _adapted(adapter: Adapter, lora: Lora, model: Any, state: Mapping[str, torch.Tensor]) -> Any:
    """The base with the adapter on it. Raises ConfigError where peft finds no place for a weight,
    or a place without one.
    """
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

    exact = {module: f"^{re.escape(module)}$" for module in lora.ranks}
    alphas: Any = {exact[module]: alpha for module, alpha in lora.alphas.items()}
    alpha: Any = lora.alpha  # peft says int, and divides it
    settings = LoraConfig(
        r=next(iter(lora.ranks.values())),
        lora_alpha=alpha,
        target_modules=list(lora.ranks),
        rank_pattern={exact[module]: rank for module, rank in lora.ranks.items()},
        alpha_pattern=alphas,
        use_dora=lora.use_dora,
        use_rslora=lora.use_rslora,
        fan_in_fan_out=lora.fan_in_fan_out,
        task_type="CAUSAL_LM",
    )
    own = {key: state[key] for key in state if "lora_" in key}
    with loading(f"model {adapter.folder}: what peft makes of it", adapter.folder):
        adapted = get_peft_model(model, settings, autocast_adapter_dtype=False)
        found = set_peft_model_state_dict(adapted, own)
    missing = [name for name in found.missing_keys if "lora_" in name]
    strangers = sorted({*found.unexpected_keys, *missing})
    if strangers:
        raise ConfigError(
            f"model {adapter.folder}: peft finds no place, or no weights, for {strangers[0][:200]}."
        )
    return adapted.eval()


# ---- a process of its own ------------------------------------------------------------------------


def main() -> int:
    """Merge the adapter of the model that stands as JSON on the standard input."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=f"{SAID}%(message)s")
    values = foreign_json.loads(sys.stdin.buffer.read())
    expected = values.pop("identity")
    try:
        adapter = adapter_of(ModelSettings.model_validate(values))
        if adapter is None or adapter.identity != expected:
            raise ConfigError(f"model {values['model']}: its files have just been changed.")
        merge(adapter)
    except ReasonDistillError as error:
        sys.stdout.write(str(error))
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
