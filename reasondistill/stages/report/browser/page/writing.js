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

const MOST_PLACES = 500;

// Whether an answer stands by itself at a place: 12 is not in 312, 12.5, 0.12 or 12,000.
function standsAt(text, answer, at) {
  const isPart = (sign) => sign !== undefined && LETTER.test(sign);
  const before = text.slice(Math.max(0, at - 2), at);
  const end = at + answer.length;
  if (isPart(answer[0]) && isPart(text[at - 1])) return false;
  if (/^\d/.test(answer) && /\d\.$/.test(before)) return false;
  if (/^\d{3}(?!\d)/.test(answer) && /\d,$/.test(before)) return false;
  if (!isPart(answer[answer.length - 1])) return true;
  return !isPart(text[end]) && !/^(\.\d|,\d{3}(?!\d))/.test(text.slice(end, end + 5));
}

function isMarked(answer) {
  return Boolean(answer) && answer.length <= 500;
}

function placesOf(text, answer) {
  const places = [];
  if (!isMarked(answer)) return places;
  for (let at = text.indexOf(answer); at >= 0; at = text.indexOf(answer, at + 1)) {
    if (standsAt(text, answer, at)) places.push(at);
    if (places.length > MOST_PLACES) break;
  }
  return places;
}

const OPENS_BOX = /\\f?boxed\s*\{\s*(\\text\s*\{)?\s*$/;

// Where an extracted answer was read: in the last box that holds it, else its last place; -1 where
// it stands nowhere as it was extracted.
function placeRead(text, extracted) {
  if (!isMarked(extracted)) return -1;
  let last = -1;
  let looked = 0;
  for (let at = text.lastIndexOf(extracted); at >= 0; at = at > 0 ? text.lastIndexOf(extracted, at - 1) : -1) {
    if (!standsAt(text, extracted, at)) continue;
    if (OPENS_BOX.test(text.slice(Math.max(0, at - 30), at))) return at;
    if (last < 0) last = at;
    looked += 1;
    if (looked > MOST_PLACES) break;
  }
  return last;
}

function flagsOf(text, marks) {
  const flags = new Uint8Array(text.length);
  if (marks.pattern) flagMatches(flags, text, marks.pattern, TERM);
  const paint = (at, length, flag) => {
    for (let i = at; i < at + length; i++) flags[i] |= flag;
  };
  for (const at of placesOf(text, marks.gold)) paint(at, marks.gold.length, GOLD);
  const read = placeRead(text, marks.extracted);
  if (read >= 0) paint(read, marks.extracted.length, EXTRACTED);
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

// The beginning of a text with its marks; formulas set where that is wanted.
function appendBeginning(parent, text, flags, end, setsFormulas) {
  let at = 0;
  for (const { begin, end: behind, formula } of setsFormulas ? formulasOf(text.slice(0, end)) : []) {
    appendFlagged(parent, text, flags, at, begin);
    const flag = flags.subarray(begin, behind).reduce((all, one) => all | one, 0);
    formula.className += " " + classOf(flag);
    if (flag & TERM) {
      const mark = element("mark");
      mark.append(formula);
      parent.append(mark);
    } else {
      parent.append(formula);
    }
    at = behind;
  }
  appendFlagged(parent, text, flags, at, end);
}

// A place at which a text can be cut: not between the halves of a sign.
function cutAt(text, place) {
  if (place >= text.length) return text.length;
  return /[\udc00-\udfff]/.test(text[place]) ? place + 1 : place;
}

// A text in a box; of a very long one a part, and the rest on demand.
function written(text, marks, setsFormulas) {
  const box = element("div", setsFormulas ? "written" : "written raw");
  box.dir = "auto";
  const flags = flagsOf(text, marks);
  let shown = cutAt(text, MOST_SHOWN);
  appendBeginning(box, text, flags, shown, setsFormulas);
  if (shown === text.length) return box;
  const both = element("div");
  const more = button("", function () {
    const end = cutAt(text, shown + MORE_SHOWN);
    appendFlagged(box, text, flags, shown, end);
    shown = end;
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
  return text.slice(0, cutAt(text, MOST_SHOWN)).match(/\s+|[^\s]+/g) || [];
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
    isCut: Math.max(textA.length, textB.length) > MOST_SHOWN,
  };
}
