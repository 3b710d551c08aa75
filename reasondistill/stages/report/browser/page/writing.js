"use strict";
// Texts on the page: always text nodes, never HTML.

const MOST_SHOWN = 60000; // characters at first, of a text
const MORE_SHOWN = 400000;
const TERM = 1;
const GOLD = 2;
const EXTRACTED = 4;

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function button(text, action, pressed) {
  const made = element("button", "", text);
  made.type = "button";
  if (pressed !== undefined) made.setAttribute("aria-pressed", String(pressed));
  made.addEventListener("click", action);
  return made;
}

// ---- marks ----------------------------------------------------------------------------------------

function flagMatches(flags, text, pattern, flag) {
  let count = 0;
  for (const match of text.matchAll(pattern)) {
    flags.subarray(match.index, match.index + match[0].length).forEach((_, at, part) => (part[at] |= flag));
    if (++count > 2000) return;
  }
}

// Where an answer stands by itself: 12 is not in 312 or 12.5.
function placesOf(text, answer) {
  const places = [];
  if (!answer || answer.length > 500) return places;
  const isPart = (sign) => sign !== undefined && /[%LETTERS%]/.test(sign);
  for (let at = text.indexOf(answer); at >= 0; at = text.indexOf(answer, at + 1)) {
    const end = at + answer.length;
    const goesOn = isPart(answer[0]) && isPart(text[at - 1]);
    const isLonger = isPart(answer[answer.length - 1]) && (isPart(text[end]) || /^[.,]\d/.test(text.slice(end, end + 2)));
    if (!goesOn && !isLonger) places.push(at);
    if (places.length > 500) break;
  }
  return places;
}

function flagsOf(text, marks) {
  const flags = new Uint8Array(text.length);
  if (marks.pattern) flagMatches(flags, text, marks.pattern, TERM);
  const paint = (at, length, flag) => {
    for (let i = at; i < at + length; i++) flags[i] |= flag;
  };
  for (const at of placesOf(text, marks.gold)) paint(at, marks.gold.length, GOLD);
  if (marks.extracted) {
    const places = placesOf(text, marks.extracted);
    if (places.length) paint(places[places.length - 1], marks.extracted.length, EXTRACTED);
  }
  return flags;
}

function classOf(flag) {
  return [flag & GOLD ? "gold" : "", flag & EXTRACTED ? "extracted" : ""].filter(Boolean).join(" ");
}

function appendPiece(parent, text, flag) {
  if (!flag) {
    parent.append(text);
    return;
  }
  parent.append(element(flag & TERM ? "mark" : "span", classOf(flag), text));
}

function appendFlagged(parent, text, flags, begin, end) {
  let from = begin;
  for (let i = begin + 1; i <= end; i++) {
    if (i === end || flags[i] !== flags[from]) {
      appendPiece(parent, text.slice(from, i), flags[from]);
      from = i;
    }
  }
}

// `text` with its marks; formulas set where that is wanted.
function appendText(parent, text, marks, setsFormulas) {
  const flags = flagsOf(text, marks);
  let at = 0;
  for (const { begin, end, formula } of setsFormulas ? formulasOf(text) : []) {
    appendFlagged(parent, text, flags, at, begin);
    const flag = flags.subarray(begin, end).reduce((all, one) => all | one, 0);
    formula.className += " " + classOf(flag);
    if (flag & TERM) {
      const mark = element("mark");
      mark.append(formula);
      parent.append(mark);
    } else {
      parent.append(formula);
    }
    at = end;
  }
  appendFlagged(parent, text, flags, at, text.length);
}

// A text in a box; of a very long one a part, and the rest on demand.
function written(text, marks, setsFormulas) {
  const box = element("div", setsFormulas ? "written" : "written raw");
  box.dir = "auto";
  appendText(box, text.slice(0, MOST_SHOWN), marks, setsFormulas);
  let shown = Math.min(MOST_SHOWN, text.length);
  if (shown === text.length) return box;
  const both = element("div");
  const more = button("", function () {
    box.append(text.slice(shown, shown + MORE_SHOWN));
    shown = Math.min(shown + MORE_SHOWN, text.length);
    tell();
  });
  function tell() {
    more.hidden = shown === text.length;
    more.textContent = "Show more: " + (text.length - shown).toLocaleString("en") + " characters are left";
  }
  tell();
  both.append(box, more);
  return both;
}

// ---- differences ----------------------------------------------------------------------------------

const MOST_DIFFERENCES = 2500;

// Myers' O(ND): which words of two lists stand in both, in order; null where they differ too much.
function commonWords(a, b) {
  const most = Math.min(a.length + b.length, MOST_DIFFERENCES);
  const ends = new Int32Array(2 * most + 3);
  const zero = most + 1;
  const history = [];
  let depth = 0;
  let isDone = false;
  for (; depth <= most && !isDone; depth++) {
    history.push(ends.slice(zero - depth - 1, zero + depth + 2));
    for (let k = -depth; k <= depth; k += 2) {
      const isDown = k === -depth || (k !== depth && ends[zero + k - 1] < ends[zero + k + 1]);
      let x = isDown ? ends[zero + k + 1] : ends[zero + k - 1] + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1;
      ends[zero + k] = x;
      if (x >= a.length && x - k >= b.length) {
        isDone = true;
        break;
      }
    }
  }
  if (!isDone) return null;
  const inA = new Uint8Array(a.length);
  const inB = new Uint8Array(b.length);
  let x = a.length;
  let y = b.length;
  for (let d = depth - 1; d >= 0; d--) {
    const before = history[d]; // of diagonal k at place k + d + 1
    const k = x - y;
    const at = (diagonal) => before[diagonal + d + 1];
    const isDown = k === -d || (k !== d && at(k - 1) < at(k + 1));
    const beforeK = isDown ? k + 1 : k - 1;
    const beforeX = d === 0 ? 0 : at(beforeK);
    const beforeY = d === 0 ? 0 : beforeX - beforeK;
    while (x > beforeX && y > beforeY) {
      x -= 1;
      y -= 1;
      inA[x] = 1;
      inB[y] = 1;
    }
    x = beforeX;
    y = beforeY;
  }
  return [inA, inB];
}

function splitWords(text) {
  return text.slice(0, MOST_SHOWN).match(/\s+|[^\s]+/g) || [];
}

// Two texts, each with the words that the other has not.
function differing(textA, textB) {
  const a = splitWords(textA);
  const b = splitWords(textB);
  const common = commonWords(a, b);
  const box = (words, marks, className) => {
    const made = element("div", "written raw");
    made.dir = "auto";
    words.forEach(function (word, i) {
      if (!marks || marks[i] || !word.trim()) made.append(word);
      else made.append(element("span", className, word));
    });
    return made;
  };
  return {
    boxes: [box(a, common && common[0], "gone"), box(b, common && common[1], "new")],
    isTooMuch: !common,
  };
}
