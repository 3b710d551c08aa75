"""A run's folder is code: what one that this user has not started would execute is shown, and done
only with --trust.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import pytest
from test_cli import run as command

from reasondistill.config import Benchmark, Cluster, ExampleSettings, Pipeline, load_pipeline
from reasondistill.errors import DataError, StageError
from reasondistill.launch import ray_jobs, slurm
from reasondistill.pipeline import Run, load_run, require_trust, save_run
from reasondistill.pipeline.decisions import decision_of, is_decided, section_in
from reasondistill.pipeline.executed import what_it_runs
from reasondistill.runs.layout import CHECKPOINT_SUMS
from reasondistill.runs.seals import CHECKPOINT, KEY, TRUST
from reasondistill.runs.store import write_sums
from reasondistill.sections import Section

ENVIRONMENTS = {"cpu": {"setup": ["touch EXECUTED"], "variables": {"LD_PRELOAD": "./evil.so"}}}
EXECUTES = {
    "kind": "ray",
    "stages": {"default": {"environment": "cpu"}},
    "environments": ENVIRONMENTS,
}


@pytest.fixture
def small(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv(TRUST, raising=False)
    monkeypatch.chdir(workplace)
    source = workplace / "small.toml"
    return Run(load_pipeline(source), Cluster(), workplace / "runs" / "small", source)


def of_a_stranger(run: Run, **changed: Any) -> Path:
    """The run's folder as another user would have left it."""
    save_run(run)
    path = run.folder / "run.json"
    state = json.loads(path.read_text())
    for key in ("seal", "guard", "format"):
        del state[key]
    state.update(changed)
    path.write_text(json.dumps(state))
    return run.folder


def test_ones_own_run_is_known_wherever_it_was_moved(small: Run) -> None:
    save_run(replace(small, cluster=Cluster.model_validate(EXECUTES)))
    moved = small.folder.rename(small.folder.with_name("moved"))
    run = load_run(moved)
    assert run.is_own
    require_trust(run, trust=False)


def test_what_a_stranger_s_run_executes_is_shown_and_needs_a_word(
    small: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = of_a_stranger(replace(small, cluster=Cluster.model_validate(EXECUTES)))
    run = load_run(folder)
    assert not run.is_own
    with pytest.raises(StageError) as refused:
        require_trust(run, trust=False)
    said = str(refused.value)
    assert "environments.cpu.setup: touch EXECUTED" in said and "LD_PRELOAD=./evil.so" in said
    assert "A run's folder is code" in said and "--trust" in said
    require_trust(replace(run, has_own_cluster=True), trust=False)  # --on FILE
    monkeypatch.setenv(TRUST, "")
    require_trust(run, trust=True)
    save_run(run)
    assert os.environ[TRUST] == run.folder.name  # for its tasks
    monkeypatch.delenv(TRUST)
    require_trust(load_run(folder), trust=False)  # it is one's own from now on


def test_trust_in_one_run_is_none_in_the_next(small: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRUST, "1")
    cluster = Cluster.model_validate(EXECUTES)
    run = load_run(of_a_stranger(replace(small, cluster=cluster)))
    other = replace(small, cluster=cluster, folder=small.folder.with_name("other"))
    other = load_run(of_a_stranger(other))
    with pytest.raises(StageError):
        require_trust(run, trust=False)
    require_trust(run, trust=True)
    require_trust(run, trust=False)  # in a process that the first one started
    with pytest.raises(StageError):
        require_trust(other, trust=False)
    assert TRUST not in os.environ


def test_what_is_shown_does_nothing_to_the_terminal(small: Run) -> None:
    lines = ["echo hi\n  # harmless", "\x1b[2Jrm -rf ~", "a\u202eb"]
    values = {"environments": {"cpu": {"setup": lines}}}
    run = load_run(of_a_stranger(replace(small, cluster=Cluster.model_validate(values))))
    with pytest.raises(StageError) as refused:
        require_trust(run, trust=False)
    said = str(refused.value)
    assert "\\n  # harmless" in said and "\x1b" not in said and "\u202e" not in said


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"stages": {"traces": {"options": ["--export=ALL"]}}}, "options"),
        ({"environments": {"x": {"container": "sh evil.sh"}}}, "container: sh evil.sh"),
        ({"environments": {"x": {"python": "/tmp/evil"}}}, "python: /tmp/evil"),
        ({"environments": {"x": {"modules": ["evil/1"]}}}, "modules: evil/1"),
        ({"openai": {"base_url": "https://evil.example/v1"}}, "base_url"),
        ({"openai": {"api_key_env": "AWS_SECRET"}}, "api_key_env = 'AWS_SECRET'"),
        ({"train": {"strategy": "evil.yaml"}}, "strategy = 'evil.yaml'"),
        ({"ray": {"address": "http://evil:8265"}}, "address"),
        ({"storage": "s3://evil/runs"}, "storage"),
    ],
)
def test_everything_that_a_shell_a_scheduler_or_a_server_gets_is_shown(
    small: Run, values: dict[str, Any], named: str
) -> None:
    cluster = Cluster.model_validate(values)
    run = load_run(of_a_stranger(replace(small, cluster=cluster)))
    with pytest.raises(StageError, match="was not started by you") as refused:
        require_trust(run, trust=False)
    assert named in str(refused.value)


def test_a_module_of_a_stranger_s_run_is_not_even_imported(
    small: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = small.folder.parents[1] / "lib"
    place.mkdir()
    (place / "evil_sampler.py").write_text(f"open({str(place / 'PWNED')!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(place))
    pipeline = json.loads(small.pipeline.model_dump_json())
    pipeline["traces"]["teachers"][0]["sampler"] = "evil_sampler:X"
    folder = of_a_stranger(small, pipeline=pipeline)
    with pytest.raises(StageError, match=r"sampler = 'evil_sampler:X'"):
        load_run(folder)
    assert not (place / "PWNED").exists()


def test_code_of_a_model_is_shown(small: Run) -> None:
    pipeline = json.loads(small.pipeline.model_dump_json())
    pipeline["traces"]["teachers"][0]["trust_remote_code"] = True
    run = load_run(of_a_stranger(small, pipeline=pipeline))
    with pytest.raises(StageError, match=r"teachers\.0\.trust_remote_code = True"):
        require_trust(run, trust=False)


def test_an_earlier_or_foreign_run_that_executes_nothing_goes_on_without_a_word(small: Run) -> None:
    require_trust(load_run(of_a_stranger(small)), trust=False)
    (small.folder / "run.json").unlink()
    require_trust(small, trust=False)


def test_a_stranger_s_checkpoint_is_not_loaded_unasked(small: Run) -> None:
    """Whether or not there is a run.json beside it, and whoever's the pipeline file is."""
    checkpoint = small.folder / "5-students" / "sft" / "checkpoints" / "checkpoint-6"
    checkpoint.mkdir(parents=True)
    (checkpoint / "optimizer.pt").write_bytes(b"cos\nsystem\n")
    named = r"5-students/sft/checkpoints/checkpoint-6: a checkpoint, which holds pickles"
    with pytest.raises(StageError, match=named):
        require_trust(small, trust=False)
    of_a_stranger(small)
    with pytest.raises(StageError, match=named):
        require_trust(small, trust=False)
    save_run(small)
    require_trust(small, trust=False)


@pytest.mark.parametrize("trust", [[], ["--trust"]])
def test_options_of_sbatch_in_a_stranger_s_partition_reach_no_script(
    small: Run, workplace: Path, trust: list[str]
) -> None:
    default = {"partition": "cpu --export=ALL,BASH_ENV=/tmp/evil.sh"}
    cluster = {"kind": "slurm", "stages": {"default": default}}
    of_a_stranger(small, cluster=cluster)
    said = command(workplace, "resume", "small", *trust, code=2)
    assert "stages.default.partition" in said and "sbatch would read more" in said
    assert not (small.folder / "slurm").exists()


def test_resume_executes_nothing_of_a_stranger_unasked(small: Run, workplace: Path) -> None:
    cluster = Cluster.model_validate(EXECUTES | {"kind": "local"})
    of_a_stranger(replace(small, cluster=cluster))
    said = command(workplace, "resume", "small", code=2)
    assert "touch EXECUTED" in said and "--trust" in said
    assert not (workplace / "EXECUTED").exists()
    assert not (small.folder / "1-problems").exists()


def sections_in(kind: type[Section]) -> dict[str, type[Section]]:
    """A section and all that are inside it, by name."""
    found = {kind.__name__: kind}
    for field in kind.model_fields.values():
        inner = section_in(field.annotation)
        if inner is not None and inner.__name__ not in found:
            found |= sections_in(inner)
    return found


def test_of_every_key_somebody_has_decided_whether_a_stranger_may_set_it() -> None:
    """A new key fails here: say in pipeline/decisions.py where its value ends up."""
    sections = sections_in(Cluster) | sections_in(Pipeline) | sections_in(Benchmark)
    assert len(sections) > 30, "all are found"
    keys = [(kind, key) for kind in sections.values() for key in kind.model_fields]
    undecided = [
        f"{kind.__name__}.{key}"
        for kind, key in keys
        if section_in(kind.model_fields[key].annotation) is None and not is_decided(kind, key)
    ]
    assert undecided == []


def test_a_key_that_nobody_has_decided_about_is_shown() -> None:
    class Later(Section):
        number: int = 1
        word: Literal["a", "b"] = "a"
        text: str = ""
        anything: dict[str, Any] = {}
        is_on: bool = False

    undecided = [key for key in Later.model_fields if not is_decided(Later, key)]
    assert undecided == ["text", "anything", "is_on"]
    assert decision_of(Later, "text").is_shown("x", None)
    assert what_it_runs("cluster", {"later": "x"}) == ["cluster.later = 'x'"]


def test_a_tokenizer_that_a_filter_reads_is_shown_where_it_lies_elsewhere(tmp_path: Path) -> None:
    filters = decision_of(ExampleSettings, "filters")
    known = {"phrases": {}, "student_tokens": {"tokenizer": "Qwen/Qwen3-0.6B-Base"}}
    assert not filters.is_shown(known, None)
    assert filters.is_shown({"student_tokens": {"tokenizer": str(tmp_path)}}, None)


def test_a_file_of_questions_is_shown_where_it_lies_elsewhere(tmp_path: Path) -> None:
    problems: dict[str, Any] = {"source": "file", "dataset": "d.jsonl", "near_duplicates": {}}
    problems["decontaminate"] = {"files": ["other.jsonl"]}
    assert what_it_runs("pipeline", {"problems": problems}) == []
    problems["decontaminate"] = {"files": ["other.jsonl", str(tmp_path / "x.jsonl")]}
    (line,) = what_it_runs("pipeline", {"problems": problems})
    assert line.startswith("pipeline.problems.decontaminate.files = ") and "x.jsonl" in line


@pytest.mark.parametrize("key", ["partition", "account", "qos", "constraint"])
@pytest.mark.parametrize(
    "value",
    [
        "cpu --export=ALL,BASH_ENV=/tmp/evil.sh",
        "cpu\t--output=/home/me/.bashrc",
        "cpu\x0b--export=ALL",
        "cpu\r--export=ALL",
        "cpu\n#SBATCH --export=ALL",
        "cpu\u00a0x",
        "cpu#",
        '"cpu"',
        "'cpu'",
        "--export=ALL",
        "-x",
        "a\\b",
        "$(x)",
        "`x`",
        "",
    ],
)
def test_what_sbatch_would_read_as_further_options_is_refused(key: str, value: str) -> None:
    """Tried on a real sbatch (23.11): any white space parts options, and BASH_ENV is executed."""
    values = {"kind": "slurm", "stages": {"default": {key: value}}}
    with pytest.raises(ValueError, match="sbatch would read more"):
        Cluster.model_validate(values)
    if value:
        assert what_it_runs("cluster", values)


def test_what_honest_users_write_for_slurm_is_taken_and_harmless() -> None:
    for values in (
        {"partition": "gpu,gpu-long", "account": "proj.x-1", "qos": "high"},
        {"constraint": "a100&ib", "time": "1-12:00:00", "memory": "64G"},
        {"constraint": "[rack1*2&rack2*4]", "partition": "gpu_A100"},
        {"constraint": "(intel|amd)&ib"},
    ):
        resources = {"stages": {"traces": values}}
        Cluster.model_validate(resources)
        assert what_it_runs("cluster", resources) == []
    options = ["--gres=gpu:a100:4", "--nodelist=node[01-04,7]", "--exclusive", "-p gpu", "-N1"]
    options += ['--comment="two words"', "--mail-type END,FAIL", "--begin=now+1hour"]
    Cluster.model_validate({"stages": {"traces": {"options": options}}})


@pytest.mark.parametrize(
    "values",
    [
        {"stages": {"default": {"options": ["exclusive"]}}},
        {"stages": {"default": {"options": ["--a --b"]}}},
        {"stages": {"default": {"options": ["--a\n#SBATCH --b"]}}},
        {"stages": {"default": {"options": ["--comment=a#b"]}}},
        {"stages": {"default": {"options": ['--comment="a']}}},
        {"environments": {"x": {"modules": ["--help"]}}},
        {"environments": {"x": {"modules": ["a b"]}}},
        {"environments": {"x": {"variables": {"A;touch EXECUTED;B": "x"}}}},
        {"environments": {"x": {"variables": {"A": "x\0"}}}},
        {"environments": {"x": {"setup": ["x\0"]}}},
        {"environments": {"x": {"container": "-x"}}},
        {"environments": {"x": {"container": "a\nb"}}},
        {"environments": {"x": {"python": "-c"}}},
        {"environments": {"x": {"python": ""}}},
        {"openai": {"api_key_env": "A B"}},
        {"ray": {"address": "evil_module://x"}},
        {"ray": {"address": "ray://head:1/../x y"}},
        {"ray": {"address": "--address"}},
        {"train": {"rollouts_url": "file:///etc/passwd"}},
        {"storage": "--share=work:0:1"},
    ],
)
def test_what_reaches_a_shell_or_a_command_has_its_form(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="want "):
        Cluster.model_validate(values)


@pytest.mark.parametrize(
    "address",
    ["auto", "head:6379", "ray://head:10001", "http://10.0.0.1:8265", "https://lab.example/ray/"],
)
def test_the_addresses_that_ray_takes_are_taken(address: str) -> None:
    Cluster.model_validate({"kind": "ray", "ray": {"address": address}})


def test_files_elsewhere_that_a_stranger_s_run_reads_are_shown(
    small: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = workplace / "here"
    here.mkdir()
    (here / "linked.jsonl").symlink_to(workplace / "problems.jsonl")
    (here / "own.jsonl").write_text("{}\n")
    monkeypatch.chdir(here)

    def shown(pipeline: dict[str, Any], base: Path | None = None) -> list[str]:
        return what_it_runs("pipeline", pipeline, base)

    for name in (str(workplace / "problems.jsonl"), "../problems.jsonl", "~/x.jsonl"):
        assert shown({"problems": {"dataset": name}})
    for name in ("linked.jsonl", ".ssh/id.json", "https://evil.example/x.jsonl", "a\0b"):
        assert shown({"problems": {"dataset": name}})
    assert shown({"problems": {"dataset": "problems.jsonl"}}, workplace), "found beside the file"
    for name in ("own.jsonl", "openai/gsm8k", "no_such.jsonl"):
        assert not shown({"problems": {"dataset": name}})
    for place in (
        {"traces": {"prompt": "/x.toml"}},
        {"traces": {"logprobs_model": "/x"}},
        {"traces": {"teachers": [{"model": "/x"}]}},
        {"verdicts": {"judge": {"model": "/x"}}},
        {"examples": {"prompt": "/x.toml"}},
        {"students": [{"base": "/x"}]},
        {"students": [{"teacher": "/x"}]},
        {"students": [{"chat_template": "/x"}]},
        {"students": [{"architecture": {"tokenizer": "/x"}}]},
        {"evals": {"benchmarks": ["gsm8k", "/x.toml"]}},
        {"evals": {"prompts": ["/x.toml"]}},
        {"evals": {"models": [{"model": "/x"}]}},
        {"evals": {"checkpoints": {"benchmarks": ["/x.toml"]}}},
    ):
        assert shown(place), place


def test_what_a_server_or_a_service_gets_is_shown() -> None:
    tools = {"tools": [{"type": "mcp", "server_url": "https://evil.example"}]}
    for pipeline in (
        {"traces": {"teachers": [{"model": "gpt", "sampler": "openai", "request": tools}]}},
        {"students": [{"report_to": ["wandb"]}]},
        {"students": [{"teacher_trust_remote_code": True}]},
        {"problems": {"trust_remote_code": True}},
    ):
        assert what_it_runs("pipeline", pipeline), pipeline
    assert what_it_runs("cluster", {"openai": {"redirects": ["https://evil.example"]}})
    assert not what_it_runs("pipeline", {"students": [{"report_to": ["tensorboard"]}]})


def test_a_benchmark_that_a_stranger_s_run_brings_is_looked_into(
    small: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    problems = '[problems]\nsource = "hub"\ndataset = "evil/x"\ntrust_remote_code = true\n'
    (workplace / "evil.toml").write_text(f'name = "evil"\n{problems}')
    pipeline = json.loads(small.pipeline.model_dump_json())
    pipeline["evals"]["benchmarks"] = ["evil.toml"]
    run = load_run(of_a_stranger(small, pipeline=pipeline))
    with pytest.raises(StageError, match=r"evil\.toml\.problems\.trust_remote_code = True"):
        require_trust(run, trust=False)


def test_a_copy_of_one_s_own_run_json_speaks_for_nothing_beside_it(
    small: Run, tmp_path: Path
) -> None:
    """A stranger lays it into his folder, with a checkpoint that he has summed, and a job on a
    server of his.
    """
    save_run(small)
    foreign = replace(small, folder=tmp_path / "foreign")
    checkpoint = foreign.folder / "5-students" / "sft" / "checkpoints" / "checkpoint-6"
    checkpoint.mkdir(parents=True)
    (checkpoint / "optimizer.pt").write_bytes(b"cos\nsystem\n")
    shutil.copy(small.folder / "run.json", foreign.folder)
    sums = checkpoint / CHECKPOINT_SUMS
    assert load_run(foreign.folder).is_own
    write_sums(sums, [checkpoint / "optimizer.pt"])
    with pytest.raises(StageError, match="checkpoint-6: a checkpoint"):
        require_trust(load_run(foreign.folder), trust=False)
    write_sums(sums, [checkpoint / "optimizer.pt"], sealed_as="another")
    with pytest.raises(StageError, match="checkpoint-6: a checkpoint"):
        require_trust(load_run(foreign.folder), trust=False)
    write_sums(sums, [checkpoint / "optimizer.pt"], sealed_as=CHECKPOINT)
    require_trust(load_run(foreign.folder), trust=False)
    sums.write_text("{")  # damaged: the training sets it aside
    require_trust(load_run(foreign.folder), trust=False)
    sums.unlink()  # killed before it was summed
    require_trust(load_run(foreign.folder), trust=False)


def test_every_word_of_a_run_json_is_sealed(small: Run) -> None:
    save_run(small)
    path = small.folder / "run.json"
    state = json.loads(path.read_text())
    for key in ("guard", "format"):
        state.pop(key, None)
    for key, value in {"keep_old": True, "asked": ["report"], "source": "/x.toml"}.items():
        path.write_text(json.dumps(state | {key: value}))
        assert not load_run(small.folder).is_own, key
    path.write_text(json.dumps(state))
    assert load_run(small.folder).is_own


@pytest.mark.parametrize(
    "changed",
    [
        {"job_id": "--user=root"},
        {"job_id": "1 --user=root"},
        {"job_id": "1\n"},
        {"job_id": "²"},
        {"job_id": 12},
        {"step": "../../x"},
        {"step": "--x"},
        {"stage": "../x"},
        {"elements": [1 << 70]},
        {"elements": ["0"]},
        {"elements": [-1]},
        {"elements": 3},
        {"is_array": True, "elements": [0, 1]},
        {"tasks": [["a"]]},
        {"more": 1},
    ],
)
def test_what_a_jobs_json_says_goes_to_no_command_but_in_its_form(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    row = {"step": "02-traces", "stage": "traces", "job_id": "17", "script": "02-traces.sbatch"}
    job = row | {"is_array": False, "elements": [0], "tasks": ["traces"]}
    (tmp_path / "jobs.json").write_text(json.dumps({"jobs": [job]}))
    (read,) = slurm.read_jobs(tmp_path)
    assert read.job_id == "17"
    (tmp_path / "jobs.json").write_text(json.dumps({"jobs": [job | changed]}))
    with pytest.raises(DataError, match=r"jobs\.json: cannot be read"):
        slurm.read_jobs(tmp_path)
    (tmp_path / "jobs.json").write_text('{"jobs": ' + "[" * 100_000)
    with pytest.raises(DataError, match=r"jobs\.json: cannot be read"):
        slurm.read_jobs(tmp_path)


def test_a_cancel_of_a_stranger_s_folder_hands_nothing_of_it_to_scancel(
    small: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stand-ins for Slurm's commands note what they are called with."""
    tools = workplace / "bin"
    tools.mkdir()
    for name in ("squeue", "scancel", "sbatch"):
        tool = tools / name
        tool.write_text(f'#!/bin/sh\necho "{name} $*" >> {workplace}/called\n')
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    folder = of_a_stranger(replace(small, cluster=Cluster(kind="slurm")))
    sent = folder / "slurm" / "001"
    sent.mkdir(parents=True)
    row = {"step": "02-traces", "stage": "traces", "job_id": "--user=root", "script": "x"}
    job = row | {"is_array": False, "elements": [0], "tasks": ["traces"]}
    (sent / "jobs.json").write_text(json.dumps({"jobs": [job]}))
    assert "is none of ours" in command(workplace, "cancel", "small", code=2)
    assert not (workplace / "called").exists()


@pytest.mark.parametrize(
    "job",
    [
        {"address": "http://127.0.0.1:1", "job_id": "../../api/version"},
        {"address": "http://127.0.0.1:1", "job_id": "a?b"},
        {"address": "evil_module://x", "job_id": "j"},
        {"address": "http://127.0.0.1:1/../x y", "job_id": "j"},
        {"address": ["http://127.0.0.1:1"], "job_id": "j"},
        {"address": "http://127.0.0.1:1", "job_id": "j", "more": 1},
        [],
    ],
)
def test_a_job_of_ray_s_is_asked_for_in_its_form_and_with_its_own_seal(
    small: Run, job: Any
) -> None:
    save_run(small)
    launcher = ray_jobs.RayJobLauncher(small)
    path = small.folder / "ray" / "job.json"
    path.parent.mkdir()
    path.write_text(json.dumps(job))
    with pytest.raises(DataError, match=r"job\.json: cannot be read"):
        launcher.sent()
    sent = ray_jobs.SentRun("http://127.0.0.1:1", "raysubmit_1")
    path.write_text(json.dumps(asdict(sent)))
    with pytest.raises(StageError, match="you did not start this run"):
        launcher.sent()
    path.write_text(json.dumps(asdict(sent) | {"seal": sent.seal()}))
    assert launcher.sent() == sent


def test_a_second_machine_of_one_s_own_is_told_of_the_key(
    small: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two machines with homes of their own each takes the other's run for a stranger's."""
    monkeypatch.delenv(KEY, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a"))
    cluster = Cluster.model_validate({"openai": {"base_url": "http://127.0.0.1:9/v1"}})
    save_run(replace(small, cluster=cluster))
    require_trust(load_run(small.folder), trust=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "b"))
    way_out = rf"copy ~/\.local/state/reasondistill/key, or set {KEY} to what it holds"
    with pytest.raises(StageError, match=way_out):
        require_trust(load_run(small.folder), trust=False)
    monkeypatch.setenv(KEY, (tmp_path / "a" / "reasondistill" / "key").read_text().strip())
    require_trust(load_run(small.folder), trust=False)
    save_run(replace(small, cluster=cluster))
    monkeypatch.delenv(KEY)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a"))
    require_trust(load_run(small.folder), trust=False)


def test_whoever_looks_at_a_run_with_a_sampler_of_its_own_says_that_he_trusts_it(
    small: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = small.folder.parents[1] / "lib"
    place.mkdir()
    (place / "lab.py").write_text(
        f"open({str(place / 'IMPORTED')!r}, 'w')\n"
        "from reasondistill.models.samplers.scripted import *\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(place), prepend=os.pathsep)
    pipeline = json.loads(small.pipeline.model_dump_json())
    pipeline["traces"]["teachers"][0]["sampler"] = "lab:SCRIPTED"
    folder = of_a_stranger(small, pipeline=pipeline)
    words = ["show", str(folder)]
    assert "--trust takes the folder for your own" in command(place.parent, *words, code=2)
    assert not (place / "IMPORTED").exists()
    command(place.parent, *words, "--trust", code=2)  # its sampler is none
    assert (place / "IMPORTED").exists()
