"""Chat templates are looked at before anything is paid, and a student's options reach all who show
it something.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from test_students import example, job
from test_templates import GEMMA_2, PARTS, QWEN3_5
from tiny_model import make_tiny_model

from reasondistill.config import Cluster, StudentSettings, make_pipeline
from reasondistill.doctor import check
from reasondistill.doctor.subjects import may_think
from reasondistill.errors import ConfigError
from reasondistill.pipeline import Run
from reasondistill.pipeline.measured import served_student
from reasondistill.stages.students import read_student, run_student
from reasondistill.stages.students.identity import identity_section

pytest.importorskip("torch")


def templates(run: Run) -> None:
    """What is looked at of templates before a run."""
    check(run, ["tokens"])


THINKING = {"enable_thinking": True}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny")


def with_template(model: Path, folder: Path, template: str) -> Path:
    from transformers import AutoTokenizer

    shutil.copytree(model, folder)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def planned(folder: Path, teacher: Path, base: Path, *, system: str = "", **student: Any) -> Run:
    prompt = 'about = "p"\nuser = "{question}"\n' + (f'system = "{system}"\n' if system else "")
    (folder / "asked.toml").write_text(prompt)
    (folder / "rows.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    values: dict[str, Any] = {
        "name": "small",
        "problems": {"source": "file", "dataset": str(folder / "rows.jsonl")},
        "traces": {
            "prompt": str(folder / "asked.toml"),
            "teachers": [{"model": str(teacher)}],
        },
        "students": [{"name": "s", "base": str(base), "baselines": ["base"]} | student],
    }
    source = folder / "small.toml"
    return Run(make_pipeline(values, source=source), Cluster(), folder / "run", source)


def test_a_teacher_that_refuses_the_system_turn_is_told_before_it_is_asked(
    tmp_path: Path, tiny: Path
) -> None:
    teacher = with_template(tiny, tmp_path / "gemma", GEMMA_2)
    with pytest.raises(ConfigError, match=r"System role not supported.*merge_system = true"):
        templates(planned(tmp_path, teacher, tiny, system="Think."))
    templates(planned(tmp_path, teacher, tiny))


def test_a_student_that_refuses_the_system_turn_is_told_before_traces_are_paid(
    tmp_path: Path, tiny: Path
) -> None:
    base = with_template(tiny, tmp_path / "gemma", GEMMA_2)
    run = planned(tmp_path, tiny, base, system="Think.")
    with pytest.raises(ConfigError, match="System role not supported"):
        templates(run)
    file = tmp_path / "asked.toml"
    file.write_text(file.read_text() + "merge_system = true\n")
    templates(run)


def test_a_template_of_parts_is_no_obstacle(tmp_path: Path, tiny: Path) -> None:
    base = with_template(tiny, tmp_path / "vision", PARTS)
    templates(planned(tmp_path, base, base, system="Think."))


def test_two_blocks_of_reasoning_are_refused_until_an_option_makes_one(
    tmp_path: Path, tiny: Path
) -> None:
    base = with_template(tiny, tmp_path / "qwen3.5", QWEN3_5)
    with pytest.raises(ConfigError, match="closes an empty think block"):
        templates(planned(tmp_path, tiny, base))
    run = planned(tmp_path, tiny, base, template_options=THINKING)
    templates(run)
    assert run.pipeline.traces is not None and may_think(run.pipeline.traces)


def test_a_model_that_is_nowhere_cannot_be_looked_at(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reasondistill.models import at_hand

    monkeypatch.setattr(at_hand, "hub_commit", lambda *_: None)
    templates(planned(tmp_path, Path("org/teacher"), Path("org/base")))


def test_a_folder_whose_tokenizer_cannot_be_read_is_told(tmp_path: Path, tiny: Path) -> None:
    base = tmp_path / "damaged"
    shutil.copytree(tiny, base)
    (base / "tokenizer_config.json").write_text("{")
    with pytest.raises(ConfigError, match="damaged: its tokenizer cannot be loaded"):
        templates(planned(tmp_path, tiny, base))


# ---- options -------------------------------------------------------------------------------------


def test_the_options_reach_training_the_saved_student_and_its_evals(
    tmp_path: Path, tiny: Path
) -> None:
    from transformers import AutoTokenizer

    base = with_template(tiny, tmp_path / "qwen3.5", QWEN3_5)
    rows = [example(i, split="validation" if i % 4 == 0 else "train") for i in range(8)]
    settings: dict[str, Any] = {
        "name": "s",
        "base": str(base),
        "bf16": False,
        "max_steps": 1,
        "batch_size": 2,
        "max_length": 200,
    }
    without = job(tmp_path, StudentSettings(**settings), examples=rows, name="without")
    with pytest.raises(ConfigError, match="closes an empty think block"):
        run_student(without)
    one = job(tmp_path, StudentSettings(**settings, template_options=THINKING), examples=rows)
    run_student(one)
    saved = AutoTokenizer.from_pretrained(read_student(one.folder).path)
    turns = [{"role": "user", "content": "1 + 1?"}]
    shown = saved.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert shown.endswith("<|im_start|>assistant\n<think>\n")

    run = planned(tmp_path, tiny, base, template_options=THINKING)
    trained, untouched = run.pipeline.all_students()
    folder = run.layout.student(untouched.name).path
    base_job = job(tmp_path, untouched, examples=rows, name="base")
    run_student(base_job)
    folder.parent.mkdir(parents=True)
    shutil.copytree(base_job.folder, folder)
    assert served_student(run, untouched).template_options == THINKING
    assert served_student(run, untouched).model == str(base)
    assert served_student(run, trained).template_options == {}


def test_students_without_options_are_the_ones_that_they_were(tmp_path: Path, tiny: Path) -> None:
    plain = StudentSettings(name="s", base=str(tiny))  # type: ignore[call-arg]
    told = StudentSettings(name="s", base=str(tiny), template_options=THINKING)  # type: ignore[call-arg]
    rows = [example(1)]
    assert "template_options" not in identity_section(job(tmp_path, plain, examples=rows))
    assert identity_section(job(tmp_path, told, examples=rows))["template_options"] == THINKING
    assert "template_options" not in plain.model_dump_json()
    assert plain.start() != told.start()
