"""The cards of a finished student, beside its weights and its adapter: what it was made from, and
how to ask it. Scores come later; `push` writes a card that has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from reasondistill.curation.model_card import QUESTION, Asked, model_card
from reasondistill.curation.provenance import MadeStudent, card_facts, weights_in
from reasondistill.records import Student
from reasondistill.runs import layout
from reasondistill.runs.figures import read_student_record
from reasondistill.runs.store import Manifest, read_manifest, write_json, write_text
from reasondistill.secrets import cleaned
from reasondistill.stages.students.job import StudentJob


def write_own_facts(job: StudentJob, model: Path) -> None:
    """Write what a model folder says of itself: the prompt that it was trained with, by name and as
    turns with `{question}` in them, and the method.
    """
    prompt = job.prompt.prompt
    turns = [turn.as_turn() for turn in prompt.render(QUESTION)]
    facts = {
        "prompt": job.prompt.name,
        "method": job.student.method,
        "plain": prompt.plain,
        "messages": turns,
    }
    write_json(model / layout.OWN_FACTS, facts)


def write_cards(job: StudentJob, made: MadeStudent) -> None:
    """Write README.md into the folders of the model and of its adapter, over what libraries have
    written there (PEFT: "Model Card for Model ID").
    """
    prompt = job.prompt.prompt
    needs_code = job.student.trust_remote_code
    asked = Asked(prompt.render(QUESTION), prompt.plain, needs_code=needs_code)
    facts = card_facts(made, stages_before(job), parents=parent_of(job, made.record), asked=asked)
    for name in (layout.MODEL, layout.ADAPTER):
        folder = job.folder / name
        if folder.is_dir():
            facts = replace(facts, is_adapter=name == layout.ADAPTER, files=weights_in(folder))
            write_text(folder / layout.CARD, cleaned(model_card(facts)))


def stages_before(job: StudentJob) -> dict[str, Manifest]:
    """The manifests of the stages that the student is made from, as far as they are known."""
    folders = {
        "problems": job.problems,
        "traces": job.traces,
        "verdicts": job.verdicts,
        "examples": job.examples,
    }
    manifests: dict[str, Manifest] = {}
    for stage, folder in folders.items():
        manifest = None
        if folder is not None:
            manifest = read_manifest(folder)
        if manifest is not None:
            manifests[stage] = manifest
    return manifests


def parent_of(job: StudentJob, record: Student) -> Mapping[str, Student]:
    """The student of the same run that this one goes on from, by the identity of its weights."""
    base = Path(job.student.base or "")
    path = base.parent / layout.STUDENT
    if base.name != layout.MODEL or not path.is_file():
        return {}
    return {record.base: read_student_record(path)}
