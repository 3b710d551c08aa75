"""The fingerprint of a model folder that a stage wrote, and what a hub id's weights may be."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from reasondistill.errors import ConfigError, DataError
from reasondistill.models.weights import folder_fingerprint, named_folder, require_safetensors
from reasondistill.runs.store import Identity, finish_stage, open_stage


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The model of a finished student; its weights are large (a sparse file)."""
    student = tmp_path / "5-students" / "small"
    open_stage(student, Identity("students", 1, {}, {}))
    (student / "model").mkdir()
    (student / "model" / "config.json").write_text("{}")
    with open(student / "model" / "model.safetensors", "wb") as file:
        file.truncate(65 << 20)
    finish_stage(student, counts={"in": 1, "out": 1}, seconds=0.0)
    return student / "model"


def test_of_large_weights_only_samples_are_read(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, sizes = os.pread, [0]

    def counted(file: int, size: int, start: int) -> bytes:
        block = read(file, size, start)
        sizes.append(len(block))
        return block

    monkeypatch.setattr(os, "pread", counted)
    fingerprint = folder_fingerprint(model)
    assert sum(sizes) < 1 << 20
    shutil.copytree(model, tmp_path / "copy")
    assert folder_fingerprint(tmp_path / "copy") == fingerprint


def test_what_is_cut_or_damaged_is_named_and_no_other_model(model: Path) -> None:
    os.truncate(model / "model.safetensors", (64 << 20) + 1)
    with pytest.raises(DataError, match=r"model.safetensors: damaged: it has 67,108,865 bytes"):
        folder_fingerprint(model)
    (model / "config.json").write_text("[]")
    with pytest.raises(DataError, match="config.json: damaged"):
        folder_fingerprint(model)


@pytest.mark.parametrize(
    ("files", "is_refused"),
    [
        (["pytorch_model.bin"], True),
        (["consolidated.00.pth"], True),
        (["model.safetensors", "pytorch_model.bin"], False),
        (["onnx/model.safetensors", "pytorch_model.bin"], True),
        ([], False),
    ],
)
@pytest.mark.parametrize("is_asked", [True, False], ids=["hub", "cache"])
def test_a_hub_id_that_has_pickles_alone_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: list[str],
    is_refused: bool,
    is_asked: bool,
) -> None:
    import huggingface_hub

    class Hub:
        def model_info(self, *_: object, **__: object) -> object:
            if not is_asked:
                raise OSError("no network")
            names = [SimpleNamespace(rfilename=name) for name in ["config.json", *files]]
            return SimpleNamespace(siblings=names)

    for name in ["config.json", *files]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"{}")
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    config = str(tmp_path / "config.json")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: config)
    if is_refused:
        with pytest.raises(ConfigError, match="its weights are pickles"):
            require_safetensors("org/model", "main")
    else:
        require_safetensors("org/model", "main")


def test_a_home_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`docker run -u 1234` without HOME, or a name that begins with the sign by chance."""
    with pytest.raises(ConfigError, match="~nobody_of_this_name/m: there is no home folder"):
        named_folder("~nobody_of_this_name/m")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert named_folder("~/m") == tmp_path / "m"
