"""Coverage-guided fuzzing of what reads foreign bytes; by hand, for as long as you like.

    pip install atheris
    PYTHONPATH=. python tests/fuzz/by_hand.py toml -max_total_time=600
    PYTHONPATH=. python tests/fuzz/by_hand.py reply FOLDER_FOR_THE_CORPUS

An input that makes another error than a ReasonDistillError (or a reply's Malformed, a JSON text's
ValueError) is printed and kept in the working directory; so is one that takes 25 seconds
(-timeout=25) or 2 GB. What is found becomes a row in a test before it is mended. What is there to
fuzz: the names in TARGETS.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

import atheris  # type: ignore[import-not-found]

with atheris.instrument_imports(include=["reasondistill", "tomllib", "json"]):
    from reasondistill import foreign_json, thinking
    from reasondistill.config import Cluster, Pipeline
    from reasondistill.curation.rows import open_file
    from reasondistill.errors import ReasonDistillError
    from reasondistill.models.prompts import Prompt
    from reasondistill.models.samplers.openai import refusals, replies
    from reasondistill.records import Example, Trace
    from reasondistill.runs.store import read_keys, read_manifest, read_records, read_rows
    from reasondistill.sections import apply_override, check_section, parse_toml

FOLDER = Path(mkdtemp(prefix="fuzz-"))


def toml(data: bytes) -> None:
    values = parse_toml(data.decode("utf-8", errors="replace"), "a.toml")
    for kind in (Pipeline, Cluster, Prompt):
        with suppress(ReasonDistillError):
            check_section(Path("a.toml"), kind, values)


def override(data: bytes) -> None:
    values = {"name": "a", "students": [{"name": "b"}], "traces": {"n": 1}}
    apply_override(values, data.decode("utf-8", errors="surrogateescape"))


def json(data: bytes) -> None:
    with suppress(ValueError):
        foreign_json.loads(data)


def shard(data: bytes) -> None:
    path = FOLDER / "shard.jsonl"
    path.write_bytes(data)
    for read in (
        lambda: list(read_records(path, Trace)),
        lambda: list(read_records(path, Example)),
        lambda: list(read_rows(path)),
        lambda: list(read_keys(path)),
    ):
        with suppress(ReasonDistillError):
            read()


def rows(data: bytes) -> None:
    for kind in ("jsonl", "json", "csv", "json.gz"):
        path = FOLDER / f"rows.{kind}"
        path.write_bytes(data)
        with suppress(ReasonDistillError):
            list(open_file(path, revision="", split="").rows)


def parquet(data: bytes) -> None:
    path = FOLDER / "rows.parquet"
    path.write_bytes(data)
    list(open_file(path, revision="", split="").rows)


def think(data: bytes) -> None:
    text = data.decode("utf-8", errors="replace")
    thinking.split(text)
    thinking.opened_by(text)


def reply(data: bytes) -> None:
    for kind in ("application/json", "text/event-stream"):
        with suppress(replies.Malformed):
            replies.read(kind, data)


def refusal(data: bytes) -> None:
    for status in (200, 400, 429, 500):
        refusals.refusal(status, data, lambda text: text, ("model", "messages", "seed"))


def manifest(data: bytes) -> None:
    (FOLDER / "manifest.json").write_bytes(data)
    read_manifest(FOLDER)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (*(toml, override, json, shard, rows, parquet, think, reply, refusal, manifest),)
}


def main() -> None:
    """Fuzz the named target; the other arguments are libFuzzer's."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"want one of {', '.join(TARGETS)}")
    target = TARGETS[sys.argv.pop(1)]

    def one(data: bytes) -> None:
        with suppress(ReasonDistillError):
            target(data)

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
