"""150 planted texts of our own: problems of 13 templates, each edited, leaked and imitated.

    planted = plant()
    planted.originals[7], planted.edited[7], planted.leaked[7], planted.look_alikes[7]

An edited one is a near-duplicate (a word more, less or another, capitals, a number before it, LaTeX
or plain); a leaked one stands in a longer text with numbers of its own, set otherwise, its numbers
kept; a look-alike is the same template with the names of the original and other numbers, often a
single one.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

COUNT = 50

# Plain text and LaTeX of the same problem. {a} to {d} are numbers, {n} and {m} names.
TEMPLATES = [
    (
        "{n} runs a small bakery near the harbour and sells {a} loaves of rye bread every morning. "
        "On Saturdays the market is open as well, and then {n} bakes {b} loaves more than on other "
        "days. Each loaf costs {c} coins. How many coins does the bakery take in during a whole "
        "week, when no loaf is left over in the evening?",
        "{n} runs a small bakery near the harbour and sells ${a}$ loaves of rye bread every "
        "morning. On Saturdays the market is open as well, and then {n} bakes ${b}$ loaves more "
        "than on other days. Each loaf costs ${c}$ coins. How many coins does the bakery take in "
        "during a whole week, when no loaf is left over in the evening?",
    ),
    (
        "Let f(x) = {a}x^2 + {b}x - {c} be a polynomial with integer coefficients, and let p and q "
        "denote the two roots of the equation f(x) = 0, counted with multiplicity. Find the value "
        "of p^2 + q^2, and decide whether the larger of the two roots lies above 1/{d} or not; "
        "give a reason for what you say about it.",
        "Let $f(x) = {a}x^{{2}} + {b}x - {c}$ be a polynomial with integer coefficients, and let "
        "$p$ and $q$ denote the two roots of the equation $f(x)=0$, counted with multiplicity. "
        "Find the value of $p^{{2}}+q^{{2}}$, and decide whether the larger of the two roots lies "
        "above $\\dfrac{{1}}{{{d}}}$ or not; give a reason for what you say about it.",
    ),
    (
        "A cyclist named {n} leaves the village at noon and rides towards the lake at {a} "
        "kilometres per hour. Exactly {b} minutes later {m} follows on the same road at {c} "
        "kilometres per hour and does not stop anywhere. After how many minutes does {m} catch up "
        "with {n}, and how far from the village are the two of them at that moment?",
        "A cyclist named {n} leaves the village at noon and rides towards the lake at "
        "${a}\\text{{ kilometres}}$ per hour. Exactly ${b}$ minutes later {m} follows on the same "
        "road at ${c}$ kilometres per hour and does not stop anywhere. After how many minutes does "
        "{m} catch up with {n}, and how far from the village are the two of them at that moment?",
    ),
    (
        "In a triangle ABC the side AB has length {a}, the side BC has length {b}, and the angle "
        "at B measures {c}°. The bisector of this angle meets the side AC in a point D. Through D "
        "a line is drawn that is parallel to AB and meets BC in E. Determine the length of the "
        "segment DE as a fraction of √{d}.",
        "In a triangle $ABC$ the side $AB$ has length ${a}$, the side $BC$ has length ${b}$, and "
        "the angle at $B$ measures ${c}^{{\\circ}}$. The bisector of this angle meets the side "
        "$AC$ in a point $D$. Through $D$ a line is drawn that is parallel to $AB$ and meets $BC$ "
        "in $E$. Determine the length of the segment $DE$ as a fraction of $\\sqrt{{{d}}}$.",
    ),
    (
        "The library of a school owns {a} books. Of these, {b} percent are novels, {c} are "
        "atlases, and all others are textbooks. During the summer {n} and {m} put new labels on "
        "the textbooks; {n} needs {d} seconds for a label, and {m} works twice as fast. How many "
        "hours do they need together until every textbook has its label?",
        "The library of a school owns ${a}$ books. Of these, ${b}\\%$ are novels, ${c}$ are "
        "atlases, and all others are textbooks. During the summer {n} and {m} put new labels on "
        "the textbooks; {n} needs ${d}$ seconds for a label, and {m} works twice as fast. How many "
        "hours do they need together until every textbook has its label?",
    ),
    (
        "How many sequences of length {a} can be written with the letters A, B and C, so that no "
        "two neighbours are equal, the first letter is A, and the letter C appears at most {b} "
        "times? Of all such sequences one is drawn at random. What is the probability that its "
        "last letter is A? Write it as a fraction in lowest terms, with a denominator ≤ {c}.",
        "How many sequences of length ${a}$ can be written with the letters $A$, $B$ and $C$, so "
        "that no two neighbours are equal, the first letter is $A$, and the letter $C$ appears at "
        "most ${b}$ times? Of all such sequences one is drawn at random. What is the probability "
        "that its last letter is $A$? Write it as a fraction in lowest terms, with a denominator "
        "$\\leq {c}$.",
    ),
    (
        "{n} mixes paint for the fence of the garden. For one bucket of green, {a} cups of blue "
        "and {b} cups of yellow are stirred together, and then water is added until the bucket "
        "holds {c} cups. The fence has {d} boards, and a bucket is enough for nine of them. How "
        "many cups of yellow paint does {n} have to buy if only full buckets can be mixed?",
        "{n} mixes paint for the fence of the garden. For one bucket of green, ${a}$ cups of blue "
        "and ${b}$ cups of yellow are stirred together, and then water is added until the bucket "
        "holds ${c}$ cups. The fence has ${d}$ boards, and a bucket is enough for nine of them. "
        "How many cups of yellow paint does {n} have to buy if only full buckets can be mixed?",
    ),
    (
        "Consider the integers n with {a} ≤ n ≤ {b} which leave the remainder {c} when they are "
        "divided by {d} and whose digits add up to an even number. How many of these integers are "
        "there altogether, and which of them is the largest one that is also divisible by the sum "
        "of its own digits?",
        "Consider the integers $n$ with ${a}\\le n\\le {b}$ which leave the remainder ${c}$ when "
        "they are divided by ${d}$ and whose digits add up to an even number. How many of these "
        "integers are there altogether, and which of them is the largest one that is also "
        "divisible by the sum of its own digits?",
    ),
    (
        "On the first of May {n} puts {a} coins into an empty jar. Each day after that, {b} coins "
        "are added in the morning, and in the evening {m} takes a third of what is then in the "
        "jar, rounded down. On which day of the month are there for the first time more than {c} "
        "coins in the jar at noon, if this ever happens at all?",
        "On the first of May {n} puts ${a}$ coins into an empty jar. Each day after that, ${b}$ "
        "coins are added in the morning, and in the evening {m} takes a third of what is then in "
        "the jar, rounded down. On which day of the month are there for the first time more than "
        "${c}$ coins in the jar at noon, if this ever happens at all?",
    ),
    (
        "The numbers x and y are positive and satisfy x + y = {a} as well as x^3 + y^3 = {b}. "
        "Without solving for either of them, compute the product of x and y, the value of 1/x + "
        "1/y, and the sum of their fourth powers. For which of these three results does it matter "
        "that the difference of x and y is not greater than {c}?",
        "The numbers $x$ and $y$ are positive and satisfy $x+y={a}$ as well as $x^3+y^3={b}$. "
        "Without solving for either of them, compute the product of $x$ and $y$, the value of "
        "$\\frac1x+\\frac1y$, and the sum of their fourth powers. For which of these three results "
        "does it matter that the difference of $x$ and $y$ is not greater than ${c}$?",
    ),
    (
        "A water tank in the form of a cylinder is {a} centimetres high and has a radius of {b} "
        "centimetres. It is filled through a pipe that brings {c} litres in a minute, while a "
        "crack at the bottom loses {d} litres in an hour. How long does it take until the tank is "
        "full to the brim? Use π = 22/7 and round the answer to whole minutes.",
        "A water tank in the form of a cylinder is ${a}$ centimetres high and has a radius of "
        "${b}$ centimetres. It is filled through a pipe that brings ${c}$ litres in a minute, "
        "while a crack at the bottom loses ${d}$ litres in an hour. How long does it take until "
        "the tank is full to the brim? Use $\\pi=\\tfrac{{22}}{{7}}$ and round the answer to whole "
        "minutes.",
    ),
    (
        "At the fair {n} throws {a} rings at a row of bottles and hits with a probability of "
        "0.{b} each time, whatever happened before. Every hit is worth {c} points, and every miss "
        "costs a single point. What is the expected number of points at the end, and what is the "
        "probability that {n} goes home with fewer points than {m}, who has {d}?",
        "At the fair {n} throws ${a}$ rings at a row of bottles and hits with a probability of "
        "$0.{b}$ each time, whatever happened before. Every hit is worth ${c}$ points, and every "
        "miss costs a single point. What is the expected number of points at the end, and what is "
        "the probability that {n} goes home with fewer points than {m}, who has ${d}$?",
    ),
    (
        "The sequence begins with a_1 = {a} and a_2 = {b}, and every later term is the sum of the "
        "two terms before it, reduced modulo {c}. Show that the sequence is periodic from the very "
        "beginning, find the length of its shortest period, and compute the term with the number "
        "{d} as well as the sum of all the terms of a single period.",
        "The sequence begins with $a_{{1}}={a}$ and $a_{{2}}={b}$, and every later term is the sum "
        "of the two terms before it, reduced modulo ${c}$. Show that the sequence is periodic from "
        "the very beginning, find the length of its shortest period, and compute the term with the "
        "number ${d}$ as well as the sum of all the terms of a single period.",
    ),
]
NAMES = ["Amira", "Bruno", "Chidi", "Dana", "Emeka", "Freya", "Goran", "Hana", "Ivo", "Jun"]

AROUND = [
    "Here is a task from the autumn paper of class {x}, worth {y} points. Take your time.\n\n{text}"
    "\n\nWrite down each step, then check your result by putting it in.",
    "Last week we solved {x} exercises together. Today's is harder:\n{text}\nHint: begin with the "
    "smallest case. There are {y} minutes left.",
    "<question>{text}</question> Answer in at most {x} sentences. (Source: workbook, page {y})",
    "**Exercise {x}.** *{text}* I got {y} as a first guess, but my friend says that this is wrong. "
    "Who is right, and where is the mistake?",
]


@dataclass(frozen=True)
class Planted:
    """Four texts for each number."""

    originals: list[str]
    edited: list[str]
    leaked: list[str]
    look_alikes: list[str]


def plant(seed: int = 1) -> Planted:
    """The same texts for the same seed."""
    chance = random.Random(seed)
    originals: list[str] = []
    edited: list[str] = []
    leaked: list[str] = []
    look_alikes: list[str] = []
    for number in range(COUNT):
        forms = list(TEMPLATES[number % len(TEMPLATES)])
        chance.shuffle(forms)
        names = chance.sample(NAMES, 2)
        values = chance.sample(range(11, 98), 4)
        others = list(values)
        changed = chance.randrange(3)
        others[changed] = values[changed] + 100
        here, there = (_filled(form, names, values) for form in forms)
        originals.append(here)
        edited.append(_edited(number, here, there, chance))
        around = AROUND[number % len(AROUND)]
        x, y = chance.sample(range(200, 999), 2)
        leaked.append(around.format(x=x, y=y, text=there))
        look_alike = _filled(chance.choice(forms), names, others)
        if number % 2:
            look_alike = around.format(x=x, y=y, text=look_alike)
        look_alikes.append(look_alike)
    return Planted(originals, edited, leaked, look_alikes)


def _filled(form: str, names: list[str], values: list[int]) -> str:
    letters = dict(zip("abcd", values, strict=True))
    return form.format(n=names[0], m=names[1], **letters)


def _edited(number: int, text: str, otherwise_set: str, chance: random.Random) -> str:
    """One of seven edits."""
    words = text.split(" ")
    plain = [place for place, word in enumerate(words[4:], 4) if re.fullmatch("[a-z]{4,}", word)]
    place = chance.choice(plain)
    edits = [
        lambda: otherwise_set,
        lambda: f"Problem {number + 1}. {text}",
        lambda: text.upper().lower().replace(". ", " .  "),
        lambda: " ".join([*words[:place], "really", *words[place:]]),
        lambda: " ".join([*words[:place], *words[place + 1 :]]),
        lambda: " ".join([*words[:place], "thing", *words[place + 1 :]]),
        lambda: f"{text} Explain your answer.",
    ]
    return edits[number % len(edits)]()
