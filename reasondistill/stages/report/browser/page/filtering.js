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

// Rows that pass everything, in the wanted order, and the counts of each value of each filter among
// the rows that pass all others.
function passing(state, found, pair) {
  const wanted = FACETS.map(([facet]) => namesOf(facet).indexOf(state.filters[facet] || ""));
  const isAsked = FACETS.map(([facet]) => Boolean(state.filters[facet]));
  const counts = FACETS.map(([facet]) => new Int32Array(namesOf(facet).length));
  const rows = [];
  const least = state.least === "" ? -1 : Number(state.least);
  const most = state.most === "" ? Infinity : Number(state.most);
  const values = new Int32Array(FACETS.length);
  for (let i = 0; i < rowCount; i++) {
    if (found && !found[i]) continue;
    const tokens = index.rows.tokens[i];
    if (tokens < least || tokens > most) continue;
    if (pair && !pair.passes(i)) continue;
    let failed = 0;
    let where = -1;
    for (let f = 0; f < FACETS.length; f++) {
      values[f] = valueOf(FACETS[f][0], i);
      if (isAsked[f] && values[f] !== wanted[f]) {
        failed += 1;
        where = f;
      }
    }
    if (failed === 0) {
      rows.push(i);
      for (let f = 0; f < FACETS.length; f++) counts[f][values[f]] += 1;
    } else if (failed === 1) {
      counts[where][values[where]] += 1;
    }
  }
  const tokens = index.rows.tokens;
  if (state.order === "longest") rows.sort((a, b) => tokens[b] - tokens[a] || a - b);
  if (state.order === "shortest") rows.sort((a, b) => tokens[a] - tokens[b] || a - b);
  return { rows, counts };
}

// ---- two models -----------------------------------------------------------------------------------

const FLIPS = [
  ["", "all that both answered"], ["gained", "A right more often"], ["lost", "B right more often"],
  ["right", "both right"], ["wrong", "both wrong"], ["equal", "equally often"],
];

// Two models on the problems that both answered: A's first sample stands for each, B's beside it.
// A flip is a problem that one solves more often.
function pairOf(state) {
  const a = index.names.model.indexOf(state.a);
  const b = index.names.model.indexOf(state.b);
  if (!state.a || !state.b || a < 1 || b < 1) return null;
  const problems = index.problems.id.length;
  const sheet = () => ({
    first: new Int32Array(problems).fill(-1), right: new Int32Array(problems), all: new Int32Array(problems),
  });
  const sheets = new Map([[a, sheet()], [b, sheet()]]);
  const correct = index.names.outcome.indexOf("correct");
  for (let i = 0; i < rowCount; i++) {
    const mine = sheets.get(index.rows.model[i]);
    if (!mine) continue;
    const problem = index.rows.problem[i];
    if (mine.first[problem] < 0) mine.first[problem] = i;
    mine.all[problem] += 1;
    if (index.rows.outcome[i] === correct) mine.right[problem] += 1;
  }
  const ours = sheets.get(a);
  const theirs = sheets.get(b);
  function kind(problem) {
    if (ours.first[problem] < 0 || theirs.first[problem] < 0) return null;
    const gap = ours.right[problem] * theirs.all[problem] - theirs.right[problem] * ours.all[problem];
    if (gap > 0) return "gained";
    if (gap < 0) return "lost";
    if (ours.right[problem] === ours.all[problem]) return "right";
    return ours.right[problem] === 0 ? "wrong" : "equal";
  }
  const counts = { "": 0, gained: 0, lost: 0, right: 0, wrong: 0, equal: 0 };
  for (let problem = 0; problem < problems; problem++) {
    const found = kind(problem);
    if (!found) continue;
    counts[found] += 1;
    counts[""] += 1;
  }
  return {
    counts,
    passes(i) {
      const problem = index.rows.problem[i];
      if (ours.first[problem] !== i) return false;
      const found = kind(problem);
      return found !== null && (!state.flip || found === state.flip);
    },
    beside: (i) => theirs.first[index.rows.problem[i]],
  };
}
