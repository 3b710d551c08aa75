"""What there is to look at in a run: the run itself, its models as they will be asked, its servers,
its students with a batch of each, its problems. Checks of the same kind of subject look at each.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice

from reasondistill.checks import Cost
from reasondistill.config import (
    ModelSettings,
    SampledModel,
    StudentSettings,
    TraceSettings,
)
from reasondistill.curation.benchmarks import HeldOut
from reasondistill.curation.checks import Golds, Training
from reasondistill.curation.rows import find_path
from reasondistill.errors import ReasonDistillError
from reasondistill.launch.launcher import launcher_of
from reasondistill.models.asked import AskedModel
from reasondistill.models.prompts import NamedPrompt, load_prompt
from reasondistill.models.server_checks import ServedModel, Server
from reasondistill.pipeline import Run, benchmarks, eval_models, located, teacher_of
from reasondistill.pipeline.foreseeing import is_complete, left_to_do
from reasondistill.pipeline.measured import sampling_of
from reasondistill.records import Example, Message, Problem
from reasondistill.runs import layout
from reasondistill.runs.store import read_manifest, read_records
from reasondistill.stages import problems
from reasondistill.stages.students.batch import Batch
from reasondistill.stages.students.case_checks import memory_here, standing, teacher_memory
from reasondistill.stages.students.cases import StudentCase
from reasondistill.stages.students.footprint import device_here, plan_of

# So many examples are looked at, or questions where there are none, and problems that are still to
# be made.
_EXAMPLES, _QUESTIONS, _PROBLEMS = 200, 16, 1_000
_REASONING = "Each part is worked out in turn."
# Methods that train on nothing, or on the same rows as another one.
_UNTRAINED = ("base",)


def subjects_of(run: Run, costs: Iterable[Cost]) -> Iterator[object]:
    """The subjects that checks of these costs look at, the run first. Each may be let go of before
    the next one comes.
    """
    paid = set(costs)
    yield run
    left = left_to_do(run)
    yield from asked_models(run, left)
    if "server" in paid:
        yield from served_models(run, left)
    if "students" in left:
        for case in student_cases(run):
            yield case
            if "batch" in paid:
                yield from batches_of(case, is_told="tokens" in paid)
    if "data" in paid:
        yield from of_the_data(run)


# ---- models that are asked -----------------------------------------------------------------------


def asked_models(run: Run, left: Collection[str]) -> Iterator[AskedModel]:
    """The teachers, while there are traces to be drawn, and models that are measured."""
    written = run.pipeline.traces
    longest = run.cluster.vllm.max_model_len
    if written is not None and "traces" in left:
        prompt = load_prompt(written.prompt)
        for number, teacher in enumerate(map(located, written.teachers)):
            if teacher.capabilities.has_weights:
                yield AskedModel(
                    f"[traces] teacher {teacher.model}",
                    f"traces.teachers.{number}",
                    teacher,
                    prompt,
                    _asked_for(written),
                    longest,
                    stop=written.resolve().stop,
                    thinking_is_bounded=written.thinking_budget is not None,
                )
        for number, also in enumerate(written.also):
            model = located(also.as_sampled_model())
            if model.capabilities.has_weights:
                sampling = written.sampling_of(also)
                yield AskedModel(
                    f"[traces.also] {also.name or model.model}",
                    f"traces.also.{number}",
                    model,
                    load_prompt(also.prompt or written.prompt),
                    sampling.max_tokens if _asked_for(written) else None,
                    longest,
                    stop=sampling.stop,
                    thinking_is_bounded=sampling.thinking_budget is not None,
                )
    if "evals" in left:
        yield from _measured_models(run, longest)


def _measured_models(run: Run, longest: int | None) -> Iterator[AskedModel]:
    """The models that [evals] measures and that somebody has trained with a prompt that is known:
    students of this run, and folders that say so.
    """
    trained = [s.name for s in run.pipeline.all_students() if s.method not in _UNTRAINED]
    measured_on = benchmarks(run)
    for name, measured in eval_models(run).items():
        is_student = name in trained
        is_named = measured.sampling is not None and measured.served.capabilities.has_weights
        if not measured_on or not (is_student or is_named):
            continue
        sampling = sampling_of(run, measured, measured_on[0])
        made_for = measured.prompt
        if made_for is not None:
            made_for = load_prompt(made_for).name
        yield AskedModel(
            f"[evals] {name}",
            "evals",
            measured.served,
            load_prompt(sampling.prompt),
            max_model_len=longest,
            made_for=made_for,
            stop=sampling.stop or (),
            thinking_is_bounded=sampling.thinking_budget is not None,
        )


def _asked_for(written: TraceSettings) -> int | None:
    """How long the file itself lets a trace be."""
    if written.max_tokens is None and written.settings is None:
        return None
    return written.resolve().max_tokens


def served_models(run: Run, left: Collection[str]) -> Iterator[ServedModel]:
    """What is asked of the server, as long as there is something to ask; not of one that is asked
    from another machine, nor where nobody knows what is left.
    """
    if launcher_of(run).is_detached or run.cluster.storage is not None:
        return
    server = Server(run.cluster.openai)
    written, judge = run.pipeline.traces, run.pipeline.verdicts.judge
    named: list[tuple[str, str, ModelSettings, int | None]] = []
    if written is not None and "traces" in left:
        for number, teacher in enumerate(written.teachers):
            key = f"traces.teachers.{number}"
            named.append((f"[traces] teacher {teacher.model}", key, teacher, _asked_for(written)))
        for number, also in enumerate(written.also):
            named.append((f"[traces.also] {also.model}", f"traces.also.{number}", also, None))
    if judge is not None and "verdicts" in left:
        named.append((f"[verdicts.judge] {judge.model}", "verdicts.judge", judge, None))
    if "evals" in left:
        for number, model in enumerate(run.pipeline.evals.models):
            named.append((f"[evals] {model.name}", f"evals.models.{number}", model, None))
    for whose, key, model, longest in named:
        if model.capabilities.sends_requests:
            yield ServedModel(whose, key, model, server, longest)


# ---- students ------------------------------------------------------------------------------------


def student_cases(run: Run) -> Iterator[StudentCase]:
    """The students that are still to be trained, of those that begin and learn alike one; the
    weights of those that only begin alike are looked at once.
    """
    seen: set[tuple[str, ...]] = set()
    seen_weights: set[tuple[str, ...]] = set()
    is_local = not launcher_of(run).is_detached
    for student in run.pipeline.all_students():
        folder = run.layout.student(student.name).path
        if student.method in _UNTRAINED or is_complete(folder):
            continue
        start = with_its_tokenizer(run, student)
        teacher = whose_tokens(run, student)
        known = (start.start(), *what_it_takes(run, student, teacher), str(teacher))
        if known in seen:
            continue
        seen.add(known)
        examples = list(islice(examples_now(run), _EXAMPLES + 1))
        are_all = 0 < len(examples) <= _EXAMPLES
        examples = examples[:_EXAMPLES]
        thinks = student.method != "answer_only" and (
            run.pipeline.traces is not None and may_think(run.pipeline.traces)
        )
        prompt = load_prompt(run.pipeline.student_prompt)
        are_real = bool(examples)
        if student.method == "answer_only" or not are_real:
            are_real = are_all = False
            examples = list(stand_ins(run, prompt, thinks=thinks))
        weights = (
            start.start(),
            str(start.lora),
            str(start.packing),
            str(start.attn_implementation),
        )
        case = StudentCase(
            key=f"students.{place_of(run, student)}",
            student=start,
            prompt=prompt,
            examples=examples,
            are_real=are_real,
            are_all=are_all,
            thinks=thinks,
            train=run.cluster.train,
            folder=folder,
            snapshots=run.pipeline.evals.checkpoints.count,
            teacher=teacher,
            is_local=is_local,
            weights_are_known=weights in seen_weights,
        )
        yield case
        if case.were_weights_looked_at:
            seen_weights.add(weights)


def batches_of(case: StudentCase, *, is_told: bool) -> Iterator[Batch]:
    """The student's batch, where its rows make one. What keeps them from it is raised, unless it
    `is_told` by a check of the student: then there are others to look at.
    """
    try:
        batch = case.batch
    except ReasonDistillError:
        if not is_told:
            raise
        return
    if batch is not None:
        yield batch


def what_it_takes(
    run: Run, student: StudentSettings, teacher: SampledModel | None
) -> tuple[str, ...]:
    """What checks look at of how a student is trained: equal for those that need but one look."""
    stored_tokens = student.distils() and student.method_settings().stored_tokens is not None
    learns = (student.method == "answer_only", student.distils(), stored_tokens, student.packing)
    too_large = (False, False)  # as far as is known
    snapshots = run.pipeline.evals.checkpoints.count
    with suppress(ReasonDistillError):  # a check says so
        plan = plan_of(student, run.cluster.train, snapshots=snapshots)
        if plan is not None:
            needed = plan.memory
            if not stored_tokens:
                needed += teacher_memory(teacher)
            is_over = needed > memory_here(is_gpu=device_here().is_gpu)
            place = standing(run.layout.student(student.name).path)
            is_full = plan.disk(student.max_steps or 1) > shutil.disk_usage(place).free
            too_large = (is_over, is_full)
    computed = (str(student.lora), str(student.max_length), str(student.attn_implementation))
    return (str(learns), str(too_large), *computed)


def place_of(run: Run, student: StudentSettings) -> int:
    """Which block of the file a student comes from: its own, that of its seeds, or of the student
    whose control it is.
    """
    for number, block in enumerate(run.pipeline.students):
        if student.name == block.name or student.name.startswith(f"{block.name}-seed"):
            return number
    for number, block in enumerate(run.pipeline.students):
        if block.start() == student.start():
            return number
    return 0


def whose_tokens(run: Run, student: StudentSettings) -> SampledModel | None:
    """Whose distributions a student learns, from memory or as they were stored."""
    written = run.pipeline.traces
    if not student.distils():
        return None
    if student.method_settings().stored_tokens is None:
        return teacher_of(run, student)
    if written is not None and written.logprobs_model is not None:
        return SampledModel(model=written.logprobs_model)
    scored = [teacher for teacher in run.pipeline.teachers if teacher.capabilities.gives_logprobs]
    return located(scored[0]) if scored else None


def may_think(written: TraceSettings) -> bool:
    """Whether a teacher may write reasoning, as far as the file says."""
    for teacher in written.teachers:
        is_told_not_to = teacher.template_options.get("enable_thinking") is False
        writes = not teacher.capabilities.reads_solutions
        if writes and teacher.reasoning != "none" and not is_told_not_to:
            return True
    return False


def with_its_tokenizer(run: Run, student: StudentSettings) -> StudentSettings:
    """The student with what its weights and its tokenizer come from, where it starts from another
    student.
    """
    by_name = {other.name: other for other in run.pipeline.all_students()}
    start = student
    while start.starts_from is not None:
        parent = by_name[start.starts_from]
        start = start.model_copy(
            update={
                "base": parent.base,
                "revision": parent.revision,
                "architecture": parent.architecture,
                "chat_template": start.chat_template or parent.chat_template,
                "template_options": parent.template_options | start.template_options,
            }
        )
    return start


def examples_now(run: Run) -> Iterator[Example]:
    """The examples that stage 4 has made to train on; none where it has not."""
    folder = run.stage("examples")
    if is_complete(folder):
        rows = read_records(folder / layout.EXAMPLES, Example)
        yield from (one for one in rows if one.split == "train")


def stand_ins(run: Run, prompt: NamedPrompt, *, thinks: bool) -> Iterator[Example]:
    """Questions of the run with their gold answers, or their reference solutions where there are
    some, in the place of examples that nobody has made yet.
    """
    for problem in islice(problems_now(run), _QUESTIONS):
        answer = f"\\boxed{{{problem.answer}}}"
        reasoning = problem.reference_solution or _REASONING
        if thinks:
            answer = f"<think>\n{reasoning.strip()}\n</think>\n\n{answer}"
        turns = (
            *prompt.prompt.render(problem.question),
            Message(role="assistant", content=answer),
        )
        yield Example(
            id=problem.id,
            problem_id=problem.id,
            trace_id=None,
            messages=turns,
            tokens=0,
            split="train",
        )


# ---- the data ------------------------------------------------------------------------------------


def problems_now(run: Run) -> Iterator[Problem]:
    """The problems of a run's folder, or those that its sources would give, as far as these are
    here; none where they cannot be read, which another check tells.
    """
    folder, settings = run.stage("problems"), run.pipeline.problems
    if is_complete(folder):
        yield from read_records(folder / layout.PROBLEMS, Problem)
        return
    if settings is None or not all(
        _is_here(run, part.source, part.dataset) for part in settings.parts
    ):
        return
    try:
        for entry in problems.read_problems(settings, base=run.source.parent):
            if isinstance(entry, Problem):
                yield entry
    except ReasonDistillError:
        return


def some_problems(run: Run) -> Iterator[Problem]:
    """The same, of those that are still to be made the first ones: they may take long."""
    most = None if is_complete(run.stage("problems")) else _PROBLEMS
    yield from islice(problems_now(run), most)


def _is_here(run: Run, source: str, dataset: str) -> bool:
    path = find_path(dataset, run.source.parent)
    return source == "procedural" or (path is not None and (source == "file" or path.is_dir()))


def held_out_now(run: Run) -> Iterator[HeldOut]:
    """The questions of the benchmarks that are here."""
    for benchmark in benchmarks(run):
        folder = run.layout.benchmark(benchmark.name).problems_folder
        source = benchmark.problems
        if is_complete(folder):
            yield from problems.held_out_of(folder, benchmark.name)
        elif _is_here(run, source.source, source.dataset):
            for entry in problems.read_problems(source, base=run.source.parent):
                if isinstance(entry, Problem):
                    yield HeldOut(benchmark.name, entry.id, entry.question)


def of_the_data(run: Run) -> Sequence[object]:
    """The problems beside the questions of benchmarks, and golds under suspicion."""
    subjects: list[object] = []
    settings = run.pipeline.problems
    if settings is not None:
        subjects.append(
            Training(
                partial(some_problems, run),
                partial(held_out_now, run),
                is_searched=settings.decontaminate is not None,
            )
        )
    folder = run.stage("examples")
    suspects = folder / layout.SUSPECTS
    is_left_out = run.pipeline.examples.suspect_golds == "leave_out"
    if is_complete(folder) and suspects.exists() and not is_left_out:
        made = read_manifest(run.stage("problems"))
        count = made.counts.get("out", 0) if made is not None else 0
        subjects.append(Golds(suspects, count))
    return subjects
