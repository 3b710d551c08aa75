"""The page's style sheet and its script (templates/), inlined so that the report is one file."""

from __future__ import annotations

from reasondistill.stages.report.rendering import TEMPLATES

# One rule for every tone: fills, strokes and swatches take their colour from the palette.
_TONES = (
    "s0",
    "s1",
    "s2",
    "s3",
    "s4",
    "s5",
    "correct",
    "wrong",
    "truncated",
    "no_answer",
    "undecided",
    "refused",
    "other",
)
_TONE_RULE = """
.TONE { fill: var(--TONE); stroke: var(--TONE); }
i.TONE, b.TONE { background: var(--TONE); }
i.dash.TONE { border-color: var(--TONE); background: none; }
.badge.TONE {
  border-color: var(--TONE); background: color-mix(in srgb, var(--TONE) 14%, transparent);
}
rect.TONE { stroke: none; }
"""


def _file(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


# Of the browser too.
PALETTE = _file("palette.css")
TONE_RULES = "".join(_TONE_RULE.replace("TONE", tone) for tone in _TONES)
STYLE = PALETTE + _file("report.css") + TONE_RULES + "polyline.curve { fill: none; }\n"
SCRIPT = _file("report.js")
