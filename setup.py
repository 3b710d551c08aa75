"""The wheel carries prompts/, pipelines/ and eval/ (not its runs) as reasondistill/shipped/…; else
all stands in pyproject.toml.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildPy(build_py):
    """Copy the data folders beside the modules; an editable install reads them in the checkout
    instead.
    """

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for folder in ("prompts", "pipelines", "eval"):
                shutil.copytree(
                    folder,
                    Path(self.build_lib) / "reasondistill" / "shipped" / folder,
                    dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("runs"),
                )


setup(cmdclass={"build_py": BuildPy})
