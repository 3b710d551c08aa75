(function () {
  var box = document.getElementById('search'), pick = document.getElementById('outcome'), told = document.getElementById('found');
  if (!box) return;
  var items = Array.prototype.slice.call(document.querySelectorAll('details.trace'));
  function show() {
    var words = box.value.toLowerCase().split(/\s+/).filter(Boolean), wanted = pick.value, left = 0;
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

// What a mark of a picture says: at the pointer, and by the arrow keys. Without script its title
// shows on hovering.
(function () {
  const tip = document.getElementById('tip');
  let shown = null;
  let follow = null; // what the keys show stays beside its mark while the page scrolls to it

  function hide() {
    follow = null;
    if (shown) shown.classList.remove('on');
    shown = null;
    tip.classList.remove('on');
    tip.textContent = '';
  }

  function show(mark, words, x, y) {
    if (shown !== mark) {
      hide();
      shown = mark;
      mark.classList.add('on');
      tip.textContent = words;
      tip.classList.add('on');
    }
    const left = Math.min(x + 14, innerWidth - tip.offsetWidth - 6);
    const below = y + 18 + tip.offsetHeight < innerHeight;
    tip.style.left = Math.max(4, left) + 'px';
    tip.style.top = Math.max(4, below ? y + 18 : y - tip.offsetHeight - 12) + 'px';
  }

  function place(mark) {
    const box = (mark.querySelector('circle, rect') || mark).getBoundingClientRect();
    return { x: box.left + box.width / 2, y: box.top + box.height / 2, box };
  }

  // From a point to a mark; nothing inside of it.
  function distance(mark, x, y) {
    const box = place(mark).box;
    return Math.hypot(Math.max(box.left - x, 0, x - box.right), Math.max(box.top - y, 0, y - box.bottom));
  }

  document.querySelectorAll('svg.picture').forEach(function (picture) {
    const marks = Array.from(picture.querySelectorAll('g.mark'));
    if (!marks.length) return;
    // The browser would show its own box beside ours.
    const words = marks.map(function (mark) {
      const title = mark.querySelector('title'), said = title.textContent;
      title.textContent = '';
      return said;
    });
    let at = 0;

    function go(number) {
      at = Math.max(0, Math.min(marks.length - 1, number));
      const { x, y } = place(marks[at]);
      show(marks[at], words[at], x, y);
      follow = () => go(at);
    }

    picture.addEventListener('pointermove', function (event) {
      let least = Infinity;
      marks.forEach(function (mark, number) {
        const far = distance(mark, event.clientX, event.clientY);
        if (far < least) {
          least = far;
          at = number;
        }
      });
      show(marks[at], words[at], event.clientX, event.clientY);
      follow = null;
    });
    picture.addEventListener('pointerleave', hide);
    picture.addEventListener('blur', hide);
    picture.addEventListener('focus', function () {
      if (picture.matches(':focus-visible')) go(at);
    });
    picture.addEventListener('keydown', function (event) {
      const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
      if (event.key in steps) go(shown ? at + steps[event.key] : at);
      else if (event.key === 'Home') go(0);
      else if (event.key === 'End') go(marks.length - 1);
      else if (event.key === 'Escape') hide();
      else return;
      event.preventDefault();
    });
  });
  addEventListener('scroll', () => (follow || hide)(), { passive: true });
})();

// On paper folded parts stand open.
(function () {
  let opened = [];
  addEventListener('beforeprint', function () {
    opened = Array.from(document.querySelectorAll('details:not([open])'));
    opened.forEach((part) => { part.open = true; });
  });
  addEventListener('afterprint', function () {
    opened.forEach((part) => { part.open = false; });
    opened = [];
  });
})();
