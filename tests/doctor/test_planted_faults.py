"""Faults that cost GPU-hours, planted one by one: each is found by its name, and a run without them
raises no alarm.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_tokenizers import CHATML as CUTS_REASONING
from faulty_server import FaultyServer
from test_templates import GEMMA_2, QWEN3_5
from tiny_model import make_tiny_model, make_tokenizer

from reasondistill.checks import COSTS, Advice, Finding, all_checks
from reasondistill.cli import console, doctoring
from reasondistill.config import Cluster, make_pipeline
from reasondistill.doctor import batches_in, examine, subjects
from reasondistill.doctor.subjects import student_cases
from reasondistill.pipeline import Run
from reasondistill.pipeline.preflight import revisions_are_pinned
from reasondistill.records import Example, Message, SuspectGold
from reasondistill.runs.store import Identity, finish_stage, open_stage, write_records
from reasondistill.stages.students.batch import Batch, batch_of

pytest.importorskip("torch")

ENDS_OTHERWISE = {"eos_token": "<|endoftext|>"}
SHOTS = '[[few_shot]]\nquestion = "1 + 1?"\nanswer = "<think>\\n1 + 1 = 2\\n</think>\\n\\n2"\n'
HUGE = {
    "hidden_size": 16384,
    "intermediate_size": 65536,
    "num_hidden_layers": 400,
    "num_attention_heads": 128,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


class Models:
    """Tiny models, each made once: one that is right, and others with one fault each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sound = make_tiny_model(folder / "sound")

    def changed(self, name: str, change: Callable[[Path], None]) -> Path:
        place = self.folder / name
        if not place.exists():
            shutil.copytree(self.sound, place)
            change(place)
        return place

    def with_template(self, name: str, template: str) -> Path:
        def change(place: Path) -> None:
            tokenizer = make_tokenizer()
            tokenizer.chat_template = template
            tokenizer.save_pretrained(place)

        return self.changed(name, change)

    def ends_otherwise(self) -> Path:
        """Its texts end with <|endoftext|>, its template's turns with <|im_end|>."""

        def change(place: Path) -> None:
            tokenizer = make_tokenizer()
            tokenizer.eos_token = "<|endoftext|>"
            tokenizer.save_pretrained(place)
            for file in ("generation_config.json", "config.json"):
                values = json.loads((place / file).read_text())
                values["eos_token_id"] = tokenizer.eos_token_id
                (place / file).write_text(json.dumps(values))

        return self.changed("ends-otherwise", change)

    def other_tokens(self) -> Path:
        def change(place: Path) -> None:
            from chat_tokenizers import llama3

            llama3().save_pretrained(place)

        return self.changed("other-tokens", change)

    def cuts_reasoning(self) -> Path:
        """Its tags of reasoning are no tokens, and its template cuts them out of earlier turns."""

        def change(place: Path) -> None:
            from chat_tokenizers import llama3

            tokenizer = llama3()
            tokenizer.chat_template = CUTS_REASONING
            tokenizer.save_pretrained(place)

        return self.changed("cuts-reasoning", change)

    def loses_case(self) -> Path:
        """Its tokenizer gives no capital letter back."""

        def change(place: Path) -> None:
            from tokenizers import normalizers

            tokenizer = make_tokenizer()
            tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
            tokenizer.save_pretrained(place)

        return self.changed("loses-case", change)

    def torn(self) -> Path:
        def change(place: Path) -> None:
            weights = place / "model.safetensors"
            weights.write_bytes(weights.read_bytes()[:-7])

        return self.changed("torn", change)

    def not_finite(self) -> Path:
        def change(place: Path) -> None:
            import torch
            from transformers import AutoModelForCausalLM

            model = AutoModelForCausalLM.from_pretrained(place)
            with torch.no_grad():
                model.get_input_embeddings().weight[0, 0] = float("nan")
            model.save_pretrained(place)

        return self.changed("not-finite", change)

    def unknown_head(self) -> Path:
        """A configuration by whose key other families scale their logits, and this one does not."""

        def change(place: Path) -> None:
            config = json.loads((place / "config.json").read_text())
            (place / "config.json").write_text(json.dumps(config | {"logit_scale": 0.3}))

        return self.changed("unknown-head", change)

    def leaky(self) -> Path:
        from architectures import save_architecture

        place = self.folder / "leaky"
        return place if place.exists() else save_architecture("mamba2", place)


class Planted:
    """The parts of a run, to be made wrong."""

    def __init__(self, folder: Path, models: Models) -> None:
        self.folder, self.models = folder, models
        self.values: dict[str, Any] = {
            "name": "small",
            "problems": {
                "source": "file",
                "dataset": str(folder / "rows.jsonl"),
                "name": "mine",
            },
            "traces": {
                "prompt": "question",
                "n": 2,
                "max_tokens": 100,
                "teachers": [{"model": str(models.sound)}],
            },
            "students": [self.student(base=str(models.sound))],
            "evals": {"benchmarks": [str(folder / "sums.toml")], "teacher": False},
        }
        self.cluster: dict[str, Any] = {}
        self.rows([("Tom has 3 apples and buys 4 more. How many?", "7"), ("6 + 7?", "13")])
        self.benchmark("What is 20 + 22, if 3 more are taken away and 4 are given back?", "43")

    @staticmethod
    def student(**changes: Any) -> dict[str, Any]:
        usual = {"name": "s", "max_length": 400, "batch_size": 4, "baselines": [], "bf16": False}
        return usual | changes

    def rows(self, rows: list[tuple[str, str]]) -> None:
        lines = [json.dumps({"question": question, "answer": answer}) for question, answer in rows]
        (self.folder / "rows.jsonl").write_text("\n".join(lines) + "\n")

    def benchmark(self, question: str, answer: str) -> None:
        (self.folder / "sums.jsonl").write_text(
            json.dumps({"question": question, "answer": answer}) + "\n"
        )
        (self.folder / "sums.toml").write_text(
            'name = "sums"\nabout = "sums"\nlicence = "Apache-2.0"\nn = 1\nprompt = "question"\n'
            'answer_kind = "integer"\n[problems]\nsource = "file"\ndataset = "sums.jsonl"\n'
        )

    def prompt(self, text: str, name: str = "asked") -> str:
        file = self.folder / f"{name}.toml"
        file.write_text(f'about = "p"\nuser = "{{question}}"\n{text}')
        return str(file)

    def finished(self, stage: str, **counts: int) -> Path:
        """A stage that stands finished in the run's folder."""
        folder = self.run().stage(stage)
        open_stage(folder, Identity(stage, 1, {}, {}))
        if stage == "problems":
            write_records(folder / "problems.jsonl", [])
        finish_stage(folder, counts={"in": 10, "out": 10} | counts, seconds=1.0)
        return folder

    def run(self) -> Run:
        source = self.folder / "small.toml"
        cluster = Cluster.model_validate(self.cluster)
        folder = self.folder / "runs" / "small"
        return Run(make_pipeline(self.values, source=source), cluster, folder, source)

    def student_is(self, **changes: Any) -> None:
        self.values["students"] = [self.values["students"][0] | changes]

    def teacher_is(self, model: Path, **changes: Any) -> None:
        self.values["traces"]["teachers"] = [{"model": str(model)} | changes]


@pytest.fixture
def planted(tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch) -> Planted:
    monkeypatch.chdir(tmp_path)
    return Planted(tmp_path, models)


def found(planted: Planted, name: str) -> list[Finding]:
    """What the check of this name finds, when all of its cost are made."""
    (cost,) = [one.cost for one in all_checks() if one.name == name]
    findings: list[Finding] = []
    for one in examine(planted.run(), [cost]):
        if one.check.name == name:
            findings += one.findings
    return findings


def test_a_sound_run_raises_no_alarm_whatever_is_looked_at(planted: Planted) -> None:
    planted.student_is(method="kd", packing=True, lora={})
    examined = list(examine(planted.run(), COSTS))
    assert [finding for one in examined for finding in one.findings] == []
    made = {one.check.name for one in examined}
    assert {
        "head",
        "packing",
        "teacher-head",
        "teacher-tokens",
        "end-not-learnt",
        "overlap",
    } <= made
    (batch,) = batches_in(examined)
    assert not batch.are_real
    question, answer = batch.texts[0].parts(batch.tokenizer)
    assert "Tom has 3 apples" in question.text and not question.is_learnt
    assert answer.text.startswith("<think>") and answer.text.endswith("\\boxed{7}<|im_end|>")
    assert answer.is_learnt


def test_a_narrow_terminal_can_read_it(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    context_without_rope(planted)
    golds_that_samples_contradict(planted)
    examined = list(examine(planted.run(), set(COSTS) - {"weights"}))
    monkeypatch.setattr(console.out, "width", 80)
    with console.out.capture() as captured:
        doctoring.print_batches(batches_in(examined))
        doctoring.print_examined(examined, "", "small.toml", 1.5)
    lines = captured.get().splitlines()
    assert max(len(line) for line in lines if not line.startswith("  $ ")) <= 80
    commands = [line for line in lines if line.startswith("  $ ")]
    assert "  $ reasondistill run small.toml --set students.0.rope_theta=1000000" in commands
    assert lines[-1].startswith("2 wrong · ")


# ---- a whole run ---------------------------------------------------------------------------------


def no_prompt(run: Planted) -> None:
    run.values["traces"]["prompt"] = "nowhere"


def marked_variant(run: Planted) -> None:
    run.values["evals"]["prompts"] = [run.prompt("", "other@once")]


def taken_name(run: Planted) -> None:
    model = {"name": "s", "model": str(run.models.sound)}
    run.values["evals"]["models"] = [model]


def nobody_to_compare_with(run: Planted) -> None:
    run.values["evals"]["against"] = ["nobody"]


def no_policy(run: Planted) -> None:
    run.values["verdicts"] = {"policy": "lenient-as-can-be"}


def no_model(run: Planted) -> None:
    (run.folder / "empty").mkdir()
    run.teacher_is(run.folder / "empty")


def torn_weights(run: Planted) -> None:
    run.student_is(base=str(run.models.torn()))


def judge_without_gold(run: Planted) -> None:
    judge = {"model": str(run.models.sound), "prompt": run.prompt("")}
    run.values["verdicts"] = {"judge": judge}


def no_scorer(run: Planted) -> None:
    script = run.folder / "script.jsonl"
    script.write_text("")
    run.teacher_is(script, sampler="scripted")
    run.values["traces"] |= {"logprobs": 4, "logprobs_model": str(run.folder / "nowhere/at/all")}


def no_filter(run: Planted) -> None:
    run.values["examples"] = {"filters": {"nonsense": {}}}


def muon_under_lora(run: Planted) -> None:
    run.student_is(optimizer="muon", lora={})


def batch_that_cannot_be_dealt(run: Planted) -> None:
    run.cluster = {"train": {"processes": 3}}


def two_nodes_on_ray(run: Planted) -> None:
    run.cluster = {"kind": "ray", "stages": {"students": {"nodes": 2}}}


def server_of_a_tracker(run: Planted) -> None:
    (run.folder / "wandb").mkdir()
    (run.folder / "wandb" / "settings").write_text("[default]\nbase_url = https://evil.example\n")
    run.student_is(report_to=["wandb"])


def field_that_is_not_there(run: Planted) -> None:
    run.values["problems"]["answer"] = "answr"


def traces_of_no_shape(run: Planted) -> None:
    file = run.folder / "published.jsonl"
    file.write_text('{"a": 1}\n')
    run.teacher_is(file, sampler="stored")
    del run.values["traces"]["max_tokens"]


def folder_of_a_stranger(run: Planted) -> None:
    place = run.run().stage("problems")
    place.mkdir(parents=True)
    (place / "notes.txt").write_text("mine")
    run.values["evals"]["benchmarks"] = []


# ---- models that are asked -----------------------------------------------------------------------


def teacher_without_a_system_turn(run: Planted) -> None:
    run.teacher_is(run.models.with_template("gemma", GEMMA_2))
    run.values["traces"]["prompt"] = run.prompt('system = "Think."\n')
    run.values["examples"] = {"prompt": "question"}


def reasoning_cut_out_of_a_worked_example(run: Planted) -> None:
    run.teacher_is(run.models.cuts_reasoning())
    run.values["traces"]["prompt"] = run.prompt(SHOTS)
    run.values["examples"] = {"prompt": "question"}


def teacher_that_goes_on_behind_its_turn(run: Planted) -> None:
    run.teacher_is(run.models.ends_otherwise())


def answers_longer_than_the_context(run: Planted) -> None:
    run.values["traces"]["max_tokens"] = 4000


def tags_of_several_tokens(run: Planted) -> None:
    run.teacher_is(run.models.cuts_reasoning())
    run.values["traces"]["thinking_budget"] = 16


def measured_with_another_prompt(run: Planted) -> None:
    run.values["evals"]["prompt"] = "qwen_math"


def top_k_beyond_the_disk(run: Planted) -> None:
    """Hundreds of TiB: 300,000 tokens of each of ten million problems."""
    run.values["traces"]["logprobs"] = 16
    run.values["problems"]["limit"] = 10_000_000
    metrics = run.run().stage("traces") / "metrics.jsonl"
    metrics.parent.mkdir(parents=True, exist_ok=True)
    metrics.write_text('{"session": "1", "drawn": 100, "done": 100, "tokens": 30000000}\n')


# ---- students ------------------------------------------------------------------------------------


def student_without_a_system_turn(run: Planted) -> None:
    run.student_is(base=str(run.models.with_template("gemma", GEMMA_2)))
    run.values["traces"]["prompt"] = run.prompt('system = "Think."\n')


def block_of_reasoning_twice(run: Planted) -> None:
    run.student_is(base=str(run.models.with_template("qwen3.5", QWEN3_5)))


def base_model_under_an_instruct_template(run: Planted) -> None:
    run.student_is(base=str(run.models.ends_otherwise()))


def tokenizer_that_loses_something(run: Planted) -> None:
    run.student_is(base=str(run.models.loses_case()))
    run.rows([(f"How much is {number} + 1?", str(number + 1)) for number in range(8)])


def rows_that_are_cut(run: Planted) -> None:
    run.student_is(max_length=40)


def rows_beyond_the_context(run: Planted) -> None:
    run.student_is(max_length=4000)
    run.rows([(f"Add them all: {'+ 3 ' * 600}", "1800")])


def context_without_rope(run: Planted) -> None:
    run.student_is(max_position_embeddings=4096)


def teacher_of_another_family(run: Planted) -> None:
    run.student_is(method="kd", teacher=str(run.models.other_tokens()))


def instruct_teacher_and_base_student(run: Planted) -> None:
    base = str(run.models.ends_otherwise())
    run.student_is(method="gkd", base=base, teacher=str(run.models.sound))


def more_than_the_machine(run: Planted) -> None:
    run.student_is(base=None, architecture=HUGE | {"tokenizer": str(run.models.sound)})


def adapter_on_a_tied_embedding(run: Planted) -> None:
    run.student_is(lora={"targets": ["embed_tokens"]})


def weights_that_are_no_numbers(run: Planted) -> None:
    run.student_is(base=str(run.models.not_finite()))


def head_that_no_loss_knows(run: Planted) -> None:
    run.student_is(base=str(run.models.unknown_head()))


def packing_that_leaks(run: Planted) -> None:
    run.student_is(base=str(run.models.leaky()), packing=True)


def teacher_whose_head_no_loss_knows(run: Planted) -> None:
    run.student_is(method="kd", teacher=str(run.models.unknown_head()))


# ---- data ----------------------------------------------------------------------------------------


def benchmark_inside_a_problem(run: Planted) -> None:
    question = "What is 20 + 22, if 3 more are taken away and 4 are given back?"
    run.rows([("6 + 7?", "13"), (f"Here is one for you, my friend. {question} Answer!", "43")])


def golds_that_samples_contradict(run: Planted) -> None:
    for stage in ("problems", "traces", "verdicts"):
        run.finished(stage)
    folder = run.run().stage("examples")
    open_stage(folder, Identity("examples", 1, {}, {}))
    suspects = [
        SuspectGold(problem_id=f"mine/train/{i}", gold="7", answer="8", votes=6, n=8, correct=1)
        for i in range(3)
    ]
    write_records(folder / "suspects.jsonl", suspects)
    write_records(folder / "examples.jsonl", [])
    finish_stage(folder, counts={"in": 10, "out": 7}, seconds=1.0)


FAULTS: dict[str, list[Callable[[Planted], None]]] = {
    "prompts": [no_prompt],
    "variants": [marked_variant],
    "names": [taken_name],
    "against": [nobody_to_compare_with],
    "grading-policy": [no_policy],
    "models": [no_model],
    "whole-models": [torn_weights],
    "judge": [judge_without_gold],
    "model-of-log-probs": [no_scorer],
    "filters": [no_filter],
    "student-settings": [muon_under_lora],
    "launcher": [two_nodes_on_ray],
    "training-processes": [batch_that_cannot_be_dealt],
    "tracking": [server_of_a_tracker],
    "sources": [field_that_is_not_there],
    "published-traces": [traces_of_no_shape],
    "other-settings": [folder_of_a_stranger],
    "topk-disk": [top_k_beyond_the_disk],
    "question-in-template": [teacher_without_a_system_turn],
    "worked-examples": [reasoning_cut_out_of_a_worked_example],
    "turn-end": [teacher_that_goes_on_behind_its_turn],
    "context": [answers_longer_than_the_context],
    "thinking-budget": [tags_of_several_tokens],
    "other-prompt": [measured_with_another_prompt],
    "student-question": [student_without_a_system_turn],
    "think-block": [block_of_reasoning_twice],
    "student-turn-end": [base_model_under_an_instruct_template],
    "rows": [tokenizer_that_loses_something],
    "too-long": [rows_that_are_cut],
    "row-beyond-context": [rows_beyond_the_context],
    "rope": [context_without_rope],
    "teacher-tokens": [teacher_of_another_family],
    "teacher-end": [instruct_teacher_and_base_student],
    "disk": [more_than_the_machine],
    "memory": [more_than_the_machine],
    "lora-targets": [adapter_on_a_tied_embedding],
    "finite-weights": [weights_that_are_no_numbers],
    "head": [head_that_no_loss_knows],
    "packing": [packing_that_leaks],
    "teacher-head": [teacher_whose_head_no_loss_knows],
    "overlap": [benchmark_inside_a_problem],
    "golds": [golds_that_samples_contradict],
}


def test_a_template_that_deletes_reasoning_deletes_none_of_a_trace(planted: Planted) -> None:
    """What a student learns does not go through its template, which cuts earlier turns alone."""
    planted.student_is(base=str(planted.models.cuts_reasoning()))
    examined = list(examine(planted.run(), ["tokens", "batch"]))
    assert [finding for one in examined for finding in one.faults] == []
    (batch,) = batches_in(examined)
    *_, learnt = batch.texts[0].parts(batch.tokenizer)
    assert learnt.is_learnt and learnt.text.startswith("<think>\n")
    assert "</think>" in learnt.text


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_by_its_name(planted: Planted, name: str) -> None:
    for plant in FAULTS[name]:
        plant(planted)
    findings = [finding for finding in found(planted, name) if finding.is_fault]
    assert findings, name
    assert all(finding.text and finding.remedy for finding in findings)


def test_a_source_whose_rows_are_all_set_aside_is_told_before_the_run(planted: Planted) -> None:
    planted.rows([("6 + 7?", ""), ("6 + 8?", "")])
    (fault,) = found(planted, "sources")
    assert fault.stops and "all 2 rows are set aside: no answer (2)" in fault.text
    planted.rows([("6 + 7?", "")] * 200)
    (fault,) = found(planted, "sources")
    assert not fault.stops and "the first 100 rows are set aside" in fault.text
    planted.rows([("6 + 7?", ""), ("6 + 8?", "14")])
    assert found(planted, "sources") == []


def test_ends_that_are_no_tokens_are_told_and_break_nothing(planted: Planted) -> None:
    model = planted.folder / "odd"
    shutil.copytree(planted.models.ends_otherwise(), model)
    values = {"eos_token_id": [10**12, -3]}
    (model / "generation_config.json").write_text(json.dumps(values))
    planted.teacher_is(model)
    (fault,) = found(planted, "turn-end")
    assert fault.stops and """traces.stop=["<|im_end|>"]""" in fault.remedy
    planted.values["traces"]["stop"] = ["<|im_end|>"]
    assert found(planted, "turn-end") == []
    assert "texts end at" in fault.text and f"id {10**12}" in fault.text
    planted.values["traces"]["also"] = [{"model": str(model), "n": 1}]
    assert found(planted, "turn-end") == [], "it ends where the teachers do"


def test_a_student_of_stored_distributions_may_end_as_plain_texts_do(planted: Planted) -> None:
    planted.teacher_is(planted.models.sound)
    planted.values["traces"]["logprobs"] = 4
    planted.student_is(method="topk_kd", base=str(planted.models.ends_otherwise()))
    (fault,) = found(planted, "teacher-end")
    assert fault.stops and "none could be trained on" in fault.text
    planted.values["traces"]["prompt"] = "gsm8k_few_shot"
    assert found(planted, "teacher-end") == []


def test_what_stands_in_for_examples_stops_no_run_by_its_length(planted: Planted) -> None:
    rows_that_are_cut(planted)
    (fault,) = found(planted, "too-long")
    assert fault.is_fault and not fault.stops
    planted.student_is(max_length=4000)
    rows_beyond_the_context(planted)
    (fault,) = found(planted, "row-beyond-context")
    assert fault.is_fault and not fault.stops


def test_a_run_stops_where_all_of_its_examples_are_too_long_and_not_where_some_are(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_that_are_cut(planted)
    for stage in ("problems", "traces", "verdicts"):
        planted.finished(stage)
    place = planted.run().stage("examples")
    open_stage(place, Identity("examples", 1, {}, {}))
    turns = (
        Message(role="user", content="How much is 6 + 7?"),
        Message(role="assistant", content=f"<think>\n{'6 + 7 is 13. ' * 20}\n</think>\n\n13"),
    )
    rows = [
        Example(
            id=f"{number}:0",
            problem_id=str(number),
            trace_id=f"{number}:0",
            messages=turns,
            tokens=9,
            split="train",
        )
        for number in range(3)
    ]
    write_records(place / "examples.jsonl", rows)
    finish_stage(place, counts={"in": 10, "out": 3}, seconds=1.0)
    (fault,) = found(planted, "too-long")
    assert fault.stops and "3 of 3 examples" in fault.text
    monkeypatch.setattr(subjects, "_EXAMPLES", 2)
    (fault,) = found(planted, "too-long")
    assert not fault.stops and "2 of 2 examples" in fault.text


def test_students_that_need_another_look_get_one(planted: Planted) -> None:
    alike = planted.values["students"][0] | {"baselines": []}
    live = {"method": "kd", "teacher": str(planted.models.sound)}
    planted.values["traces"]["logprobs"] = 16
    planted.values["students"] = [
        alike,
        alike | {"name": "same", "learning_rate": 1e-3, "batch_size": 8},
        alike | {"name": "large", "max_steps": 10, "batch_size": 1 << 30},
        alike | {"name": "stored", "method": "topk_kd"},
        alike | live | {"name": "live"},
    ]
    planted.cluster = {"train": {"micro_batch_size": 1 << 30}}
    names = [case.student.name for case in student_cases(planted.run())]
    assert names == ["s", "large", "stored", "live"]


def test_weights_from_which_several_students_begin_are_loaded_once(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reasondistill.stages.students import training

    loaded: list[str] = []
    load = training.load_start

    def counted(student: Any, tokenizer: Any, rows: Any) -> Any:
        loaded.append(student.name)
        return load(student, tokenizer, rows)

    monkeypatch.setattr(training, "load_start", counted)
    sound = planted.values["students"][0] | {"baselines": ["answer_only"]}
    adapted = sound | {"name": "adapted", "lora": {}, "baselines": []}
    planted.values["students"] = [sound, adapted]
    costs = set(COSTS) - {"data"}
    heads = [one for one in examine(planted.run(), costs) if one.check.name == "head"]
    assert len(heads) == 3
    assert loaded == ["s", "adapted"]
    # Without a row nothing was tried, so the next one's weights are looked at.
    loaded.clear()
    question = "6 + 7?"
    (planted.folder / "rows.jsonl").write_text(
        json.dumps({"question": question, "answer": "13", "solution": "6 and 7 make 13. " * 40})
    )
    planted.values["problems"]["solution"] = "solution"
    planted.values["students"] = [sound | {"max_length": 80}]
    list(examine(planted.run(), costs))
    assert len(loaded) == 2


def test_a_student_that_cannot_be_looked_at_hides_no_other(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = planted.values["students"][0]
    broken = sound | {"name": "broken", "chat_template": str(planted.folder / "nowhere.jinja")}
    planted.values["students"] = [broken, sound]
    examined = list(examine(planted.run(), set(COSTS) - {"weights"}))
    assert [batch.whose for batch in batches_in(examined)] == ["[students] s"]
    assert "overlap" in {one.check.name for one in examined}
    monkeypatch.setattr(console.out, "width", 200)
    with console.out.capture() as captured:
        doctoring.print_examined(examined, "", "small.toml", 1.5)
    assert captured.get().count("nowhere.jinja") == 1
    assert captured.get().splitlines()[-1].startswith("1 wrong · ")


def test_a_teacher_counts_in_the_memory_that_a_training_takes(planted: Planted) -> None:
    def grow(place: Path) -> None:
        (place / "model.safetensors").unlink()
        config = json.loads((place / "config.json").read_text())
        (place / "config.json").write_text(json.dumps(config | HUGE))

    teacher = planted.models.changed("huge-teacher", grow)
    planted.student_is(method="kd", teacher=str(teacher))
    (fault,) = found(planted, "memory")
    assert fault.is_fault and not fault.stops and "its teacher beside it" in fault.text
    planted.student_is(method="topk_kd", teacher=None)
    planted.values["traces"]["logprobs"] = 16
    assert found(planted, "memory") == []


def test_less_memory_is_taken_by_what_a_student_does_not_have_yet(planted: Planted) -> None:
    def grow(place: Path) -> None:
        (place / "model.safetensors").unlink()
        config = json.loads((place / "config.json").read_text())
        (place / "config.json").write_text(json.dumps(config | HUGE))

    huge = str(planted.models.changed("huge-teacher", grow))
    planted.student_is(base=huge)
    (whole,) = found(planted, "memory")
    assert whole.remedy.endswith("students.0.lora={}'")
    planted.student_is(lora={"r": 4})
    (adapted,) = found(planted, "memory")
    assert adapted.remedy.endswith("--set students.0.max_length=200")
    planted.student_is(base=None, lora=None)
    more_than_the_machine(planted)
    (scratch,) = found(planted, "memory")
    assert scratch.remedy.endswith("--set students.0.max_length=200")
    assert "lora" not in scratch.text


def test_what_is_not_here_is_said_to_be_unseen(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    planted.teacher_is(Path("org/nowhere"))
    examined = list(examine(planted.run(), ["files", "tokens"]))
    assert {one.whose for one in examined if one.is_out_of_reach} == {
        "[traces] teacher org/nowhere"
    }
    value = doctoring.as_value(examined, [], "", 1.0, "small.toml")
    assert value["not_here"] == ["[traces] teacher org/nowhere"]


def test_weights_beyond_the_memory_of_this_machine_are_not_loaded(planted: Planted) -> None:
    more_than_the_machine(planted)
    (told,) = found(planted, "finite-weights")
    assert not told.is_fault and "do not go into the memory of this machine" in told.text
    assert found(planted, "head") == found(planted, "packing") == []


def test_models_of_the_hub_without_a_revision_are_told_and_are_no_fault(planted: Planted) -> None:
    planted.student_is(base="org/base")
    planted.teacher_is(Path("org/teacher"))
    judge = {"model": "org/judge"}
    planted.values["verdicts"] = {"judge": judge}
    (planted.folder / "loose.toml").write_text(
        'name = "loose"\nabout = "x"\nlicence = "MIT"\nn = 1\nprompt = "question"\n'
        'answer_kind = "integer"\n[problems]\nsource = "hub"\ndataset = "org/loose"\n'
    )
    planted.values["evals"]["benchmarks"] = [str(planted.folder / "loose.toml"), "gsm8k"]
    (loose, teacher, judge_told, student) = revisions_are_pinned(planted.run())
    assert isinstance(loose, Advice) and "benchmark loose: org/loose" in loose.text
    assert isinstance(judge_told, Advice) and "org/judge" in judge_told.text
    assert isinstance(teacher, Advice) and isinstance(student, Advice)
    assert teacher.remedy == "reasondistill run FILE --set traces.teachers.0.revision=COMMIT"
    assert student.remedy == "reasondistill run FILE --set students.0.revision=COMMIT"


def test_a_package_that_is_missing_is_named(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "vllm" in found(planted, "packages")[0].text


# ---- batches -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Rows:
    return Rows(Planted(tmp_path_factory.mktemp("rows"), models))


class Rows:
    """The rows of a sound student, and the collators of others."""

    def __init__(self, planted: Planted) -> None:
        (self.case,) = student_cases(planted.run())
        self.tokenizer = self.case.tokenizer
        self.features = [
            {"input_ids": row.input_ids, "labels": row.labels, "row": number}
            for number, row in enumerate(self.case.rows)
        ]
        self.prompts = [row.prompt_length for row in self.case.rows]

    def batch(self, tensors: dict[str, Any]) -> Batch:
        return batch_of("[students] s", self.tokenizer, tensors, prompts=self.prompts)

    def of_transformers(self, *, pad_is_end: bool) -> Batch:
        """By transformers' own collator for language models, which labels all but padding."""
        from transformers import DataCollatorForLanguageModeling

        self.tokenizer.pad_token = "<|im_end|>" if pad_is_end else "<|endoftext|>"
        collate = DataCollatorForLanguageModeling(self.tokenizer, mlm=False)
        ids = [{"input_ids": feature["input_ids"]} for feature in self.features]
        return self.batch(dict(collate(ids)))


def faults_of(batch: Batch) -> set[str]:
    names: set[str] = set()
    for one in all_checks():
        if isinstance(batch, one.of) and any(f.is_fault for f in one.findings(batch)):
            names.add(one.name)
    return names


def test_a_batch_of_our_own_collators_has_no_fault(rows: Rows) -> None:
    from reasondistill.stages.students.collators import collator_of

    for changes in ({}, {"packing": True}, {"method": "kd"}, {"method": "kd", "packing": True}):
        student = rows.case.student.model_copy(update=changes)
        batch = rows.batch(collator_of(student, rows.tokenizer)(rows.features))
        assert faults_of(batch) == set(), changes
        assert [list(text.ids) for text in batch.texts] == [
            feature["input_ids"] for feature in rows.features
        ]


def test_labels_that_a_collator_makes_wrong_are_found_by_name(rows: Rows) -> None:
    assert faults_of(rows.of_transformers(pad_is_end=False)) == {"question-learnt"}
    assert faults_of(rows.of_transformers(pad_is_end=True)) == {"question-learnt", "pad-hides-end"}
    rows.tokenizer.pad_token = "<|endoftext|>"
    good = rows.case.collator(rows.features)
    width = good["labels"].shape[1]

    def with_labels(change: Callable[[Any, int], None]) -> Batch:
        labels = good["labels"].clone()
        for number, feature in enumerate(rows.features):
            change(labels[number], len(feature["input_ids"]))
        return rows.batch({**good, "labels": labels})

    def no_end(labels: Any, length: int) -> None:
        labels[length - 1] = -100

    def nothing(labels: Any, length: int) -> None:
        labels[:] = -100

    def padding(labels: Any, length: int) -> None:
        labels[length:] = 0

    assert width > min(len(feature["input_ids"]) for feature in rows.features)
    assert faults_of(with_labels(no_end)) == {"end-not-learnt"}
    assert faults_of(with_labels(nothing)) == {"end-not-learnt", "nothing-learnt"}
    assert faults_of(with_labels(padding)) == {"padding-learnt"}


# ---- servers -------------------------------------------------------------------------------------


@pytest.fixture
def server(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = FaultyServer()
    planted.cluster = {"openai": {"base_url": server.url}}
    planted.teacher_is(Path("m"), sampler="openai")
    planted.student_is(base=str(planted.models.sound))
    yield server
    server.http.shutdown()
    server.http.server_close()


def test_a_server_that_is_well_or_does_not_list_its_models_raises_no_alarm(
    planted: Planted, server: FaultyServer
) -> None:
    for context in (None, 4096):
        server.context = context
        for name in ("server", "server-model", "server-context"):
            assert found(planted, name) == []


def test_a_server_that_is_not_there_is_told_at_once(planted: Planted, server: FaultyServer) -> None:
    server.http.shutdown()
    server.http.server_close()
    (fault,) = found(planted, "server")
    assert fault.stops and "no server answers" in fault.text and "refused" in fault.text


def test_another_server_and_a_small_context_are_told(
    planted: Planted, server: FaultyServer
) -> None:
    server.context = 64
    (fault,) = found(planted, "server-context")
    assert "max_tokens = 100" in fault.text
    planted.teacher_is(Path("another"), sampler="openai")
    (fault,) = found(planted, "server-model")
    assert "lists no model 'another'; it has m." in fault.text
    assert fault.remedy == "reasondistill run FILE --set traces.teachers.0.model=m"
