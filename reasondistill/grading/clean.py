"""One spelling for what LaTeX and Unicode can spell in many ways. Linear in the text; callers cap
its length.
"""

from __future__ import annotations

import re
from functools import lru_cache

_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ"
_SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉"

# Characters with one LaTeX spelling. A blanket NFKC is wrong here: it turns ² into a plain 2.
_CHARACTERS: dict[str, str] = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-", "∕": "/", "⁄": "/",
    "×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ", "∙": r"\cdot ", "∗": "*", "÷": "/", "±": r"\pm ", "∓": r"\mp ",
    "≤": r"\leq ", "⩽": r"\leq ", "≥": r"\geq ", "⩾": r"\geq ", "≠": r"\neq ", "≈": r"\approx ", "≡": r"\equiv ",
    "∞": r"\infty ", "π": r"\pi ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "λ": r"\lambda ",
    "φ": r"\phi ", "ϕ": r"\phi ", "ω": r"\omega ", "μ": r"\mu ", "σ": r"\sigma ", "Δ": r"\Delta ",
    "∈": r"\in ", "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}",
    "⟨": r"\langle ", "⟩": r"\rangle ", "〈": r"\langle ", "〉": r"\rangle ", "⌊": r"\lfloor ", "⌋": r"\rfloor ",
    "⌈": r"\lceil ", "⌉": r"\rceil ", "°": r"^\circ ", "º": r"^\circ ", "′": "'", "’": "'", "‘": "'", "“": '"', "”": '"',
    "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
    "⅕": r"\frac{1}{5}", "⅖": r"\frac{2}{5}", "⅗": r"\frac{3}{5}", "⅘": r"\frac{4}{5}", "⅙": r"\frac{1}{6}", "⅛": r"\frac{1}{8}",
    "⅜": r"\frac{3}{8}", "⅝": r"\frac{5}{8}", "⅞": r"\frac{7}{8}", "…": r"\ldots ", "⋯": r"\ldots ", "，": ",", "。": ".", "、": ",",
    "；": ";", "：": ":", "（": "(", "）": ")", "［": "[", "］": "]", "｛": "{", "｝": "}", "％": "%", "＝": "=", "＋": "+",
    "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2003": " ", "\u2002": " ", "\u3000": " ", "\t": " ", "\r": " ",
    "‒": "-", "⁻": "-", "∶": ":", "˚": r"^\circ ", "٪": "%", "٫": ".", "⅐": r"\frac{1}{7}", "⅑": r"\frac{1}{9}", "⅒": r"\frac{1}{10}",
    "⅚": r"\frac{5}{6}", "．": ".", "／": "/", "－": "-", "＄": r"\$", "￡": "£", "￥": "¥", "Ω": r"\Omega ", "ρ": r"\rho ",
    "ε": r"\varepsilon ", "δ": r"\delta ", "τ": r"\tau ", "η": r"\eta ", "κ": r"\kappa ", "ψ": r"\psi ", "Φ": r"\Phi ",
    "∖": r"\setminus ", "∧": r"\land ", "∨": r"\lor ", "⇒": r"\Rightarrow ", "∴": r"\therefore ", "√": r"\sqrt ", "∑": r"\sum ",
    "∫": r"\int ", "∀": r"\forall ",
    "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}",
    "∥": r"\|", "∣": "|", "∠": r"\angle ", "△": r"\triangle ", "→": r"\to ", "∛": r"\sqrt[3]",
}  # fmt: skip
_INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2066\u2067\u2068\u2069\ufeff\u00ad\x00"
_FULLWIDTH = {code: chr(code - 0xFEE0) for code in range(0xFF10, 0xFF5B)}
_TABLE: dict[int, str | None] = {
    **_FULLWIDTH,
    **{ord(a): b for a, b in _CHARACTERS.items()},
    **{ord(a): None for a in _INVISIBLE},
    **{ord(a): f"_{{{i}}}" for i, a in enumerate(_SUBSCRIPTS)},
}

_SUPERSCRIPT_RUN = re.compile(f"(?<=[\\w)}}\\]|!'])[{_SUPERSCRIPTS}]+")
_FROM_SUPERSCRIPT = str.maketrans(_SUPERSCRIPTS, "0123456789+-n")

# "\f", "\t", "\b" and "\r" of a string literal written without care: \frac, \text, \boxed, \right.
_CONTROL = re.compile(
    r"\x0c(?=rac|box)|\t(?=frac|ext|imes|heta|an\b)|\x08(?=oxed|inom|egin|ar)|\r(?=ight|angle|ho\b)|\n(?=eq\b|e\s)"
)
_CONTROL_LETTER = {"\x0c": r"\f", "\t": r"\t", "\x08": r"\b", "\r": r"\r", "\n": r"\n"}

_TEXT = (
    r"\\(?:text|textrm|textbf|textit|textnormal|textup|textsf|texttt|mathrm|mathbf|mathit|mathsf|rm|bf|mbox|hbox|operatorname\*?|"
    r"boldsymbol|bm)"
)
_SPACES = re.compile(
    r"(?<!\\)\\(?:quad|qquad|;|:| "
    r"|>|enspace|thinspace|hspace\*?\{[^{}]*\}|hfill|noindent|phantom\{[^{}]*\})|~|\n"
)
_STYLE = re.compile(
    r"(?<!\\)\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|left|right|middle|[bB]igg?[lrm]?|mathstrut|strut|nonumber|bigskip|!)(?![A-Za-z])\.?"
)
_SPELLINGS: list[tuple[re.Pattern[str], str]] = [
    (re.compile(r"\\(?:[dtc]|nice|s)frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\(?:le|leqslant|leqq)(?![A-Za-z])"), r"\\leq"),
    (re.compile(r"\\(?:ge|geqslant|geqq)(?![A-Za-z])"), r"\\geq"),
    (re.compile(r"\\(?:ne)(?![A-Za-z])|\\not\s*="), r"\\neq"),
    (re.compile(r"!="), r"\\neq "),
    (re.compile(r"<="), r"\\leq "),
    (re.compile(r">="), r"\\geq "),
    (re.compile(r"\\lt(?![A-Za-z])"), "<"),
    (re.compile(r"\\gt(?![A-Za-z])"), ">"),
    (re.compile(r"\\(?:c|l|d)?dots[bcmio]?(?![A-Za-z])|\.\.\.+"), r"\\ldots"),
    (re.compile(r"\\(?:varnothing|O)(?![A-Za-z])"), r"\\emptyset"),
    (re.compile(r"\\(?:lbrace|lbrack)(?![A-Za-z])"), r"\\{"),
    (re.compile(r"\\(?:rbrace|rbrack)(?![A-Za-z])"), r"\\}"),
    (re.compile(r"\\(?:[lr]?vert)(?![A-Za-z])"), "|"),
    (
        re.compile(
            r"\\(?:backslash|smallsetminus)(?![A-Za-z])|(?<=\\mathbb\{R\})\s*[-\\]\s*(?=\\\{)"
        ),
        r"\\setminus ",
    ),
    (re.compile(r"(?<=[)\]])\s*U\s*(?=[(\[])"), r"\\cup "),
    (
        re.compile(
            r"\\text\s*\{\s*(sin|cos|tan|cot|sec|csc|ln|log|lg|arcsin|arccos|arctan|sinh|cosh|tanh|tg|ctg|arctg|cis|exp|lcm|gcd|max|min|arsinh|arcsec|arccsc)\s*\}"
        ),
        r"\\\1 ",
    ),
    (re.compile(r"\\frac\s*\{\s*d\s*([A-Za-z])\s*\}\s*\{\s*d\s*[A-Za-z]\s*\}"), r"\1'"),
    (
        re.compile(
            r"\\frac\s*\{\s*d\s*\^\s*\{?2\}?\s*([A-Za-z])\s*\}\s*\{\s*d\s*[A-Za-z]\s*\^\s*\{?2\}?\s*\}"
        ),
        r"\1''",
    ),
    (re.compile(r"\\colon(?![A-Za-z])"), ":"),
    (re.compile(r"\\div(?![A-Za-z])"), "/"),
    (re.compile(r"\\(?:ast|star)(?![A-Za-z])"), "*"),
    (re.compile(r"\\(?:tbinom|dbinom)(?![A-Za-z])"), r"\\binom"),
    (re.compile(r"\\sp(?![A-Za-z])"), "^"),
    (re.compile(r"\\\s*%"), "%"),
    (
        re.compile(
            r"\^\s*\{\s*\\(?:circ|degree)\s*\}|\^\s*\\(?:circ|degree)(?![A-Za-z])|\\degree(?![A-Za-z])"
        ),
        r"^\\circ ",
    ),
    (re.compile(r"\\(?:mathopen|mathclose|mathord|mathbin)(?![A-Za-z])"), ""),
    (re.compile(r"\\infin(?:ity)?(?![A-Za-z])"), r"\\infty"),
]
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_TRAILING = re.compile(r"(?:\s|\\+$|(?<!\d)\.$|(?<=\d)\.$|[,;:]$|\\\\$)+$")
_DOUBLED = re.compile(r"\\\\(?=[A-Za-z{}()\[\],;%!$])")


_WHOLE_TEXT = re.compile(r"\\text\s*\{([^{}\\]*\d[^{}\\]*)\}")


_ROOT = re.compile(r"√\s*(\d+(?:\.\d+)?|[A-Za-z]\b)")


@lru_cache(maxsize=8192)
def clean(text: str) -> str:
    """The answer in one spelling: no invisible characters, no style, `\\text{…}` for every text
    command, plain commands.

    `clean("$\\\\dfrac12$") == "\\\\frac12"`. Idempotent enough for a cache key; brackets and order
    are never changed.
    """
    text = re.sub(
        r"([ \n\r\t])[ \n\r\t]+", r"\1", text
    )  # runs of blanks would make later patterns quadratic
    text = _CONTROL.sub(lambda m: _CONTROL_LETTER[m[0]], text)
    text = _SUPERSCRIPT_RUN.sub(lambda m: "^{" + m[0].translate(_FROM_SUPERSCRIPT) + "}", text)
    text = _ROOT.sub(r"\\sqrt{\1}", text) if "√" in text else text
    text = text.translate(_TABLE)
    text = _without_marks(text)
    if "\\" in text or "{" in text or "~" in text:
        text = _clean_latex(text)
    else:
        for pattern, spelling in _SPELLINGS[4:7] + _SPELLINGS[9:10]:
            text = pattern.sub(spelling, text)
    if (
        text.count("$") % 2 == 0
        and len(text.replace("\\$", "").split("$")) > 2
        and not re.search(r"(?<![\\\d])\$\d[^$]*\$?\d*\Z", text)
    ):
        text = re.sub(r"(?<!\\)\$", " ", text)
    text = (
        text.replace("**", "^") if re.search(r"[\w)]\*\*[\w({-]", text) else text.replace("**", "")
    )
    text = strip_delimiters(_TRAILING.sub("", strip_delimiters(text)))
    whole = _WHOLE_TEXT.fullmatch(text)
    return whole[1].strip() if whole is not None else text


_MARKS = re.compile(
    r"`+|\A[\s•=>-]*[=>]\s+|\A\s*•\s*|(?<![\w_])_(?=[^\s_]+_\Z)|(?<=\w)_\Z|"
    r"(?<![\w*])\*(?=[^\s*][^*]*\*(?!\w))|(?<=[^\s*])\*(?=\Z)|__(?=\S)|(?<=\S)__|"
    r"&(?:nbsp|thinsp);|</?(?:b|i|em|strong|span|p|br|code)\s*/?>|\A#+\s+|[✅✓✔☑]"
)
_DECORATION = re.compile(
    r"\\(?:text)?color\s*\{[A-Za-z!0-9]+\}|\\color\s*\[[^\]]*\]\s*\{[^{}]*\}|\\(?:colorbox|fcolorbox)\s*\{[^{}]*\}|\\tag\*?\s*\{[^{}]*\}|"
    r"\\(?:tiny|small|normalsize|large|Large|LARGE|huge|Huge|bold|blacksquare|square\Z|checkmark|qed|boxed\Z|centering|"
    r"mathclap|ensuremath|displaylines)(?![A-Za-z])|"
    r"\\(?:underline|emph|uline|cancel|mathop|ensuremath|underbrace)(?=\s*\{)"
)
_SAID_BEFORE = re.compile(
    r"\A\s*\\text\s*\{[^{}]*(?:\bis|:|=|\b[Rr]emainder|\b[Mm]inimum|\b[Mm]aximum|\b[Tt]otal)\s*\}\s*(?=\S)"
)
_ENVIRONMENT = re.compile(
    r"\\begin\s*\{(equation|align|aligned|gather|gathered|displaymath|math|multline|split)\*?\}(.*)\\end\s*\{\1\*?\}",
    re.DOTALL,
)


def _without_marks(text: str) -> str:
    """Without Markdown, HTML and end marks around the answer."""
    if not text.isalnum():
        text = _MARKS.sub("", text)
        text = re.sub(r"&(lt|gt|amp);", lambda m: {"lt": "<", "gt": ">", "amp": "&"}[m[1]], text)
        text = re.sub(r"\A\s*=\s*(?=\S)", "", text)
    return text


def _last_row(text: str) -> str:
    """What the last row of a displayed environment says."""
    match = _ENVIRONMENT.fullmatch(text.strip())
    if match is None:
        return text
    rows = [row.strip() for row in re.split(r"\\\\(?:\[[^\]]*\])?", match[2]) if row.strip()]
    plain = [row.replace("&", " ").strip() for row in rows]
    names = [match[1] for row in plain if (match := re.match(r"([A-Za-z](?:_\w)?)\s*=", row))]
    if len(rows) > 1 and len(set(names)) == len(rows):
        return ", ".join(plain)
    return rows[-1].replace("&", " ").strip().removeprefix("=").strip() if rows else text


_BASIS = re.compile(r"\\(?:mathbf|vec|boldsymbol|bm|hat|textbf)\s*\{?\s*\\?([ijk])(?:math)?\s*\}")


_MICRO = re.compile(r"\\mu\s*\\text\s*\{\s*(?=[a-zA-Z])|(?<=\\text\{)\\mu\s*(?=[a-zA-Z])")
_EMPTY_BRACES = re.compile(r"\\text\s*\{\}|(?<![A-Za-z])\{\}")
_NESTED_POWER = re.compile(r"(?<=\w)\^\{\s*-?\d\s*\}(?=[^{}]*\})")


def _clean_latex(text: str) -> str:
    """Style, spacing and synonyms of commands."""
    text = _DECORATION.sub("", text) if "\\" in text else text
    text = _last_row(strip_delimiters(text)) if "\\begin" in text else text
    text = _SAID_BEFORE.sub("", text, count=1) if "\\text" in text else text
    text = re.sub(r"(?<=\d)\{([.:])\}(?=\d)", r"\1", text) if "{" in text else text
    text = _EMPTY_BRACES.sub("", text) if "{}" in text else text
    if "\\\\" in text and ("\\begin" not in text or "\\\\begin" in text):
        text = _DOUBLED.sub(r"\\", text)
    text = _BASIS.sub(r"\\hat{\1}", text)
    text = re.sub(_TEXT + r"(?![A-Za-z])\s*(?=\{)", r"\\text", text)
    text = re.sub(_TEXT + r"(?![A-Za-z])\s+([A-Za-z])(?![A-Za-z])", r"\\text{\1}", text)
    text = re.sub(r"\\(?:em|it|rm|bf|sf|tt|cal|mathrm|textbf)(?![A-Za-z])", " ", text)
    if "\\text" in text:
        text = _MICRO.sub(lambda match: "\\text{µ" if match[0].endswith("{") else "µ", text)
        text = _NESTED_POWER.sub(
            lambda match: match[0].replace("{", "", 1).replace("}", "", 1), text
        )
    text = text.replace("{,}", ",") if re.search(r"\d\{,\}\d", text) else text
    text = _join_thousands(text)
    text = (
        _SPACES.sub(" ", text.replace(r"\,", " "))
        if "\\begin" not in text
        else _SPACES.sub(" ", text).replace(r"\,", " ")
    )
    text = _STYLE.sub("", text)
    for pattern, spelling in _SPELLINGS:
        text = pattern.sub(spelling, text)
    return text


def _join_thousands(text: str) -> str:
    """`1\\,234`, `1{,}234` and `11,\\! 111` become `1,234`: the comma then says thousands."""
    return re.sub(
        r"(?<=\d)(?:\\!\s*,\s*\\!|,\s*\\!|\\!\s*,|\\,|\{,\}|\\ )\s*(?=\d{3}(?!\d))", ",", text
    )


def strip_delimiters(text: str) -> str:
    """Take off math delimiters and one brace pair that embrace the whole answer, and surrounding
    spaces.
    """
    text = text.strip()
    for _ in range(8):
        before = text
        for left, right in _DELIMITERS:
            inner = text[len(left) : -len(right)]
            if (
                text.startswith(left)
                and text.endswith(right)
                and len(text) >= len(left) + len(right)
                and left not in inner
                and right not in inner
            ):
                text = inner.strip()
        text = text.strip()
        if text == before:
            break
    return text


def matching_brace(text: str, start: int, limit: int = 20_000) -> int:
    """The index of the `}` that closes the `{` at `start`; -1 when there is none within `limit`
    characters.
    """
    depth = 0
    for token in _BRACES.finditer(text, start, start + limit):
        if token[0] == "{":
            depth += 1
        elif token[0] == "}":
            depth -= 1
            if depth == 0:
                return token.start()
    return -1


_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)

_UNWRAP = re.compile(r"\\text\{([^{}]*)\}")
_SCRIPT = re.compile(r"([\^_])\s*\{\s*(\w)\s*\}")
_FRAC = re.compile(r"\\frac\s*(?:(\d)|\{\s*(\w+)\s*\})\s*(?:(\d)|\{\s*(\w+)\s*\})")


@lru_cache(maxsize=8192)
def string_key(cleaned: str) -> str:
    """What two cleaned answers must share to be the same string: spaces, text wrappers and lone
    braces do not count.
    """
    key = _UNWRAP.sub(r"\1", cleaned)
    key = _FRAC.sub(lambda m: rf"\frac{{{m[1] or m[2]}}}{{{m[3] or m[4]}}}", key)
    key = _SCRIPT.sub(r"\1\2", key)
    key = re.sub(r"(?<=\w)\s+(?=\w)", "\0", key)
    key = re.sub(r"\s+", "", key)
    return key.replace("\0", " ")
