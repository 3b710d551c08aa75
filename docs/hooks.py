"""What mkdocs is given beside the files of docs/: pages that are made from the code, files that
stand at the top of the repository, and notebooks as pages.
"""

from __future__ import annotations

import json
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from reasondistill.cli.reference import reference_pages

ROOT = Path(__file__).parents[1]
FROM_THE_TOP = {
    "background/findings.md": "eval/FINDINGS.md",
    "reference/changelog.md": "CHANGELOG.md",
    "reference/contributing.md": "CONTRIBUTING.md",
}
FROM_NOTEBOOKS = {
    "tutorial/python_api.md": "docs/tutorial/python_api.ipynb",
}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that no file of docs/ holds."""
    pages = reference_pages()
    for name, source in FROM_THE_TOP.items():
        pages[name] = (ROOT / source).read_text(encoding="utf-8")
    for name, source in FROM_NOTEBOOKS.items():
        pages[name] = page_of_notebook(ROOT / source)
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def page_of_notebook(path: Path) -> str:
    """The cells of a notebook as a page, below its headline where the file itself is."""
    parts: list[str] = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            text = f"```python\n{text}\n```"
        parts.append(text)
    parts.insert(1, f"[The notebook itself]({path.name}) has the same cells, to be run.")
    return "\n\n".join(parts) + "\n"
