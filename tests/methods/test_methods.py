"""One notion of a method: what older files and folders say stays the same, the common keys are
free of each other, and a stranger adds a method or a divergence in one place.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from contributing_kit import write_block
from test_distilling import distance, distils, made, trained
from test_students import job, scratch
from tiny_model import make_tiny_model

from reasondistill.config import StudentSettings
from reasondistill.losses.divergences import DIVERGENCES
from reasondistill.methods import METHODS, MethodSettings
from reasondistill.records import fingerprint
from reasondistill.stages import students
from reasondistill.stages.students.identity import identity_section

# The canonical section of a student with these settings, as commit 207009e computed it.
SECTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("kd", {}, "05b4e2140c4919d5"),
    ("kd", {"alpha": 0.9, "temperature": 1.0}, "5411682ceec88882"),
    ("kd", {"alpha": 0.0}, "6a41911aad27b5df"),
    ("gkd", {}, "b2b900dc82108804"),
    (
        "gkd",
        {"on_policy": 0.25, "beta": 1.0, "temperature": 2.0, "max_tokens": 64, "wrong_weight": 0.5},
        "1d076c7f9cd4eaac",
    ),
    ("reverse_kl", {}, "f579d7cb2cd828b4"),
    (
        "reverse_kl",
        {"on_policy": 0.5, "temperature": 1.5, "rollout_temperature": 0.7},
        "c1ec79385da8932d",
    ),
    ("skew_kl", {}, "6bb5fac6a07c8f09"),
    (
        "skew_kl",
        {"alpha": 0.2, "reverse": True, "start_share": 0.5, "capacity": 10},
        "70c32fbf88b92c5e",
    ),
    ("distillm2", {}, "c1fb2db96cacd47f"),
    ("distillm2", {"alpha": 0.3, "rollout_temperature": 1.0, "max_tokens": 32}, "82bfe009690c8596"),
    ("minillm", {}, "bb96906a07eb29f4"),
    ("minillm", {"gamma": 0.0, "teacher_mix": 0.0, "reuse": 1}, "74cb0f459a4c26de"),
    ("topk_kd", {}, "8f3c5350b0b3c568"),
    ("topk_kd", {"k": 64, "alpha": 1.0}, "a09230686882c3ea"),
    ("feature", {}, "33605b7ce303da07"),
    ("feature", {"recipe": "tinybert", "first_stage": 0.3}, "c6bd169c433f82c8"),
    ("feature", {"recipe": "layers", "measure": "cosine"}, "56af6e70d6f15988"),
    ("relation", {}, "6fba680788e53804"),
    ("relation", {"angle": 0.0, "ce": 2.0}, "8910d2d04ea90823"),
]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("teacher") / "teacher", seed=3)


# ---- older students stay the same ----------------------------------------------------------------


@pytest.mark.parametrize(("method", "table", "expected"), SECTIONS)
def test_a_student_that_was_made_before_the_common_keys_is_the_same_one(
    tmp_path: Path,
    method: str,
    table: dict[str, Any],
    expected: str,
) -> None:
    settings = scratch(method=method, **{method: table})
    assert fingerprint(identity_section(job(tmp_path, settings))) == expected


@pytest.mark.parametrize("method", METHODS)
def test_a_key_that_came_later_bears_identity_only_where_it_is_set(method: str) -> None:
    settings_class = METHODS[method].settings_class
    assert set(settings_class.model_fields) >= settings_class.LATER
    assert not settings_class.LATER & set(settings_class().canonical())
    assert {name for name, _, _ in SECTIONS} >= set(METHODS)


def test_a_new_key_that_is_set_makes_another_student() -> None:
    plain = METHODS["kd"].settings_class()
    other = METHODS["kd"].settings_class.model_validate({"divergence": "tvd", "on_policy": 0.5})
    assert other.canonical() == plain.canonical() | {"divergence": "tvd", "on_policy": 0.5}


# ---- the common keys -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["kd", "gkd"])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_every_divergence_can_be_asked_for(method: str, divergence: str) -> None:
    student = StudentSettings.model_validate(
        {"name": "s", "base": "x", "method": method, method: {"divergence": divergence}}
    )
    settings = student.method_settings()
    learner = METHODS[method](settings, seed=0)
    assert learner.divergence.kind == divergence


def test_the_share_of_cross_entropy_is_the_rest_of_alpha() -> None:
    settings_class = METHODS["kd"].settings_class
    by_alpha = settings_class.model_validate({"alpha": 0.9})
    by_share = settings_class.model_validate({"cross_entropy": 0.1})
    assert by_alpha == by_share
    assert by_alpha.canonical() == by_share.canonical()
    assert settings_class.model_validate(by_alpha.model_dump()) == by_alpha
    with pytest.raises(ValueError, match="cross_entropy: 0.5 beside alpha = 0.9"):
        settings_class.model_validate({"alpha": 0.9, "cross_entropy": 0.5})


def test_an_unknown_divergence_or_method_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="divergence: 'reverse_lk' .*Did you mean reverse_kl"):
        METHODS["kd"].settings_class.model_validate({"divergence": "reverse_lk"})
    with pytest.raises(ValueError, match="method: 'skew_lk' .*Did you mean skew_kl"):
        scratch(method="skew_lk")
    with pytest.raises(ValueError, match="take method = 'gkd' with on_policy"):
        METHODS["reverse_kl"].settings_class.model_validate({"divergence": "tvd"})


def test_kd_with_the_keys_of_gkd_is_gkd(tmp_path: Path, teacher: Path) -> None:
    """Divergence, who writes and cross-entropy are free of each other."""
    keys = {"divergence": "tvd", "on_policy": 0.5, "max_tokens": 8}
    kd = distils(teacher, "kd", kd=keys | {"cross_entropy": 0.3, "temperature": 1.0}, epochs=1)
    gkd = distils(teacher, "gkd", gkd=keys | {"cross_entropy": 0.3}, epochs=1)
    plain = distils(teacher, "gkd", gkd=keys, epochs=1)
    weights = [
        trained(made(tmp_path, teacher, student, name=name))
        for name, student in (("kd", kd), ("gkd", gkd), ("plain", plain))
    ]
    assert distance(weights[0], weights[1]) < 1e-7 < distance(weights[0], weights[2])


# ---- one file for a new method -------------------------------------------------------------------

TRAIN = """
import pickle, sys
import squared_distance, squared_method
from reasondistill.config import StudentSettings
from reasondistill.stages.students import StudentJob, run_student
values, job = pickle.load(open(sys.argv[1], "rb"))
student = StudentSettings.model_validate(values)
assert student.method_settings().weight == 2.0
run_student(StudentJob(student=student, **job))
"""


def test_a_method_and_a_divergence_of_a_strangers_file_train_a_student(
    tmp_path: Path, teacher: Path
) -> None:
    import pickle

    write_block("A divergence", tmp_path)
    write_block("A method", tmp_path)
    one = made(tmp_path, teacher, distils(teacher, "sft", epochs=1))
    values = one.student.model_dump(mode="json", exclude=set(METHODS)) | {
        "method": "squared",
        "squared": {"weight": 2.0},
    }
    rest = {name: value for name, value in vars(one).items() if name != "student"}
    (tmp_path / "job").write_bytes(pickle.dumps((values, rest)))
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})" + TRAIN
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "job")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    student = students.read_student(one.folder)
    assert student.method == "squared"
    assert student.figures is not None and (student.figures.teacher or "").startswith("teacher@")


def test_a_name_that_is_taken_is_refused() -> None:
    from reasondistill.losses import divergences
    from reasondistill.methods.kd import Kd
    from reasondistill.methods.method import register

    with pytest.raises(ValueError, match="there is a divergence 'tvd' already"):
        divergences.register("tvd")(divergences.tvd)

    class Other(Kd):
        pass

    with pytest.raises(ValueError, match="there is a method 'kd' already"):
        register(Other)


def test_the_settings_of_a_method_say_where_it_comes_from() -> None:
    for method in METHODS.values():
        assert issubclass(method.settings_class, MethodSettings)
        assert method.settings_class.__name__.endswith("Settings")
        assert method.__doc__ and method.settings_class.__doc__


def test_methods_are_read_without_torch() -> None:
    code = (
        "import sys, reasondistill.config, reasondistill.methods; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
