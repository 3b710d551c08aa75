"""What is measured of stored traces, and by which model.

scoring = ScoringModel("Qwen/Qwen3-0.6B-Base")
job = ScoreJob("whole", scoring, settings, prompt, problems, traces)
job.section()             # what the scores depend on besides the traces
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from reasondistill.config import ScoreRule, ScoreSettings
from reasondistill.foreign_files import read_text
from reasondistill.models.prompts import NamedPrompt
from reasondistill.models.weights import model_identity
from reasondistill.records import Trace, TraceScore, fingerprint
from reasondistill.runs.session import ALONE, Session

# What is measured: all tokens behind the prompt; each step behind a few steps before it; the tokens
# that the teacher wrote, beside its own log-probabilities.
Kind = Literal["whole", "local", "teacher"]
KINDS: Mapping[ScoreRule, Kind] = {
    "rsr": "whole",
    "gn": "whole",
    "ln": "local",
    "das": "teacher",
}


@dataclass(frozen=True)
class ScoringModel:
    """The model that scores, and how texts become its tokens: as a student's do, where it is what a
    student starts from. `chat_template` is a file.
    """

    name: str
    revision: str | None = None
    trust_remote_code: bool = False
    chat_template: str | None = None
    template_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    eos_token: str | None = None

    def section(self) -> dict[str, Any]:
        """What its scores depend on. Raises ConfigError where it is not there."""
        section: dict[str, Any] = {"model": model_identity(self.name, self.revision)}
        if self.chat_template is not None:
            section["chat_template"] = fingerprint(read_text(Path(self.chat_template)))
        if self.template_options:
            section["template_options"] = dict(self.template_options)
        if self.eos_token is not None:
            section["eos_token"] = self.eos_token
        return section


# Why a trace without a text has no score: it may be drawn again, and is measured then.
SAMPLING_FAILED = "sampling failed"
# What one trace of a problem with this question measures.
Measure = Callable[[Trace, str], TraceScore]


@dataclass(frozen=True)
class ScoreJob:
    """What is measured of the traces of a folder, by which model, and how this process does it.
    `open_model` loads the model, which takes long (None: with transformers, whose threads on a CPU
    are `threads`).
    """

    kind: Kind
    model: ScoringModel
    settings: ScoreSettings
    prompt: NamedPrompt
    problems: Path
    traces: Path
    session: Session = ALONE
    open_model: Callable[[ScoreJob], Measure] | None = None
    threads: int | None = None

    def section(self) -> dict[str, Any]:
        """The settings of the folder's identity."""
        settings = self.settings
        section = {"kind": self.kind, "prompt": self.prompt.tag} | self.model.section()
        if self.kind == "whole":
            section["rank_limit"] = settings.rank_limit
        else:
            section["unit"] = settings.unit
        if self.kind == "local":
            section |= {"window": settings.window, "with_question": settings.with_question}
        return section
