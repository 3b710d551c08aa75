"""`push` as a user types it: to a folder, and to a hub on loopback that speaks what the hub's own
library asks.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import TOKEN, HubServer, hub
from published_run import published_run
from test_cli import run
from warm import forking

pytest.importorskip("huggingface_hub")
pytest.importorskip("pyarrow")

CARD = "README.md"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_run(tmp_path_factory.mktemp("made") / "runs" / "made")


@pytest.fixture
def place(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "runs" / "made")
    return tmp_path


@pytest.fixture
def server() -> Iterator[HubServer]:
    with hub() as opened:
        yield opened


def push(cwd: Path, server: HubServer | str, *arguments: str, code: int = 0, **more: str) -> str:
    """Run the command, forked before the hub's library is imported, logged in to the server; what
    it prints holds no token.
    """
    url = server if isinstance(server, str) else server.url
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {
        "HF_ENDPOINT": url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(cwd / "home"),
        "HF_TOKEN": TOKEN,
        "NO_PROXY": "*",
        "COLUMNS": "200",
    }
    environment |= more
    variables = {name: value for name, value in environment.items() if value}
    done = forking().run("push", *arguments, cwd=cwd, env=variables)
    text = done.stdout + done.stderr
    assert done.returncode == code, text
    assert "Traceback" not in text and TOKEN not in text
    return text


def test_a_dry_run_lists_what_would_go_out_and_asks_nobody(place: Path, server: HubServer) -> None:
    said = push(place, server, "made", "me/small", "./out", "--dry-run", HF_TOKEN="")
    assert "To the model me/small of the hub, private where it is new" in said
    assert "model.safetensors" in said and "8 files" in said and "Nothing was sent" in said
    assert "training_args.bin" in said.partition("Stays here:")[2]
    assert server.seen == [] and not (place / "out").exists()


def test_a_student_goes_to_a_new_private_repository_and_again_only_what_is_new(
    place: Path, server: HubServer
) -> None:
    said = push(place, server, "made", "me/small", "--message", "first")
    there = server.repositories["model", "me/small"]
    assert there.private and len(there.files) == 8 and "8 files sent" in said
    weights = place / "runs" / "made" / "5-students" / "sft" / "model" / "model.safetensors"
    assert there.files["model.safetensors"] == weights.read_bytes()
    card = there.files[CARD].decode()
    assert '"me/small"' in card and "# small\n" in card
    assert not any(str(place).encode() in content for content in there.files.values())
    assert [commit["summary"] for commit in there.commits] == ["first"]
    again = push(place, server, "made", "me/small")
    assert "0 files sent, 8 were there" in again and len(there.commits) == 1


def test_an_upload_that_failed_is_gone_on_with(place: Path, server: HubServer) -> None:
    server.storage_fails = 1
    said = push(place, server, "made", "me/small", code=2)
    assert "StageError: model me/small: " in said
    sent = len(server.stored)
    server.seen.clear()
    push(place, server, "made", "me/small")
    puts = [line for line in server.seen if line.startswith("PUT")]
    assert len(puts) == 2 - sent and len(server.repositories["model", "me/small"].files) == 8


def test_a_public_repository_is_asked_for(place: Path, server: HubServer) -> None:
    push(place, server, "made", "me/small", "--public")
    there = server.repositories["model", "me/small"]
    assert not there.private
    (place / "runs" / "made" / "5-students" / "sft" / "model" / "reasondistill.json").unlink()
    said = push(place, server, "made", "me/small", code=2)
    assert "is there already, and public" in said and "--public" in said
    assert len(there.commits) == 1


@pytest.mark.parametrize(
    ("more", "status", "message"),
    [
        ({"HF_TOKEN": ""}, None, "ConfigError: me/small: there is no token for the hub"),
        ({"HF_TOKEN": "hf_wrong0123456789abc"}, None, "the hub does not know this token (401)"),
        ({"HF_HUB_OFFLINE": "1"}, None, "ConfigError: me/small: HF_HUB_OFFLINE"),
        ({}, 403, "this token may not write there (403)"),
        ({}, 404, "no such user, organisation or repository (404)"),
        ({}, 500, "the hub cannot take it now (500)"),
    ],
)
def test_what_the_hub_refuses_is_one_clear_error(
    place: Path, server: HubServer, more: dict[str, str], status: int | None, message: str
) -> None:
    server.refuses = status
    said = push(place, server, "made", "me/small", code=2, **more)
    assert message in said and "hf_wrong" not in said
    assert not server.repositories


def test_a_hub_that_nobody_reaches_is_one_clear_error(place: Path) -> None:
    said = push(place, "http://127.0.0.1:9", "made", "me/small", code=2)
    assert "StageError: model me/small: " in said and "The same command goes on" in said


def test_the_data_set_goes_out_with_its_card(workplace: Path, server: HubServer) -> None:
    run(workplace, "run", "small.toml", "--until", "examples")
    options = ("--dataset", "--license", "mit")
    push(workplace, server, "small", "me/traces", "./out", *options)
    there = server.repositories["dataset", "me/traces"].files
    assert there.keys() == {CARD, "train.parquet", "validation.parquet"}
    assert b'license: "mit"' in there[CARD] and str(workplace).encode() not in there[CARD]
    out = {path.name: path.read_bytes() for path in (workplace / "out").iterdir()}
    assert out == there
    import pyarrow.parquet as pq

    stored = workplace / "runs" / "small" / "4-examples" / "examples.jsonl"
    rows = [json.loads(line) for line in stored.read_text().splitlines()]
    table = pq.read_table(workplace / "out" / "train.parquet")
    assert table.num_rows == sum(row["split"] == "train" for row in rows)
    secret = {"MY_API_KEY": "3 + 3 = 6 is a secret of mine, not of the traces"}
    push(workplace, server, "small", "./again", *options, **secret)
    secret = {"MY_API_KEY": "What is 3 + 3?"}
    said = push(workplace, server, "small", "./third", *options, code=2, **secret)
    assert ".parquet:" in said and "holds a secret of the environment" in said
    assert not (workplace / "third").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("made", "small"), "want a repository of the hub, USER/NAME, or a folder"),
        (("made", "./out", "--dataset", "--student", "sft"), "leave out --student"),
        (("made", "./out", "--exports"), "say --dataset too"),
        (("made", "./out", "--license", "Apache 2"), "want the hub's name of a licence"),
        (("made", "./out", "--student", "nobody"), "has no student 'nobody'"),
        (("made", "runs/made/out"), "want a repository of the hub"),
        (("made", "./runs/made/out"), "lies in the run's own folder"),
        (("s3://bucket/made", "./out"), "a run at a URL"),
        (("nothing", "./out"), "there is no such run"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(
    place: Path, arguments: tuple[str, ...], message: str
) -> None:
    said = run(place, "push", *arguments, code=2)
    assert message in said and not (place / "out").exists()


def test_a_packed_run_is_unpacked_first(place: Path) -> None:
    run(place, "pack", "made", "./kept")
    assert "is a packed run, which is only read" in run(place, "push", "./kept", "./out", code=2)
    run(place, "unpack", "./kept", "back")
    said = run(place, "push", "back", "./out", code=2)
    assert "the weights are not here" in said and not (place / "out").exists()
