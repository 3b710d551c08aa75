"""The report's templates (templates/), filled by jinja2.

    render("report.html", title="<i>", …)         # Markup: the title is text
    macro("pieces.html", "badge", "wrong", "no")  # one piece of a page

Whatever a template shows passes `fit`: what is no Markup yet is shortened, what one would not see
in it is shown, None is "unknown", and then it is escaped. Markup comes out of a template or out of
`text`, and the page's own style and script are some. A name that a template lacks is an error.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from reasondistill.bounds import PAGE_FACT, PAGE_TEXT, Bound
from reasondistill.foreign_text import shortened, shown, shown_line

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def text(value: object, bound: Bound = PAGE_TEXT) -> Markup:
    """Escaped for HTML text and attributes, and shortened. What one would not see, or what turns
    the direction of reading, is shown.
    """
    return escape(fit(value, bound))


def fit(value: object, bound: Bound = PAGE_TEXT) -> object:
    """A value as text that can be escaped; Markup stays as it is."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return "unknown"
    return shown(shortened(str(value), bound.most))


def render(template: str, **values: object) -> Markup:
    """A whole template as HTML."""
    return Markup(_environment().get_template(template).render(values))


def macro(template: str, name: str, *arguments: object, **named: object) -> Markup:
    """What a macro of a template makes of its arguments, as HTML."""
    made = getattr(_environment().get_template(template).module, name)
    return Markup(made(*arguments, **named))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=fit,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters["fact"] = _fact
    environment.filters["line"] = _line
    return environment


def _fact(value: Any) -> object:
    """A setting or a name: of these a page holds less than of a text."""
    return fit(value, PAGE_FACT)


def _line(value: object) -> object:
    """On one line: what stands in a picture."""
    if isinstance(value, Markup):
        return value
    return shown_line(str(value))
