"""Nothing is written, cut or removed through a link in a run's folder: its maker could have laid
one to a file of whoever goes on with it. What a link leads to is read.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reasondistill.errors import DataError, StageError
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.remote.journal import Journal, Same
from reasondistill.runs.repairing import repair_run
from reasondistill.runs.store import (
    AppendedFile,
    Identity,
    Shard,
    append_line,
    append_metrics,
    finish_stage,
    list_beside,
    open_stage,
    open_to_write,
    read_manifest,
    repair_tail,
    replacing,
    require_no_links,
    require_no_links_below,
    write_text,
)

KEEP = "a day's work\n"


def command(workplace: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reasondistill", *words],
        cwd=workplace,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def victim(workplace: Path) -> Path:
    """What is worth something, beside the runs."""
    (workplace / "runs" / "small").mkdir(parents=True)
    path = workplace / "victim"
    path.write_text(KEEP)
    return path


# ---- through the command line --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (".lock", "small/.lock: is a link"),
        ("logs/problems.log", "logs/problems.log: is a link"),
    ],
)
def test_a_run_does_not_touch_what_a_file_of_its_folder_leads_to(
    workplace: Path, victim: Path, place: str, said: str
) -> None:
    link = workplace / "runs" / "small" / place
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(os.path.relpath(victim, link.parent))
    done = command(workplace, "run", "small.toml", "--until", "problems")
    assert victim.read_text() == KEEP
    printed = done.stdout + done.stderr
    assert done.returncode == 2 and said in printed and "Traceback" not in printed, printed


def test_a_run_empties_no_folder_that_one_of_its_folders_leads_to(
    workplace: Path, victim: Path
) -> None:
    first = command(workplace, "run", "small.toml", "--until", "problems")
    assert first.returncode == 0, first.stdout + first.stderr
    made = command(workplace, "run", "small.toml", "--only", "report")
    assert made.returncode == 0, made.stdout + made.stderr
    run, target = workplace / "runs" / "small", workplace / "other"
    (run / "7-report").rename(target)
    (target / "mine.jsonl").write_text(KEEP)
    (run / "7-report").symlink_to(target)
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    again = ["run", "small.toml", "--only", "report", "--set", "report.traces=3"]
    more = command(workplace, *again)
    printed = more.stdout + more.stderr
    assert more.returncode == 2 and "7-report: is a link: what it leads to is read" in printed
    assert "link the run's whole folder" in printed and "Traceback" not in printed
    after = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert after == before


def test_a_run_whose_folder_is_a_link_goes_on_there(workplace: Path, victim: Path) -> None:
    (workplace / "runs" / "small").rename(workplace / "large")
    (workplace / "runs" / "small").symlink_to(workplace / "large")
    done = command(workplace, "run", "small.toml", "--until", "problems")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (workplace / "large" / "1-problems" / "problems.jsonl").exists()


def test_a_stage_that_is_to_be_made_anew_is_not_made_where_a_link_leads(tmp_path: Path) -> None:
    large, stage = tmp_path / "large", tmp_path / "run" / "2-traces"
    identity, other = Identity("traces", 1, {"n": 1}, {}), Identity("traces", 1, {"n": 2}, {})
    open_stage(large, identity)
    write_text(large / "traces.jsonl", "{}\n")
    stage.parent.mkdir()
    stage.symlink_to(large)
    before = {path: path.read_bytes() for path in large.iterdir()}
    for wanted in (identity, other):
        with pytest.raises(StageError, match="2-traces: is a link"):
            open_stage(stage, wanted, remade=True)
        with pytest.raises(StageError, match="2-traces: is a link"):
            open_stage(stage, wanted, grows=("n",))
    assert {path: path.read_bytes() for path in large.iterdir()} == before


# ---- each way of writing -------------------------------------------------------------------------


def ways(path: Path) -> dict[str, object]:
    return {
        "append": lambda: AppendedFile(path).append(b"x\n"),
        "line": lambda: append_line(path, b"{}\n"),
        "cut": lambda: repair_tail(path),
        "open": lambda: open_to_write(path, "wb").close(),
    }


@pytest.mark.parametrize("way", ways(Path()))
def test_no_way_of_writing_follows_a_link(tmp_path: Path, way: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("no newline at its end")
    path = tmp_path / "a.jsonl"
    path.symlink_to(victim)
    with pytest.raises(StageError, match=r"a\.jsonl: is a link: .* Remove the link\."):
        ways(path)[way]()  # type: ignore[operator]
    assert victim.read_text() == "no newline at its end"


def test_what_lies_beside_a_shard_is_no_way_around(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text(KEEP)
    shard = tmp_path / "a.jsonl"
    shard.write_text("{}\n")
    for link in (list_beside(shard), tmp_path / ".remote.jsonl.short", tmp_path / "metrics.jsonl"):
        link.symlink_to(victim)
    with pytest.raises((StageError, DataError)):
        Shard(shard)
    with pytest.raises((StageError, DataError)):
        append_line(shard, b"{}\n")
    with pytest.raises((StageError, DataError)):
        append_metrics(tmp_path, step=1)
    (tmp_path / ".remote.jsonl").write_text("")
    with pytest.raises(StageError):
        Journal(tmp_path)
    (tmp_path / ".remote.jsonl").unlink()
    (tmp_path / ".remote.jsonl.short").rename(tmp_path / ".remote.jsonl")
    Journal(tmp_path)["a"] = Same((1, 2), "v")  # its file takes the place of the link
    assert victim.read_text() == KEEP


def test_a_file_that_is_replaced_takes_the_place_of_the_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text(KEEP)
    (tmp_path / "a.json").symlink_to(victim)
    write_text(tmp_path / "a.json", "{}")
    assert victim.read_text() == KEEP and not (tmp_path / "a.json").is_symlink()


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    with pytest.raises(StageError, match="a: cannot be written"):
        open_to_write(tmp_path / "a", "ab")
    with pytest.raises(StageError, match="a: is a pipe"):
        open_to_write(tmp_path / "a", "r+b")


def test_folders_of_a_run_are_no_links_wherever_the_link_leads(tmp_path: Path) -> None:
    """Into another run too, whose folder holds a run.json of its own."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    (tmp_path / "a" / "7-report").symlink_to(tmp_path / "b")
    (tmp_path / "a" / "logs").symlink_to(tmp_path / "b")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for run in ("a", "link"):
        for place in ("7-report", "7-report/x/y", "logs", "7-report/7-report"):
            with pytest.raises(StageError, match=f"{run}/(7-report|logs): is a link"):
                require_no_links(tmp_path / run / place)
        with pytest.raises(StageError), replacing(tmp_path / run / "7-report" / "report.json"):
            pass
    require_no_links(tmp_path / "link")
    require_no_links(tmp_path / "link" / "1-problems")
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["run.json"]


def test_below_a_stage_only_claims_may_be_links(tmp_path: Path) -> None:
    stage = tmp_path / "2-traces"
    claims = stage / "parts" / "attempt" / "claims"
    claims.mkdir(parents=True)
    (claims / "3").symlink_to("w7")
    (stage / "latest").symlink_to("nowhere")
    require_no_links_below(stage)
    (stage / "topk").mkdir()
    (stage / "topk" / "topk.bin").symlink_to(tmp_path / "victim")
    with pytest.raises(StageError, match=r"topk/topk\.bin: is a link"):
        require_no_links_below(stage)


def test_a_repair_leaves_alone_what_a_link_leads_to(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    large = tmp_path / "large"
    identity = Identity("problems", 1, {}, {})
    open_stage(large, identity)
    write_text(large / "problems.jsonl", "{}\n")
    finish_stage(large, counts={"in": 1, "out": 1}, seconds=0.0, files=["problems.jsonl"])
    run.path.mkdir()
    (run.path / "1-problems").symlink_to(large)
    assert open_stage(run.path / "1-problems", identity) == "complete"
    (large / "problems.jsonl").write_text("{{\n")
    (done,) = repair_run(run)
    assert not done.is_mended and "1-problems: is a link" in done.done
    assert (large / "problems.jsonl").read_text() == "{{\n"
    assert read_manifest(large) is not None
    assert json.loads((large / "manifest.json").read_text())["status"] == "complete"
