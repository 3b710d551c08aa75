"""However a command ends, it says so in one message with its exit code, and leaves nothing lying
about.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster_kit import wait_until
from test_cli import command, run
from test_pipeline import demo

from reasondistill.errors import Interrupted, StageError
from reasondistill.launch.exclusive import only_one
from reasondistill.launch.task_process import TaskProcess, begin, cancel, wait
from reasondistill.pipeline import Task, save_run
from reasondistill.runs.store import Identity, disk_error, finish_stage, open_stage, write_json

# ---- stopped -------------------------------------------------------------------------------------


def start(cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command in a group of its own, from the moment on that it answers signals: Python alone
    would not catch SIGTERM.
    """
    process = subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: catches(process.pid, signal.SIGTERM))
    return process


def catches(pid: int, number: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.15, 0.3, 0.6])
def test_a_stop_in_the_first_moments_of_a_run_is_one_line(
    workplace: Path, delay_s: float, number: signal.Signals
) -> None:
    process = start(workplace, "run", "small.toml")
    time.sleep(delay_s)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert said.startswith("Stopped") and said.count("\n") == 1


@linux_only
@pytest.mark.parametrize(
    "verb", [("show", "small"), ("compare", "small/a", "small/b"), ("forecast", "small.toml")]
)
def test_a_stop_of_any_other_verb_is_one_line(workplace: Path, verb: tuple[str, ...]) -> None:
    process = start(workplace, *verb)
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert (process.returncode, printed, said) == (130, "", "Stopped.\n")


BETWEEN_IMPORTS = """
import os, signal
from contextlib import contextmanager
from reasondistill import __main__, imports
@contextmanager
def stopped_at_the_end():
    yield
    os.kill(os.getpid(), signal.SIGTERM)
imports.no_collections = stopped_at_the_end
__main__.main()
"""


BETWEEN_TWO_HANDLERS = """
import os, signal
from reasondistill import __main__
answer = signal.signal
def stopped_before_the_next(number, handler):
    before = answer(number, handler)
    os.kill(os.getpid(), number)
    return before
signal.signal = stopped_before_the_next
__main__.main()
"""


@pytest.mark.parametrize(
    ("program", "number"),
    [(BETWEEN_TWO_HANDLERS, signal.SIGINT), (BETWEEN_IMPORTS, signal.SIGTERM)],
    ids=["handlers", "imports"],
)
def test_a_stop_between_two_lines_of_the_beginning_is_one_line(program: str, number: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "Stopped.\n")


UNWINDING = """
import sys, time
from reasondistill import __main__, cli
@cli.app.command()
def linger():
    try:
        print("at work", flush=True)
        time.sleep(60)
    finally:
        print("closed", flush=True)
sys.argv = ["reasondistill", "linger"]
__main__.main()
"""


def test_a_stop_between_imports_closes_what_is_open() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", UNWINDING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGTERM)
    printed, said = process.communicate(timeout=60)
    assert (process.returncode, printed, said) == (143, "closed\n", "Stopped.\n")


# ---- tasks that end early ------------------------------------------------------------------------


@pytest.fixture
def task(tmp_path: Path) -> Iterator[TaskProcess]:
    """A task process that has only just begun; its log holds lines of an older session."""
    job = demo(tmp_path)
    save_run(job)
    (job.folder / "logs").mkdir()
    (job.folder / "logs" / "problems.log").write_text("of an older session\n")
    handle = begin(job, Task("problems"), lambda task, line: None)
    yield handle
    handle.process.kill()


def test_a_task_killed_before_its_first_word_is_named_by_its_signal(task: TaskProcess) -> None:
    task.process.kill()
    with pytest.raises(
        StageError,
        match=r"problems crashed: SIGKILL \(out of memory, perhaps\). It had printed nothing yet.",
    ):
        wait(task)


@linux_only
def test_a_task_that_is_cancelled_while_it_imports_was_stopped(task: TaskProcess) -> None:
    wait_until(lambda: catches(task.process.pid, signal.SIGTERM))
    cancel(task)
    with pytest.raises(Interrupted):
        wait(task)


def test_a_crash_shows_what_this_session_printed_and_no_older_one(tmp_path: Path) -> None:
    job = demo(tmp_path)
    save_run(job)
    (job.folder / "logs").mkdir()
    (job.folder / "logs" / "nonsense.log").write_text("of an older session\n" * 20)
    handle = begin(job, Task("nonsense"), lambda task, line: None)
    with pytest.raises(StageError, match="KeyError: 'nonsense'") as found:
        wait(handle)
    assert "exit code 1" in str(found.value) and "older" not in str(found.value)


def test_a_training_that_is_killed_says_what_it_takes_and_what_takes_less(tmp_path: Path) -> None:
    """As the kernel does when memory is out: nobody else can say it."""
    job = demo(tmp_path)
    save_run(job)
    student = next(one for one in job.pipeline.all_students() if one.method == "sft")
    handle = begin(job, Task("students", (student.name,)), lambda task, line: None)
    handle.process.kill()
    says = (
        r"SIGKILL \(out of memory, perhaps\)(?s:.*)expected to hold about .*optimizer.*not lost. "
        r"Less is taken by: .*max_length"
    )
    with pytest.raises(StageError, match=says):
        wait(handle)


# ---- disks ---------------------------------------------------------------------------------------


def test_torch_and_safetensors_on_a_full_disk_are_one_clear_error(
    mounted: Callable[..., Path],
) -> None:
    import safetensors.torch
    import torch

    disk = mounted("size=64k")
    weights = {"weight": torch.zeros(100_000)}
    with pytest.raises(Exception, match="os error 28") as by_safetensors:
        safetensors.torch.save_file(weights, disk / "model.safetensors")
    with pytest.raises(RuntimeError) as by_torch:
        torch.save(weights, disk / "optimizer.pt")
    # What torch says depends on how far it came.
    by_stream = RuntimeError("basic_ios::clear: iostream error")
    for error in (by_safetensors.value, by_torch.value, by_stream):
        assert "a: the disk is full" in str(disk_error(error, Path("a")))


def test_what_is_no_fault_of_a_disk_is_not_taken_for_one() -> None:
    for error in (
        KeyError("x"),
        RuntimeError("CUDA error"),
        FileNotFoundError(2, "No such file"),
        StageError("No space left on device"),
    ):
        assert disk_error(error, Path("a")) is None


def test_a_model_that_does_not_fit_leaves_the_old_one_and_no_half(
    mounted: Callable[..., Path],
) -> None:
    from tiny_model import make_tiny_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from reasondistill.stages.students import bases

    disk = mounted("size=2m")
    folder = make_tiny_model(disk / "model")
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    (disk / "model.part").mkdir()
    (disk / "model.part" / "of-a-killed-process").write_bytes(b"x" * 400_000)
    bases.save(model, tokenizer, folder)
    assert not (folder / "of-a-killed-process").exists()
    room = shutil.disk_usage(disk).free
    (disk / "others").write_bytes(b"x" * (room - 200_000))
    with pytest.raises(StageError, match="model: the disk is full"):
        bases.save(model, tokenizer, folder)
    assert sorted(path.name for path in disk.iterdir()) == ["model", "others"]
    AutoModelForCausalLM.from_pretrained(folder)


def test_a_disk_that_can_hold_no_more_files_is_told_from_one_without_room(
    mounted: Callable[..., Path],
) -> None:
    disk = mounted("size=1m,nr_inodes=2")
    (disk / "last").touch()
    with pytest.raises(
        StageError, match=r"a.json: the disk is full: it can hold no more files \(inodes\)"
    ):
        write_json(disk / "a.json", {})


TRAINED = """
[[students]]
name = "a"
max_steps = 6
batch_size = 4
save_every = 2
max_length = 256
report_to = ["tensorboard"]
baselines = []
bf16 = false
lora = { r = 8, alpha = 16 }

[students.architecture]
hidden_size = 64
intermediate_size = 256
num_hidden_layers = 2
num_attention_heads = 2
vocab_size = 400

[evals.checkpoints]
count = 3
"""


@pytest.mark.slow
@pytest.mark.parametrize("room_kib", [4, 250, 800, 1_000, 1_400, 1_900, 2_300])
def test_a_full_disk_in_training_is_said_and_with_room_the_same_command_goes_on(
    workplace: Path,
    mounted: Callable[..., Path],
    room_kib: int,
) -> None:
    with open(workplace / "small.toml", "a") as file:
        file.write(TRAINED)
    disk = mounted("size=100m")
    arguments = ("run", "small.toml", "--runs", str(disk))
    run(workplace, *arguments, "--until", "examples")
    used_kib = shutil.disk_usage(disk).used // 1024
    subprocess.run(["mount", "-o", f"remount,size={used_kib + room_kib}k", str(disk)], check=True)
    said = run(workplace, *arguments, "--until", "students", code=2)
    assert re.search("the disk is (too )?full", said)
    subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
    run(workplace, *arguments, "--until", "students")
    left = [path.name for path in disk.rglob("*") if path.suffix in (".tmp", ".part")]
    assert left == []


def test_a_finished_run_that_cannot_be_written_is_shown_an_unfinished_one_refused(
    workplace: Path,
    mounted: Callable[..., Path],
) -> None:
    run(workplace, "run", "small.toml", "--only", "problems")
    runs = mounted("ro", workplace / "runs")
    assert "all is done" in run(workplace, "run", "small.toml", "--only", "problems")
    assert "complete" in run(workplace, "show", "small")
    assert "3 + 3" in run(workplace, "walk", "small", "problems/train/3")
    refused = run(workplace, "run", "small.toml", "--until", "verdicts", code=2)
    assert "not writable" in refused and "this is left to do: traces, verdicts" in refused
    assert "not writable" in run(workplace, "run", "small.toml", "--set", "name=other", code=2)
    assert sorted(path.name for path in runs.iterdir()) == ["small"]


@pytest.mark.parametrize(
    ("in_the_way", "is_folder"),
    [
        ("runs", False),
        ("runs/small", False),
        ("runs/small/.lock", True),
        ("runs/small/logs", False),
        ("runs/small/run.json", True),
        ("runs/small/1-problems", False),
    ],
)
def test_a_file_where_a_folder_goes_or_the_other_way_round_is_named(
    workplace: Path, in_the_way: str, is_folder: bool
) -> None:
    place = workplace / in_the_way
    place.parent.mkdir(parents=True, exist_ok=True)
    if is_folder:
        place.mkdir()
    else:
        place.write_text("")
    said = run(workplace, "run", "small.toml", "--only", "problems", code=2)
    assert (
        in_the_way in said and ("a folder, where a file is" if is_folder else "is a file") in said
    )


def test_a_folder_that_may_not_be_changed_is_named(workplace: Path) -> None:
    folder = workplace / "runs" / "small"
    folder.mkdir(parents=True)
    if subprocess.run(["chattr", "+i", str(folder)], capture_output=True, check=False).returncode:
        pytest.skip("no chattr here, or its file system knows no such mark")
    try:
        assert "runs/small: not writable" in run(
            workplace, "run", "small.toml", "--only", "problems", code=2
        )
    finally:
        subprocess.run(["chattr", "-i", str(folder)], check=True)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("run.json", "[]"),
        ("run.json", "{"),
        ("1-problems/manifest.json", '{"identity": {}, "fingerprint": "a", "status": "complete"}'),
        ("7-report/report.json", '{"scores": 3, "differences": []}'),
    ],
)
def test_show_names_a_file_that_is_broken(tmp_path: Path, file: str, text: str) -> None:
    job = demo(tmp_path / "runs")
    save_run(job)
    (job.folder / file).parent.mkdir(exist_ok=True)
    (job.folder / file).write_text(text)
    assert f"DataError: {job.folder / file}: not" in run(tmp_path, "show", str(job.folder), code=2)


# ---- nobody reads --------------------------------------------------------------------------------


def test_a_pipe_that_nobody_reads_ends_show_and_not_a_run(workplace: Path) -> None:
    words = " ".join(command("run", "small.toml", "--only", "problems"))
    done = subprocess.run(
        ["bash", "-c", f"{words} | head -n1"],
        cwd=workplace,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert (
        json.loads((workplace / "runs/small/1-problems/manifest.json").read_text())["status"]
        == "complete"
    )
    words = " ".join(command("show", "small"))
    done = subprocess.run(
        ["bash", "-c", f"{words} | true"],
        cwd=workplace,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""


# ---- leftovers -----------------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from reasondistill.runs.store import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("in hand", flush=True)
    time.sleep(60)
"""


def hold(path: Path) -> subprocess.Popen[str]:
    """A process in the middle of writing `path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in hand\n"
    return process


def identity() -> Identity:
    return Identity("traces", 1, {"n": 1}, {})


@pytest.mark.parametrize("next_run", ["open_stage", "only_one"])
def test_what_a_killed_writer_left_goes_with_the_next_run_and_what_is_held_stays(
    tmp_path: Path, next_run: str
) -> None:
    folder = tmp_path / "2-traces"
    open_stage(folder, identity())
    killed, living = hold(folder / "traces.jsonl"), hold(folder / "other.jsonl")
    try:
        killed.kill()
        killed.wait()
        assert len(list(folder.glob(".*.tmp"))) == 2
        if next_run == "open_stage":
            open_stage(folder, identity())
        else:
            with only_one(tmp_path):
                pass
        assert [path.name.split(".")[1] for path in folder.glob(".*.tmp")] == ["other"]
    finally:
        living.kill()
        living.wait()


def test_a_file_that_a_killed_writer_left_goes_when_the_same_is_written_again(
    tmp_path: Path,
) -> None:
    killed = hold(tmp_path / "compared.json")
    killed.kill()
    killed.wait()
    (tmp_path / ".theirs.json.7.tmp").touch()
    write_json(tmp_path / "compared.json", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".theirs.json.7.tmp",
        "compared.json",
    ]


def test_files_of_another_machine_go_when_they_are_a_day_old(tmp_path: Path) -> None:
    open_stage(tmp_path, identity())
    fresh, old = (
        tmp_path / ".traces.jsonl.elsewhere.7.tmp",
        tmp_path / ".verdicts.jsonl.elsewhere.7.tmp",
    )
    fresh.touch()
    old.touch()
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))
    open_stage(tmp_path, identity())
    assert fresh.exists() and not old.exists()


def test_what_a_worker_writes_after_its_attempt_goes_from_a_complete_stage(tmp_path: Path) -> None:
    open_stage(tmp_path, identity())
    finish_stage(tmp_path, counts={"in": 1, "out": 1}, seconds=0.0)
    (tmp_path / "parts" / "0123" / "w0-abcd").mkdir(parents=True)
    assert open_stage(tmp_path, identity()) == "complete"
    assert not (tmp_path / "parts").exists()


def test_a_training_begins_without_what_a_killed_one_left(tmp_path: Path) -> None:
    from reasondistill.stages.students import saving

    for name in ("model.part", "rollouts"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").touch()
    assert saving.start_from(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
