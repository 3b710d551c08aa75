"""The words that change an answer or deny it, and what they make of it: `twice` → `2\\cdot {}`."""

from __future__ import annotations

import re

DENIAL = (
    r"(?:is|are|was|were|do|does|did|ca|could|should|must|would|wo|will|may|might|need)n['’]?t\b|"
    r"(?:is|are|was|were|can|could|should|must|would|will|may|might|does|did)\s+"
    r"(?:\w+ly\s+)?(?:not|never)\b|cannot\b|can\s+never\b"
)
DENIED = re.compile(
    rf"(?:{DENIAL}|(?:would|could|might)\s+have\s+been\b|not\b|never\b|no\s+longer\b|neither\b|"
    rf"(?:any|every)thing\s+(?:but|except)\b|"
    r"(?:(?<!none\s)other|different|far)\s+(?:than|from)\b|"
    r"(?:\w+ly\s+)not\b|n['’]t\b|不是|并非|不等于|nicht\b|n['’]est\s+pas\b|no\s+es\b)",
    re.IGNORECASE,
)
NOT_ALONE = re.compile(r"not\s+(?:only|just|merely|simply)\b", re.IGNORECASE)
INSTEAD = re.compile(
    r"(?:[,;:—–-]\s*|\s)(?:(?:but|rather|instead|actually|it['’]?s|it\s+is|which\s+is|sondern|mais|"
    r"sino)\b[\s,]*)+(?:\w+\s+(?:answer|value|result)\s+(?:is|should\s+be)\s+)?|而是|, (?=\d|\$)",
    re.IGNORECASE,
)
ORDER = {
    "half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7,
    "eighth": 8, "ninth": 9, "tenth": 10, "hundredth": 100,
}  # fmt: skip
TIMES = {
    "a": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10,
}  # fmt: skip
COUNT = "|".join(TIMES)
PART = "|".join(ORDER)
# What stands before an answer, and what it makes of it.
BEFORE: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(rf"(?:{words})(?![\w'])\s*", re.IGNORECASE), made)
    for words, made in (
        (r"at\s+least|at\s+minimum|(?:greater|larger|more)\s+than\s+or\s+equal\s+to|"
         r"bounded\s+(?:from\s+)?below\s+by|(?:no|not)\s+(?:less|fewer|smaller)\s+than|"
         r"a\s+minimum\s+of|"
         r"not\s+(?:below|under)|mindestens|au\s+moins|al\s+menos|至少", r"\ge {}"),
        (r"at\s+most|up\s+to|at\s+maximum|(?:less|smaller)\s+than\s+or\s+equal\s+to|"
         r"bounded\s+(?:from\s+)?above\s+by|(?:no|not)\s+(?:more|greater|larger|bigger)\s+than|"
         r"a\s+maximum\s+of|not\s+(?:above|over|exceeding)|höchstens|au\s+plus|a\s+lo\s+sumo|至多",
         r"\le {}"),
        (r"(?:strictly\s+)?(?:(?:more|greater|larger|bigger|higher)\s+than|above)|over|exceeding|"
         r"超过|大于", r"\gt {}"),
        (r"(?:strictly\s+)?(?:(?:less|fewer|smaller|lower)\s+than|below)|under|不到|小于",
         r"\lt {}"),
        (r"plus\s+or\s+minus|plus[-/]minus|positive\s+or\s+negative", r"\pm {}"),
        (r"(?:negative|opposite|additive\s+inverse)\s+of", "-{}"),
        (r"minus|negative|menos|moins|meno|负", "-{}"),
        (r"(?:twice|double(?:\s+of)?|two\s+times)(?!\s+as\b)", r"2\cdot {}"),
        (r"(?:thrice|triple(?:\s+of)?|three\s+times)(?!\s*\$?\()", r"3\cdot {}"),
        (r"(?:quadruple(?:\s+of)?|four\s+times)(?!\s*\$?\()", r"4\cdot {}"),
        (r"(?:one[\s-])?half(?:\s+of)?|(?:a\s+)?half\s+of", r"\frac{{{}}}{{2}}"),
        (r"(?:(?:principal|positive|square)\s+){1,2}root\s+of|sqrt\s+of", r"\sqrt{{{}}}"),
        (r"(?:das\s+)?doppelte\s+von|doppelt\s+so\s+viel\s+wie|(?:el\s+)?doble\s+de|"
         r"(?:le\s+)?double\s+de|(?:il\s+)?doppio\s+di|(?:o\s+)?dobro\s+de", r"2\cdot {}"),
        (r"(?:die\s+)?hälfte\s+von|(?:la\s+)?mitad\s+de|(?:la\s+)?moitié\s+de|(?:la\s+)?metà\s+di|"
         r"(?:a\s+)?metade\s+de", r"\frac{{{}}}{{2}}"),
        (r"(?:die\s+)?(?:quadrat)?wurzel\s+(?:aus|von)|(?:la\s+)?ra[ií]z(?:\s+cuadrada)?\s+de|"
         r"(?:la\s+)?racine(?:\s+carrée)?\s+de|(?:la\s+)?radice(?:\s+quadrata)?\s+di",
         r"\sqrt{{{}}}"),
        (r"cube\s+root\s+of|third\s+root\s+of|cubic\s+root\s+of", r"\sqrt[3]{{{}}}"),
        (r"fourth\s+root\s+of", r"\sqrt[4]{{{}}}"),
        (r"square\s+of", "{}^2"),
        (r"cube\s+of", "{}^3"),
        (r"(?:reciprocal|multiplicative\s+inverse)\s+of|one\s+over", r"\frac{{1}}{{{}}}"),
        (r"absolute\s+value\s+of", "|{}|"),
        (r"factorial\s+of", "{}!"),
        (r"natural\s+log(?:arithm)?\s+of", r"\ln({})"),
    )
)  # fmt: skip
BOUNDS = (r"\ge {}", r"\le {}", r"\gt {}", r"\lt {}")
PART_OF = re.compile(rf"(?:({COUNT})[\s-])?({PART})s?\s+of\s+", re.IGNORECASE)
PERCENT_OF = re.compile(r"(\d+(?:\.\d+)?)\s*(?:\\?%|percent|per\s+cent)\s+of\s+", re.IGNORECASE)
TIMES_OF = re.compile(r"(five|six|seven|eight|nine|ten|\d+)\s+times\s+(?=[\\$\d(*])", re.IGNORECASE)
# What stands before an answer and cannot be written out.
UNREAD_BEFORE = re.compile(
    r"(?:between|from(?=\s+\S+\s+to\b)|not\s+only|(?:(?:positive|proper|integer|prime|common)\s+)*"
    r"(?:multiple|divisor|factor|power|root|function|fraction|part|percentage|share|logarithm|log|"
    r"sine|cosine|tangent|inverse|complement|remainder|range|order)s?\s+of|"
    r"(?:(?:absolute|positive|arithmetic|geometric|harmonic|weighted|total)\s+)?"
    r"(?:product|difference|quotient|sum|average|mean|ratio|gcd|lcm)\s+(?:of|between)"
    r"(?=(?:[^.;:=]|\.(?=\d)){1,60}?\band\b)|congruent\s+to|divisible\s+by|coprime\s+to|"
    r"(?:one|two|three|four|five|six|ten|half|\d+)\s+(?:more|less|fewer)\s+than|closer?\s+to|"
    r"介于)(?![\w'])\s*",
    re.IGNORECASE,
)
NO_UNIT = r"(?!\s+[a-z]*(?:units?|met|feet|foot|inch|mile|yard|cm|km|mm|m\b|ft|in\b))"
AFTER: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(rf"\s*(?:{words})(?![\w'])", re.IGNORECASE), made)
    for words, made in (
        (r"factorial", "{}!"),
        (r"(?<=\$)\s*dozen", r"12\cdot {}"),
        (r"(?<=\$)\s*hundred", r"100\cdot {}"),
        (r"(?<=\$)\s*thousand", r"1000\cdot {}"),
        (r"(?<=\$)\s*million", r"10^6\cdot {}"),
        (r"(?<=\$)\s*(?:billion|bn)", r"10^9\cdot {}"),
        (r"(?<=\$)\s*lakhs?", r"10^5\cdot {}"),
        (r"(?<=\$)\s*crores?", r"10^7\cdot {}"),
        (r"(?<=\$)\s*halves", r"\frac{{{}}}{{2}}"),
        (r"(?<=\$)\s*thirds", r"\frac{{{}}}{{3}}"),
        (r"(?<=\$)\s*fourths", r"\frac{{{}}}{{4}}"),
        (r"(?<=\$)\s*fifths", r"\frac{{{}}}{{5}}"),
        (r"(?<=\$)\s*sixths", r"\frac{{{}}}{{6}}"),
        (r"(?<=\$)\s*sevenths", r"\frac{{{}}}{{7}}"),
        (r"(?<=\$)\s*eighths", r"\frac{{{}}}{{8}}"),
        (r"(?<=\$)\s*ninths", r"\frac{{{}}}{{9}}"),
        (r"(?<=\$)\s*tenths", r"\frac{{{}}}{{10}}"),
        (rf"squared{NO_UNIT}", "{}^2"),
        (rf"cubed{NO_UNIT}", "{}^3"),
        (r"(?:[a-z]+\s+)?(?:or|and)\s+(?:more|greater|higher|larger|above|over|up|bigger|beyond)|"
         r"(?:(?!is|are|be)[a-z]+\s+)?at\s+(?:the\s+)?(?:least|minimum)", r"\ge {}"),
        (r"(?:(?!more)[a-z]+\s+)?(?:or|and)\s+(?:less|fewer|lower|smaller|below|under)|"
         r"(?:(?!is|are|be)[a-z]+\s+)?at\s+(?:the\s+)?(?:very\s+)?(?:most|maximum)", r"\le {}"),
    )
)  # fmt: skip
SIGNS = {
    "plus": "{} + {}", "minus": "{} - {}", "times": r"{} \cdot {}",
    "multiplied by": r"{} \cdot {}", "divided by": r"\frac{{{}}}{{{}}}",
    "over": r"\frac{{{}}}{{{}}}", "plus or minus": r"{} \pm {}", "to the power": "{}^{{{}}}",
    "to the power of": "{}^{{{}}}", "raised to the power": "{}^{{{}}}",
    "raised to the power of": "{}^{{{}}}", "raised to": "{}^{{{}}}",
    "percent of": r"\frac{{{}}}{{100}} \cdot {}", "% of": r"\frac{{{}}}{{100}} \cdot {}",
}  # fmt: skip
SIGN = re.compile(
    r"\s*("
    + "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in sorted(SIGNS, reverse=True))
    + r")(?![\w'])\s*",
    re.IGNORECASE,
)
AND_A_PART = re.compile(
    rf"\s+and\s+(?:(?:an?\s+|one[\s-])?({PART})\b|({COUNT})[\s-]({PART})s\b)"
    r"(?!\s+of\b)",
    re.IGNORECASE,
)
WRONG = re.compile(
    r"[\s*_$)\]}.,]{0,6}(?:(?!which|that|who)\w+\s+)?(?:is|are|was|would\s+be|must\s+be|seems)\s+"
    r"(?:(?:clearly|also|therefore|thus|just|simply|actually|obviously|definitely|still|an?|"
    r"the)\s+)*"
    r"(?:wrong|incorrect|false|invalid|impossible|too\s+(?:large|big|small|high|low|much|many)|"
    r"ruled\s+out|excluded|rejected|extraneous|discarded|out|inadmissible|not\b|never\b|"
    r"no\s+longer)|"
    rf"[\s*_$)\]}}.,]{{0,6}}(?:{DENIAL})(?!\s+(?:(?:\w+\s+)?(?:hard|difficult)|it|that|they)\b)|"
    r",?\s+(?:which|but\s+(?:that|this|it))\s+(?:is|was|would\s+be|cannot\s+be|can['’]t\s+be|"
    r"must\s+be)\s+"
    r"(?:wrong|incorrect|impossible|too\s+\w+|right|correct|not\s+(?:right|correct|possible|"
    r"valid))\b(?<!is\sright)(?<!is\scorrect)|"
    r"[\s*_$)\]}.,]{0,6}(?:fails|doesn['’]t\s+work)|[\s*_$]{0,4}(?:是错|不对|不正确|错误)",
    re.IGNORECASE,
)
QUESTION = re.compile(r"[^.!\n]{0,80}?\s(?:or|oder|ou)\s[^.!\n]{1,80}\?")
CASES = re.compile(
    r"[^.\n]{0,60}?\b(?:if|when|for|unless|provided)\b[^.\n]{1,100}?"
    r"(?:\b(?:and|or|but|while|whereas|else)\b|[,;])\s+(?:it\s+is\s+)?\$?[-\d\\][^.\n]{0,60}?"
    r"\b(?:if|when|for|otherwise|unless|else)\b|"
    r"[^.\n]{0,60}?\b(?:if|when)\b[^.\n]{1,60}?\b(?:otherwise|else)\b[^.\n]{0,20}?\d|"
    r"[^.\n]{0,60}?\bif\s+\$?[a-z]\$?\s+(?:is|are)\b|[^.\n]{0,60}?\b(?:unless|depending\s+on)\b|"
    r"[^.\n]{0,40}?\bfor\s+(?:all\s+)?(?:even|odd)\b",
    re.IGNORECASE,
)
OPERATOR = re.compile(r"\s*(?:[+*/^=×·⋅÷<>≤≥≈(]|[-−–]\s*[\d$\\])")
ANY = re.compile(
    r"\b(?:minus|negative|menos|moins|meno|twice|double|triple|thrice|quadruple|half|root|square|"
    r"squared|cube|cubed|reciprocal|inverse|opposite|absolute|factorial|log\w*|least|most|up|more|"
    r"less|fewer|greater|larger|bigger|smaller|higher|lower|above|over|below|under|exceeding|"
    r"minimum|maximum|between|from|multiple|divisor|factor|power|function|product|difference|"
    r"quotient|sum|average|mean|ratio|remainder|plus|times|multiplied|divided|raised|percent|"
    r"positive|not|never|cannot|can|neither|nicht|no|anything|other|different|far|only|if|unless|"
    r"when|"
    r"otherwise|depending|bounded|have|everything|else|for|even|odd|provided|dozen|hundred|"
    r"thousand|million|billion|bn|lakhs?|crores?|halves|thirds?|"
    r"quarters?|fourths?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?|wrong|"
    r"incorrect|false|impossible|or|one|congruent|divisible|coprime|close|closer|mindestens|"
    r"höchstens|moins|plus|is|are|was|fails|fraction|part|percentage|share|sine|cosine|tangent|"
    r"complement|range|order|doppelte?|hälfte|doble|mitad|moitié|doppio|metà|dobro|metade|"
    r"\w*wurzel|ra[ií]z|racine|radice)\b|n['’](?:t|est\s+pas)\b|%|[不并至负超大小介而是错]|\\pm",
    re.IGNORECASE,
)
