"""A data set's folder that somebody else made: it reads no file but its own, and no line without
end.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasondistill.curation.rows import open_hub
from reasondistill.errors import ConfigError, DataError

ROW = {"question": "1 + 1?", "answer": "2"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "set"
    made.mkdir()
    return made


def questions(folder: Path, *, config: str | None = None, split: str = "train") -> list[str]:
    opened = open_hub(
        folder.name,
        folder,
        config=config,
        split=split,
        revision="0" * 40,
        streaming=True,
        trust_remote_code=False,
    )
    return [str(row.fields["question"]) for row in opened.rows]


def write_card(folder: Path, head: str, name: str = "README.md") -> None:
    if name == "README.md":
        head = f"---\n{head}\n---\n# A set\n"
    (folder / name).write_text(head)


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A server in the user's network, and what it was asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/a.csv", paths
    server.shutdown()
    server.server_close()


PLACES = ["../secret.jsonl", "{outside}/secret.jsonl", "x/../../secret.jsonl", "../*.jsonl"]


@pytest.mark.parametrize("name", ["README.md", ".huggingface.yaml"])
@pytest.mark.parametrize("place", PLACES)
def test_a_card_does_not_name_files_outside(folder: Path, place: str, name: str) -> None:
    secret = folder.parent / "secret.jsonl"
    secret.write_text(json.dumps({"question": "SECRET", "answer": "1"}))
    pattern = json.dumps(place.format(outside=folder.parent))
    for data_files in (pattern, f"[{pattern}]", f"[{{split: train, path: {pattern}}}]"):
        write_card(folder, f"configs:\n- config_name: default\n  data_files: {data_files}\n", name)
        with pytest.raises(DataError, match="lead out of the data set"):
            questions(folder)


def test_a_card_names_no_folder_outside(folder: Path) -> None:
    write_card(folder, "configs:\n- config_name: default\n  data_dir: ..\n")
    with pytest.raises(DataError, match="lead out of the data set"):
        questions(folder)


@pytest.mark.parametrize("chain", ["", "zip://x.csv::", "simplecache::"])
def test_a_card_asks_no_server(
    folder: Path, asked: tuple[str, list[str]], chain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    url, paths = asked
    write_card(folder, f'configs:\n- config_name: default\n  data_files: "{chain}{url}"\n')
    with pytest.raises(DataError, match="lead out of the data set"):
        questions(folder)
    assert not paths


def test_a_link_does_not_lead_out_of_the_folder(folder: Path) -> None:
    secret = folder.parent / "secret.jsonl"
    secret.write_text(json.dumps(ROW))
    (folder / "train.jsonl").symlink_to(secret)
    with pytest.raises(DataError, match="lead out of the data set"):
        questions(folder)


def test_links_of_the_hubs_cache_lead_to_its_blobs(tmp_path: Path) -> None:
    cache = tmp_path / "datasets--me--set"
    snapshot = cache / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    (cache / "blobs" / "abc").write_text(json.dumps(ROW))
    (snapshot / "train.jsonl").symlink_to("../../blobs/abc")
    assert questions(snapshot) == ["1 + 1?"]
    (snapshot / "test.jsonl").symlink_to("../../../other")
    (tmp_path / "other").write_text(json.dumps(ROW))
    with pytest.raises(DataError, match="lead out"):
        questions(snapshot, split="test")


def test_its_own_files_are_read_wherever_the_card_has_them(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "a.jsonl").write_text(json.dumps(ROW))
    (folder / "link.jsonl").symlink_to("data/a.jsonl")
    write_card(
        folder,
        "configs:\n- config_name: main\n  data_files:\n  - split: train\n    path: ./data/*.jsonl\n"
        "- config_name: other\n  data_files: data/../link.jsonl\n",
    )
    assert questions(folder, config="main") == ["1 + 1?"]
    assert questions(folder, config="other") == ["1 + 1?"]


ALIASES = [
    "\n".join(
        ["a0: &a0 [x, x]"]
        + [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 30)]
        + ["configs: *a29"]
    ),
    "configs: &a [*a]",
    "configs:\n- data_files: " + "[" * 500 + "]" * 500,
    "configs:\n- data_files: &a {path: *a}",
]


@pytest.mark.parametrize("head", ALIASES, ids=["billions", "circle", "deep", "circle of mappings"])
def test_a_card_without_end_is_refused(folder: Path, head: str) -> None:
    (folder / "train.jsonl").write_text(json.dumps(ROW))
    write_card(folder, head)
    with pytest.raises(DataError, match=r"README\.md: (deeper|not readable)"):
        questions(folder)


def test_what_is_not_read_may_be_damaged(folder: Path) -> None:
    """A pointer of Git LFS: only one configuration was fetched."""
    for name in ("main", "other"):
        (folder / name).mkdir()
    pq.write_table(pa.Table.from_pylist([ROW]), folder / "main" / "train-0.parquet")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    (folder / "other" / "train-0.parquet").write_text(pointer)
    write_card(
        folder,
        "configs:\n- config_name: main\n  data_files: main/*\n"
        "- config_name: other\n  data_files: other/*\n",
    )
    assert questions(folder, config="main") == ["1 + 1?"]
    with pytest.raises(DataError, match=r"other/train-0\.parquet"):
        questions(folder, config="other")


def test_the_images_of_a_row_are_not_fetched(folder: Path, asked: tuple[str, list[str]]) -> None:
    url, paths = asked
    features = datasets.Features({"question": datasets.Value("string"), "x": datasets.Image()})
    rows = {"question": ["1 + 1?"], "x": [{"bytes": None, "path": url}]}
    pq.write_table(pa.table(rows, schema=features.arrow_schema), folder / "train.parquet")
    assert questions(folder) == ["1 + 1?"]
    assert not paths


def packed(folder: Path, kind: str, content: bytes) -> Path:
    path = folder / f"train.jsonl.{kind}"
    if kind == "gz":
        path.write_bytes(gzip.compress(content))
    elif kind == "bz2":
        path.write_bytes(bz2.compress(content))
    elif kind == "xz":
        path.write_bytes(lzma.compress(content))
    elif kind == "zst":
        zstandard = pytest.importorskip("zstandard")
        path.write_bytes(zstandard.ZstdCompressor().compress(content))
    else:
        path = folder / "train.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.jsonl", content)
    return path


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst", "zip"])
def test_a_packed_file_is_bounded_before_it_is_read(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = json.dumps(ROW).encode() + b"\n"
    packed(folder, kind, row * 3)
    assert questions(folder) == ["1 + 1?"] * 3
    monkeypatch.setenv("REASONDISTILL_MOST_LINE_BYTES", "100000")
    path = packed(folder, kind, row + b" " * 200_000 + row)
    with pytest.raises(DataError, match=rf"{path.name}.*:2: a line beyond 100,000 bytes"):
        questions(folder)
    monkeypatch.setenv("REASONDISTILL_MOST_BATCH_BYTES", "100000")
    path = packed(folder, kind, row * 100_000)
    with pytest.raises(DataError, match="unpack to more than 100 times"):
        questions(folder)


@pytest.mark.parametrize("name", ["train.parquet", "train.geoparquet", "train.gpq"])
def test_parquet_of_any_name_is_bounded_before_it_is_read(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.Table.from_pylist([ROW]), folder / name)
    assert questions(folder) == ["1 + 1?"]
    monkeypatch.setenv("REASONDISTILL_MOST_COLUMNS", "1")
    with pytest.raises(DataError, match=rf"{name}:1: 2 columns, beyond"):
        questions(folder)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zip"])
def test_a_damaged_packed_file_is_named(folder: Path, kind: str) -> None:
    path = packed(folder, kind, b"".join(f'{{"question": "{i}?"}}\n'.encode() for i in range(2000)))
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half : half + 40] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{path.name}: cannot be unpacked"):
        questions(folder)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zip"])
def test_a_packed_file_that_is_none_is_named(folder: Path, kind: str) -> None:
    path = packed(folder, kind, json.dumps(ROW).encode() * 1000)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises((DataError, ConfigError), match=rf"{path.name}|not a zip file"):
        questions(folder)


@pytest.mark.parametrize("name", ["train.arrow", "train.tar", "train.xml", "train.h5"])
def test_files_that_nothing_bounds_are_refused_by_their_kind(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"not even opened")
    with pytest.raises(DataError, match=r"which nothing bounds.*Parquet, JSON Lines or CSV"):
        questions(folder)
