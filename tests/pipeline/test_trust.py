"""A run's folder is code: what one that this user has not started would execute is shown, and done
only with --trust.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_cli import run as command

from reasondistill.config import Cluster, load_pipeline
from reasondistill.errors import StageError
from reasondistill.pipeline import Run, load_run, require_trust, save_run
from reasondistill.runs.seals import TRUST

ENVIRONMENTS = {"cpu": {"setup": ["touch EXECUTED"], "variables": {"LD_PRELOAD": "./evil.so"}}}
EXECUTES = {
    "kind": "ray",
    "stages": {"default": {"environment": "cpu"}},
    "environments": ENVIRONMENTS,
}


@pytest.fixture
def small(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv(TRUST, raising=False)
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
    monkeypatch.delenv(TRUST)
    require_trust(load_run(folder), trust=False)  # it is one's own from now on


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


def test_resume_executes_nothing_of_a_stranger_unasked(small: Run, workplace: Path) -> None:
    cluster = Cluster.model_validate(EXECUTES | {"kind": "local"})
    of_a_stranger(replace(small, cluster=cluster))
    said = command(workplace, "resume", "small", code=2)
    assert "touch EXECUTED" in said and "--trust" in said
    assert not (workplace / "EXECUTED").exists()
    assert not (small.folder / "1-problems").exists()
