"use strict";
// Words are found in the index, so also in texts that were never loaded; the exact text of a phrase
// is looked for in those that have its words.

const LETTERS = "%LETTERS%";
const LETTER = new RegExp("[" + LETTERS + "]");
const WORD = new RegExp("[%SINGLE%]|[" + LETTERS + "]+", "g");
const LONGEST = %LONGEST%;
const ROWS = 2 ** 31; // documents below are problems, from here on rows

function wordsOf(text) {
  const words = text.toLowerCase().match(WORD) || [];
  return words.map((word) => word.slice(0, LONGEST));
}

// `two words "a phrase" beginn`: words, of which the last may go on, and phrases. A phrase begins
// where a word does, and its last word may go on. Signs alone are a phrase too: no index has them.
function parsed(query) {
  const phrases = [];
  const rest = query.replace(/"([^"]+)"/g, function (_, phrase) {
    phrases.push(phrase.toLowerCase());
    return " ";
  });
  const words = wordsOf(rest);
  const signs = rest.replace(/"/g, " ").trim();
  if (!words.length && signs) phrases.push(signs.toLowerCase());
  const exact = new Set();
  const beginnings = new Set();
  function take(words, goesOn) {
    words.forEach((word, n) => (goesOn && n === words.length - 1 ? beginnings : exact).add(word));
  }
  const last = words[words.length - 1] || "";
  take(words, last.length > 1 && !/[\s"]$/.test(query));
  for (const phrase of phrases) take(wordsOf(phrase), LETTER.test(phrase[phrase.length - 1]));
  return { exact: Array.from(exact), beginnings: Array.from(beginnings), phrases };
}

// Marks the rows of one word; those of a problem with it too.
function markDocuments(distances, marks) {
  let number = 0;
  for (const distance of distances) {
    number += distance;
    if (number >= ROWS) {
      marks[number - ROWS] = 1;
      continue;
    }
    for (let i = rowsBegin[number]; i < rowsBegin[number + 1]; i++) marks[rowsByProblem[i]] = 1;
  }
}

async function rowsWithWord(word, isBeginning) {
  const marks = new Uint8Array(rowCount);
  const first = index.files.words.first;
  for (let file = Math.max(0, placeOf(first, word)); file < first.length; file++) {
    if (first[file] > word && !(isBeginning && first[file].startsWith(word))) break;
    const { words, documents } = await content("words", file);
    const at = placeOf(words, word);
    let i = at >= 0 && words[at] === word ? at : at + 1;
    for (; i < words.length; i++) {
      const fits = isBeginning ? words[i].startsWith(word) : words[i] === word;
      if (!fits) break;
      markDocuments(documents[i], marks);
    }
  }
  return marks;
}

// The rows with all words of a query, as one mark each; null where nothing is asked.
async function rowsOf(query) {
  let all = null;
  const asked = query.exact.map((word) => [word, false]).concat(query.beginnings.map((word) => [word, true]));
  for (const [word, isBeginning] of asked) {
    const marks = await rowsWithWord(word, isBeginning);
    if (!all) all = marks;
    else for (let i = 0; i < rowCount; i++) all[i] &= marks[i];
  }
  return all;
}

function textsOfRow(row, problem) {
  const texts = [];
  if (row.trace) {
    const completion = row.trace.completion;
    texts.push(row.trace.id, completion.reasoning, completion.answer_text, completion.error);
  }
  if (row.verdict) texts.push(row.verdict.grade.extracted);
  if (row.set_aside) texts.push(row.set_aside.id, row.set_aside.reason, row.set_aside.detail);
  texts.push(problem.id, problem.question, problem.answer, problem.reference_solution);
  return texts.filter(Boolean);
}

// Of these rows those that hold every phrase. What was looked at is remembered until the phrases
// change; `isCurrent` says whether anybody still waits.
let phrasesLookedAt = "";
let phraseVerdicts = new Int8Array(0);
async function rowsWithPhrases(rows, phrases, isCurrent, tell) {
  const name = phrases.join("\n");
  if (name !== phrasesLookedAt) {
    phrasesLookedAt = name;
    phraseVerdicts = new Int8Array(rowCount);
  }
  const verdicts = phraseVerdicts;
  const patterns = phrases.map((phrase) => new RegExp(phrasePattern(phrase)));
  let done = 0;
  for (const i of rows) {
    done += 1;
    if (verdicts[i]) continue;
    if (done % 500 === 0) {
      tell(done);
      await new Promise((resolve) => setTimeout(resolve));
    }
    if (!isCurrent()) return null;
    const asked = await rowOf("problems", index.rows.problem[i]);
    const row = await textsFor(i, asked);
    const texts = textsOfRow(row, asked.problem || {}).map((text) => text.toLowerCase());
    const fits = patterns.every((pattern) => texts.some((text) => pattern.test(text)));
    verdicts[i] = fits ? 1 : -1;
  }
  return rows.filter((i) => verdicts[i] === 1);
}

function escaped(text) {
  return text.replace(/[\\^$.*+?()[\]{}|\/-]/g, "\\$&");
}

const NOT_INSIDE = "(?<![" + LETTERS + "])"; // a word begins here

function phrasePattern(phrase) {
  return (LETTER.test(phrase[0]) ? NOT_INSIDE : "") + escaped(phrase);
}

// What is marked in a text that was found.
function markPattern(query) {
  const parts = query.phrases.map(phrasePattern);
  const inPhrases = new Set(query.phrases.flatMap(wordsOf));
  for (const word of query.exact) {
    if (inPhrases.has(word)) continue;
    const goesOn = word.length === LONGEST ? "" : "(?![" + LETTERS + "])";
    parts.push(NOT_INSIDE + escaped(word) + goesOn);
  }
  for (const word of query.beginnings) {
    if (!inPhrases.has(word)) parts.push(NOT_INSIDE + escaped(word));
  }
  return parts.length ? new RegExp(parts.join("|"), "gi") : null;
}
