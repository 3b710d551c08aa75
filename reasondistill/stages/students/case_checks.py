"""What is looked at of a student before it is trained: its template, its end of text, its rows, its
teacher's tokens, room on disk and in memory; with weights also its head, packing and values.

What training itself refuses is refused by the same functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reasondistill.checks import Advice, Fault, Found, check, setting, text_setting
from reasondistill.config import SampledModel
from reasondistill.errors import ConfigError, ReasonDistillError, StageError
from reasondistill.models.at_hand import generation_ends
from reasondistill.models.context import context_of
from reasondistill.models.shapes import ModelShape, configured_folder, shape_of
from reasondistill.models.templates import check_prompt, check_worked_examples, end_of_turn
from reasondistill.models.vocabulary import matched_tokenizers
from reasondistill.models.weights import read_config
from reasondistill.runs.memory import memory_allowed
from reasondistill.stages.students.cases import StudentCase
from reasondistill.stages.students.footprint import (
    can_take_an_adapter,
    device_here,
    gib,
    memory_words,
    plan_of,
    require_room,
    start_shape,
    ways_to_less,
)
from reasondistill.stages.students.rendering import check_rendering
from reasondistill.stages.students.tokens import TOO_LONG, Tokenised

# A larger share of the examples that are too long is a fault of the settings.
_TOO_LONG_SHARE = 0.05


def _set(case: StudentCase, key: str, value: str) -> str:
    return setting(f"{case.key}.{key}", value)


# ---- the template --------------------------------------------------------------------------------


@check(
    StudentCase,
    "student-question",
    cost="tokens",
    remedy="reasondistill copy think",
)
def question_comes_through(case: StudentCase) -> None:
    """A question comes whole through the student's chat template, and what a prompt shows with
    it.
    """
    if case.tokenizer is None:
        return
    prompt = case.prompt.prompt
    check_prompt(case.tokenizer, prompt, case.whose, options={})
    check_worked_examples(case.tokenizer, prompt, case.whose, options={})


@check(
    StudentCase,
    "think-block",
    cost="tokens",
    remedy="reasondistill run FILE --set 'students.0.template_options={enable_thinking = true}'",
)
def trace_stands_once(case: StudentCase) -> Found | None:
    """A trace stands once and whole behind the question, with one block of reasoning: the template
    neither deletes nor doubles it.
    """
    if case.tokenizer is None:
        return None
    prompt = case.prompt.prompt
    try:
        check_prompt(case.tokenizer, prompt, case.whose, options={})
    except ConfigError:
        return None  # `student-question` says so
    try:
        check_rendering(case.tokenizer, prompt, case.whose, thinks=case.thinks)
    except ConfigError as error:
        return [Fault(error, _set(case, "template_options", "{enable_thinking = true}"))]
    return None


@check(
    StudentCase,
    "student-turn-end",
    cost="tokens",
    remedy="reasondistill run FILE --set 'students.0.eos_token=<|im_end|>'",
)
def turns_end_as_it_learns(case: StudentCase) -> Iterator[Fault]:
    """The token that a student learns to end with is the one with which its template ends a
    turn.
    """
    tokenizer = case.tokenizer
    if tokenizer is None or case.prompt.prompt.plain:
        return
    end = end_of_turn(tokenizer, {})
    if end is None or tokenizer.convert_tokens_to_ids(end) in _ends_of(case):
        return
    fault = ConfigError(
        f"{case.whose}: its chat template ends a turn with {end!r}, and it would learn to end with "
        f"{tokenizer.eos_token!r} (a base model's own end of text, perhaps, under an instruct "
        "model's template). Whoever serves it as a chat waits for the other one: endless texts."
    )
    yield Fault(fault, text_setting(f"{case.key}.eos_token", end), stops=False)


def _ends_of(case: StudentCase) -> set[int]:
    """The ids at which the finished student's texts end."""
    ends = {case.tokenizer.eos_token_id}
    if case.student.base is not None:
        ends |= generation_ends(case.student.base, case.student.revision)
    return ends


# ---- rows ----------------------------------------------------------------------------------------


@check(
    StudentCase,
    "rows",
    cost="tokens",
    remedy="reasondistill run FILE --set 'examples.filters={language = {}}'",
)
def examples_become_rows(case: StudentCase) -> Iterator[Fault]:
    """The student's tokenizer gives its examples back as they are written."""
    if not isinstance(case.tried, ReasonDistillError):
        return
    # Among all of them these may be few; what is no matter of a share ends a training at once.
    is_a_share = isinstance(case.tried, StageError)
    yield Fault(case.tried, stops=not (is_a_share and case.are_real and not case.are_all))


@check(
    StudentCase,
    "too-long",
    cost="tokens",
    remedy="reasondistill run FILE --set students.0.max_length=8192",
)
def few_are_too_long(case: StudentCase) -> Iterator[Fault | Advice]:
    """No more than 5 % of the examples are longer than the student's max_length."""
    if not isinstance(case.tried, Tokenised):
        return
    dropped = case.tried.dropped.get(TOO_LONG, 0)
    seen = len(case.tried.rows) + len(case.tried.set_aside)
    if dropped <= _TOO_LONG_SHARE * seen:
        return
    kind = "examples" if case.are_real else "questions with a short answer"
    text = (
        f"[students] {case.student.name}: {dropped} of {seen} {kind} are longer than max_length = "
        f"{case.student.max_length:,} tokens and are left out."
    )
    yield Fault(
        StageError(text),
        _set(case, "max_length", str(2 * case.student.max_length)),
        stops=dropped == seen and case.are_all,
    )


@check(
    StudentCase,
    "row-beyond-context",
    cost="tokens",
    remedy="reasondistill run FILE --set students.0.max_length=2048",
)
def rows_fit_the_context(case: StudentCase) -> Iterator[Fault]:
    """The longest row is no longer than what the student reads."""
    limit = _reach(case)
    longest = max((len(row.input_ids) for row in case.rows), default=0)
    if limit is None or longest <= limit:
        return
    fault = StageError(
        f"{case.whose}: a row has {longest:,} tokens, and the model's context is {limit:,}. Lower "
        "max_length, or raise max_position_embeddings (and rope_theta)."
    )
    # A reference solution stands in for traces, which may be shorter.
    yield Fault(fault, _set(case, "max_length", str(limit)), stops=case.are_real)


def _reach(case: StudentCase) -> int | None:
    """How many tokens the student will read."""
    student = case.student
    if student.architecture is not None:
        return student.architecture.max_position_embeddings
    if student.max_position_embeddings is not None:
        return student.max_position_embeddings
    return None if case.config is None else context_of(case.config)


@check(
    StudentCase,
    "rope",
    cost="files",
    remedy="reasondistill run FILE --set students.0.rope_theta=1000000",
)
def positions_are_scaled(case: StudentCase) -> Iterator[Fault]:
    """A context that is raised beyond what the base was made for has another RoPE base."""
    student = case.student
    wanted = student.max_position_embeddings
    if wanted is None or student.rope_theta is not None or case.config is None:
        return
    reach = context_of(case.config)
    if reach is None or wanted <= reach:
        return
    fault = ConfigError(
        f"{case.whose}: max_position_embeddings = {wanted:,}, where the base was made for "
        f"{reach:,}: without another rope_theta its positions beyond that mean nothing to it."
    )
    yield Fault(fault, stops=False)


# ---- the teacher ---------------------------------------------------------------------------------


@check(
    StudentCase,
    "teacher-tokens",
    cost="tokens",
    remedy="reasondistill run FILE --set students.0.method=sft",
)
def teacher_has_the_same_tokens(case: StudentCase) -> Found | None:
    """The ordinary tokens of a student and of whose distributions it learns are the same."""
    if case.tokenizer is None or case.teacher_tokenizer is None or case.teacher is None:
        return None
    try:
        matched_tokenizers(case.teacher_tokenizer, case.tokenizer, case.teacher.model)
    except ConfigError as error:
        return [Fault(error, _set(case, "method", "sft"))]
    return None


@check(
    StudentCase,
    "teacher-end",
    cost="tokens",
    remedy="reasondistill run FILE --set 'students.0.eos_token=<|im_end|>'",
)
def teacher_ends_as_the_student(case: StudentCase) -> Iterator[Fault]:
    """The token with which a teacher ends its turns ends the student's texts: it learns the
    teacher's distributions there too. A student of stored ones could use none of its rows.
    """
    teacher, tokenizer = case.teacher_tokenizer, case.tokenizer
    if tokenizer is None or teacher is None or case.teacher is None:
        return
    end = end_of_turn(teacher, case.teacher.template_options)
    if end is None or end not in tokenizer.get_vocab():
        return  # `match_tokens` gives such ends to each other
    if case.prompt.prompt.plain and not case.learns_live:
        return  # a text without turns ends as texts do, whatever the template says
    if tokenizer.convert_tokens_to_ids(end) in _ends_of(case):
        return
    harm = "no stored trace is a text of the student's, and none could be trained on"
    if case.learns_live:
        harm = "it would learn from the teacher to go on there, and write endless texts"
    fault = ConfigError(
        f"{case.whose}: its teacher {case.teacher.model} ends a turn with {end!r}, and the "
        f"student's texts end with {tokenizer.eos_token!r}: {harm}."
    )
    yield Fault(fault, text_setting(f"{case.key}.eos_token", end), stops=not case.learns_live)


# ---- the machine ---------------------------------------------------------------------------------


@check(StudentCase, "disk", cost="files", remedy="reasondistill run FILE --runs /larger/disk")
def disk_has_room(case: StudentCase) -> None:
    """The disk has room for a student's checkpoints and its model."""
    plan = plan_of(case.student, case.train, snapshots=case.snapshots)
    if plan is None or not case.is_local:
        return
    # How many steps there are is not known without the examples: what surely comes counts.
    require_room(case.student.name, plan, standing(case.folder), case.student.max_steps or 1)


def standing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


@check(
    StudentCase,
    "memory",
    cost="files",
    remedy="reasondistill run FILE --set students.0.max_length=1024",
)
def memory_is_enough(case: StudentCase) -> Iterator[Fault]:
    """What training a student holds at once is no more than the memory of this machine, or of its
    GPU.
    """
    plan = plan_of(case.student, case.train, snapshots=case.snapshots)
    if plan is None or not case.is_local:
        return
    room, of_teacher = memory_here(is_gpu=device_here().is_gpu), 0.0
    if case.learns_live:
        of_teacher = teacher_memory(case.teacher)
    if plan.memory + of_teacher <= room:
        return
    beside = ""
    if of_teacher:
        beside = f", its teacher beside it {gib(of_teacher)}"
    fault = StageError(
        f"[students] {case.student.name}: training it takes {memory_words(plan)}{beside}, and "
        f"there are {gib(room)} here. Less is taken by: {ways_to_less(case.student, case.train)}."
    )
    less = _set(case, "max_length", str(max(1, case.student.max_length // 2)))
    if can_take_an_adapter(case.student):
        less = _set(case, "lora", "{}")
    yield Fault(fault, less, stops=False)


def teacher_memory(teacher: SampledModel | None) -> float:
    """Bytes of the weights of a teacher in memory beside the student; 0 where there is none, or
    nobody says how many they are (quantised ones have fewer bytes than parameters).
    """
    if teacher is None:
        return 0.0
    folder = configured_folder(teacher.model, teacher.revision)
    if folder is not None and read_config(folder).get("quantization_config"):
        return 0.0
    shape = shape_of(teacher.model, teacher.revision)
    if shape is None:
        return 0.0
    return shape.parameters * (2.0 if device_here().is_gpu else 4.0)


def memory_here(*, is_gpu: bool) -> float:
    """Bytes of memory that this machine gives us, or its first GPU has; infinite where nobody
    says.
    """
    if is_gpu:
        import torch

        if torch.cuda.is_available():
            return float(torch.cuda.get_device_properties(0).total_memory)
    return memory_allowed()


# ---- the model -----------------------------------------------------------------------------------


@check(
    StudentCase,
    "lora-targets",
    cost="tokens",
    remedy="reasondistill run FILE --set students.0.lora.targets=all-linear",
)
def adapter_can_be_merged(case: StudentCase) -> Found | None:
    """No adapter stands on the output head, or on an embedding that is tied to it."""
    if case.student.lora is None or case.config is None:
        return None
    from reasondistill.stages.students.adapters import check_adapter

    try:
        check_adapter(case.config, case.student)
    except ConfigError as error:
        return [Fault(error, _set(case, "lora.targets", "all-linear"))]
    return None


@check(StudentCase, "finite-weights", cost="weights", remedy="hf download MODEL --force-download")
def weights_are_numbers(case: StudentCase) -> Iterator[Advice]:
    """The weights that a student starts from can be loaded, and are numbers."""
    if not _goes_in(start_shape(case.student)):
        yield Advice(
            f"{case.whose}: its weights do not go into the memory of this machine; they, its head "
            "and its packing are not looked at here.",
            "reasondistill doctor FILE --no-weights",
        )
    elif _can_load(case):
        from reasondistill.stages.students.bases import require_finite

        require_finite(case.model, case.whose)


@check(
    StudentCase,
    "head",
    cost="weights",
    remedy="reasondistill run FILE --set students.0.base=ANOTHER",
)
def losses_know_its_head(case: StudentCase) -> None:
    """What losses make of the output head are the model's own logits."""
    if _can_load(case) and case.rows:
        from reasondistill.stages.students.heads import check_head

        how: dict[str, Any] = {"remedy": "Take another base."}
        row = case.rows[0].input_ids
        check_head(case.model, row, case.whose, len(case.tokenizer), **how)


@check(
    StudentCase,
    "packing",
    cost="weights",
    remedy="reasondistill run FILE --set students.0.packing=false",
)
def packed_rows_stay_apart(case: StudentCase) -> Found | None:
    """Rows that are packed into one do not see each other in this model."""
    if not case.student.packing or not _can_load(case) or not case.rows:
        return None
    from reasondistill.stages.students.isolation import check_isolation

    parameter: Any = next(case.model.parameters())
    try:
        check_isolation(
            case.model,
            case.collator,
            case.rows,
            device=parameter.device,
            dtype=parameter.dtype,
            student=case.student.name,
            whose="this model",
        )
    except ConfigError as error:
        return [Fault(error, _set(case, "packing", "false"))]
    return None


def _can_load(case: StudentCase) -> bool:
    """Whether there are weights here that nobody has looked at yet, or a shape to make them from,
    and they go into memory.
    """
    if case.weights_are_known or case.tokenizer is None or not _goes_in(start_shape(case.student)):
        return False
    return case.student.architecture is not None or case.config is not None


def _goes_in(shape: ModelShape | None) -> bool:
    """Whether weights of this shape, in float32, go into the memory of this machine, as far as that
    is known: who tries it is killed without a word.
    """
    return shape is None or 4 * shape.parameters < memory_here(is_gpu=False)


@check(
    StudentCase,
    "teacher-head",
    cost="weights",
    remedy="reasondistill run FILE --set students.0.method=topk_kd --set traces.logprobs=16",
)
def losses_know_the_teachers_head(case: StudentCase) -> Iterator[Advice]:
    """The teacher in memory can be loaded beside the student, and what losses make of its output
    head are its own logits.
    """
    if not case.learns_live or case.teacher_tokenizer is None or not case.rows:
        return
    assert case.teacher is not None
    # Where a CPU trains, loading it refuses what does not go in.
    is_elsewhere = device_here().is_gpu or not case.is_local
    if is_elsewhere and not _goes_in(shape_of(case.teacher.model, case.teacher.revision)):
        yield Advice(
            f"{case.whose}: its teacher {case.teacher.model} does not go into the memory of this "
            "machine; its head is not looked at here.",
            "reasondistill doctor FILE --no-weights",
        )
        return
    import torch

    from reasondistill.stages.students.distilling.teacher import load_teacher

    teacher = load_teacher(
        case.teacher.model,
        case.teacher.revision,
        student_tokenizer=case.tokenizer,
        trust_remote_code=case.teacher.trust_remote_code,
        device=torch.device("cpu"),
        attention=case.student.attn_implementation,
        longest=max(len(row.input_ids) for row in case.rows),
    )
    teacher.check_head(case.rows[0].input_ids, case.teacher.model, len(case.tokenizer))
