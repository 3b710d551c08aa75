"""What mkdocs is given beside the files of docs/: pages that are made from the code, and files that
stand at the top of the repository.
"""

from __future__ import annotations

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


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that no file of docs/ holds."""
    pages = reference_pages()
    for name, source in FROM_THE_TOP.items():
        pages[name] = (ROOT / source).read_text(encoding="utf-8")
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files
