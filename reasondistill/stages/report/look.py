"""The page's style sheet and its few lines of script, inlined so that the report is one file."""

# Of the browser too.
PALETTE = """
:root {
  color-scheme: light dark; --paper:#fbfbfa; --card:#fff; --ink:#1c2127; --soft:#5d6672;
  --line:#e3e5e8; --accent:#0b66c3; --good:#0a7d55; --bad:#b8430a; --tied:#5d6672;
  --chip:#eef1f4; --edge:#0003;
  --s0:#0072b2; --s1:#d55e00; --s2:#009e73; --s3:#b5508a; --s4:#b98300; --s5:#3a9bd6;
  --correct:#009e73; --wrong:#d55e00; --truncated:#c99000; --no_answer:#56a4d9;
  --undecided:#b5508a; --refused:#8a6d4b; --other:#98a1ab;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper:#14171b; --card:#1b1f25; --ink:#e6e9ec; --soft:#9aa4b0; --line:#2e343c;
    --accent:#6cb2ff; --good:#3ecf97; --bad:#ff8a4c; --tied:#9aa4b0; --chip:#272d35; --edge:#000a;
    --s0:#4aa8e0; --s1:#ff8a3d; --s2:#2fc795; --s3:#e08abb; --s4:#e6b432; --s5:#8fd0ff;
    --correct:#2fb98a; --wrong:#f07a35; --truncated:#dba927; --no_answer:#6fb7e6;
    --undecided:#d98ab8; --refused:#b8976c; --other:#707a86;
  }
}
"""

_SHEET = """
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
main, header > div, footer { max-width: 1120px; margin: 0 auto; padding: 0 20px; }
header { border-bottom: 1px solid var(--line); background: var(--card); padding: 34px 0 0; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 6px; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 44px 0 6px; scroll-margin-top: 58px; }
h3 { font-size: 1rem; margin: 22px 0 6px; }
.headline, h1 { text-wrap: pretty; }
p { margin: 6px 0 12px; max-width: 78ch; overflow-wrap: anywhere; }
.about, .note, figcaption, .soft { color: var(--soft); }
.note, figcaption { font-size: .88rem; }
.headline {
  font-size: 1.22rem; line-height: 1.45; margin: 16px 0; max-width: 70ch;
  border-left: 4px solid var(--accent); padding: 2px 0 2px 16px;
}
.caveat {
  background: var(--chip); border-radius: 8px; padding: 8px 14px; font-size: .92rem;
  max-width: none;
}
nav {
  position: sticky; top: 0; z-index: 2; background: var(--card);
  border-bottom: 1px solid var(--line);
}
nav div {
  max-width: 1120px; margin: 0 auto; padding: 9px 20px; display: flex; gap: 18px;
  overflow-x: auto; white-space: nowrap; font-size: .92rem;
}
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
.scroll {
  overflow-x: auto; border: 1px solid var(--line); border-radius: 10px; margin: 10px 0;
  /* A shadow at the edge behind which there is more; what moves with the table covers it. */
  background:
    linear-gradient(270deg, var(--card) 40%, transparent) 100% 0 / 40px 100% no-repeat local,
    linear-gradient(270deg, var(--edge), transparent) 100% 0 / 14px 100% no-repeat scroll,
    var(--card);
}
table {
  border-collapse: collapse; width: 100%; font-size: .91rem; font-variant-numeric: tabular-nums;
}
th, td {
  padding: 7px 12px; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: middle;
}
tr:last-child > * { border-bottom: 0; }
thead th { color: var(--soft); font-weight: 600; font-size: .82rem; vertical-align: bottom; }
tbody th { font-weight: 600; white-space: nowrap; }
tbody th, thead th:first-child { position: sticky; left: 0; background: var(--card); }
td.number, th.number { text-align: right; white-space: nowrap; }
small { color: var(--soft); font-size: .78em; margin-left: 2px; }
.tight th, .tight td { padding: 4px 8px; }
.tight table { font-size: .84rem; }
.tight tbody th { max-width: 210px; overflow: hidden; text-overflow: ellipsis; }
td.text { overflow-wrap: anywhere; min-width: 150px; }
.unbroken { white-space: nowrap; }
.better { color: var(--good); font-weight: 650; }
.worse { color: var(--bad); font-weight: 650; }
.tied { color: var(--tied); font-weight: 650; }
.whisker { width: 170px; min-width: 130px; height: 22px; display: block; }
.plot { width: 100%; height: auto; display: block; }
.grid-2 {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr));
  gap: 16px;
}
.grid-2 > figure { max-width: 640px; }
figure {
  margin: 10px 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 16px; min-width: 0;
}
.row-label {
  display: flex; justify-content: space-between; gap: 10px; font-size: .85rem; margin-top: 4px;
}
.tick { font-size: 13px; fill: var(--soft); }
.grid { stroke: var(--line); }
.axis { stroke: var(--soft); }
.rail { stroke: var(--line); stroke-width: 2; }
.curve { fill: none; stroke-width: 2.2; stroke-linejoin: round; }
.dashed { stroke-dasharray: 6 4; }
.bar { stroke-width: 4; stroke-linecap: round; }
.legend {
  display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: .86rem; margin: 6px 0 0; padding: 0;
  list-style: none;
}
.legend i {
  display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 6px;
  vertical-align: -1px;
}
.legend i.dash {
  height: 0; border-top: 3px dashed; border-radius: 0; vertical-align: 3px; width: 18px;
  background: none;
}
.stack {
  min-width: 110px; display: flex; height: 26px; border-radius: 6px; overflow: hidden;
  background: var(--chip); gap: 1px;
}
.stack b { display: block; min-width: 2px; }
.meter-cell { width: 200px; }
.meter {
  display: block; height: 10px; border-radius: 5px; background: var(--s0); min-width: 2px;
}
.step {
  display: grid; grid-template-columns: 110px 1fr; gap: 2px 16px; padding: 12px 0;
  border-bottom: 1px solid var(--line); align-items: center;
}
.step:last-child { border-bottom: 0; }
.step strong { font-size: .95rem; }
.step ul { grid-column: 2; }
.tools { display: flex; flex-wrap: wrap; gap: 10px; margin: 12px 0; align-items: center; }
input[type=search], select {
  font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; padding: 7px 12px;
}
input[type=search] { flex: 1 1 240px; min-width: 0; }
details {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; margin: 8px 0;
}
summary { cursor: pointer; padding: 10px 14px; overflow-wrap: anywhere; }
details[open] > summary { border-bottom: 1px solid var(--line); }
.inside { padding: 6px 16px 14px; }
.badge {
  display: inline-block; border-radius: 999px; padding: 1px 10px; font-size: .8rem;
  font-weight: 650; margin-right: 8px; border: 1.5px solid; white-space: nowrap;
}
pre {
  white-space: pre-wrap; overflow-wrap: anywhere; background: var(--chip); border-radius: 8px;
  padding: 10px 12px; margin: 4px 0 10px; max-height: 480px; overflow-y: auto;
  font: .84rem/1.5 ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace;
}
.part {
  font-size: .78rem; font-weight: 650; letter-spacing: .03em; text-transform: uppercase;
  color: var(--soft); margin: 10px 0 2px;
}
dl.facts {
  display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin: 8px 0;
  font-size: .9rem;
}
dl.facts dt { color: var(--soft); }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
.side {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 240px), 1fr));
  gap: 12px;
}
.side > div {
  border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px; min-width: 0;
}
.side pre { max-height: 300px; }
footer { color: var(--soft); font-size: .85rem; padding: 40px 20px 60px; }
[hidden] { display: none !important; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
@media (max-width: 620px) {
  .meter-cell { width: 80px; }
  .tick { font-size: 16px; }
  body { font-size: 15px; }
  header { padding-top: 22px; }
  h1 { font-size: 1.4rem; }
  .headline { font-size: 1.06rem; padding-left: 12px; }
  .step { grid-template-columns: 1fr; }
  .step ul { grid-column: 1; }
  th, td { padding: 6px 9px; }
  tbody th { white-space: normal; overflow-wrap: anywhere; min-width: 120px; max-width: 45vw; }
  dl.facts { grid-template-columns: 1fr; }
  dl.facts dd { margin-bottom: 6px; }
}
@media print {
  nav, .tools { display: none; }
  details:not([open]) { display: none; }
}
"""

# One rule for every tone: fills, strokes and swatches take their colour from the variables above.
_TONES = (
    "s0",
    "s1",
    "s2",
    "s3",
    "s4",
    "s5",
    "correct",
    "wrong",
    "truncated",
    "no_answer",
    "undecided",
    "refused",
    "other",
)
_TONE_RULE = """
.TONE { fill: var(--TONE); stroke: var(--TONE); }
i.TONE, b.TONE { background: var(--TONE); }
.badge.TONE {
  border-color: var(--TONE); background: color-mix(in srgb, var(--TONE) 14%, transparent);
}
rect.TONE { stroke: none; }
"""
TONE_RULES = "".join(_TONE_RULE.replace("TONE", tone) for tone in _TONES)
STYLE = PALETTE + _SHEET + TONE_RULES + "polyline.curve { fill: none; }\n"

SCRIPT = """
(function () {
  var box = document.getElementById('search'), pick = document.getElementById('outcome'), \
told = document.getElementById('found');
  if (!box) return;
  var items = Array.prototype.slice.call(document.querySelectorAll('details.trace'));
  function show() {
    var words = box.value.toLowerCase().split(/\\s+/).filter(Boolean), wanted = pick.value, \
left = 0;
    items.forEach(function (item) {
      var text = item.textContent.toLowerCase();
      var fits = !wanted || item.dataset.outcomes.split(' ').indexOf(wanted) >= 0;
      fits = fits && words.every(function (w) { return text.indexOf(w) >= 0; });
      item.hidden = !fits;
      left += fits ? 1 : 0;
    });
    told.textContent = left + ' of ' + items.length;
  }
  box.addEventListener('input', show);
  pick.addEventListener('change', show);
  show();
})();

// Formulas are set where a trace is opened, by the KaTeX of the trace browser.
document.addEventListener('toggle', function (event) {
  var trace = event.target, source = document.body.dataset.katex;
  if (!source || !trace.open || !trace.matches('details.trace') || trace.dataset.set) return;
  trace.dataset.set = 'yes';
  loadKatex(source).then(function () {
    trace.querySelectorAll('pre').forEach(function (box) {
      var text = box.textContent, at = 0, pieces = [];
      formulasOf(text).forEach(function (found) {
        pieces.push(text.slice(at, found.begin), found.formula);
        at = found.end;
      });
      if (pieces.length) box.replaceChildren(...pieces, text.slice(at));
    });
  }, function () {});
}, true);
"""
