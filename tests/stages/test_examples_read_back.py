"""What the examples stage writes is read back by the libraries that want it: each run's own rows,
also of several runs in one process, and every split.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from test_examples import Run, graded

pytest.importorskip("datasets")
import datasets

from reasondistill.stages import examples

SHAPES = ("prompt_completion", "messages", "sharegpt")


@pytest.fixture(autouse=True)
def no_bars() -> Iterator[None]:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture
def runs(tmp_path: Path) -> Mapping[str, Run]:
    """Two runs whose folders have the same names below them, and other texts in them."""
    made: dict[str, Run] = {}
    for name in ("one", "two"):
        pairs = [graded(i, 0, text=f"as {name} says it: \\boxed{{{i}}}") for i in range(12)]
        run = Run(tmp_path / name, pairs)
        run.make(validation=0.3, export=list(SHAPES))
        made[name] = run
    return made


def loaded(place: Path, cache: Path, *names: str) -> Any:
    return datasets.load_dataset(str(place), *names, cache_dir=str(cache))


def test_two_data_sets_of_equal_names_give_each_runs_own_rows(
    runs: Mapping[str, Run], tmp_path: Path
) -> None:
    for name, run in runs.items():
        found = loaded(run.out / "dataset", tmp_path / "cache")
        assert set(found) == {"train", "validation"}
        texts = [row["messages"][-1]["content"] for split in found.values() for row in split]
        assert len(texts) == len(run.examples) and all(f"as {name} says it" in t for t in texts)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_the_exports_has_its_splits_and_its_own_rows(
    runs: Mapping[str, Run], tmp_path: Path, shape: str
) -> None:
    for name, run in runs.items():
        found = loaded(run.out / "exports", tmp_path / "cache", shape)
        sizes = {split: len(rows) for split, rows in found.items()}
        assert set(sizes) == {"train", "validation"}
        assert sum(sizes.values()) == len(run.examples)
        assert all(f"as {name} says it" in str(row) for row in found["train"])


def test_the_shape_that_was_asked_for_first_is_the_default(
    runs: Mapping[str, Run], tmp_path: Path
) -> None:
    found = loaded(runs["one"].out / "exports", tmp_path / "cache")
    assert found["train"].column_names == ["prompt", "completion"]


def test_files_of_one_shape_that_are_taken_elsewhere_keep_their_splits(
    runs: Mapping[str, Run], tmp_path: Path
) -> None:
    place = tmp_path / "taken"
    place.mkdir()
    for path in (runs["one"].out / "exports").glob("messages*.jsonl"):
        shutil.copy(path, place)
    assert set(loaded(place, tmp_path / "cache")) == {"train", "validation"}


def test_an_export_of_an_earlier_version_is_kept_and_found(tmp_path: Path) -> None:
    run = Run(tmp_path / "old", [graded(0, 0)])
    run.make()
    exports = run.out / "exports"
    exports.mkdir()
    (exports / "messages.jsonl").write_text('{"messages": []}\n')
    run.make(export=["messages", "sharegpt"])
    names = {path.name for path in exports.iterdir()}
    assert names == {"messages.jsonl", "sharegpt.train.jsonl", "README.md"}
    assert loaded(exports, tmp_path / "cache", "messages")["train"].num_rows == 1


def test_shapes_that_are_added_one_by_one_are_all_found_and_no_damage(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", [graded(i, 0) for i in range(4)])
    shapes: list[str] = []
    for shape in SHAPES:
        shapes.append(shape)
        run.make(export=shapes)
    manifest = run.make(export=shapes)  # its files are compared with their sums
    names = {f"exports/{shape}.train.jsonl" for shape in SHAPES}
    assert names | {"exports/README.md"} <= set(manifest.files)
    for shape in SHAPES:
        assert loaded(run.out / "exports", tmp_path / "cache", shape)["train"].num_rows == 4


def test_a_shape_is_found_whose_making_was_killed_before_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "run", [graded(0, 0)])
    run.make(export=["messages"])

    def killed(shapes: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(examples, "exports_card", killed)
        run.make(export=["messages", "sharegpt"])
    run.make(export=["messages", "sharegpt"])
    run.make()
    assert loaded(run.out / "exports", tmp_path / "cache", "sharegpt")["train"].num_rows == 1


def test_an_empty_split_that_a_kill_left_is_none(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", [graded(0, 0)])
    run.make()
    (run.out / "exports").mkdir()
    (run.out / "exports" / "messages.validation.jsonl").touch()
    run.make(export=["messages"])
    assert set(loaded(run.out / "exports", tmp_path / "cache", "messages")) == {"train"}


def test_trl_reads_the_data_set_and_its_exports(runs: Mapping[str, Run], tmp_path: Path) -> None:
    data_utils = pytest.importorskip("trl.data_utils")
    run = runs["one"]
    places = [
        loaded(run.out / "dataset", tmp_path / "cache"),
        loaded(run.out / "exports", tmp_path / "cache", "messages"),
        loaded(run.out / "exports", tmp_path / "cache", "prompt_completion"),
    ]
    for found in places:
        assert data_utils.is_conversational(found["train"][0])
    shaped = loaded(run.out / "exports", tmp_path / "cache", "sharegpt")["train"][0]
    turns = data_utils.maybe_convert_to_chatml(shaped)
    assert data_utils.is_conversational(turns)
