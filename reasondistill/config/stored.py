"""Where published traces stand in the rows of a data set: `[traces.teachers.stored]`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reasondistill.sections import Section


class StoredSettings(Section):
    """How a teacher with `sampler = "stored"` reads its data set, which is its `model`: a hub id,
    a folder or a file (`config`, `split`).

    The fields are found where a set has one of the known shapes: `messages` and `conversations`,
    requests and responses of an OpenAI-compatible server, OpenR1-Math, OpenThoughts, s1K,
    Mixture-of-Thoughts, DASD, OpenMathReasoning. Else `text` names the field of what the teacher
    wrote: a text, a list of texts (each is a trace) or turns. `thinking` is the field of reasoning
    that stands apart. `question` (a field, or `"{a} {b}"`) is what a row asks, by which it is
    matched with a problem; of turns it is the user's. `turn` is the assistant's turn that counts,
    from the end where negative; without it a conversation must have one only. `teacher` names who
    wrote all of it, as far as you know, `teacher_field` the field that says so.
    """

    config: str | None = None
    """The configuration of a data set that has several. Example: "default"
    """
    split: str = "train"
    """The split of the data set."""
    text: str | None = None
    """The field of what the teacher wrote: a text, a list of texts or turns. Example:
    "generation"
    """
    thinking: str | None = None
    """The field of reasoning that stands apart. Example: "reasoning"
    """
    question: str | None = None
    """The field, or a template, of what a row asks, by which it is matched with a problem.
    Example: "problem"
    """
    turn: Annotated[int, Field(ge=-1000, le=1000)] | None = None
    """Which of several turns of the assistant counts, from the end where negative. Example: -1"""
    teacher: str | None = None
    """Who wrote all of it, as far as you know. Example: "deepseek-ai/DeepSeek-R1"
    """
    teacher_field: str | None = None
    """The field that says who wrote a row. Example: "model"
    """
