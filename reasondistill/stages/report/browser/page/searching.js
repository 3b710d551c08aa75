"use strict";
// Words are found in the index, so also in texts that were never loaded; the exact text of a phrase
// is looked for in those that have its words.

const WORD = /[%SINGLE%]|[%LETTERS%]+/g;
const LONGEST = %LONGEST%;
const ROWS = 2 ** 31; // documents below are problems, from here on rows

function wordsOf(text) {
  const words = text.toLowerCase().match(WORD) || [];
  return words.map((word) => word.slice(0, LONGEST));
}

// `two words "a phrase" beginn`: words, of which the last may go on, and phrases.
function parsed(query) {
  const phrases = [];
  const rest = query.replace(/"([^"]+)"/g, function (_, phrase) {
    phrases.push(phrase.toLowerCase());
    return " ";
  });
  const words = wordsOf(rest.replace(/"/g, " "));
  const last = words[words.length - 1] || "";
  const goesOn = last.length > 1 && !/[\s"]$/.test(query);
  const exact = words.slice(0, goesOn ? -1 : words.length);
  for (const phrase of phrases) exact.push(...wordsOf(phrase));
  return { exact: Array.from(new Set(exact)), beginning: goesOn ? last : "", phrases };
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
  const { exact, beginning } = query;
  let all = null;
  for (const word of exact.concat(beginning ? [beginning] : [])) {
    const marks = await rowsWithWord(word, word === beginning);
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
  if (problem) texts.push(problem.id, problem.question, problem.answer);
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
  let done = 0;
  for (const i of rows) {
    done += 1;
    if (verdicts[i]) continue;
    if (done % 500 === 0) {
      tell(done);
      await new Promise((resolve) => setTimeout(resolve));
    }
    if (!isCurrent()) return null;
    const row = await rowOf("texts", i);
    const asked = await rowOf("problems", index.rows.problem[i]);
    const texts = textsOfRow(row, asked.problem).map((text) => text.toLowerCase());
    const fits = phrases.every((phrase) => texts.some((text) => text.includes(phrase)));
    verdicts[i] = fits ? 1 : -1;
  }
  return rows.filter((i) => verdicts[i] === 1);
}

// What is marked in a text that was found.
function markPattern(query) {
  const escaped = (text) => text.replace(/[\\^$.*+?()[\]{}|\/-]/g, "\\$&");
  const inside = "[%LETTERS%]";
  const parts = query.phrases.map(escaped);
  const inPhrases = new Set(query.phrases.flatMap(wordsOf));
  for (const word of query.exact) {
    if (inPhrases.has(word)) continue;
    const goesOn = word.length === LONGEST ? "" : "(?!" + inside + ")";
    parts.push("(?<!" + inside + ")" + escaped(word) + goesOn);
  }
  if (query.beginning) parts.push("(?<!" + inside + ")" + escaped(query.beginning));
  return parts.length ? new RegExp(parts.join("|"), "gi") : null;
}
