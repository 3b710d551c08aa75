"""Rounds from the file to the paired scores: real stages, real trainings of a tiny student. What
students answer is drawn, by what their weights are: an engine takes longer to start than all this.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fake_run import fake_trace
from test_ablating import FILE, InThisProcess
from test_ablating import place as place_of_ablations
from tiny_model import make_tiny_model
from typer.testing import CliRunner

from reasondistill.cli.entry import app
from reasondistill.cli.rounding import do_later_rounds
from reasondistill.config import Cluster, ExampleSettings, ModelSettings, load_pipeline
from reasondistill.curation.filters import Candidate, ProblemChoice
from reasondistill.errors import ConfigError, DriftError, Interrupted, StageError
from reasondistill.forecast import make_forecast
from reasondistill.launch import launcher as launchers
from reasondistill.launch.launcher import JobState, Watcher
from reasondistill.models.samplers import (
    Rendered,
    Request,
    Sampled,
    SamplerBase,
    SamplerKind,
)
from reasondistill.models.samplers.scripted import split_words
from reasondistill.models.weights import model_identity
from reasondistill.pipeline import Run, Task, load_run, remaining, save_run
from reasondistill.pipeline.rounds import Rounds
from reasondistill.records import (
    Example,
    Grade,
    Message,
    Origin,
    Problem,
    Student,
    Trace,
    Verdict,
)
from reasondistill.runs.figures import ExamplesFigures
from reasondistill.runs.growth import also_of
from reasondistill.runs.store import (
    Identity,
    Manifest,
    finish_stage,
    open_stage,
    read_records,
    require_complete,
    write_text,
)

pytest.importorskip("torch")

place = place_of_ablations
ROUNDS = f'''
[rounds]
n = 3
temperature = 1.0
sampler = "{__name__}:STUDENT"
'''
SAMPLED_BY_US = f'rounds.sampler="{__name__}:STUDENT"'
SHARED = ("1-problems/problems", "2-traces/traces", "3-verdicts/verdicts")


class PretendedStudent(SamplerBase):
    """Answers as its weights have it: of three samples one repeats the teacher, one is right in
    words of its own, one is wrong.
    """

    is_right: ClassVar[bool] = True
    asked: ClassVar[list[str]] = []

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.model = model_identity(settings.model)

    def render(self, messages: Sequence[Message], *, plain: bool) -> Rendered:
        return Rendered(tuple(messages))

    def sample(self, requests: Iterable[Request]) -> Iterator[Sampled]:
        for request in requests:
            self.asked.append(request.id)
            number = int(re.findall(r"(\d+) \+", request.rendered.messages[-1].content)[-1])
            kind = int(request.id.rpartition(":")[2]) % 3
            text = f"{number} and {number}: \\boxed{{{2 * number}}}"
            if kind == 1 and self.is_right:
                text = f"Twice {number} it is: \\boxed{{{2 * number}}}"
            elif kind == 2 or not self.is_right:
                text = f"No idea: \\boxed{{{2 * number + 7}}}"
            yield Sampled(request, split_words(text, request, 9))


STUDENT = SamplerKind(
    answers_anything=True,
    has_weights=True,
    open=lambda model, cluster, problems: PretendedStudent(model),
    identity=lambda model: model_identity(model.model),
)


class WhatIsLeft(InThisProcess):
    """Does what is left to do, as launchers do."""

    kind = "what-is-left"

    def start(self, tasks: Sequence[Task], watcher: Watcher) -> list[JobState]:
        save_run(self.run)
        return super().start(remaining(self.run, tasks), watcher)


class Away(WhatIsLeft):
    """Work that goes on by itself: it is done when somebody follows it."""

    kind = "away"
    is_detached = True
    sent: ClassVar[dict[Path, Sequence[Task]]] = {}

    def start(self, tasks: Sequence[Task], watcher: Watcher) -> list[JobState]:
        self.sent[self.run.folder] = tasks
        return self.states()

    def states(self) -> list[JobState]:
        return [JobState("all", "1", {"running": 1})] if self.run.folder in self.sent else []

    def follow(self, watcher: Watcher) -> None:
        WhatIsLeft.start(self, self.sent.pop(self.run.folder), watcher)


@pytest.fixture
def small(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with two rounds."""
    (place / "small.toml").write_text(FILE + ROUNDS)
    for kind in (WhatIsLeft, Away):
        text = (place / "here.toml").read_text().replace("in-this-process", kind.kind)
        (place / f"{kind.kind}.toml").write_text(text)
    known = [*launchers.known_launchers(), WhatIsLeft, Away]
    monkeypatch.setattr(launchers, "_launchers", known)
    monkeypatch.setattr(Away, "sent", {})
    monkeypatch.setattr(PretendedStudent, "is_right", True)
    monkeypatch.setattr(PretendedStudent, "asked", [])
    return place


def command(*arguments: str, on: str = "what-is-left.toml") -> str:
    """Run the file; what it prints. Raises its errors."""
    words = ["run", "small.toml", "--on", on, *arguments]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def show(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def lines_of(folder: Path, place: str) -> list[str]:
    return (folder / f"{place}.jsonl").read_text().splitlines()


def test_a_students_verified_samples_join_the_next_round(small: Path) -> None:
    planned = command("--dry-run", "--quiet")
    assert "3 for each problem by tiny-round-1" in planned and not Path("runs").exists()

    InThisProcess.stops_at = "small-round-2/verdicts"
    with pytest.raises(Interrupted):
        command()
    InThisProcess.stops_at = ""
    printed = command("--quiet")
    done = [name for name in InThisProcess.done if name.startswith("small-round-2/")]
    assert len(done) == len(set(done)), done
    assert "small-round-2/students:tiny" in done

    first, second = Path("runs/small"), Path("runs/small-round-2")
    # The first round's problems, traces and verdicts are there and were not made again.
    for stage in SHARED:
        assert set(lines_of(first, stage)) <= set(lines_of(second, stage))
    assert len(PretendedStudent.asked) == 60 and len(lines_of(second, SHARED[1])) == 100
    traces = list(read_records(second / "2-traces/traces.jsonl", Trace))
    assert [trace.sample for trace in traces[:5]] == [0, 1, 2, 3, 4]
    weights = model_identity("runs/small/5-students/tiny/model").rpartition("@")[2]
    own = [trace for trace in traces if trace.sample >= 2]
    assert {trace.model for trace in own} == {f"tiny-round-1@{weights}"}
    assert own[0].sampling is not None and own[0].sampling.temperature == 1.0
    assert traces[0].sampling is not None and traces[0].sampling.temperature == 0.7

    # Each right text once: the teacher's own words stay the teacher's.
    examples = list(read_records(second / "4-examples/examples.jsonl", Example))
    samples = sorted(str(example.trace_id).rpartition(":")[2] for example in examples)
    assert samples.count("0") == 20 and len(samples) == 40 and not {"1"} & set(samples)
    figures = ExamplesFigures.of(require_complete(second / "4-examples"))
    teacher, student = figures.writers
    assert (teacher.traces, teacher.correct, teacher.kept) == (40, 20, 20)
    assert (student.traces, student.correct, student.kept) == (60, 40, 20)
    assert student.of_round == 1 and student.dropped["duplicate text"] == 20
    sentence = f"tiny-round-1@{weights} (student of round 1): 20 examples of 60 traces"
    assert sentence in " ".join(show("show", "small-round-2").split())
    assert "student of round 1" in (second / "4-examples/dataset/README.md").read_text()
    assert "student of round 1" in (second / "7-report/report.md").read_text()

    card = (second / "5-students/tiny/model/README.md").read_text()
    assert f"samples of tiny-round-1@{weights}" in card
    costs = {stage.stage: stage for stage in make_forecast(load_run(second)).stages}
    assert costs["traces"].state == "done" and costs["traces"].work == "100 traces"

    # From the same base, and measured beside the student of the round before.
    report = json.loads((second / "7-report/report.json").read_text())
    pairs = {(row["model"], row["baseline"]) for row in report["differences"]}
    assert ("tiny", "tiny-round-1") in pairs
    cells = {path.parent.name for path in second.glob("6-evals/sums/*/traces")}
    assert {"tiny", "tiny-round-1"} <= cells
    old, new = (
        folder / f"6-evals/sums/{name}/traces/traces.jsonl"
        for folder, name in ((first, "tiny"), (second, "tiny-round-1"))
    )
    assert old.read_bytes() == new.read_bytes()
    assert "tiny-round-1" in printed
    assert "damaged" not in show("check", "small-round-2")

    before = list(InThisProcess.done)
    command()
    assert InThisProcess.done == before and len(PretendedStudent.asked) == 60

    # Another student of round 1 is another writer.
    for made in ("5-students", "6-evals", "7-report", "settled"):
        shutil.rmtree(first / made)
    seed = ("--set", "students.0.learning_rate=1e-2")
    with pytest.raises(DriftError, match=f"another tiny of round 1: was model@{weights}, is model"):
        command(*seed)
    assert len(lines_of(second, SHARED[1])) == 100


def test_samples_of_which_none_is_verified_make_no_round(small: Path) -> None:
    PretendedStudent.is_right = False
    told = "none of the 60 traces of tiny-round-1@.* an example .0 are correct.: 60 outcome wrong"
    with pytest.raises(StageError, match=told):
        command()
    assert not Path("runs/small-round-2/5-students").exists()
    assert Path("runs/small/7-report/report.html").exists()


def test_rounds_that_are_sent_away_come_one_after_another(small: Path) -> None:
    elsewhere = ("--runs", "other")
    printed = command(*elsewhere, on="away.toml")
    assert "Round 2 of 2 begins when all of other/small is done" in printed
    assert "  reasondistill status other/small\n" in printed
    assert not Path("other/small-round-2").exists()
    Away.sent.clear()  # cancelled
    command("--wait", *elsewhere, on="away.toml")
    assert Path("other/small-round-2/7-report/report.html").exists() and not Away.sent


def test_a_part_of_the_stages_is_asked_of_round_1_alone(small: Path) -> None:
    printed = command("--until", "problems")
    assert "Round 1 of 2 alone" in printed and not Path("runs/small-round-2").exists()


def test_several_rounds_are_no_single_document(small: Path) -> None:
    words = ["run", "small.toml", "--on", "what-is-left.toml", "--json"]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, ConfigError) and not Path("runs").exists()
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == "ConfigError" and "show RUN --json" in error["message"]


def test_nothing_is_written_through_a_link_in_a_rounds_place(place: Path) -> None:
    (place / "small.toml").write_text(FILE)
    pipeline = load_pipeline(place / "small.toml", ["rounds=2"])
    run = Run(pipeline, Cluster(), Path("runs/small"), place / "small.toml")
    rounds = Rounds.of(run)
    assert rounds is not None
    other = place / "other"
    other.mkdir(parents=True)
    (other / ".a.host.1.tmp").write_text("somebody's")
    run.folder.mkdir(parents=True)
    rounds.folder(2).symlink_to(other)
    with pytest.raises(StageError, match="small-round-2: is a link"):
        do_later_rounds(rounds, run.stages, dry_run=False, wait=False, trust=False)
    assert [path.name for path in other.iterdir()] == [".a.host.1.tmp"]


def test_who_wrote_is_unknown_where_a_manifest_says_it_in_another_form() -> None:
    for told in (["model@1"], {"1": ["model@1"]}, None):
        section = {"also": told}
        manifest = Manifest(Identity("traces", 1, section, {}).to_dict(), "", "complete")
        assert also_of(manifest, 1) == {}


SEEDS = FILE.replace("epochs = 3", "epochs = 3\nseeds = [0, 1]")


@pytest.mark.parametrize(
    ("text", "override", "said"),
    [
        (FILE, "rounds.student=tinny", "rounds.student: 'tinny' unknown. Did you mean tiny?"),
        (FILE, "rounds.student=base", "rounds.student: base is a control"),
        (SEEDS, "rounds.student=tiny", "has several seeds; name one of them: tiny-seed0, tiny-s"),
        (SEEDS, "rounds.n=2", "could be meant: tiny-seed0, tiny-seed1"),
        (FILE, "verdicts.majority=0.5", "rounds: needs gold answers"),
        (FILE, 'examples.outcomes=["correct", "wrong"]', "join only where they are verified"),
        (FILE, 'students.0.examples.teachers=["big"]', "its own would be left out"),
        (FILE, 'examples.mixture={by = "teacher", weights = {a = 1}}', "rounds.most bounds"),
        (FILE, "examples.filters.of_writer.most=2", "not beside examples.filters.of_writer"),
        (FILE, "rounds.sampler=openai", "cannot sample a student"),
        (FILE, "traces.teachers.0.name=tiny-round-1", "the name tiny-round-1 is that of a"),
    ],
)
def test_what_cannot_go_round_is_refused_by_name(
    place: Path, text: str, override: str, said: str
) -> None:
    (place / "small.toml").write_text(text + ROUNDS)
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_pipeline(place / "small.toml", [override])


def test_later_rounds_are_the_same_file_with_another_writer(place: Path) -> None:
    """Of seeds one goes round; what a round keeps of the others' samples is said by a filter."""
    (place / "small.toml").write_text(SEEDS)
    asked = ["rounds.count=3", "rounds.student=tiny-seed1", "rounds.keep_teacher=false"]
    asked += ["rounds.most=2", "examples.prompt=think", 'evals.against=["tiny"]']
    pipeline = load_pipeline(place / "small.toml", asked)
    run = Run(pipeline, Cluster(), Path("runs/small"), place / "small.toml")
    rounds = Rounds.of(run)
    assert rounds is not None and list(rounds.numbers) == [2, 3]
    with pytest.raises(StageError, match="tiny-seed1: not finished; round 2"):
        rounds.after(run, 2)
    base = make_tiny_model(place / "weights")
    for number in (1, 2):
        finish_student(rounds.folder(number) / "5-students/tiny-seed1", str(base))
    second = rounds.after(run, 2)
    third = rounds.after(second, 3).pipeline
    assert third.traces is not None
    (writer,) = third.traces.also
    assert (writer.name, writer.of_round, writer.n) == ("tiny-seed1-round-2", 2, 4)
    assert writer.prompt == "think" and third.rounds is None
    rule = {"most": 2, "only": True, "writers": ["tiny-seed1-round-2"]}
    assert third.examples.filters == {"of_writer": rule}
    assert [student.name for student in third.all_students()] == ["tiny-seed1", "base"]
    assert third.evals.against == ("tiny-seed1-round-1", "tiny-seed1-round-2")

    stored = Cluster.model_validate({"storage": "s3://bucket/runs"})
    with pytest.raises(ConfigError, match="storage"):
        Rounds.of(replace(run, cluster=stored))
    looping = load_pipeline(
        place / "small.toml",
        [*asked, "traces.loops.repeats=9", "traces.teachers.0.sampler=vllm", SAMPLED_BY_US],
    )
    with pytest.raises(ConfigError, match="loops: the sampler .*STUDENT"):
        Rounds.of(replace(run, pipeline=looping))
    thinking = load_pipeline(
        place / "small.toml",
        [*asked, "traces.thinking_budget=9", "traces.teachers.0.sampler=vllm", SAMPLED_BY_US],
    )
    with pytest.raises(ConfigError, match="thinking_budget: the sampler .*STUDENT"):
        Rounds.of(replace(run, pipeline=thinking))
    greedy = load_pipeline(place / "small.toml", [*asked, "rounds.temperature=0"])
    with pytest.raises(ConfigError, match="would be one text"):
        Rounds.of(replace(run, pipeline=greedy))
    assert Rounds.of(replace(run, pipeline=load_pipeline(place / "small.toml"))) is None
    short = load_pipeline(place / "small.toml", ["rounds=2", "students.0.seeds=[]"])
    assert short.rounds is not None and short.rounds.count == 2


def finish_student(folder: Path, weights: str) -> None:
    """A student that is there, as far as its record."""
    open_stage(folder, Identity("students", 1, {}, {}))
    student = Student(
        name=folder.name,
        method="sft",
        base="base",
        path=weights,
        examples="",
        seed=0,
        figures=None,
    )
    write_text(folder / "student.json", student.to_json())
    finish_stage(folder, counts={}, files=["student.json"], seconds=0.0)


def test_of_one_writer_only_so_many_traces_are_usable() -> None:
    dice = random.Random(0)
    problem = Problem(
        id="p",
        question="What is 2 + 2?",
        answer="4",
        origin=Origin(dataset="d", revision="1", split="train", row=0),
    )

    def reasons(**settings: Any) -> list[str | None]:
        examples = ExampleSettings(filters={"of_writer": settings})
        choice = ProblemChoice(examples)
        found: list[str | None] = []
        for sample, writer in enumerate(("big@1", "own@2", "own@2", "own@2")):
            trace = fake_trace(problem, sample, writer, "correct", dice)
            text = f"{sample} \\boxed{{4}}"
            grade = Grade(
                outcome="correct", extracted="4", layer="", reason="", grader="g", seconds=0.0
            )
            verdict = Verdict(trace_id=trace.id, problem_id="p", grade=grade)
            found.append(choice.see(Candidate(trace, verdict, text, problem)))
        return found

    beyond = "beyond 2 traces of its writer"
    assert reasons(most=2) == [None, None, None, beyond]
    assert reasons(most=2, writers=["big"]) == [None] * 4
    assert reasons(only=True, writers=["own"]) == ["by another writer", None, None, None]
