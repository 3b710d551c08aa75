"use strict";
// What is asked for: kept in the address, so that a link shows the same.

let index = null;
let query = parsed("");
let pair = null;
let asking = 0;
let selection = [];
const state = { q: "", filters: {}, least: "", most: "", order: "", a: "", b: "", flip: "", row: "", beside: "" };
const ASKED = ["q", "least", "most", "order", "a", "b", "flip"];
const at = (id) => document.getElementById(id);

// ---- the address -----------------------------------------------------------------------------------

// A row by names: numbers change when a run grows.
function keyOf(i) {
  const problem = index.problems.id[index.rows.problem[i]];
  return [nameOf("stage", i), nameOf("benchmark", i), nameOf("model", i), problem + ":" + index.rows.sample[i]].join("|");
}

function rowOfKey(key) {
  const [stage, benchmark, model, ...rest] = key.split("|");
  const [, problem, sample] = rest.join("|").match(/^([^]*):(-?\d+)$/) || [];
  for (let p = index.problems.id.indexOf(problem); p >= 0; p = index.problems.id.indexOf(problem, p + 1)) {
    for (let n = rowsBegin[p]; n < rowsBegin[p + 1]; n++) {
      const i = rowsByProblem[n];
      const fits = nameOf("stage", i) === stage && nameOf("benchmark", i) === benchmark && nameOf("model", i) === model;
      if (fits && String(index.rows.sample[i]) === sample) return i;
    }
  }
  return -1;
}

function addressOf(row, beside) {
  const pairs = new URLSearchParams();
  for (const name of ASKED) if (state[name]) pairs.set(name, state[name]);
  for (const [facet, name] of Object.entries(state.filters)) if (name) pairs.set(facet, name);
  if (row) pairs.set("row", row);
  if (beside) pairs.set("beside", beside);
  return pairs.toString();
}

let ownAddress = "";
function keepAddress() {
  ownAddress = "#" + addressOf(state.row, state.beside);
  history.replaceState(null, "", ownAddress);
}

function readAddress() {
  const pairs = new URLSearchParams(location.hash.slice(1));
  for (const name of ASKED) state[name] = pairs.get(name) || "";
  state.filters = {};
  for (const [facet] of FACETS) if (pairs.get(facet)) state.filters[facet] = pairs.get(facet);
  state.row = pairs.get("row") || "";
  state.beside = pairs.get("beside") || "";
}

// ---- asking ----------------------------------------------------------------------------------------

// `opensRow`: also the row that the address names; one that is being read is written again, for
// its marks.
async function ask(opensRow) {
  const mine = ++asking;
  const isCurrent = () => mine === asking;
  const found = at("found");
  query = parsed(state.q);
  pair = pairOf(state);
  try {
    const marks = await rowsOf(query);
    if (!isCurrent()) return;
    let { rows, counts } = passing(state, marks, pair);
    const hasPhrases = query.phrases.length > 0;
    if (hasPhrases) {
      const all = rows.length;
      const tell = (done) => (found.textContent = "Looked at " + done + " of " + all + "…");
      rows = await rowsWithPhrases(rows, query.phrases, isCurrent, tell);
      if (!rows) return;
      countAgain(counts, rows, state, pair);
    }
    if (!isCurrent()) return;
    selection = rows;
    found.className = "";
    found.textContent = rows.length.toLocaleString("en") + " of " + rowCount.toLocaleString("en");
    drawFacets(counts, hasPhrases);
    drawFlips(counts[OF_FLIPS], hasPhrases);
    at("export").disabled = rows.length === 0;
    list.show(rows);
    const i = state.row ? rowOfKey(state.row) : -1;
    if (i >= 0) {
      list.mark(rows.indexOf(i));
      if (opensRow || document.body.classList.contains("is-reading")) reopen();
    }
    keepAddress();
  } catch (error) {
    if (isCurrent()) fail(error);
  }
}

function fail(error) {
  at("found").textContent = String(error.message || error);
  at("found").className = "fault";
}

const MOST_CHOICES = 500;

// `(12)`, or `(≤ 12)` where no more than so many can be said.
function counted(count, isMost) {
  return " (" + (isMost ? "≤ " : "") + count.toLocaleString("en") + ")";
}

function drawFacets(counts, hasPhrases) {
  FACETS.forEach(function ([facet, title], f) {
    const pick = at("facet-" + facet);
    const names = namesOf(facet);
    const chosen = state.filters[facet] || "";
    const isMost = hasPhrases && chosen !== "";
    let all = 0;
    counts[f].forEach((count) => (all += count));
    const choices = names.map((name, n) => [name, counts[f][n]]).filter(([name, count]) => name && (count || name === chosen));
    choices.sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0], "en", { numeric: true }));
    const listed = choices.filter(([name], n) => n < MOST_CHOICES || name === chosen);
    pick.replaceChildren(new Option("any" + counted(all, isMost), ""));
    for (const [name, count] of listed) {
      pick.append(new Option(label(name) + counted(count, isMost && name !== chosen), name, false, name === chosen));
    }
    if (chosen && pick.value !== chosen) pick.append(new Option(chosen + " (0)", chosen, false, true));
    pick.parentElement.hidden = choices.length + (choices.length ? counts[f][0] > 0 : 0) < 2 && !chosen;
    pick.parentElement.title = title;
  });
}

function drawFlips(counts, hasPhrases) {
  const models = index.names.model.slice(1);
  at("flips").hidden = models.length < 2;
  for (const [id, name] of [["model-a", "a"], ["model-b", "b"]]) {
    at(id).replaceChildren(new Option("–", ""), ...models.map((model) => new Option(model, model, false, model === state[name])));
  }
  counts[0] = counts.reduce((sum, count) => sum + count, 0);
  at("flip").replaceChildren(...FLIPS.map(function ([kind, title], n) {
    const isMost = hasPhrases && state.flip !== "" && kind !== state.flip;
    return new Option(title + (pair ? counted(counts[n], isMost) : ""), kind, false, kind === state.flip);
  }));
  at("flip").disabled = !pair;
}

// ---- reading ---------------------------------------------------------------------------------------

function open(i, beside) {
  if (beside === undefined) beside = pair && pair.kindOf(i) ? pair.beside(i) : null;
  state.row = keyOf(i);
  state.beside = beside === null ? "" : keyOf(beside);
  list.mark(list.rows.indexOf(i));
  document.body.classList.add("is-reading");
  keepAddress();
  return read(i, beside);
}

function reopen() {
  const i = rowOfKey(state.row);
  if (i < 0) return;
  const beside = state.beside ? rowOfKey(state.beside) : -1;
  open(i, beside < 0 ? undefined : beside);
}

function leave() {
  document.body.classList.remove("is-reading");
  list.box.focus();
}

function step(by) {
  if (!list.rows.length) return;
  const from = list.chosen < 0 ? list.left : list.chosen;
  const place = Math.min(Math.max(from + by, 0), list.rows.length - 1);
  open(list.rows[place]);
}

function stepSibling(by) {
  const i = rowOfKey(state.row);
  if (i < 0) return;
  const all = siblingsOf(i);
  open(all[(all.indexOf(i) + by + all.length) % all.length], null);
}

// ---- export ----------------------------------------------------------------------------------------

// The selection as it is stored, one row a line: problem, trace, verdict, and what became of it.
async function exportSelection() {
  const pieces = [];
  const rows = selection.slice();
  const found = at("found");
  found.className = "";
  let lines = [];
  for (let n = 0; n < rows.length; n++) {
    const i = rows[n];
    const asked = await rowOf("problems", index.rows.problem[i]);
    const problem = asked.problem;
    const { trace, verdict, set_aside } = await textsFor(i, asked);
    const line = set_aside ? { set_aside } : { problem, trace, verdict, benchmark: nameOf("benchmark", i), model: nameOf("model", i), fate: nameOf("fate", i) };
    lines.push(JSON.stringify(line) + "\n");
    if (lines.length === 500 || n === rows.length - 1) {
      pieces.push(new Blob(lines));
      lines = [];
      found.textContent = "Exported " + (n + 1).toLocaleString("en") + " of " + rows.length.toLocaleString("en");
      await new Promise((resolve) => setTimeout(resolve));
    }
  }
  const link = element("a");
  link.href = URL.createObjectURL(new Blob(pieces, { type: "application/jsonl" }));
  link.download = document.querySelector("meta[name=run]").content + "-selection.jsonl";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// ---- the page --------------------------------------------------------------------------------------

function fillForm() {
  at("query").value = state.q;
  at("least").value = state.least;
  at("most").value = state.most;
  at("order").value = state.order;
}

function makeFacets() {
  for (const [facet, title] of FACETS) {
    const pick = element("select");
    pick.id = "facet-" + facet;
    pick.addEventListener("change", function () {
      state.filters[facet] = pick.value;
      ask();
    });
    const made = element("label", "", title);
    made.append(pick);
    made.hidden = true;
    at("facets").append(made);
  }
}

function listen() {
  let waiting = 0;
  const soon = function () {
    clearTimeout(waiting);
    waiting = setTimeout(() => ask(), 200);
  };
  for (const [id, name] of [["query", "q"], ["least", "least"], ["most", "most"]]) {
    at(id).addEventListener("input", function () {
      state[name] = at(id).value;
      soon();
    });
  }
  for (const [id, name] of [["order", "order"], ["model-a", "a"], ["model-b", "b"], ["flip", "flip"]]) {
    at(id).addEventListener("change", function () {
      state[name] = at(id).value;
      ask();
    });
  }
  at("clear").addEventListener("click", function () {
    Object.assign(state, { q: "", filters: {}, least: "", most: "", order: "", a: "", b: "", flip: "" });
    fillForm();
    ask();
  });
  at("export").addEventListener("click", () => exportSelection().catch(fail));
  at("filters-toggle").addEventListener("click", () => setFilters(document.body.classList.contains("no-filters")));
  at("help-toggle").addEventListener("click", function () {
    at("help").hidden = !at("help").hidden;
    at("help-toggle").setAttribute("aria-expanded", String(!at("help").hidden));
  });
  list.choose = (place) => open(list.rows[place]);
  addEventListener("hashchange", function () {
    if (location.hash === ownAddress) return;
    readAddress();
    fillForm();
    ask(true);
  });
  addEventListener("keydown", press);
}

function setFilters(areShown) {
  document.body.classList.toggle("no-filters", !areShown);
  at("filters-toggle").setAttribute("aria-expanded", String(areShown));
}

const KEYS = {
  j: () => step(1), ArrowDown: () => step(1), k: () => step(-1), ArrowUp: () => step(-1),
  PageDown: () => step(10), PageUp: () => step(-10),
  "]": () => stepSibling(1), "[": () => stepSibling(-1),
  m: () => toggle("setsFormulas"), p: () => toggle("showsProbabilities"), d: () => toggle("showsDifferences"),
  "/": () => at("query").focus(),
};

function press(event) {
  const isOfSigns = event.getModifierState("AltGraph"); // how many keyboards write [ and ]
  if ((event.ctrlKey || event.metaKey || event.altKey) && !isOfSigns) return;
  const isTyping = event.target.matches("input, select, textarea");
  if (event.key === "Escape") {
    if (isTyping) event.target.blur();
    leave();
    return;
  }
  if (event.key === "Enter" && event.target === list.box) {
    if (list.chosen < 0) step(1);
    at("detail").focus();
    return;
  }
  const isScrolling = event.target.closest("#detail") && event.key.length > 1;
  const action = KEYS[event.key];
  if (isTyping || isScrolling || !action) return;
  event.preventDefault();
  action();
}

async function start() {
  if (!window.crypto || !crypto.subtle || !window.DecompressionStream) {
    throw new Error("This browser is too old for this page: it can neither sum nor unpack what it reads.");
  }
  index = await load("index", 0, document.querySelector("meta[name=index]").content);
  groupByProblem();
  makeFacets();
  list.start();
  listen();
  if (matchMedia("(max-width: 900px)").matches) setFilters(false);
  readAddress();
  fillForm();
  await ask(true);
  document.documentElement.dataset.ready = "yes";
}

start().catch(fail);
