"""A folder with a LoRA adapter, looked over before anything is loaded: what is refused by name, and
what of a stranger's settings does nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from adapter_kit import HALVES, Q, write_adapter
from pydantic import ValidationError
from test_model_folders import FOUR, header, tensor

from reasondistill.cli.measuring import with_base
from reasondistill.config import Cluster, ModelSettings
from reasondistill.errors import ConfigError, DataError
from reasondistill.models import weights
from reasondistill.models.adapters import (
    PLACE,
    adapter_of,
    config_source,
    merged_place,
    read_lora,
    tokenizer_source,
)
from reasondistill.models.samplers.opening import open_sampler
from reasondistill.models.weights import made_for
from reasondistill.records import name_and_revision
from reasondistill.runs.store import write_sums


def adapter(folder: Path, shapes: dict[str, list[int]] | None = None, **config: Any) -> Path:
    named = {"base_model_name_or_path": str(base(folder.parent))} | config
    return write_adapter(folder, "", shapes, **named)


def base(above: Path, **config: Any) -> Path:
    folder = above / "base"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(header(tensor([1]), FOUR))
    return folder


def settings(folder: Path, **keys: Any) -> ModelSettings:
    return ModelSettings(model=str(folder), **keys)


def test_an_adapter_is_known_by_what_it_and_its_base_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLACE, str(tmp_path / "place"))
    model = settings(adapter(tmp_path / "mine"))
    first = adapter_of(model)
    assert first is not None
    assert first.identity.startswith("mine@")
    assert first.place.parent == merged_place() and not first.is_merged
    adapter(tmp_path / "mine", lora_alpha=2)
    second = adapter_of(model)
    assert second is not None and second.identity != first.identity
    base(tmp_path, hidden_size=8)
    third = adapter_of(model)
    assert third is not None
    assert len({first.identity, second.identity, third.identity}) == 3
    assert len({first.place, second.place, third.place}) == 3
    assert config_source(model).model == tokenizer_source(model).model == str(tmp_path / "base")
    (tmp_path / "mine" / "tokenizer_config.json").write_text("{}")
    assert tokenizer_source(model).model == str(tmp_path / "mine")
    assert made_for(model.model) is None
    (tmp_path / "mine" / "reasondistill.json").write_text('{"prompt": "think"}')
    assert made_for(model.model) == "think"


@pytest.mark.parametrize("part", ["tokenizer.json", "tokenizer.model", "vocab.json"])
def test_a_part_of_a_tokenizer_is_refused_and_not_replaced_by_the_base_s(
    tmp_path: Path, part: str
) -> None:
    folder = adapter(tmp_path / "mine")
    (folder / part).write_text("{}")
    with pytest.raises(ConfigError, match=f"brings {part} and no tokenizer_config.json"):
        adapter_of(settings(folder))
    (folder / "tokenizer_config.json").write_text("{}")
    assert adapter_of(settings(folder)) is not None


def test_models_scripts_and_servers_names_are_no_adapters(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "mine")
    assert adapter_of(settings(base(tmp_path))) is None
    assert adapter_of(settings(folder, sampler="openai")) is None
    with pytest.raises(ConfigError, match="is for a LoRA adapter, and this is none"):
        adapter_of(settings(tmp_path / "base", base="x/y"))


def test_an_adapter_of_the_hub_is_known_by_its_id_and_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants: Any = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    commit = "a1" * 20
    repository = tmp_path / "hub" / "models--me--lora"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    write_adapter(repository / "snapshots" / commit, str(base(tmp_path)))
    found = adapter_of(ModelSettings(model="me/lora"))
    assert found is not None and found.identity.startswith(f"me/lora@{commit}+base@")
    assert config_source(ModelSettings(model="me/lora")).model == str(tmp_path / "base")
    assert adapter_of(ModelSettings(model="me/other")) is None


def test_a_newer_adapter_on_the_hub_than_the_one_at_hand_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub: Any = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    old, new = "a1" * 20, "b2" * 20
    repository = tmp_path / "hub" / "models--me--newer"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(old)
    for commit in (old, new):
        write_adapter(repository / "snapshots" / commit, str(base(tmp_path)))
    files = {"adapter_config.json", "adapter_model.safetensors"}
    monkeypatch.setattr(weights, "hub_commit", lambda model, revision: new)
    monkeypatch.setattr(weights, "hub_files", lambda model, revision: files)
    fetched = str(repository / "snapshots" / new)
    monkeypatch.setattr(hub, "snapshot_download", lambda model, **_: fetched)
    model = ModelSettings(model="me/newer")
    newest, at_hand = adapter_of(model), adapter_of(model, asks_hub=False)
    assert newest is not None and newest.folder.name == new
    assert at_hand is not None and at_hand.folder.name == old
    name, revision = name_and_revision(newest.identity)
    assert name == "me/newer" and revision.startswith(f"{new}+base@")


def test_code_runs_of_no_base_that_only_the_adapter_names(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "mine")
    with pytest.raises(ConfigError, match="Name the base that you trust as `base`"):
        adapter_of(settings(folder, trust_remote_code=True))
    named = adapter_of(settings(folder, trust_remote_code=True, base=str(tmp_path / "base")))
    assert named is not None and named.trust_remote_code


def test_a_base_has_no_effect_on_a_server_and_is_refused_there(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="base: .*loads no weights: nothing is merged"):
        ModelSettings(model="served", sampler="openai", base="x/y")


def test_a_merged_model_that_was_damaged_says_what_to_delete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLACE, str(tmp_path / "place"))
    model = settings(adapter(tmp_path / "mine"))
    found = adapter_of(model)
    assert found is not None
    found.merged.mkdir(parents=True)
    (found.merged / "config.json").write_text("{}")
    write_sums(found.sums, [found.merged / "config.json"])
    (found.merged / "config.json").write_text("{ }")
    with pytest.raises(DataError, match=r"the merged model of .*mine: delete .*place.*made anew"):
        open_sampler(model, Cluster(), [])


def test_a_base_that_the_user_names_stands_above_the_adapters_own(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "mine", base_model_name_or_path="https://evil.example/model")
    found = adapter_of(settings(folder, base=str(base(tmp_path))))
    assert found is not None and found.base == str(tmp_path / "base")
    on_hub = adapter_of(settings(folder, base="nobody/nothing@abc"))
    assert on_hub is not None and (on_hub.base, on_hub.base_revision) == ("nobody/nothing", "abc")
    models = [{"model": str(folder)}, {"model": str(tmp_path / "base")}]
    assert with_base(models, "x/y") == [{"model": str(folder), "base": "x/y"}, models[1]]
    with pytest.raises(ConfigError, match="--base x/y: none of the models is a LoRA adapter"):
        with_base(models[1:], "x/y")


@pytest.mark.parametrize(
    "name",
    ["../base", "a/..", "~/base", "https://evil.example/m", "C:\\m", "a/b/c", "", "x" * 5000, 7],
)
def test_a_base_is_a_hub_id_or_a_whole_path(tmp_path: Path, name: Any) -> None:
    folder = adapter(tmp_path / "mine", base_model_name_or_path=name)
    with pytest.raises(ConfigError, match=r"adapter_config.json: .*Say which model it was trained"):
        adapter_of(settings(folder))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "peft_type = 'PROMPT_TUNING': only LORA"),
        ({"peft_type": "IA3"}, "peft_type = 'IA3': only LORA"),
        ({"peft_type": None}, "peft_type = None: only LORA"),
        ({"task_type": "SEQ_CLS"}, "task_type = 'SEQ_CLS'"),
        ({"bias": "all"}, "bias = 'all'"),
        ({"init_lora_weights": "pissa"}, "takes weights out of the base"),
        ({"target_parameters": ["mlp.experts.down_proj"]}, "target_parameters = .* is not known"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"something_new": 1}, "something_new = 1 is not known here"),
        ({"use_dora": "yes"}, "use_dora = 'yes': want true or false"),
        ({"use_dora": True}, "DoRA magnitudes are not those of use_dora = True"),
        ({"lora_alpha": "8"}, "lora_alpha = '8': want a number"),
        ({"lora_alpha": float("nan")}, "lora_alpha|broken|NaN"),
        ({"lora_alpha": 10**400}, "lora_alpha"),
        ({"alpha_pattern": {"(a+)+$": 4}}, "has the pattern"),
        ({"alpha_pattern": ["q_proj"]}, "alpha_pattern = .*: want a table"),
    ],
)
def test_what_is_not_known_is_refused_by_name(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        adapter_of(settings(adapter(tmp_path / "mine", **config)))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({f"{Q}.prompt_embeddings": [1, 1]}, "is nothing that LoRA trains"),
        ({"q_proj.lora_A.weight": [1, 1]}, "is nothing that LoRA trains"),
        ({f"{Q}(a+)+.lora_A.weight": [1, 1]}, "is nothing that LoRA trains"),
        ({f"{Q}.lora_A.weight": [1, 1]}, "has one part of two"),
        (HALVES | {f"{Q}.lora_B.weight": [1, 2]}, "the two parts of .* do not fit"),
        ({f"{Q}.lora_A.weight": [1], f"{Q}.lora_B.weight": [1]}, "want a matrix"),
        (HALVES | {f"{Q}.lora_magnitude_vector": [1]}, "DoRA magnitudes"),
        (
            {"base_model.model.e.token_adapter.trainable_tokens_delta": [2, 1]},
            "does not say which tokens",
        ),
    ],
)
def test_weights_that_are_not_what_peft_writes_are_refused(
    tmp_path: Path, shapes: dict[str, list[int]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_lora(adapter(tmp_path / "mine", shapes))


def test_patterns_of_a_stranger_are_never_tried_and_his_code_is_nobodys(tmp_path: Path) -> None:
    blows_up = "(([a-z_.0-9])+)+!"
    folder = adapter(
        tmp_path / "mine",
        target_modules=blows_up,
        exclude_modules=blows_up,
        rank_pattern={blows_up: 3},
        auto_mapping={"base_model_class": "Evil", "parent_library": "evil"},
        lora_alpha=4,
        alpha_pattern={"self_attn.q_proj": 6},
    )
    (folder / "evil.py").write_text("raise SystemExit")
    lora = read_lora(folder)
    module = Q.removeprefix("base_model.model.")
    assert lora.ranks == {module: 1} and (lora.alpha, lora.alphas) == (4.0, {module: 6.0})


def pickle_alone(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def no_weights(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()


def cut_weights(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


def large_json(folder: Path) -> None:
    with open(folder / "adapter_config.json", "ab") as file:
        file.truncate(1 << 30)


def deep_json(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": ' + "[" * 50_000)


def link_out(folder: Path) -> None:
    (folder.parent / "secret").write_text("{}")
    (folder / "adapter_config.json").unlink()
    (folder / "adapter_config.json").symlink_to(folder.parent / "secret")


def quantised_base(folder: Path) -> None:
    base(folder.parent, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})


def base_is_an_adapter(folder: Path) -> None:
    adapter(folder, base_model_name_or_path=str(adapter(folder.parent / "other")))


def base_is_gone(folder: Path) -> None:
    adapter(folder, base_model_name_or_path=str(folder.parent / "gone"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (pickle_alone, "its weights are a pickle"),
        (no_weights, "has no adapter_model.safetensors"),
        (cut_weights, "not a safetensors file"),
        (large_json, "larger than"),
        (deep_json, "adapter_config.json"),
        (link_out, "is a link to"),
        (quantised_base, r"is quantised \(bitsandbytes\)"),
        (base_is_an_adapter, "is an adapter itself"),
        (base_is_gone, "is not on this machine"),
    ],
)
def test_folders_that_cannot_be_merged_are_refused_by_name(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    folder = adapter(tmp_path / "mine")
    spoil(folder)
    with pytest.raises(ConfigError, match=message):
        adapter_of(settings(folder))
