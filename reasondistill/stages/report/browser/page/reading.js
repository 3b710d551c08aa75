"use strict";
// One trace, or two side by side, in the article beside the list.

const options = { setsFormulas: true, showsDifferences: true, showsProbabilities: false };
let reading = 0; // counts what was opened: a slower one must not write over it

async function read(i, beside) {
  const mine = ++reading;
  const detail = document.getElementById("detail");
  try {
    const rows = beside === null ? [i] : [i, beside];
    const asked = await rowOf("problems", index.rows.problem[i]);
    const texts = await Promise.all(rows.map((one) => textsFor(one, asked)));
    if (options.setsFormulas) await loadKatex("katex.js");
    let probabilities = null;
    if (options.showsProbabilities && index.rows.logprobs[i]) probabilities = await rowOf("logprobs", i);
    if (mine !== reading) return;
    detail.replaceChildren(...parts(rows, asked, texts, probabilities));
    detail.scrollTop = 0;
  } catch (error) {
    if (mine === reading) detail.replaceChildren(backButton(), element("p", "fault", String(error.message || error)));
  }
}

// The stored row. In a run that has gone on meanwhile another one may stand in its place.
async function textsFor(i, asked) {
  const row = (await rowOf("texts", i)) || {};
  if (row.set_aside) return row;
  const fits = row.trace && row.trace.sample === index.rows.sample[i] && row.trace.problem_id === asked.problem.id;
  if (!fits) throw new Error("The run has changed since this was opened: start `reasondistill view` again.");
  return row;
}

function shownText(row, record, name) {
  if (row.shown && row.shown[name] !== undefined) return row.shown[name];
  return record[name];
}

function backButton() {
  const made = button("← List", leave);
  made.id = "back";
  return made;
}

function parts(rows, asked, texts, probabilities) {
  const i = rows[0];
  const made = [];
  const isSetAside = Boolean(texts[0].set_aside);
  const problem = asked.problem;
  made.push(heading(i, rows[1]));
  made.push(tools(i, rows[1], isSetAside));
  if (isSetAside) return made.concat(setAside(texts[0]));
  made.push(siblingButtons(i, rows[1]));
  const marks = { pattern: markPattern(query), gold: "", extracted: "" };
  if (problem.question !== undefined) {
    made.push(part("Question"), written(shownText(asked, problem, "question"), marks, options.setsFormulas));
    made.push(facts([["gold answer", shownText(asked, problem, "answer")]].concat(suspicion(asked))));
  }
  if (rows.length === 2) made.push(...sideBySide(rows, texts, problem, marks));
  else if (probabilities) made.push(...tokenParts(probabilities));
  else made.push(...traceParts(texts[0], problem, marks));
  made.push(...rows.map((row, n) => verdictFacts(row, texts[n])));
  if (problem.reference_solution) {
    const folded = element("details");
    folded.append(element("summary", "", "Reference solution"));
    folded.append(written(shownText(asked, problem, "reference_solution"), marks, options.setsFormulas));
    made.push(folded);
  }
  return made;
}

function part(name) {
  return element("div", "part", name);
}

function facts(pairs) {
  const made = element("dl");
  for (const [name, value] of pairs) {
    if (value === null || value === undefined || value === "") continue;
    const shown = element("dd", "", String(value));
    shown.dir = "auto";
    made.append(element("dt", "", name), shown);
  }
  return made;
}

function suspicion(asked) {
  if (!asked.suspect) return [];
  const { votes, n, answer } = asked.suspect;
  return [["under suspicion", votes + " of " + n + " samples say " + answer]];
}

function heading(i, beside) {
  const made = element("div");
  const title = element("h2");
  title.append(badge(nameOf("outcome", i)), titleOf(i));
  made.append(title);
  if (beside !== undefined) {
    const other = element("h2");
    other.append(badge(nameOf("outcome", beside)), titleOf(beside));
    made.append(other);
  }
  const fate = nameOf("fate", i);
  if (fate) made.append(element("div", "soft", fate.startsWith("kept: ") ? "Kept as an example (" + fate.slice(6) + ")" : "Dropped: " + fate));
  return made;
}

function tools(i, beside, isSetAside) {
  const made = element("div", "tools");
  made.append(backButton());
  if (isSetAside) return made;
  made.append(button("Formulas", () => toggle("setsFormulas"), options.setsFormulas));
  if (beside !== undefined) made.append(button("Differences", () => toggle("showsDifferences"), options.showsDifferences));
  else if (index.rows.logprobs[i]) made.append(button("Probabilities", () => toggle("showsProbabilities"), options.showsProbabilities));
  const link = element("a", "", "Link to this");
  link.href = "#" + addressOf(keyOf(i), beside === undefined ? "" : keyOf(beside));
  made.append(link);
  return made;
}

function toggle(name) {
  options[name] = !options[name];
  reopen();
}

// ---- the same problem ----------------------------------------------------------------------------

const MOST_SIBLINGS = 200;

function siblingButtons(i, beside) {
  const made = element("div");
  const all = siblingsOf(i);
  if (all.length < 2) return made;
  const row = element("div", "tools siblings");
  row.append(element("span", "soft", all.length + " of this problem:"));
  for (const other of all.slice(0, MOST_SIBLINGS)) {
    const name = (nameOf("model", other) || nameOf("teacher", other).split("@")[0].split("/").pop()) + ":" + index.rows.sample[other];
    const chip = button("", () => open(other, null));
    chip.append(badge(nameOf("outcome", other)), name);
    if (other === i) chip.setAttribute("aria-current", "true");
    row.append(chip);
  }
  const pick = element("select");
  pick.setAttribute("aria-label", "Beside this trace");
  pick.append(new Option("beside …", ""));
  for (const other of all.slice(0, MOST_SIBLINGS)) {
    if (other !== i) pick.append(new Option(titleOf(other), String(other), false, other === beside));
  }
  pick.addEventListener("change", () => open(i, pick.value === "" ? null : Number(pick.value)));
  made.append(row, pick);
  return made;
}

// ---- what was written ----------------------------------------------------------------------------

function traceParts(row, problem, marks) {
  const completion = row.trace.completion;
  const made = [];
  const extracted = row.verdict ? row.verdict.grade.extracted : "";
  const gold = problem.answer || "";
  const answer = shownText(row, completion, "answer_text");
  const isInAnswer = placeRead(answer, extracted) >= 0;
  if (completion.reasoning) {
    const name = completion.think === "open" ? "Reasoning, never closed" : "Reasoning";
    const own = Object.assign({}, marks, { gold, extracted: isInAnswer ? "" : extracted });
    made.push(part(name), written(shownText(row, completion, "reasoning").replace(/^\n+|\n+$/g, ""), own, options.setsFormulas));
  }
  if (answer.trim()) {
    const own = Object.assign({}, marks, { gold, extracted });
    made.push(part("Answer"), written(answer.replace(/^\n+|\n+$/g, ""), own, options.setsFormulas));
  }
  if (completion.finish === "error") {
    made.push(part("Failed"), written(shownText(row, completion, "error") || "no cause was told", marks, false));
  }
  if (extracted || gold) {
    const key = element("p", "key");
    key.append(element("span", "gold", "gold answer"), "  ", element("span", "extracted", "extracted answer"));
    made.push(key);
  }
  return made;
}

function whole(row) {
  const completion = row.trace.completion;
  const reasoning = shownText(row, completion, "reasoning") || "";
  return (reasoning + "\n" + shownText(row, completion, "answer_text")).trim();
}

function sideBySide(rows, texts, problem, marks) {
  const sides = element("div", "sides");
  const made = [];
  let contents = null;
  if (options.showsDifferences) {
    const found = differing(whole(texts[0]), whole(texts[1]));
    contents = found.boxes.map((box) => [box]);
    if (found.isCut) made.push(element("p", "soft", "Of each the first " + MOST_SHOWN.toLocaleString("en") + " characters."));
    if (found.isTooMuch) made.push(element("p", "soft", "The two differ too much for words to be marked."));
  } else {
    contents = texts.map((row) => traceParts(row, problem, marks));
  }
  rows.forEach(function (row, n) {
    const side = element("div");
    side.append(element("div", "part name", titleOf(row)), ...contents[n]);
    sides.append(side);
  });
  made.push(sides);
  return made;
}

function tokenParts(row) {
  const box = element("div", "written raw");
  row.tokens.forEach(function (token, n) {
    const percent = row.percents[n];
    const best = row.best[n];
    const made = element("span", best === null ? "token" : "token other", token);
    made.style.setProperty("--doubt", Math.round((100 - percent) * 0.6) + "%");
    made.title = percent + " %" + (best === null ? "" : ", less than " + JSON.stringify(best));
    box.append(made);
  });
  const key = "Darker: less probable for the model of the log-probabilities. Dotted: another token was more probable.";
  return [part("Tokens"), box, element("p", "key", key)];
}

function verdictFacts(i, row) {
  const { trace, verdict } = row;
  const completion = trace.completion;
  const pairs = [];
  if (verdict) {
    const grade = verdict.grade;
    pairs.push(["extracted", grade.extracted === null ? "nothing" : shownText(row, grade, "extracted")]);
    pairs.push(["verdict", label(grade.outcome) + (verdict.how === "rule" ? "" : ", by " + verdict.how)]);
    pairs.push(["because", shownText(row, grade, "reason") + " (" + grade.layer + ")"], ["grader", grade.grader]);
  }
  for (const [title, name] of [["trace", "id"], ["written by", "model"], ["prompt", "prompt"]]) {
    pairs.push([title, shownText(row, trace, name)]);
  }
  pairs.push(["tokens", completion.tokens.toLocaleString("en") + ", ended by " + completion.finish]);
  if (trace.sampling) pairs.push(["sampling", sampled(trace.sampling)]);
  if (trace.published) pairs.push(["published", shownText(row, trace.published, "dataset") + ", row " + trace.published.row]);
  return facts(pairs);
}

function sampled(sampling) {
  const pairs = Object.entries(sampling).filter(([, value]) => String(value) !== "");
  return pairs.map(([name, value]) => name + " " + value).join(", ");
}

function setAside(row) {
  const record = row.set_aside;
  const origin = record.origin;
  return [facts([
    ["reason", shownText(row, record, "reason")], ["detail", shownText(row, record, "detail")],
    ["from", shownText(row, origin, "dataset") + " @ " + origin.revision + ", " + origin.split + ", row " + origin.row],
  ])];
}
