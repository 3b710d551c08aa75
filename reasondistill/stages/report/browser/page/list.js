"use strict";
// The list of rows: only those in sight are on the page, whatever their number.

const ROW_HEIGHT = 54;
// Browsers place nothing beyond some 30 million pixels: a longer list scrolls by a share.
const MOST_PIXELS = 12000000;

const list = {
  rows: [],
  chosen: -1, // place in rows
  left: -1, // the place from which one went to a row that is not among them
  choose: () => {},
  pool: [],

  start() {
    this.box = document.getElementById("list");
    this.spacer = document.getElementById("spacer");
    this.box.addEventListener("scroll", () => requestAnimationFrame(() => this.draw()), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.box);
  },

  show(rows) {
    this.rows = rows;
    this.chosen = this.left = -1;
    this.spacer.style.height = Math.min(rows.length * ROW_HEIGHT, MOST_PIXELS) + "px";
    this.draw();
  },

  // The place at the top: pixels as they are, or in a very long list as a share of it.
  top() {
    const whole = this.rows.length * ROW_HEIGHT;
    if (whole <= MOST_PIXELS) return this.box.scrollTop;
    const view = this.box.clientHeight;
    return (this.box.scrollTop / (MOST_PIXELS - view)) * (whole - view);
  },

  scrollTo(top) {
    const whole = this.rows.length * ROW_HEIGHT;
    const view = this.box.clientHeight;
    if (whole <= MOST_PIXELS) this.box.scrollTop = top;
    else this.box.scrollTop = (top / (whole - view)) * (MOST_PIXELS - view);
  },

  draw() {
    const top = this.top();
    const shift = this.box.scrollTop - top;
    const first = Math.max(0, Math.floor(top / ROW_HEIGHT) - 4);
    const last = Math.min(this.rows.length, Math.ceil((top + this.box.clientHeight) / ROW_HEIGHT) + 4);
    while (this.pool.length < last - first) this.pool.push(this.newRow());
    this.pool.forEach((made, n) => {
      const place = first + n;
      made.hidden = place >= last;
      if (!made.hidden) this.fill(made, place, shift);
    });
    const current = this.pool.find((made) => !made.hidden && made.getAttribute("aria-selected") === "true");
    if (current) this.box.setAttribute("aria-activedescendant", current.id);
    else this.box.removeAttribute("aria-activedescendant");
  },

  newRow() {
    const made = element("div", "row");
    made.id = "row-" + this.pool.length;
    made.setAttribute("role", "option");
    made.upper = element("div");
    made.lower = element("div", "soft");
    made.lower.dir = "auto";
    made.append(made.upper, made.lower);
    made.addEventListener("click", () => this.choose(made.place));
    this.spacer.append(made);
    return made;
  },

  fill(made, place, shift) {
    const i = this.rows[place];
    made.style.transform = "translateY(" + (place * ROW_HEIGHT + shift) + "px)";
    made.setAttribute("aria-selected", String(place === this.chosen));
    if (made.place === place && made.of === i) return;
    made.place = place;
    made.of = i;
    made.setAttribute("aria-setsize", this.rows.length);
    made.setAttribute("aria-posinset", place + 1);
    made.upper.replaceChildren(badge(nameOf("outcome", i)), titleOf(i));
    made.lower.textContent = index.problems.head[index.rows.problem[i]];
  },

  mark(place) {
    this.chosen = place;
    if (place < 0) {
      this.draw();
      return;
    }
    this.left = place;
    const top = this.top();
    const at = place * ROW_HEIGHT;
    const view = this.box.clientHeight;
    if (at < top) this.scrollTo(at);
    else if (at + ROW_HEIGHT > top + view) this.scrollTo(at + ROW_HEIGHT - view);
    this.draw();
  },
};

function badge(outcome) {
  const known = index.names.outcome.indexOf(outcome) <= GRADED; // others have a plain look
  return element("span", "badge " + (known ? outcome : outcome === "refused" ? "refused" : "other"), label(outcome));
}

// Who wrote a row, of what, in a line.
function titleOf(i) {
  const problem = index.problems.id[index.rows.problem[i]];
  if (nameOf("stage", i) === "problems") return problem;
  const who = nameOf("model", i) || nameOf("teacher", i);
  return who + " · " + problem + ":" + index.rows.sample[i] + " · " + index.rows.tokens[i].toLocaleString("en") + " tokens";
}
