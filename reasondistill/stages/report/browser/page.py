"""The browser's page: our own script and style, inline, and KaTeX in a file of its own; of a page
that carries its data KaTeX too, and each file of data as base64 that no browser executes.

The content policy names the sums of what is inline; whatever else runs was loaded by it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from markupsafe import Markup

from reasondistill.secrets import cleaned
from reasondistill.stages.report.browser.words import LETTERS, LONGEST, SINGLE
from reasondistill.stages.report.look import PALETTE, TONE_RULES
from reasondistill.stages.report.rendering import render

_HERE = Path(__file__).parent
KATEX = "katex.js"
# In this order: later ones use earlier ones.
_SCRIPTS = ("formulas", "loading", "searching", "filtering", "writing", "reading", "list", "main")
# The first of the three formats of a font.
_FONT = re.compile(r'url\(fonts/([\w-]+)\.woff2\) format\("woff2"\)[^;}]*')
_FACE = re.compile(r"@font-face\{[^}]*\}")


def render_browser(
    *, title: str, run: str, index: str, report: str, payloads: Mapping[str, str] | None = None
) -> bytes:
    """index.html; `index` is the sum of index.js, `report` where the report is ("" for nowhere).

    With `payloads` (what each file of data would hand over, by its name) the page carries them and
    KaTeX, and no script loads another one.
    """
    scripts = [script_of(name) for name in _SCRIPTS]
    loads = " 'strict-dynamic'"
    if payloads is not None:
        scripts.insert(0, katex_script().decode("utf-8"))
        loads = ""
    style = _style()
    policy = (
        f"default-src 'none'; style-src {sums_of([style])}; font-src data:; "
        f"script-src {sums_of(scripts)}{loads}; base-uri 'none'; form-action 'none'"
    )
    page = render(
        "browser.html",
        title=cleaned(title),
        run=run,
        index=index,
        report=report,
        # What stands whole in the page: our own, and base64.
        policy=Markup(policy),
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        payloads=[(name, Markup(payload)) for name, payload in (payloads or {}).items()],
    )
    return page.encode("utf-8", "replace")


def sums_of(pieces: list[str]) -> str:
    """As a content policy names what is inline."""
    sums: list[str] = []
    for piece in pieces:
        digest = hashlib.sha256(piece.encode()).digest()
        sums.append(f"'sha256-{base64.b64encode(digest).decode()}'")
    return " ".join(sums)


@cache
def script_of(name: str) -> str:
    source = (_HERE / "page" / f"{name}.js").read_text(encoding="utf-8")
    for constant, value in (("LETTERS", LETTERS), ("SINGLE", SINGLE), ("LONGEST", str(LONGEST))):
        source = source.replace(f"%{constant}%", _escaped(value))
    return source


def _escaped(signs: str) -> str:
    """A class of signs as JavaScript reads it."""
    return "".join(sign if sign.isascii() else f"\\u{ord(sign):04x}" for sign in signs)


@cache
def _style() -> str:
    style = (_HERE / "page" / "style.css").read_text(encoding="utf-8")
    return PALETTE + style + TONE_RULES


# ---- KaTeX ---------------------------------------------------------------------------------------


@cache
def katex_script() -> bytes:
    """KaTeX with its licences, which every copy carries, and with its style, which pages apply when
    they load it.
    """
    licence = (_HERE / "katex" / "LICENSE").read_text(encoding="utf-8")
    of_fonts = (_HERE / "katex" / "OFL.txt").read_text(encoding="utf-8")
    script = (_HERE / "katex" / "katex.min.js").read_text(encoding="utf-8")
    style = json.dumps(katex_style())
    return f"/* KaTeX. {licence}\n{of_fonts}*/\n{script}\nconst katexStyle = {style};\n".encode()


def katex_style() -> str:
    """KaTeX's style with its fonts inside; of fonts that we do not carry nothing is asked for."""
    style = (_HERE / "katex" / "katex.min.css").read_text(encoding="utf-8")
    return _FACE.sub(_own_face, style)


def _own_face(face: re.Match[str]) -> str:
    font = _FONT.search(face[0])
    if font is None:
        return ""
    path = _HERE / "katex" / "fonts" / f"{font[1]}.woff2"
    if not path.exists():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return _FONT.sub(lambda _: f'url(data:font/woff2;base64,{data}) format("woff2")', face[0])
