"use strict";
// Files of data: each is a script that hands over a text of base64. Its sum is compared with the one
// that is known before it is unpacked.

const expected = new Map(); // "texts-3" → what waits for that file
const kept = new Map(); // the same → its content, the latest last
const MOST_KEPT = { problems: 12, texts: 16, logprobs: 6, words: 24 };

window.reasondistill = function (kind, number, payload) {
  const name = kind + "-" + number;
  const wait = expected.get(name);
  expected.delete(name);
  if (wait) wait(payload);
};

function fileName(kind, number) {
  if (kind === "index") return "index.js";
  return kind + "-" + String(number).padStart(5, "0") + ".js";
}

// Where the page carries its data, they stand in it under the names of their files.
function handOver(kind, number) {
  const inside = document.getElementById(fileName(kind, number));
  if (inside) return Promise.resolve(inside.textContent);
  return new Promise(function (resolve, reject) {
    const name = kind + "-" + number;
    const script = document.createElement("script");
    expected.set(name, resolve);
    script.onload = function () {
      script.remove();
      if (expected.get(name) === resolve) reject(new Error(script.src + " holds something else"));
    };
    script.onerror = function () {
      script.remove();
      expected.delete(name);
      reject(new Error(fileName(kind, number) + " cannot be read"));
    };
    script.src = fileName(kind, number);
    document.head.append(script);
  });
}

async function sumOf(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function unpacked(payload) {
  const signs = atob(payload);
  const bytes = new Uint8Array(signs.length);
  for (let i = 0; i < signs.length; i++) bytes[i] = signs.charCodeAt(i);
  // Not by a Blob: the browser's own process would hold its bytes until they are collected.
  const unpacking = new DecompressionStream("deflate");
  const writer = unpacking.writable.getWriter();
  const written = writer.write(bytes).then(() => writer.close());
  const [value] = await Promise.all([new Response(unpacking.readable).json(), written]);
  return value;
}

async function load(kind, number, sum) {
  const payload = await handOver(kind, number);
  if (sum) {
    const found = await sumOf(new TextEncoder().encode(payload));
    if (found !== sum) throw new Error(fileName(kind, number) + " is not the file that was written");
  }
  return unpacked(payload);
}

// The content of a file, from memory where it was read lately. Two who ask share one reading.
function content(kind, number) {
  const name = kind + "-" + number;
  let promise = kept.get(name);
  if (promise) {
    kept.delete(name);
  } else {
    promise = load(kind, number, index.files[kind].sums[number]);
    promise.catch(() => kept.delete(name));
  }
  kept.set(name, promise);
  const names = Array.from(kept.keys()).filter((other) => other.startsWith(kind + "-"));
  if (names.length > MOST_KEPT[kind]) kept.delete(names[0]);
  return promise;
}

// The last place of a sorted list that is not above a value, by a comparison of numbers or texts.
function placeOf(sorted, value) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

async function rowOf(kind, number) {
  const file = placeOf(index.files[kind].first, number);
  const rows = await content(kind, file);
  return rows[number - index.files[kind].first[file]];
}
