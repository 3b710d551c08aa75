"""Every key explains itself, every part is listed, and what is named nearly right is told so."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from fake_run import fake_run
from pydantic import BaseModel, TypeAdapter
from typer.main import get_command
from typer.testing import CliRunner

from reasondistill.cli import app
from reasondistill.cli.explaining import all_keys, keys_meant
from reasondistill.cli.files import kinds_with_words
from reasondistill.cli.looking import problem_meant
from reasondistill.cli.schema import Subject, json_schema
from reasondistill.config import (
    Benchmark,
    Cluster,
    Pipeline,
    load_cluster,
    load_pipeline,
    resources,
)
from reasondistill.config.keys import NAME, Key, docstrings_of
from reasondistill.curation.filters import all_filters
from reasondistill.errors import ConfigError, ReasonDistillError, StageError
from reasondistill.models.prompts import Prompt
from reasondistill.pipeline import Run, load_run
from reasondistill.sections import check_section

KINDS: dict[str, type[BaseModel]] = {
    "pipeline": Pipeline,
    "cluster": Cluster,
    "benchmark": Benchmark,
    "prompt": Prompt,
}


@pytest.fixture(scope="module")
def keys() -> tuple[Key, ...]:
    return all_keys()


def run(*arguments: str) -> str:
    """What a command prints; its error is raised."""
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


# ---- explain -------------------------------------------------------------------------------------


def places_in(schema: dict[str, Any], whole: dict[str, Any], before: str = "") -> Iterator[str]:
    """The dotted name of every key of a JSON schema, whatever stands behind it."""
    if "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]
    for name, inner in schema.get("properties", {}).items():
        yield f"{before}{name}"
        yield from places_in(inner, whole, f"{before}{name}.")
    if isinstance(schema.get("items"), dict):
        yield from places_in(schema["items"], whole, before)
    named = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
    for inner in named:
        if isinstance(inner, dict):
            yield from places_in(inner, whole, f"{before}{NAME}.")
    for choice in ("anyOf", "oneOf", "allOf"):
        for inner in schema.get(choice, ()):
            yield from places_in(inner, whole, before)


@pytest.mark.parametrize("file", KINDS)
def test_every_key_of_the_schema_has_an_explain(file: str, keys: tuple[Key, ...]) -> None:
    schema = KINDS[file].model_json_schema(by_alias=True)
    wanted = set(places_in(schema, schema))
    explained = {one.place: one for one in keys if one.file == file}
    assert wanted - explained.keys() == set(), "keys that nothing explains"
    filters = {place for place in explained if place.startswith("examples.filters.")}
    assert explained.keys() - wanted - filters == set(), "explained, but no keys"
    silent = [one.place for one in explained.values() if len(one.about.split()) < 3]
    assert silent == [], "write a string below the key in its section"
    assert len(wanted) > 7


def test_the_schema_for_editors_says_what_each_key_is_for() -> None:
    schema = json_schema(Subject.pipeline)
    sections = [schema, *schema["$defs"].values()]
    silent: list[str] = []
    for section in sections:
        for name, inner in section.get("properties", {}).items():
            if len(inner.get("description", "").split()) < 3:
                silent.append(f"{section['title']}.{name}")
    assert silent == []


def test_every_filter_has_an_explain(keys: tuple[Key, ...]) -> None:
    places = {one.place for one in keys}
    for one in all_filters():
        if one.has_own_table:
            assert f"examples.filters.{one.name}" in places
            for name in one.settings.model_fields:
                assert f"examples.filters.{one.name}.{name}" in places
                assert name in docstrings_of(one.settings), "what this key is for, not its section"


def test_every_example_is_toml_that_the_key_takes(keys: tuple[Key, ...]) -> None:
    for one in keys:
        values = tomllib.loads(one.in_a_file)
        if not one.example:
            continue
        # The last value inside.
        value: Any = values
        for part in one.place.split("."):
            while isinstance(value, list):
                value = value[-1]
            value = value[part]
        field = one.section.model_fields[one.field]
        if value not in ("…", ["…"]):
            TypeAdapter(Annotated[field.annotation, field]).validate_python(value)


def test_a_key_is_explained_with_type_unit_default_and_example() -> None:
    told = run("explain", "students.max_length")
    for words in ("The longest example", "a whole number, from 16 on", "tokens", "4096"):
        assert words in told
    told = run("explain", "examples.select")
    assert 'one of "all", "shortest", "longest", "random", "first"' in told
    assert "must be given" in run("explain", "students.name")
    # What a vendor's settings or the defaults of sampling say where the file says nothing.
    assert "0.0" in run("explain", "verdicts.judge.temperature")
    told = run("explain", "cluster.stages.traces.memory")
    assert (
        "as in slurm.toml" in told and "more: reasondistill explain cluster.stages.traces" in told
    )


def test_a_broken_file_of_ones_own_keeps_no_key_from_being_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "a_broken.toml").write_text("[traces\n")
    done = CliRunner().invoke(app, ["explain", "students.lora.r"])
    assert done.exit_code == 0, done.exception
    assert "as in lora_1_5b.toml" in done.stdout


def test_a_section_is_explained_with_its_keys() -> None:
    told = run("explain", "students.lora")
    assert "[students.lora]" in told and "students.lora.use_dora" in told and "arXiv" in told
    assert "students.lora.r" in told and "students.shrink" not in told
    assert "[[traces.teachers]]" in run("explain", "traces.teachers")
    assert "Agarwal" in run("explain", "students.gkd")
    everything = run("explain")
    assert "problems" in everything and "environments" in everything


def test_a_part_of_a_name_means_all_keys_that_are_called_so(keys: tuple[Key, ...]) -> None:
    assert "8 keys are called gpus" in run("explain", "gpus")
    assert {one.place for one in keys_meant("students.0.base", keys)} == {"students.base"}
    assert {one.file for one in keys_meant("[vllm]", keys)} == {"cluster"}
    assert keys_meant("environments.mine.modules", keys)[0].name == "modules"
    assert "also: cluster.about, benchmark.about, prompt.about" in run("explain", "about")
    for text, hint in (("temprature", "temperature"), ("cluster.vlm", "vllm"), (".", "Known")):
        with pytest.raises(ConfigError, match=f"explain .*no such key.*{hint}"):
            run("explain", text)


# ---- list and copy -------------------------------------------------------------------------------

LISTED = {
    "prompts": "think",
    "pipelines": "gsm8k_sft",
    "benchmarks": "aime24",
    "clusters": "slurm",
    "filters": "least_words = 20",
    "methods": "DistiLLM-2",
    "policies": "math-verify 0.9",
    "settings": "deepseek-r1",
    "samplers": "gives_logprobs",
    "models": "shipped:demo-teacher",
    "checks": "overlap",
}


@pytest.mark.parametrize("kind", LISTED)
def test_each_kind_of_part_is_listed(kind: str) -> None:
    told = run("list", kind)
    assert LISTED[kind] in told, told
    assert kind in kinds_with_words() and kind in run("list")


def test_a_kind_that_is_named_nearly_right_is_told() -> None:
    assert LISTED.keys() == kinds_with_words().keys()
    with pytest.raises(ConfigError, match=r"list method: unknown\. Did you mean methods\?"):
        run("list", "method")


def test_a_copy_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kinds = {"pipelines": "gsm8k_sft", "prompts": "think", "benchmarks": "aime24"}
    for kind, name in (kinds | {"clusters": "slurm"}).items():
        told = run("copy", name)
        found = resources.find(kind, name)
        assert found.is_relative_to(tmp_path) and str(found.relative_to(tmp_path)) in told
        with pytest.raises(ConfigError, match="exists already"):
            run("copy", name)
    run("copy", "skypilot")
    assert (tmp_path / "skypilot.yaml").exists()
    assert "It is meant by its path, mine.toml; by name where it is in prompts/" in run(
        "copy", "think", "mine.toml"
    )
    with pytest.raises(ConfigError, match=r"thnk: no shipped file .* Did you mean think\?"):
        run("copy", "thnk")
    with pytest.raises(ConfigError, match="nowhere: no such folder"):
        run("copy", "think", "nowhere/mine.toml")


# ---- help ----------------------------------------------------------------------------------------


def test_h_is_help_for_every_command_and_the_exit_codes_stand_in_it() -> None:
    told = run("-h")
    assert "Exit codes: 0 done; 2 a message" in told
    names = list(get_command(app).commands)
    assert "explain" in names and len(names) > 20
    for name in names:
        assert "Usage:" in run(name, "-h"), name


# ---- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("about=[1]", "--set about: should be a text (found [1])"),
        ("evals.n=0", "--set evals.n: should be greater than or equal to 1 (found 0)"),
        ("evals.models.0.nam=x", "--set evals.models.0.nam: unknown key. Did you mean name?"),
        ("evals.models.0.sampler=vlm", "--set evals.models.0.sampler: 'vlm': unknown."),
        ("evals.prompts=think", "--set evals.prompts: should be a list (found 'think')"),
        ("report=1", "--set report: should be a table"),
        ("report={ traces = -1 }", "--set report: traces: should be greater than or equal to 0"),
        ("evals.settings=qwn", "--set evals.settings: settings = 'qwn': unknown"),
    ],
)
def test_what_set_has_set_wrong_is_named_as_set(tmp_path: Path, override: str, said: str) -> None:
    path = tmp_path / "p.toml"
    path.write_text('name = "p"\n[[evals.models]]\nname = "m"\nmodel = "m"\n')
    with pytest.raises(ConfigError) as caught:
        load_pipeline(path, ["evals.n=2", override])
    assert said in str(caught.value) and str(path) not in str(caught.value)


def test_what_set_has_set_is_not_quoted_where_the_error_does_not_quote_it(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("")
    for override in ("openai.base_url=https://me:hunter2@host/v1", "openai.key=hunter2"):
        with pytest.raises(ConfigError, match=f"--set {override.partition('=')[0]}:") as caught:
            load_cluster(path, [override])
        assert "hunter2" not in str(caught.value)


def test_a_list_is_called_a_list_in_a_file_too(tmp_path: Path) -> None:
    values = {"name": "p", "evals": {"benchmarks": "gsm8k"}}
    with pytest.raises(ConfigError, match=r"p\.toml \[evals\] benchmarks: should be a list"):
        check_section(tmp_path / "p.toml", Pipeline, values, ["evals.n=2"])


# ---- what a user has -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "demo"
    fake_run(folder, until="traces")
    return folder


def test_a_part_of_an_id_is_enough_for_walk(made: Path) -> None:
    run_ = Run(Pipeline.model_construct(), Cluster(), made, made)
    assert problem_meant(run_, "train/3") == "gsm_symbolic/train/3"
    assert problem_meant(run_, "gsm_symbolic/train/3:1") == "gsm_symbolic/train/3"
    with pytest.raises(StageError, match="problems have this in their id: gsm_symbolic/train/"):
        problem_meant(run_, "train")
    with pytest.raises(StageError, match=r"no problem 'gsm_symbolic/trian/3'\. One is called gsm"):
        problem_meant(run_, "gsm_symbolic/trian/3")


def test_a_run_that_is_named_nearly_right_is_told(made: Path) -> None:
    (made / "run.json").touch()
    with pytest.raises(StageError, match=r"not a run folder .* Did you mean demo\?"):
        load_run(made.with_name("dmo"))


def test_power_counts_the_rows_of_a_benchmark_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        f'{{"question": "What is {number} + 1?", "answer": "{number + 1}"}}\n'
        for number in range(40)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\n[problems]\nsource = "file"\ndataset = "rows.jsonl"\n'
    )
    assert "40 problems" in run("power", "-b", str(tmp_path / "mine.toml"))
    (tmp_path / "hub.toml").write_text(
        'name = "hub"\n[problems]\nsource = "hub"\ndataset = "someone/rows"\n'
    )
    with pytest.raises(ReasonDistillError, match="use --problems"):
        run("power", "-b", str(tmp_path / "hub.toml"))
