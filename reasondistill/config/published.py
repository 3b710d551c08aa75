"""Published numbers: eval/published.toml. Each has its model, sampling, grading and source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from reasondistill.config import resources
from reasondistill.sections import Section, load_section


class PublishedSampling(Section):
    """How the published samples were drawn; what the source does not say is left out."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None


class Published(Section):
    """One model in one source. `scores` are pass@1 in percent by benchmark name, `spread` the ±
    that the source prints.
    """

    model: str
    hub: str = ""
    source: Annotated[str, Field(min_length=1)]
    url: str = ""
    harness: str = ""
    grader: str = ""
    sampling: PublishedSampling = PublishedSampling()
    samples: dict[str, int] = {}
    spread_is: str = ""
    scores: Annotated[dict[str, float], Field(min_length=1)]
    spread: dict[str, float] = {}
    majority: dict[str, float] = {}


class PublishedNumbers(Section):
    """eval/published.toml."""

    about: str = ""
    published: tuple[Published, ...] = ()


def published_file() -> Path:
    """The nearest file of published numbers; see `resources.find`.

    A folder of the user's that still holds eval/baselines.toml, the file's name until 2026, is
    read as before. Raises ConfigError where no file is found.
    """
    folder = Path.cwd() / "eval"
    earlier = folder / "baselines.toml"
    if earlier.exists() and not (folder / "published.toml").exists():
        return earlier
    return resources.find("published", "published")


def load_published(path: Path) -> PublishedNumbers:
    """Read the published numbers. Raises ConfigError."""
    return load_section(path, PublishedNumbers)
