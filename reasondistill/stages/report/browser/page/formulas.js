"use strict";
// Formulas in a text: $…$, $$…$$, \(…\), \[…\], set by KaTeX, which trusts nothing. Of the report too.

const FORMULA = new RegExp(
  "\\$\\$([^]{1,2000}?)\\$\\$|\\\\\\[([^]{1,2000}?)\\\\\\]|\\\\\\(([^]{1,2000}?)\\\\\\)" +
  "|\\$(?![\\s$])((?:\\\\.|[^$\\\\\\n]){1,1000}?)(?<!\\s)\\$(?!\\d)", "g");
const MOST_FORMULAS = 400;
const MOST_TEXT = 60000; // characters of a text in which formulas are looked for
let katexLoaded = null;

// KaTeX and its style, once.
function loadKatex(source) {
  if (katexLoaded) return katexLoaded;
  katexLoaded = new Promise(function (resolve, reject) {
    const script = document.createElement("script");
    script.onload = function () {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(katexStyle);
      document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
      resolve();
    };
    script.onerror = () => reject(new Error(source + " cannot be read"));
    script.src = source;
    document.head.append(script);
  });
  return katexLoaded;
}

// The formulas of a text with their places; what KaTeX does not take stays text.
function formulasOf(text) {
  const found = [];
  for (const match of text.slice(0, MOST_TEXT).matchAll(FORMULA)) {
    if (found.length >= MOST_FORMULAS) break;
    const source = match[1] ?? match[2] ?? match[3] ?? match[4];
    const isDisplayed = match[1] !== undefined || match[2] !== undefined;
    const formula = document.createElement(isDisplayed ? "div" : "span");
    formula.className = "formula";
    try {
      katex.render(source, formula, {
        displayMode: isDisplayed, throwOnError: true, trust: false, strict: "ignore",
        maxSize: 20, maxExpand: 200,
      });
    } catch (error) {
      continue;
    }
    found.push({ begin: match.index, end: match.index + match[0].length, formula });
  }
  return found;
}
