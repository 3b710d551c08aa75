"use strict";
// Formulas in a text: $…$, $$…$$, \(…\), \[…\], set by KaTeX, which trusts nothing. Of the report too.

const FORMULA = new RegExp(
  "\\$\\$([^]{1,2000}?)\\$\\$|\\\\\\[([^]{1,2000}?)\\\\\\]|\\\\\\(([^]{1,2000}?)\\\\\\)" +
  "|\\$(?![\\s$])((?:\\\\.|[^$\\\\\\n]){1,1000}?)(?<!\\s)\\$(?!\\d)", "g");
const MOST_FORMULAS = 400;
const MOST_TEXT = 60000; // characters of a text in which formulas are looked for
// What a formula defines it can repeat: some hundred signs become some hundred thousand.
const DEFINES = /\\(?:[gex]?def|(?:re)?newcommand|providecommand|(?:future)?let)(?![A-Za-z])/;
const MOST_EM = 100; // of any length in a formula, upwards, downwards and to the left too
let katexLoaded = null;

// KaTeX and its style, once.
function loadKatex(source) {
  if (katexLoaded) return katexLoaded;
  katexLoaded = new Promise(function (resolve, reject) {
    const script = document.createElement("script");
    const use = function () {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(katexStyle);
      document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
      resolve();
    };
    if (typeof katexStyle !== "undefined") {
      use(); // the page carries it
      return;
    }
    script.onload = use;
    script.onerror = () => reject(new Error(source + " cannot be read"));
    script.src = source;
    document.head.append(script);
  });
  return katexLoaded;
}

// KaTeX bounds sizes above alone: what stands 9999 em lower would push all else out of sight.
function isTooLarge(formula) {
  return Array.from(formula.querySelectorAll("[style]")).some(function (part) {
    const lengths = part.getAttribute("style").match(/-?[\d.]+(?=em)/g) || [];
    return lengths.some((length) => Math.abs(Number(length)) > MOST_EM);
  });
}

// The formulas of a text with their places; what KaTeX does not take stays text.
function formulasOf(text) {
  const found = [];
  for (const match of text.slice(0, MOST_TEXT).matchAll(FORMULA)) {
    if (found.length >= MOST_FORMULAS) break;
    const source = match[1] ?? match[2] ?? match[3] ?? match[4];
    if (DEFINES.test(source)) continue;
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
    if (isTooLarge(formula)) continue;
    found.push({ begin: match.index, end: match.index + match[0].length, formula });
  }
  return found;
}
