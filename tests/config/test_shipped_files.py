"""Every file that we ship is valid, and names only what exists."""

from __future__ import annotations

import os
import re
import tomllib
from itertools import takewhile
from pathlib import Path

import pytest

from reasondistill.config import load_benchmark, load_cluster, load_pipeline, resources
from reasondistill.curation.filters import all_filters
from reasondistill.errors import ConfigError
from reasondistill.models.prompts import load_prompt

ROOT = Path(__file__).parents[2]
PIPELINES = sorted((ROOT / "pipelines").glob("*.toml"))
CLUSTERS = sorted((ROOT / "pipelines" / "clusters").glob("*.toml"))
BENCHMARKS = sorted((ROOT / "eval" / "benchmarks").glob("*.toml"))
PROMPTS = sorted((ROOT / "prompts").glob("*.toml"))


def by_name(path: Path) -> str:
    return path.stem


def test_there_is_something_of_each_kind() -> None:
    assert PIPELINES and CLUSTERS and BENCHMARKS and PROMPTS


@pytest.mark.parametrize("path", PIPELINES, ids=by_name)
def test_a_pipeline_file_is_valid_and_names_only_what_exists(path: Path) -> None:
    pipeline = load_pipeline(path)
    for prompt in {pipeline.traces.prompt, pipeline.student_prompt, pipeline.evals.prompt} - {None}:
        load_prompt(prompt)
    for benchmark in pipeline.evals.benchmarks:
        load_benchmark(resources.find("benchmarks", benchmark))
    assert pipeline.traces.resolve().max_tokens > 0
    assert pipeline.evals.resolve().max_tokens > 0


@pytest.mark.parametrize("path", PIPELINES, ids=by_name)
def test_a_pipeline_file_says_in_its_first_lines_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert f"reasondistill run pipelines/{path.name}" in text or "make demo" in text


@pytest.mark.parametrize("path", PIPELINES, ids=by_name)
def test_a_trace_of_full_length_fits_the_student_that_learns_it(path: Path) -> None:
    pipeline = load_pipeline(path)
    if all(teacher.sampler in ("reference", "scripted") for teacher in pipeline.traces.teachers):
        return  # written texts: max_tokens does not bound them, the student's own length check does
    counted = pipeline.examples.filters.get("student_tokens", {}).get("most")
    longest = min(pipeline.examples.max_tokens or 10**9, pipeline.traces.resolve().max_tokens)
    if all(teacher.sampler == "stored" for teacher in pipeline.traces.teachers):
        assert counted is not None, "nobody says how long published traces are"
        longest = counted
    for student in pipeline.students:
        assert longest < student.max_length, (
            f"{student.name}: a trace of {longest} tokens and its prompt do not fit "
            f"{student.max_length}"
        )


def test_traces_that_others_published_go_through_every_filter_of_what_is_wrong() -> None:
    pipeline = load_pipeline(ROOT / "pipelines" / "published_traces.toml")
    problems, filters = pipeline.problems, pipeline.examples.filters
    assert problems is not None and problems.near_duplicates and problems.decontaminate
    known = {one.name for one in all_filters() if one.has_own_table}
    # These choose among good traces.
    assert set(filters) == known - {"of_problems", "length_percentiles", "pass_rate", "of_writer"}
    assert {filters["student_tokens"]["tokenizer"]} == {one.base for one in pipeline.students}
    lines = (ROOT / "pipelines" / "published_traces.toml").read_text(encoding="utf-8").splitlines()
    for place, line in enumerate(lines):
        if re.match(r"\[(examples\.filters|problems)\..+\]", line):
            assert lines[place - 1].startswith("# "), line


@pytest.mark.parametrize("path", PIPELINES, ids=by_name)
def test_an_answer_of_full_length_and_its_prompt_fit_the_students_positions(path: Path) -> None:
    pipeline = load_pipeline(path)
    for student in pipeline.students:
        positions = (
            student.architecture.max_position_embeddings
            if student.architecture
            else student.max_position_embeddings
        )
        if positions is not None:
            assert pipeline.evals.resolve().max_tokens < positions


@pytest.mark.parametrize("path", PIPELINES + BENCHMARKS, ids=by_name)
def test_a_revision_is_a_whole_commit_id(path: Path) -> None:
    for revision in re.findall(r'^revision = "(.*)"$', path.read_text(encoding="utf-8"), re.M):
        assert re.fullmatch(r"[0-9a-f]{40}", revision)


@pytest.mark.parametrize("path", CLUSTERS, ids=by_name)
def test_a_cluster_file_is_valid(path: Path) -> None:
    assert load_cluster(path).about


@pytest.mark.parametrize("path", BENCHMARKS, ids=by_name)
def test_a_benchmark_file_is_valid_named_like_itself_and_states_its_licence(path: Path) -> None:
    benchmark = load_benchmark(path)
    assert benchmark.name == path.stem
    assert benchmark.about and benchmark.licence
    assert benchmark.rows and benchmark.answer_kind
    assert 1 <= benchmark.n <= 64 and "\nn = " in path.read_text(encoding="utf-8")
    assert benchmark.prompt is not None and load_prompt(benchmark.prompt).prompt.user
    assert (benchmark.problems.choices is not None) == (benchmark.answer_kind == "choice")


@pytest.mark.parametrize("path", BENCHMARKS, ids=by_name)
def test_a_benchmark_file_pins_its_content_or_says_that_it_does_not(path: Path) -> None:
    benchmark, text = load_benchmark(path), path.read_text(encoding="utf-8")
    assert (benchmark.content is None) == ("# Not pinned yet: `content`" in text)
    assert benchmark.problems.source != "hub" or benchmark.problems.revision, (
        "a hub set has a revision"
    )
    assert all(erratum.question_starts and erratum.reason for erratum in benchmark.errata)


@pytest.mark.parametrize("path", PROMPTS, ids=by_name)
def test_a_prompt_file_renders_a_question_and_keeps_its_backslashes(path: Path) -> None:
    named = load_prompt(str(path))
    turns = named.prompt.render("How much is \\frac{1}{2} of {x}?")
    assert "How much is \\frac{1}{2} of {x}?" in turns[-1].content
    assert "\x08" not in "".join(turn.content for turn in turns), (
        "\\b of \\boxed was read as an escape: use '''literal strings'''"
    )
    assert re.fullmatch(r"[a-z0-9_]+@[0-9a-f]{8}", named.tag)


@pytest.mark.parametrize("path", PIPELINES + CLUSTERS + BENCHMARKS + PROMPTS, ids=by_name)
def test_a_shipped_file_names_no_absolute_path(path: Path) -> None:
    for value in strings(tomllib.loads(path.read_text(encoding="utf-8"))):
        assert not value.startswith(("/", "~"))


def strings(value: object) -> list[str]:
    """Every string in a TOML value."""
    if isinstance(value, dict):
        return [text for inner in value.values() for text in strings(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in strings(inner)]
    return [value] if isinstance(value, str) else []


def test_find_prefers_the_path_given_then_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "prompts" / "think.toml"
    mine.parent.mkdir()
    mine.write_text("about = 'mine'\nuser = '{question}'\n")
    elsewhere = tmp_path / "other.toml"
    elsewhere.write_text(mine.read_text())
    monkeypatch.chdir(tmp_path)
    assert resources.find("prompts", str(elsewhere)) == elsewhere
    assert resources.find("prompts", "think").samefile(mine)
    assert resources.available("prompts")["think"].samefile(mine)
    assert resources.find("prompts", "qwen_math").samefile(ROOT / "prompts" / "qwen_math.toml")


def test_a_file_of_the_working_directory_that_hides_a_shipped_one_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for kind, place, name in (
        ("prompts", "prompts", "think"),
        ("pipelines", "pipelines", "demo"),
        ("benchmarks", "eval/benchmarks", "gsm8k"),
        ("clusters", "pipelines/clusters", "local"),
    ):
        hiding = tmp_path / place / f"{name}.toml"
        hiding.parent.mkdir(parents=True, exist_ok=True)
        hiding.write_text("about = 'mine'\n")
        monkeypatch.chdir(tmp_path)
        caplog.clear()
        for asked in (name, f"{place}/{name}.toml", name):
            assert resources.find(kind, asked).samefile(hiding)
        assert [record.getMessage() for record in caplog.records] == [
            f"{hiding} is used: it hides the shipped file {ROOT / place / hiding.name}"
        ]
    alike = tmp_path / "prompts" / "qwen_math.toml"
    alike.write_bytes((ROOT / "prompts" / "qwen_math.toml").read_bytes())
    (tmp_path / "prompts" / "my_own.toml").write_text("about = 'mine'\n")
    caplog.clear()
    resources.find("prompts", "qwen_math")
    resources.find("prompts", "my_own")
    assert not caplog.records, "an unchanged copy hides nothing"


def test_a_model_that_is_shipped_has_a_name_and_no_path(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_text("x")
    models = ROOT / "reasondistill" / "shipped" / "models"
    for name in (
        os.path.relpath(tmp_path, models),
        str(tmp_path),
        "../models/demo-teacher",
        "demo-teacher/",
        "./demo-teacher",
        ".",
        "..",
        "",
        "demo-teacher\n",
    ):
        with pytest.raises(ConfigError, match="no such model in this package"):
            resources.shipped_model(name)
    assert resources.shipped_model("demo-teacher").name == "demo-teacher"


def test_an_unknown_name_gets_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="Did you mean qwen_math?"):
        resources.find("prompts", "qwen_meth")
    with pytest.raises(ConfigError, match="no benchmark of that name. Known: .*gsm8k"):
        resources.find("benchmarks", "zzzzzz")


def test_a_path_that_does_not_exist_is_not_answered_with_a_namesake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        resources.find("prompts", str(tmp_path / "think.toml"))


# ---- other ways to rent a machine ----------------------------------------------------------------


def test_the_skypilot_example_keeps_to_its_schema() -> None:
    schemas = pytest.importorskip(
        "sky.utils.schemas",
        reason="SkyPilot is not installed; the file was checked by hand with 0.14.1",
    )
    jsonschema, yaml = pytest.importorskip("jsonschema"), pytest.importorskip("yaml")
    task = yaml.safe_load(
        (ROOT / "pipelines" / "clusters" / "skypilot.yaml").read_text(encoding="utf-8")
    )
    jsonschema.validate(task, schemas.get_task_schema())
    jsonschema.validate(task["resources"], schemas.get_resources_schema())


def test_the_kubernetes_example_keeps_to_its_schema() -> None:
    validate = pytest.importorskip(
        "kubernetes_validate",
        reason="kubernetes-validate is not installed; checked by hand for 1.30",
    ).validate
    yaml = pytest.importorskip("yaml")
    for part in yaml.safe_load_all(
        (ROOT / "pipelines" / "clusters" / "kubernetes.yaml").read_text(encoding="utf-8")
    ):
        validate(part, "1.30", strict=True)


@pytest.mark.parametrize("name", ["skypilot", "kubernetes"])
def test_the_cluster_files_inside_the_examples_are_cluster_files(name: str, tmp_path: Path) -> None:
    text = (ROOT / "pipelines" / "clusters" / f"{name}.yaml").read_text(encoding="utf-8")
    lines = text[text.index("[stages.traces]") :].splitlines()
    own = [
        line.strip() for line in takewhile(lambda line: line.strip() not in ("EOF", "---"), lines)
    ]
    (tmp_path / "here.toml").write_text("\n".join(own), encoding="utf-8")
    assert load_cluster(tmp_path / "here.toml").stages.of("traces").shards == 8
