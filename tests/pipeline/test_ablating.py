"""`ablate` from the file to the sentences: real stages, real trainings of a tiny student. The
answers of the students alone are drawn: an engine takes longer to start than all of this.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import ClassVar

import pytest
from fake_run import draw_outcome, fake_trace
from tiny_model import make_tokenizer
from typer.testing import CliRunner

from reasondistill.cli.console import out
from reasondistill.cli.entry import app
from reasondistill.errors import ConfigError, DataError, DriftError, Interrupted, StageError
from reasondistill.launch import launcher as launchers
from reasondistill.launch.launcher import JobState, Launcher, Watcher
from reasondistill.models.prompts import load_prompt
from reasondistill.pipeline import Task, run_task, save_run
from reasondistill.pipeline.ablating.record import AblationRecord, read_ablation
from reasondistill.pipeline.doing import grading_pool
from reasondistill.pipeline.evaluating import cells_by_engine, prepare
from reasondistill.pipeline.runs import benchmarks
from reasondistill.records import Problem, Student
from reasondistill.runs.store import (
    Identity,
    StopSignal,
    finish_stage,
    open_stage,
    read_records,
    require_complete,
    write_records,
)
from reasondistill.stages.traces.stage import VERSION
from reasondistill.stages.traces.work import inputs_of, section_of

pytest.importorskip("torch")

FILE = """
name = "small"
[problems]
source = "file"
dataset = "problems.jsonl"

[traces]
prompt = "question"
n = 2
[[traces.teachers]]
model = "script.jsonl"
sampler = "scripted"

[examples]
validation = 0.2

[evals]
benchmarks = ["sums.toml"]

[[students]]
name = "tiny"
epochs = 3
batch_size = 2
learning_rate = 1e-3
max_length = 200
bf16 = false

[students.architecture]
hidden_size = 16
intermediate_size = 32
num_hidden_layers = 1
num_attention_heads = 1
max_position_embeddings = 256
tokenizer = "tokenizer"
"""
GOES_ON = """
[[students]]
name = "more"
base = "student:tiny"
max_steps = 50
batch_size = 2
max_length = 200
bf16 = false
"""
RIGHT = 0.5


class InThisProcess(Launcher):
    """Does the tasks here; what a model answers is drawn, and more often right where it was trained
    on right traces alone.
    """

    kind = "in-this-process"
    done: ClassVar[list[str]] = []
    stops_at: ClassVar[str] = ""
    fails_at: ClassVar[str] = ""

    def shares_engine_process(self) -> bool:
        return True

    def start(self, tasks: Sequence[Task], watcher: Watcher) -> list[JobState]:
        save_run(self.run)
        for task in tasks:
            name = f"{self.run.folder.name}/{task.name}"
            if name == self.stops_at:
                raise Interrupted("stopped")
            if name == self.fails_at:
                raise StageError("diverged")
            self.done.append(name)
            with StopSignal() as stop:
                if task.stage == "evals":
                    self.draw(task)
                run_task(self.run, task, stop)
        return []

    def draw(self, task: Task) -> None:
        """What the models answer, in the place of an engine; it is graded and put together as
        ever.
        """
        run = self.run
        with grading_pool(run) as pool:
            for benchmark in benchmarks(run):
                prepare(run, benchmark, pool)
        right = RIGHT
        if run.pipeline.examples.outcomes == ("correct",):
            right = 0.95
        for model in task.units:
            dice = random.Random(f"{run.folder.name} {model}")
            for cell in chain.from_iterable(cells_by_engine(run, model)):
                place = run.layout.benchmark(cell.benchmark.name)
                problems = list(read_records(place.problems, Problem))
                folder = cell.folder_in(run).traces_folder
                prompt = load_prompt(cell.settings.prompt)
                identity = Identity(
                    "traces",
                    VERSION,
                    section_of(cell.settings, prompt, len(problems), "default"),
                    inputs_of(cell.settings, place.problems_folder),
                )
                if open_stage(folder, identity) == "complete":
                    continue
                traces = [
                    fake_trace(problem, 0, model, draw_outcome(right, dice), dice)
                    for problem in problems
                ]
                write_records(folder / "traces.jsonl", traces)
                counts = {"in": len(problems), "out": len(traces)}
                finish_stage(folder, counts=counts, files=["traces.jsonl"], seconds=1.0)


class Elsewhere(InThisProcess):
    """Work that goes on by itself: it is done when somebody follows it."""

    kind = "elsewhere"
    is_detached = True
    sent: ClassVar[dict[Path, Sequence[Task]]] = {}

    def start(self, tasks: Sequence[Task], watcher: Watcher) -> list[JobState]:
        self.sent[self.run.folder] = tasks
        return self.states()

    def states(self) -> list[JobState]:
        if self.run.folder not in self.sent:
            return []
        return [JobState("all", "1", {"running": 1})]

    def follow(self, watcher: Watcher) -> None:
        InThisProcess.start(self, self.sent.pop(self.run.folder), watcher)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with 20 problems, a right and a wrong trace for each, and 30 problems to measure."""
    for name, first, count in (("problems", 0, 20), ("sums", 100, 30)):
        rows = [
            {"question": f"What is {i} + {i}?", "answer": str(2 * i)}
            for i in range(first, first + count)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    script = [
        {"question": f"What is {i} + {i}?", "text": f"{i} and {i}: \\boxed{{{2 * i + wrong}}}"}
        for i in range(20)
        for wrong in (0, 1)
    ]
    (tmp_path / "script.jsonl").write_text("".join(json.dumps(row) + "\n" for row in script))
    (tmp_path / "sums.toml").write_text(
        'name = "sums"\nprompt = "question"\n[problems]\nsource = "file"\ndataset = "sums.jsonl"\n'
    )
    (tmp_path / "here.toml").write_text(
        'kind = "in-this-process"\n[train]\nmicro_batch_size = 2\nthreads = 1\n'
    )
    (tmp_path / "small.toml").write_text(FILE)
    make_tokenizer().save_pretrained(tmp_path / "tokenizer")
    monkeypatch.chdir(tmp_path)
    # Tables are as wide as the terminal was when this process began.
    monkeypatch.setattr(out, "_width", 220)
    ours = [InThisProcess, Elsewhere]
    monkeypatch.setattr(launchers, "_launchers", [*launchers.known_launchers(), *ours])
    monkeypatch.setattr(Elsewhere, "sent", {})
    monkeypatch.setattr(InThisProcess, "done", [])
    monkeypatch.setattr(InThisProcess, "stops_at", "")
    monkeypatch.setattr(InThisProcess, "fails_at", "")
    return tmp_path


def ablate(*arguments: str) -> str:
    """Give the command; what it prints. Raises its errors."""
    command = ["ablate", "small.toml", "--on", "here.toml", *arguments]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def ablation(name: str = "small-ablate") -> AblationRecord:
    found = read_ablation(Path("runs", name))
    assert found is not None
    return found


def weights(*parts: str) -> bytes:
    return Path("runs", "small-ablate", *parts, "model", "model.safetensors").read_bytes()


# At which one seed takes other steps than three, of rows of 10 to 130 tokens.
TOKENS = "60525"
OUTCOMES = 'examples.outcomes=["correct"],["correct", "wrong"]'


def test_variants_share_what_is_equal_are_trained_at_equal_tokens_and_compared(place: Path) -> None:
    arguments = ["--vary", OUTCOMES, "--seeds", "2"]
    planned = ablate(*arguments, "--dry-run")
    assert "problems, traces, verdicts of outcomes-correct" in planned
    assert "known when the examples of all are there" in planned and not Path("runs").exists()

    # Stopped in the middle, the same command goes on.
    InThisProcess.stops_at = "outcomes-correct-wrong/students:tiny-seed1"
    with pytest.raises(Interrupted):
        ablate(*arguments)
    InThisProcess.stops_at = ""
    printed = ablate(*arguments)
    done = InThisProcess.done
    assert len(done) == len(set(done)), done
    stages = [name for name in done if name.split("/")[1] in ("problems", "traces", "verdicts")]
    assert stages == [f"outcomes-correct/{stage}" for stage in ("problems", "traces", "verdicts")]
    assert "outcomes-correct-wrong/examples" in done

    found = ablation()
    few, many = found.variants
    assert (few.of_rows, many.of_rows) == (16, 32)
    assert few.epochs == 3.0 and many.epochs == 1.5
    # Two traces of a problem are all but equally long.
    tokens = [*few.loss_tokens.values(), *many.loss_tokens.values()]
    assert len(tokens) == 4 and max(tokens) <= 1.01 * min(tokens)
    assert many.taken["2-traces"] == "outcomes-correct" and few.taken == {}
    assert few.teacher_tokens == many.teacher_tokens and few.teacher_tokens
    for variant in found.variants:
        student = require_complete(Path("runs/small-ablate", variant.name, "5-students/tiny-seed0"))
        assert student.figures["steps"] == variant.steps

    (rule,) = found.rules
    assert rule.word == "hurts" and rule.mean < 0 and rule.high < 0
    assert rule.baseline == 'examples.outcomes = ["correct"]' and rule.seeds == 2
    assert rule.sentence in printed and "hurts" in rule.sentence
    assert (Path("runs/small-ablate/ablation.md").read_text()).count("hurts") == 2

    before = {path: path.read_bytes() for path in Path("runs/small-ablate").glob("ablation.*")}
    again = ablate(*arguments)
    assert InThisProcess.done == done, "the second time there is nothing to do"
    assert set(again.splitlines()) <= set(printed.splitlines())
    assert {path: path.read_bytes() for path in before} == before
    told = json.loads(ablate(*arguments, "--json"))
    assert AblationRecord.model_validate(told) == found
    assert "24" in ablate(*arguments, "--dry-run")

    one, other = (f"small-ablate/{variant.name}/tiny-seed0" for variant in found.variants)
    compared = CliRunner().invoke(app, ["compare", one, other])
    assert compared.exit_code == 0 and "sums" in compared.output
    assert Path("runs/small-ablate/outcomes-correct/7-report/report.html").exists()


def test_the_same_value_twice_differs_by_its_seeds_alone(place: Path) -> None:
    ablate("--vary", "examples.k=1,1", "--seeds", "1", "--tokens", "200")
    first, again = ablation().variants
    assert again.taken["4-examples"] == first.name
    assert (first.seeds, again.seeds) == ((0,), (1000,)) and first.steps == again.steps
    assert weights("k-1", "5-students/tiny-seed0") != weights(
        "k-1.again1", "5-students/tiny-seed1000"
    )
    (rule,) = ablation().rules
    assert rule.word == "cannot be told" and "(again)" in rule.rule
    assert "One seed of each" in ablation().notes[0]
    assert "problems" in rule.sentence and "at this size" in rule.sentence

    # A new variant gets the budget that the others were trained with, not a new one.
    ablate("--vary", "examples.k=1,1,2", "--seeds", "1")
    assert ablation().tokens == 200
    with pytest.raises(DriftError, match="max_steps"):
        ablate("--vary", "examples.k=1,1", "--seeds", "1", "--tokens", "400")
    assert ablation().state == "measured" and ablation().tokens == 200


def test_what_a_student_goes_on_from_is_trained_once(place: Path) -> None:
    (place / "small.toml").write_text(FILE + GOES_ON)
    ablate("--vary", "students.1.learning_rate=1e-5,1e-2", "--seeds", "1", "--tokens", "200")
    trained = [name for name in InThisProcess.done if "/students:" in name]
    first, other = "learning_rate-1e-5", "learning_rate-1e-2"
    assert trained == [
        f"{first}/students:tiny",
        *(f"{name}/students:more-seed0" for name in (first, other)),
    ]
    assert weights(first, "5-students/tiny") == weights(other, "5-students/tiny")
    assert ablation().variants[1].taken["5-students/tiny"] == first
    made = Student.model_validate_json(
        Path("runs/small-ablate", other, "5-students/more-seed0/student.json").read_bytes()
    )
    assert made.figures is not None and made.figures.steps == ablation().variants[1].steps


def test_a_sentence_says_where_students_go_on_from_more_or_less(place: Path) -> None:
    (place / "small.toml").write_text(FILE + GOES_ON)
    ablate("--vary", OUTCOMES, "--seeds", "1", "--tokens", "200")
    few, many = ablation().variants
    assert many.tokens_before > 1.9 * few.tokens_before > 0
    (rule,) = ablation().rules
    assert rule.before_apart == pytest.approx(0.5, abs=0.03)
    assert "Not at equal tokens from the beginning" in rule.sentence


def test_where_one_variant_fails_the_others_go_on(place: Path) -> None:
    """Of three the middle one cannot be trained; the command without it compares the others."""
    rates = "students.0.learning_rate=1e-5,{}1e-3"
    arguments = ["--seeds", "1", "--tokens", "200"]
    command = ["ablate", "small.toml", "--on", "here.toml", *arguments]
    InThisProcess.fails_at = "learning_rate-1e-4/students:tiny-seed0"
    result = CliRunner().invoke(app, [*command, "--vary", rates.format("1e-4,")])
    assert isinstance(result.exception, StageError) and "diverged" in str(result.exception)
    assert "Failed: learning_rate-1e-4. The others have done this." in result.output
    assert "learning_rate-1e-3/report" in InThisProcess.done
    done = list(InThisProcess.done)
    ablate("--vary", rates.format(""), *arguments)
    assert ablation().state == "measured" and InThisProcess.done == done
    # What all need of the first is not tried by each of them again.
    InThisProcess.fails_at = "learning_rate-1e-5/problems"
    result = CliRunner().invoke(app, [*command, "--name", "anew", "--vary", rates.format("")])
    assert "Wait for them: learning_rate-1e-3." in result.output and InThisProcess.done == done


def test_more_seeds_leave_the_steps_of_trained_students_as_they_are(place: Path) -> None:
    """Rows of 10 to 130 tokens: three seeds have another mean after so many steps than one has."""
    script = [
        {"question": f"What is {i} + {i}?", "text": f"{' so' * 3 * i} \\boxed{{{2 * i}}}"}
        for i in range(20)
    ]
    (place / "script.jsonl").write_text("".join(json.dumps(row) + "\n" for row in script))
    rates = ["--vary", "students.0.learning_rate=1e-5,1e-3", "--tokens", TOKENS]

    def steps(seeds: int) -> list[int | None]:
        told = json.loads(ablate(*rates, "--seeds", str(seeds), "--dry-run", "--json"))
        return [variant.steps for variant in AblationRecord.model_validate(told).variants]

    InThisProcess.stops_at = "learning_rate-1e-5/students:tiny-seed0"
    with pytest.raises(Interrupted):
        ablate(*rates, "--seeds", "1")
    one, three = steps(1), steps(3)
    assert one != three
    for name in ("learning_rate-1e-5", "learning_rate-1e-3"):
        Path("runs/small-ablate", name, "5-students/tiny-seed0").mkdir(parents=True)
    assert steps(3) == one
    record = Path("runs/small-ablate/ablation.json")
    record.write_text(re.sub(r'"steps": ?\d+', '"steps": 0', record.read_text()))
    with pytest.raises(DataError, match=r"ablation\.json"):
        steps(3)


def test_jobs_that_go_on_by_themselves_are_sent_as_soon_as_what_they_need_is_there(
    place: Path,
) -> None:
    text = (place / "here.toml").read_text().replace("in-this-process", "elsewhere")
    (place / "here.toml").write_text(text)
    arguments = ["--vary", OUTCOMES, "--seeds", "1"]
    for _ in range(2):  # the second time the job is in the queue
        printed = ablate(*arguments)
        assert "At work, or waiting: outcomes-correct, outcomes-correct-wrong" in printed
        assert [folder.name for folder in Elsewhere.sent] == ["outcomes-correct"]
    assert json.loads(ablate(*arguments, "--json"))["state"] == "planned"
    assert "hurts" in ablate(*arguments, "--wait") and not Elsewhere.sent
    both = [name for name in InThisProcess.done if "/students:" in name]
    assert both == [
        "outcomes-correct/students:tiny-seed0",
        "outcomes-correct-wrong/students:tiny-seed0",
    ]


def test_tokens_that_whole_batches_cannot_make_equal_are_refused_by_name(place: Path) -> None:
    text = (place / "small.toml").read_text().replace("batch_size = 2", "batch_size = 12")
    (place / "small.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"cannot be made equal to 1% at --tokens 300.*batches"):
        ablate("--vary", OUTCOMES, "--seeds", "1", "--tokens", "300")
    assert not list(Path("runs/small-ablate").glob("*/5-students"))


def test_a_damaged_part_is_not_taken_over(place: Path) -> None:
    arguments = ["--vary", OUTCOMES, "--seeds", "1"]
    InThisProcess.stops_at = "outcomes-correct/examples"
    with pytest.raises(Interrupted):
        ablate(*arguments)
    traces = Path("runs/small-ablate/outcomes-correct/2-traces/traces.jsonl")
    traces.write_text(traces.read_text().replace("boxed", "faxed", 1))
    InThisProcess.stops_at = ""
    with pytest.raises(Exception, match=r"traces\.jsonl"):
        ablate(*arguments)
    assert not Path("runs/small-ablate/outcomes-correct-wrong/2-traces").exists()


def test_what_has_grown_is_taken_over_anew(place: Path) -> None:
    InThisProcess.stops_at = "outcomes-correct/students:tiny-seed0"
    arguments = ["--vary", OUTCOMES, "--seeds", "1"]
    for limit in (12, 20):
        with pytest.raises(Interrupted):
            ablate(*arguments, "--set", f"problems.limit={limit}")
        first, other = (
            Path("runs/small-ablate", name, "2-traces/traces.jsonl").read_bytes()
            for name in ("outcomes-correct", "outcomes-correct-wrong")
        )
        assert first == other and first.count(b"\n") == 2 * limit
    assert "outcomes-correct-wrong/traces" not in InThisProcess.done


def test_a_run_at_a_url_is_refused(place: Path) -> None:
    (place / "here.toml").write_text('kind = "local"\nstorage = "memory://runs"\n')
    with pytest.raises(ConfigError, match="storage = 'memory://runs': ablate copies"):
        ablate("--vary", OUTCOMES)
