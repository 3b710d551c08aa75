"use strict";
// Which rows the filters let pass, and how many each value of a filter would.

const FACETS = [
  ["stage", "Stage"], ["benchmark", "Benchmark"], ["teacher", "Teacher"], ["model", "Model"],
  ["outcome", "Outcome"], ["reason", "Reason"], ["fate", "Kept, or why dropped"],
  ["finish", "Ended by"], ["subject", "Subject"], ["level", "Level"], ["source", "Source"],
  ["suspect", "Gold answer"],
];
const OF_PROBLEM = new Set(["subject", "level", "source", "suspect"]);
const SUSPECT_NAMES = ["", "under suspicion"];

let rowCount = 0;
let rowsBegin = null; // of each problem, where its rows begin in rowsByProblem
let rowsByProblem = null;

function namesOf(facet) {
  return facet === "suspect" ? SUSPECT_NAMES : index.names[facet];
}

function valueOf(facet, i) {
  if (OF_PROBLEM.has(facet)) return index.problems[facet][index.rows.problem[i]];
  return index.rows[facet][i];
}

function nameOf(facet, i) {
  return namesOf(facet)[valueOf(facet, i)];
}

function label(name) {
  return name.replace(/^(no)_(answer)$/, "$1 $2");
}

function groupByProblem() {
  rowCount = index.rows.problem.length;
  const problems = index.problems.id.length;
  rowsBegin = new Int32Array(problems + 1);
  for (const problem of index.rows.problem) rowsBegin[problem + 1] += 1;
  for (let p = 0; p < problems; p++) rowsBegin[p + 1] += rowsBegin[p];
  const next = rowsBegin.slice();
  rowsByProblem = new Int32Array(rowCount);
  index.rows.problem.forEach(function (problem, i) {
    rowsByProblem[next[problem]++] = i;
  });
}

function siblingsOf(i) {
  const problem = index.rows.problem[i];
  return Array.from(rowsByProblem.slice(rowsBegin[problem], rowsBegin[problem + 1]));
}

const FLIPS = [
  ["", "all that both answered"], ["gained", "A right more often"], ["lost", "B right more often"],
  ["right", "both right"], ["wrong", "both wrong"], ["equal", "equally often"],
];
const OF_FLIPS = FACETS.length; // where their counts stand, behind those of the filters

function valueAt(f, i, pair) {
  if (f < OF_FLIPS) return valueOf(FACETS[f][0], i);
  return pair ? pair.kindOf(i) : 0;
}

// What each filter wants; null where it is not asked for.
function wantedBy(state, pair) {
  const wanted = FACETS.map(([facet]) => (state.filters[facet] ? namesOf(facet).indexOf(state.filters[facet]) : null));
  wanted.push(pair && state.flip ? FLIPS.findIndex(([kind]) => kind === state.flip) : null);
  return wanted;
}

// Rows that pass everything, in the wanted order, and the counts of each value of each filter among
// the rows that pass all others.
function passing(state, found, pair) {
  const wanted = wantedBy(state, pair);
  const counts = FACETS.map(([facet]) => new Int32Array(namesOf(facet).length));
  counts.push(new Int32Array(FLIPS.length));
  const rows = [];
  const least = state.least === "" ? -1 : Number(state.least);
  const most = state.most === "" ? Infinity : Number(state.most);
  const values = new Int32Array(counts.length);
  for (let i = 0; i < rowCount; i++) {
    if (found && !found[i]) continue;
    const tokens = index.rows.tokens[i];
    if (tokens < least || tokens > most) continue;
    if (pair && !pair.kindOf(i)) continue;
    let failed = 0;
    let where = -1;
    for (let f = 0; f < counts.length; f++) {
      values[f] = valueAt(f, i, pair);
      if (wanted[f] !== null && values[f] !== wanted[f]) {
        failed += 1;
        where = f;
      }
    }
    if (failed === 0) {
      rows.push(i);
      for (let f = 0; f < counts.length; f++) counts[f][values[f]] += 1;
    } else if (failed === 1) {
      counts[where][values[where]] += 1;
    }
  }
  const tokens = index.rows.tokens;
  if (state.order === "longest") rows.sort((a, b) => tokens[b] - tokens[a] || a - b);
  if (state.order === "shortest") rows.sort((a, b) => tokens[a] - tokens[b] || a - b);
  return { rows, counts };
}

// The counts once the texts of rows were looked through. What a filter keeps out was not: of its
// other values there are at most as many as were counted before.
function countAgain(counts, rows, state, pair) {
  const wanted = wantedBy(state, pair);
  counts.forEach(function (ofFilter, f) {
    if (wanted[f] === null) ofFilter.fill(0);
    else ofFilter[wanted[f]] = 0;
    for (const i of rows) ofFilter[valueAt(f, i, pair)] += 1;
  });
}

// ---- two models -----------------------------------------------------------------------------------

const GRADED = 5; // the outcomes of the grader come first; others say that there was nothing to grade

// Two models on the problems that both answered, every sample of theirs: A's first one stands for
// each, B's beside it. A flip is a problem that one solves more often.
function pairOf(state) {
  const a = index.names.model.indexOf(state.a);
  const b = index.names.model.indexOf(state.b);
  if (!state.a || !state.b || a < 1 || b < 1) return null;
  const problems = index.problems.id.length;
  const sheet = () => ({
    first: new Int32Array(problems).fill(-1), right: new Int32Array(problems), all: new Int32Array(problems),
  });
  const sheets = new Map([[a, sheet()], [b, sheet()]]);
  const lacks = new Uint8Array(problems);
  const correct = index.names.outcome.indexOf("correct");
  for (let i = 0; i < rowCount; i++) {
    const mine = sheets.get(index.rows.model[i]);
    if (!mine) continue;
    const problem = index.rows.problem[i];
    if (mine.first[problem] < 0) mine.first[problem] = i;
    mine.all[problem] += 1;
    if (index.rows.outcome[i] === correct) mine.right[problem] += 1;
    if (index.rows.outcome[i] > GRADED) lacks[problem] = 1;
  }
  const ours = sheets.get(a);
  const theirs = sheets.get(b);
  const place = (name) => FLIPS.findIndex(([kind]) => kind === name);
  const [gained, lost, right, wrong, equal] = ["gained", "lost", "right", "wrong", "equal"].map(place);
  const kinds = new Uint8Array(problems);
  for (let problem = 0; problem < problems; problem++) {
    if (ours.first[problem] < 0 || theirs.first[problem] < 0 || lacks[problem]) continue;
    const gap = ours.right[problem] * theirs.all[problem] - theirs.right[problem] * ours.all[problem];
    if (gap > 0) kinds[problem] = gained;
    else if (gap < 0) kinds[problem] = lost;
    else if (ours.right[problem] === ours.all[problem]) kinds[problem] = right;
    else kinds[problem] = ours.right[problem] === 0 ? wrong : equal;
  }
  return {
    // Of a row that stands for its problem, else 0.
    kindOf(i) {
      const problem = index.rows.problem[i];
      return ours.first[problem] === i ? kinds[problem] : 0;
    },
    beside: (i) => theirs.first[index.rows.problem[i]],
  };
}
