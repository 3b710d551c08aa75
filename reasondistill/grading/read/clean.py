"""One spelling for what LaTeX and Unicode can spell in many ways. Linear in the text; callers cap
its length.
"""

from __future__ import annotations

import re
from functools import lru_cache

_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ"
_SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉"

# Characters with one LaTeX spelling. A blanket NFKC is wrong here: it turns ² into a plain 2.
# Each command with the characters that it stands for.
_COMMANDS = """
times ×; cdot ⋅·∙; pm ±; mp ∓; leq ≤⩽; geq ≥⩾; neq ≠; approx ≈; equiv ≡; infty ∞;
alpha α; beta β; gamma γ; delta δ; varepsilon ε; eta η; theta θ; kappa κ; lambda λ; mu μ; pi π;
rho ρ; sigma σς; tau τ; phi φϕ; psi ψ; omega ω; zeta ζ; nu ν; xi ξ; chi χ; iota ι; upsilon υ;
Gamma Γ; Delta Δ∆; Theta Θ; Lambda Λ; Xi Ξ; Pi Π∏; Sigma Σ; Upsilon Υ; Phi Φ; Psi Ψ; Omega ΩΩ;
in ∈; notin ∉; cup ∪; cap ∩; emptyset ∅; setminus ∖; land ∧; lor ∨; neg ¬; oplus ⊕; otimes ⊗;
forall ∀; exists ∃; Rightarrow ⇒⟹; Leftrightarrow ⇔⟺; leftrightarrow ↔; therefore ∴; sim ∼;
subset ⊂; subseteq ⊆; supset ⊃; supseteq ⊇; perp ⊥; nmid ∤; cong ≅; simeq ≃; propto ∝; circ ∘;
ll ≪; gg ≫; star ⋆★;
to →; langle ⟨〈; rangle ⟩〉; lfloor ⌊; rfloor ⌋; lceil ⌈; rceil ⌉; ldots …⋯; sqrt √; sum ∑; int ∫;
hbar ħℏ; ell ℓ; angle ∠; triangle △
"""
_FRACTIONS = """
½ 1/2; ⅓ 1/3; ⅔ 2/3; ¼ 1/4; ¾ 3/4; ⅕ 1/5; ⅖ 2/5; ⅗ 3/5; ⅘ 4/5; ⅙ 1/6; ⅚ 5/6; ⅐ 1/7;
⅛ 1/8; ⅜ 3/8; ⅝ 5/8; ⅞ 7/8; ⅑ 1/9; ⅒ 1/10
"""
_SIGNS = """
- −–—‐‑﹣‒⁻－; / ∕⁄÷／; * ∗; + ＋; = ＝; % ％٪; ' ′’‘; " “”; | ∣; , ，、; . 。٫．; : ：∶; ( （;
) ）; [ ［; ] ］; { ｛; } ｝; £ ￡; ¥ ￥; \\$ ＄; \\| ∥; \\sqrt[3] ∛;
\\mathbb{R} ℝ; \\mathbb{Z} ℤ; \\mathbb{N} ℕ; \\mathbb{Q} ℚ; \\mathbb{C} ℂ
"""
_BLANKS = "\u00a0\u2009\u202f\u2003\u2002\u3000\t\r"
_INVISIBLE = (
    "\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063"
    "\u2066\u2067\u2068\u2069\ufeff\u00ad\x00"
)


def translation() -> dict[int, str | None]:
    """What each character is replaced by, for `str.translate`; None drops it."""
    table: dict[int, str | None] = {}
    for code in range(0xFF10, 0xFF5B):  # letters and digits in full width
        table[code] = chr(code - 0xFEE0)
    for entry in _COMMANDS.split(";"):
        command, characters = entry.split()
        for character in characters:
            table[ord(character)] = f"\\{command} "
    for entry in _SIGNS.split(";"):
        sign, characters = entry.split()
        for character in characters:
            table[ord(character)] = sign
    for entry in _FRACTIONS.split(";"):
        character, fraction = entry.split()
        top, bottom = fraction.split("/")
        table[ord(character)] = rf"\frac{{{top}}}{{{bottom}}}"
    for character in _BLANKS:
        table[ord(character)] = " "
    for character in _INVISIBLE:
        table[ord(character)] = None
    for digit, character in enumerate(_SUBSCRIPTS):
        table[ord(character)] = f"_{{{digit}}}"
    table[ord("；")] = ";"  # what parts the entries above
    for degree in "°º˚":  # with a space behind it
        table[ord(degree)] = r"^\circ "
    return table


_TABLE = translation()

_SUPERSCRIPT_RUN = re.compile(f"(?<=[\\w)}}\\]|!'])[{_SUPERSCRIPTS}]+")
_FROM_SUPERSCRIPT = str.maketrans(_SUPERSCRIPTS, "0123456789+-n")

# "\f", "\t", "\b" and "\r" of a string literal written without care: \frac, \text, \boxed, \right.
_CONTROL = re.compile(
    r"\x0c(?=rac|box)|\t(?=frac|ext|imes|heta|an\b)|\x08(?=oxed|inom|egin|ar)|"
    r"\r(?=ight|angle|ho\b)|\n(?=eq\b|e\s)"
)
_CONTROL_LETTER = {"\x0c": r"\f", "\t": r"\t", "\x08": r"\b", "\r": r"\r", "\n": r"\n"}

_TEXT = (
    r"\\(?:text|textrm|textbf|textit|textnormal|textup|textsf|texttt|textsc|textsl|textmd|"
    r"mathrm|mathbf|mathit|mathsf|"
    r"rm|bf|mbox|hbox|operatorname\*?|boldsymbol|bm)"
)
_TEXT_IN_BRACES = re.compile(_TEXT + r"(?![A-Za-z])\s*(?=\{)")
_TEXT_OF_LETTER = re.compile(_TEXT + r"(?![A-Za-z])\s+([A-Za-z])(?![A-Za-z])")
_SPACES = re.compile(
    r"(?<!\\)\\(?:quad|qquad|;|:| |>|enspace|thinspace|hspace\*?\{[^{}]*\}|hfill|noindent|"
    r"phantom\{[^{}]*\})|~|\n"
)
_STYLE = re.compile(
    r"(?<!\\)\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|left|right|middle|"
    r"[bB]igg?[lrm]?|mathstrut|strut|nonumber|bigskip|!)(?![A-Za-z])\.?"
)
_SPELLINGS: list[tuple[re.Pattern[str], str]] = [
    (re.compile(r"\\(?:[dtc]|nice|s)frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\(?:le|leqslant|leqq)(?![A-Za-z])"), r"\\leq"),
    (re.compile(r"\\(?:ge|geqslant|geqq)(?![A-Za-z])"), r"\\geq"),
    (re.compile(r"\\(?:ne)(?![A-Za-z])|\\not\s*="), r"\\neq"),
    (re.compile(r"!="), r"\\neq "),
    (re.compile(r"<-+>|<=+>"), r"\\Leftrightarrow "),
    (re.compile(r"(?<=[A-Za-z)\s])-+>"), r"\\to "),
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
            r"\\text\s*\{\s*(sin|cos|tan|cot|sec|csc|ln|log|lg|arcsin|arccos|arctan|"
            r"sinh|cosh|tanh|tg|ctg|arctg|cis|exp|lcm|gcd|max|min|arsinh|arcsec|"
            r"arccsc)\s*\}"
        ),
        r"\\\1 ",
    ),
    (re.compile(r"\\frac\s*\{\s*d\s*([A-Za-z])\s*\}\s*\{\s*d\s*[A-Za-z]\s*\}"), r"\1'"),
    (
        re.compile(
            r"\\frac\s*\{\s*d\s*\^\s*\{?2\}?\s*"
            r"([A-Za-z])\s*\}\s*\{\s*d\s*[A-Za-z]\s*\^\s*\{?2\}?\s*\}"
        ),
        r"\1''",
    ),
    (re.compile(r"\\textdollar(?![A-Za-z])"), r"\\$"),
    (re.compile(r"\\colon(?![A-Za-z])"), ":"),
    (re.compile(r"\\div(?![A-Za-z])"), "/"),
    (re.compile(r"\\ast(?![A-Za-z])"), "*"),
    (re.compile(r"\\not\s*\\(?=[a-z])"), r"\\not"),
    (re.compile(r"\\n(?=(?:mid|parallel|subseteq|supseteq|sim|cong)(?![A-Za-z]))"), r"\\not"),
    (re.compile(r"\\notexists(?![A-Za-z])"), r"\\nexists"),
    (re.compile(r"\\(?:tbinom|dbinom)(?![A-Za-z])"), r"\\binom"),
    (re.compile(r"\\sp(?![A-Za-z])"), "^"),
    (re.compile(r"\\\s*%"), "%"),
    (
        re.compile(
            r"\^\s*\{\s*\\(?:circ|degree)\s*\}|\^\s*\\(?:circ|degree)(?![A-Za-z])|"
            r"\\degree(?![A-Za-z])"
        ),
        r"^\\circ ",
    ),
    (re.compile(r"\\(?:mathopen|mathclose|mathord|mathbin)(?![A-Za-z])"), ""),
    (re.compile(r"\\infin(?:ity)?(?![A-Za-z])"), r"\\infty"),
]
# Those that a text without commands can hold: !=, <=, >= and dots.
_PLAIN_SPELLINGS = _SPELLINGS[4:9] + _SPELLINGS[11:12]
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_TRAILING = re.compile(r"(?:\s|\\+$|(?<!\d)\.$|(?<=\d)\.$|[,;:]$|\\\\$)+$")
_DOUBLED = re.compile(r"\\\\(?=[A-Za-z{}()\[\],;%!$])")


_WHOLE_TEXT = re.compile(r"\\text\s*\{([^{}\\]*\d[^{}\\]*)\}")


_ROOT = re.compile(r"√\s*(\d+(?:\.\d+)?|[A-Za-z]\b)")


# Wide commas separate; only three digits behind one may be a group of thousands.
_WIDE_COMMA = re.compile(r"[，、](?!\d{3}(?!\d))\s*")


@lru_cache(maxsize=8192)
def clean(text: str) -> str:
    """The answer in one spelling: no invisible characters, no style, `\\text{…}` for every text
    command, plain commands.

    `clean("$\\\\dfrac12$") == "\\\\frac12"`. Idempotent enough for a cache key; brackets and order
    are never changed.
    """
    # Runs of blanks would make later patterns quadratic.
    text = re.sub(r"([ \n\r\t])[ \n\r\t]+", r"\1", text)
    text = _CONTROL.sub(lambda match: _CONTROL_LETTER[match[0]], text)
    text = _SUPERSCRIPT_RUN.sub(_power_of, text)
    if "√" in text:
        text = _ROOT.sub(r"\\sqrt{\1}", text)
    if "，" in text or "、" in text:
        text = _WIDE_COMMA.sub(", ", text)
    text = text.translate(_TABLE)
    text = without_marks(text)
    if "\\" in text or "{" in text or "~" in text:
        text = clean_latex(text)
    else:
        for pattern, spelling in _PLAIN_SPELLINGS:
            text = pattern.sub(spelling, text)
    if has_dollar_pairs(text):
        text = re.sub(r"(?<!\\)\$", " ", text)
    power = ""
    if re.search(r"[\w)]\*\*[\w({-]", text):
        power = "^"
    text = text.replace("**", power)
    text = strip_delimiters(_TRAILING.sub("", strip_delimiters(text)))
    whole = _WHOLE_TEXT.fullmatch(text)
    if whole is not None:
        return whole[1].strip()
    return text


def _power_of(superscripts: re.Match[str]) -> str:
    exponent = superscripts[0].translate(_FROM_SUPERSCRIPT)
    return f"^{{{exponent}}}"


def has_dollar_pairs(text: str) -> bool:
    """Whether the dollar signs of a text enclose formulas, and are no amounts of money."""
    if text.count("$") % 2 or text.replace("\\$", "").count("$") < 2:
        return False
    if _ONLY_FORMULAS.fullmatch(text):
        return True
    return not re.search(r"(?<![\\\d])\$\d[^$]*\$?\d*\Z", text)


_ONLY_FORMULAS = re.compile(r"\s*\$[^$]+\$(?:\s*(?:,|;|,?\s*and|or)\s*\$[^$]+\$)*\s*")
_MARKS = re.compile(
    r"`+|\A[\s•]*(?:[=-]+>|=)\s+|\A\s*•\s*|(?<![\w_])_(?=[^\s_]+_\Z)|(?<=\w)_\Z|"
    r"(?<![\w*])\*(?=[^\s*][^*]*\*(?!\w))|(?<=[^\s*])\*(?=\Z)|__(?=\S)|(?<=\S)__|"
    r"&(?:nbsp|thinsp);|</?(?:b|i|em|strong|span|p|br|code)\s*/?>|\A#+\s+|[✅✓✔☑]"
)
_DECORATION = re.compile(
    r"\\(?:text)?color\s*\{[A-Za-z!0-9]+\}|\\color\s*\[[^\]]*\]\s*\{[^{}]*\}|"
    r"\\(?:colorbox|fcolorbox)\s*\{[^{}]*\}|\\tag\*?\s*\{[^{}]*\}|"
    r"\\(?:tiny|small|normalsize|large|Large|LARGE|huge|Huge|bold|blacksquare|square\Z|"
    r"checkmark|qed|boxed\Z|centering|"
    r"mathclap|ensuremath|displaylines)(?![A-Za-z])|"
    r"\\(?:underline|emph|uline|cancel|mathop|ensuremath|underbrace)(?=\s*\{)"
)
_SAID_BEFORE = re.compile(
    r"\A\s*\\text\s*\{[^{}]*(?:\bis|:|=|\b[Rr]emainder|\b[Mm]inimum|\b[Mm]aximum|"
    r"\b[Tt]otal)\s*\}\s*(?=\S)"
)
_ENVIRONMENT = re.compile(
    r"\\begin\s*\{(equation|align|aligned|gather|gathered|displaymath|math|multline|"
    r"split)\*?\}(.*)\\end\s*\{\1\*?\}",
    re.DOTALL,
)


def without_marks(text: str) -> str:
    """Without Markdown, HTML and end marks around the answer."""
    if text.isalnum():
        return text
    text = _MARKS.sub("", text)
    text = re.sub(r"&(lt|gt|amp);", lambda match: _ENTITIES[match[1]], text)
    return re.sub(r"\A\s*=\s*(?=\S)", "", text)


_ENTITIES = {"lt": "<", "gt": ">", "amp": "&"}


def last_row(text: str) -> str:
    """What the last row of a displayed environment says; all rows when each gives another name
    its value.
    """
    environment = _ENVIRONMENT.fullmatch(text.strip())
    if environment is None:
        return text
    rows: list[str] = []
    names: set[str] = set()
    for row in re.split(r"\\\\(?:\[[^\]]*\])?", environment[2]):
        plain = row.replace("&", " ").strip()
        if row.strip():
            rows.append(plain)
            name = re.match(r"([A-Za-z](?:_\w)?)\s*=", plain)
            if name:
                names.add(name[1])
    if not rows:
        return text
    if len(rows) > 1 and len(names) == len(rows):
        return ", ".join(rows)
    return rows[-1].removeprefix("=").strip()


_BASIS = re.compile(r"\\(?:mathbf|vec|boldsymbol|bm|hat|textbf)\s*\{?\s*\\?([ijk])(?:math)?\s*\}")


_MICRO = re.compile(
    r"\\mu\s*\\text\s*\{\s*(?=[a-zA-Z])|(?<=\\text\{)\\mu\s*(?=[a-zA-Z])|"
    r"(?<=\d)(?:\s|\\[,;: ]|~){0,3}"
    r"\\mu\s*(?=(?:mol|Hz|Pa|[msglLAVCFJWTH])\Z)"
)
# `50\,\Omega` and `4.7\text{ k}\Omega`: a resistance.
_OHM = re.compile(
    r"(?<=\d)(?:\s|\\[,;: ]|~){0,3}(?:\\text\s*\{\s*([kMGm]?)\s*\}|([kMGm]))?\s*\\Omega\s*\Z"
)
_NESTED_TEXT = re.compile(r"\\text\{[^{}]*\{")
_EMPTY_BRACES = re.compile(r"\\text\s*\{\}|(?<![A-Za-z])\{\}")
_NESTED_POWER = re.compile(r"(?<=\w)\^\{\s*-?\d\s*\}(?=[^{}]*\})")


def clean_latex(text: str) -> str:
    """Style, spacing and synonyms of commands."""
    if "\\" in text:
        text = _DECORATION.sub("", text)
    if "\\begin" in text:
        text = last_row(strip_delimiters(text))
    if "\\text" in text:
        text = _SAID_BEFORE.sub("", text, count=1)
    if "{" in text:
        text = re.sub(r"(?<=\d)\{([.:])\}(?=\d)", r"\1", text)
    if "{}" in text:
        text = _EMPTY_BRACES.sub("", text)
    if "\\\\" in text and ("\\begin" not in text or "\\\\begin" in text):
        text = _DOUBLED.sub(r"\\", text)
    text = _BASIS.sub(r"\\hat{\1}", text)
    text = _TEXT_IN_BRACES.sub(r"\\text", text)
    text = _TEXT_OF_LETTER.sub(r"\\text{\1}", text)
    text = re.sub(r"\\(?:em|it|rm|bf|sf|tt|cal|mathrm|textbf)(?![A-Za-z])", " ", text)
    if "\\text" in text or "\\mu" in text:
        text = _MICRO.sub(_micro_sign, text)
        text = _NESTED_POWER.sub(_without_braces, text)
        text = without_nested_text(text)
    if "\\Omega" in text:
        text = _OHM.sub(r" \\text{\1\2ohm}", text)
    if "\\over" in text or "\\choose" in text:
        text = without_infix_fractions(text)
    if text.lstrip().startswith("{"):
        text = without_outer_braces(text.strip())
    text = _BRACED_THOUSANDS.sub(r"\1", text)
    if re.search(r"\d\{,\}\d", text):
        text = text.replace("{,}", ",")
    text = _SEPARATED_THOUSANDS.sub(",", text)
    if "\\begin" in text:  # `\\,` may be the end of a row and a comma
        text = _SPACES.sub(" ", text).replace(r"\,", " ")
    else:
        text = _SPACES.sub(" ", text.replace(r"\,", " "))
    text = _STYLE.sub("", text)
    for pattern, spelling in _SPELLINGS:
        text = pattern.sub(spelling, text)
    return text


def without_nested_text(text: str) -> str:
    """`\\mathbf{\\text{3}}` and `\\mathbf{x^{2}}` without the outer command: what it holds is a
    formula.
    """
    for _ in range(20):
        nested = _NESTED_TEXT.search(text)
        if nested is None:
            return text
        opening = nested.start() + len("\\text")
        closing = matching_brace(text, opening)
        if closing < 0:
            return text
        text = text[: nested.start()] + text[opening : closing + 1] + text[closing + 1 :]
    return text


_INFIX = re.compile(r"\\(over|choose)(?![A-Za-z])")
_INFIX_COMMANDS = {"over": "\\frac", "choose": "\\binom"}


def without_infix_fractions(text: str) -> str:
    """`{a+b \\over c}` as `\\frac{a+b}{c}`, `{n \\choose k}` as `\\binom{n}{k}`."""
    for _ in range(20):
        infix = _INFIX.search(text)
        if infix is None:
            return text
        start = opening_brace(text, infix.start())
        end = len(text)
        if start >= 0:
            end = matching_brace(text, start)
        if end < 0:
            return text
        top = text[start + 1 : infix.start()].strip()
        bottom = text[infix.end() : end].strip()
        command = _INFIX_COMMANDS[infix[1]]
        text = f"{text[: max(0, start)]}{command}{{{top}}}{{{bottom}}}{text[end + 1 :]}"
    return text


def opening_brace(text: str, position: int) -> int:
    """The index of the `{` around a position; -1 when there is none."""
    depth = 0
    for i in range(position - 1, -1, -1):
        if text[i] not in "{}" or text[i - 1 : i] == "\\":
            continue
        if text[i] == "}":
            depth += 1
        elif depth:
            depth -= 1
        else:
            return i
    return -1


def without_outer_braces(text: str) -> str:
    """`{6{,}248}` without braces around the whole; those of a set, `{1, 2}`, stay."""
    for _ in range(3):
        if not text.startswith("{") or matching_brace(text, 0) != len(text) - 1:
            return text
        inside = text[1:-1].strip()
        if not inside or re.search(
            r"[,;|<>=:]|\\(?:mid|choose|over|atop)", inside.replace("{,}", "")
        ):
            return text
        text = inside
    return text


def _micro_sign(match: re.Match[str]) -> str:
    if match[0].endswith("{"):
        return "\\text{µ"
    return " µ"


def _without_braces(power: re.Match[str]) -> str:
    return power[0].replace("{", "", 1).replace("}", "", 1)


# `{6{,}248}` is a number in braces, no set of two.
_BRACED_THOUSANDS = re.compile(r"\A\s*\{\s*([-+]?\d{1,3}(?:\{,\}\d{3})+(?:\.\d+)?)\s*\}\s*\Z")
# `1\,234`, `1{,}234` and `11,\! 111` become `1,234`: the comma then says thousands.
_SEPARATED_THOUSANDS = re.compile(
    r"(?<=\d)(?:\\!\s*,\s*\\!|,\s*\\!|\\!\s*,|\\,|\{,\}|\\ )\s*(?=\d{3}(?!\d))"
)


def strip_delimiters(text: str) -> str:
    """Take off math delimiters and one brace pair that embrace the whole answer, and surrounding
    spaces.
    """
    text = text.strip()
    for _ in range(8):
        before = text
        for left, right in _DELIMITERS:
            if not text.startswith(left) or not text.endswith(right):
                continue
            inner = text[len(left) : -len(right)]
            if len(text) >= len(left) + len(right) and left not in inner and right not in inner:
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
    key = _FRAC.sub(_braced_fraction, key)
    key = _SCRIPT.sub(r"\1\2", key)
    key = re.sub(r"(?<=\w)\s+(?=\w)", "\0", key)
    key = re.sub(r"\s+", "", key)
    return key.replace("\0", " ")


def _braced_fraction(match: re.Match[str]) -> str:
    top = match[1] or match[2]
    bottom = match[3] or match[4]
    return rf"\frac{{{top}}}{{{bottom}}}"
