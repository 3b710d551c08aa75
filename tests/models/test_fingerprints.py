"""The fingerprint of a model folder that a stage wrote."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from reasondistill.errors import DataError
from reasondistill.models.weights import folder_fingerprint
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
