// The prompt canvas. Gradio runs this text as a function body with `element`, `props`, `upload`,
// `trigger` and `watch` in scope; `Sortable` is vendored and on the page already.
//
// One-way traffic keeps it simple: only this file writes `props.value` (what the visitor arranged),
// and Python answers through the hidden inbox component, as "dnd-inbox" events (what was read, an
// example to load, fold). A server answer can therefore never undo a move made meanwhile.
//
// Every name comes from a stranger. Text reaches the page through `textContent` alone.

const { suffixes, max_file_bytes: maxFileBytes, max_files: maxFiles } = props.limits;
const $ = (selector, root = element) => root.querySelector(selector);
const $$ = (selector, root = element) => [...root.querySelectorAll(selector)];
const root = $(".dnd-canvas");
const board = $(".dnd-buckets");
// The action bar and the examples are ordinary Gradio components beside the canvas; the page's CSS
// arranges them by what is marked here.
const stage = document.getElementById("dnd-tabs") ?? document.body;
const MAX_NAME = 60; // characters of a bucket name, as the engine has it

let buckets = []; // [{id, name, preset, weight, cards: [card id]}]; a preset name nobody chose
let cards = new Map(); // card id -> {id, name, size, split, file, reading, state}
const muted = new Map(); // bucket id -> its weight before
const undoable = []; // what Undo takes back, newest last: {told, back}
const sortables = new Map(); // bucket id -> Sortable
let dragging = false;
let folded = false;
let tellWhenRead = false; // an example was loaded to be shown: go on once its files are read
let remixing = false;
let attempt = 0; // differs when the same arrangement is sent again
let retry = null;
let lastBucket = null; // where "Browse files" adds to

// ---------------------------------------------------------------- small helpers

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function button(className, text, label, onClick) {
  const node = make("button", className, text);
  node.type = "button";
  if (label) node.setAttribute("aria-label", label);
  node.addEventListener("click", onClick);
  return node;
}

const svgNamespace = "http://www.w3.org/2000/svg";
const ICONS = {
  close: "M3 3l8 8M11 3l-8 8",
  error: "M7 1a6 6 0 1 0 0 12A6 6 0 0 0 7 1M5 5l4 4M9 5l-4 4",
  warn: "M7 1.5L13.3 12.5H.7zM7 5.5v3.2M7 10.3v.4",
};
function icon(name) {
  const svg = document.createElementNS(svgNamespace, "svg");
  svg.setAttribute("viewBox", "0 0 14 14");
  svg.setAttribute("class", `dnd-icon dnd-icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(svgNamespace, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

// crypto.randomUUID needs a secure context, which a page served over plain http in a LAN is not.
const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16).padStart(2, "0")).join("");
const countFiles = (count) => ngettext("{number} file", "{number} files", count);
const countPrompts = (count) => ngettext("{number} prompt", "{number} prompts", count);
const countBuckets = (count) => ngettext("{number} bucket", "{number} buckets", count);
// Rounded up, so that a file over the limit never reads as the limit.
const megabytes = (bytes) => `${write(Math.ceil(bytes / 1e5) / 10, bytes < 1e8 ? 1 : 0)} MB`;
const bucketById = (id) => buckets.find((bucket) => bucket.id === id);
const bucketOf = (cardId) => buckets.find((bucket) => bucket.cards.includes(cardId));
const usable = (id) => cards.get(id)?.state === "ready";
const promptsIn = (bucket) => bucket.cards.reduce((sum, id) => sum + (usable(id) ? cards.get(id).reading.num_prompts : 0), 0);
const suffixList = () => suffixes.map((suffix) => suffix.slice(1)).join(", ").replace(/, (?=[^,]*$)/, ` ${_("or")} `);

function say(text) {
  const live = $(".dnd-live");
  live.textContent = "";
  requestAnimationFrame(() => { live.textContent = text; });
}

// ---------------------------------------------------------------- state -> Python

function commit() {
  const present = buckets.map((bucket) => ({
    id: bucket.id, name: bucket.name, weight: bucket.weight,
    cards: bucket.cards.filter((id) => cards.get(id).state !== "uploading"),
  }));
  const sent = present.flatMap((bucket) => bucket.cards).map((id) => {
    const { name, size, split, file, state, example, pasted } = cards.get(id);
    return { id, name, size, split, file, waiting: state === "reading", example: example ?? "", pasted: pasted ?? false };
  });
  props.value = { buckets: present, cards: sent, attempt, remixing };
  // A message can be lost, while the page starts or the server is restarted: ask again.
  clearTimeout(retry);
  if (sent.some((card) => card.waiting) && attempt < 20) retry = setTimeout(() => { attempt += 1; commit(); }, 3000);
}

function changed(message) {
  commit();
  render();
  if (message) say(message);
}

// ---------------------------------------------------------------- what visitors do

function move(cardId, bucketId, index) {
  const from = bucketOf(cardId);
  const to = bucketById(bucketId);
  if (!from || !to) return;
  const { name } = cards.get(cardId);
  const told = () => _("{name} moved to {bucket}.", { name, bucket: to.name });
  if (from !== to) remember({ told, back: () => putBack(cardId, from.id) });
  from.cards = from.cards.filter((id) => id !== cardId);
  to.cards.splice(index ?? to.cards.length, 0, cardId);
  changed(told());
}

function putBack(cardId, bucketId) {
  const to = bucketById(bucketId);
  if (!bucketOf(cardId) || !to) return;
  bucketOf(cardId).cards = bucketOf(cardId).cards.filter((id) => id !== cardId);
  to.cards.push(cardId);
}

function remember(step) {
  undoable.push(step);
  if (undoable.length > 20) undoable.shift();
}

function snapshot(told) {
  const was = { buckets: structuredClone(buckets), cards: new Map(cards) };
  remember({ told, back: () => bringBack(was) });
}

function removeCard(cardId) {
  const bucket = bucketOf(cardId);
  const { name } = cards.get(cardId);
  const told = () => _("{name} removed from {bucket}.", { name, bucket: bucket.name });
  snapshot(told);
  bucket.cards = bucket.cards.filter((id) => id !== cardId);
  forgetErrors();
  changed(`${told()} ${_("Undo brings it back.")}`);
}

function removeBucket(bucketId) {
  const bucket = bucketById(bucketId);
  const { name, cards: { length } } = bucket;
  const told = () => (length ? _("{bucket} and its {files} removed.", { bucket: name, files: countFiles(length) }) : _("{bucket} removed.", { bucket: name }));
  snapshot(told);
  buckets = buckets.filter(({ id }) => id !== bucketId);
  forgetErrors();
  changed(`${told()} ${_("Undo brings it back.")}`);
}

function undo() {
  const last = undoable.pop();
  if (!last) return;
  last.back();
  changed(_("Brought back."));
}

function bringBack(last) {
  // Put back what is gone and leave what came since: a file dropped after the removal stays.
  for (const [index, was] of last.buckets.entries()) {
    const now = bucketById(was.id) ?? { ...was, cards: [] };
    if (!bucketById(was.id)) {
      if (nameTaken(now.name, now.id)) now.name = freeName(now.name);
      buckets.splice(Math.min(index, buckets.length), 0, now);
    }
    for (const [place, id] of was.cards.entries()) {
      if (bucketOf(id)) continue;
      if (!cards.has(id)) cards.set(id, last.cards.get(id));
      now.cards.splice(place, 0, id);
    }
  }
}

const nameTaken = (name, exceptId) => buckets.some((bucket) => bucket.id !== exceptId && bucket.name === name);
function freeName(base) {
  if (!nameTaken(base)) return base;
  for (let number = 2; ; number += 1) {
    const tail = ` ${number}`;
    const name = base.slice(0, MAX_NAME - tail.length) + tail;
    if (!nameTaken(name)) return name;
  }
}

function addBucket() {
  const bucket = { id: newId(), name: freeName(_("New bucket")), weight: 1, cards: [] };
  buckets.push(bucket);
  changed(_("{bucket} added.", { bucket: bucket.name }));
  const input = $(`[data-bucket="${bucket.id}"] .dnd-title`);
  input.focus();
  input.select();
}

function renameBucket(bucketId, input) {
  const bucket = bucketById(bucketId);
  const name = input.value.replace(/\s+/g, " ").trim();
  if (name === bucket.name) input.value = name;
  else if (!name || nameTaken(name, bucketId)) {
    say(name ? _("There is already a bucket named {name}.", { name }) : _("A bucket needs a name."));
    input.value = bucket.name;
  } else rename(bucket, name);
}

function rename(bucket, name) {
  const { name: before, preset } = bucket;
  const told = () => _("Bucket renamed to {name}.", { name });
  remember({ told, back: () => { if (!nameTaken(before, bucket.id)) Object.assign(bucket, { name: before, preset }); } });
  bucket.name = name;
  bucket.preset = null;
  changed(told());
}

// A visitor's own files seldom are what the first buckets are called, and the adapter is called so.
function betterName({ preset, cards: ids }) {
  const held = ids.map((id) => cards.get(id));
  const first = held.find(({ state, pasted }) => state === "ready" && !pasted);
  if (!preset || !first || held.some(({ example }) => example)) return null;
  const stem = first.name.replace(/\.[^.]*$/, "").replace(/[\s_-]+/g, " ").trim().slice(0, MAX_NAME);
  return stem && !nameTaken(stem) ? stem : null;
}

function setWeight(bucketId, value) {
  const bucket = bucketById(bucketId);
  const weight = Math.round(Math.max(-2, Math.min(2, Number(value))) * 100) / 100;
  if (Number.isFinite(weight)) bucket.weight = weight;
  changed();
}

// On the folded canvas a weight acts at once: the adapter is remixed.
function remix(bucketId, value) {
  remixing = true; // so nobody says meanwhile that the adapter is of earlier prompts
  setWeight(bucketId, value);
  remixing = false;
  setTimeout(() => trigger("remix"));
}

function toggleMute(bucketId) {
  const bucket = bucketById(bucketId);
  const before = muted.get(bucketId) ?? 1;
  if (bucket.weight !== 0) muted.set(bucketId, bucket.weight);
  remix(bucketId, bucket.weight === 0 ? before : 0);
  say(bucket.weight === 0 ? _("{bucket} muted.", { bucket: bucket.name }) : _("{bucket} unmuted.", { bucket: bucket.name }));
}

function clearAll() {
  if (!buckets.some((bucket) => bucket.cards.length)) return;
  const told = () => _("All files removed.");
  snapshot(told);
  for (const bucket of buckets) bucket.cards = [];
  forgetErrors();
  changed(`${told()} ${_("Undo brings it back.")}`);
}

// ---------------------------------------------------------------- files

function refusal(file) {
  const dot = file.name.lastIndexOf(".");
  const suffix = dot > 0 ? file.name.slice(dot).toLowerCase() : "";
  if (!suffixes.includes(suffix)) {
    const kind = suffix ? suffix.slice(1).toUpperCase() : _("A name without a suffix");
    return _("{kind} is not a prompt file. Use {kinds}.", { kind, kinds: suffixList() });
  }
  if (file.size > maxFileBytes) {
    return _("{size}; the limit is {limit} MB a file. Keep a sample: a few hundred prompts are plenty.", { size: megabytes(file.size), limit: maxFileBytes / 1e6 });
  }
  if (buckets.reduce((sum, bucket) => sum + bucket.cards.length, 0) >= maxFiles) {
    return _("The canvas holds {number} files already. Remove some first.", { number: maxFiles });
  }
  return null;
}

async function addFiles(files, bucketId, { folders = [], pasted = false } = {}) {
  if (!bucketById(bucketId)) return;
  const faults = folders.map((name) => ({ name, text: _("This is a folder. Drop the files in it instead.") }));
  const uploads = [];
  for (const file of files) {
    const why = refusal(file);
    if (why) { faults.push({ name: file.name, text: why }); continue; }
    const card = { id: newId(), name: file.name, size: file.size, split: "auto", file: null, reading: null, state: "uploading", pasted };
    cards.set(card.id, card);
    bucketById(bucketId).cards.push(card.id);
    uploads.push([card, file]);
  }
  const total = files.length + folders.length;
  lastBucket = bucketId;
  showErrors(faults, total);
  render();
  await Promise.all(uploads.map(async ([card, file]) => {
    try {
      const { path, url } = await upload(file);
      card.file = { path, url, orig_name: file.name, size: file.size, meta: { _type: "gradio.FileData" } };
      card.state = "reading";
    } catch (error) {
      console.warn("upload failed", error);
      drop(card.id);
      faults.push({ name: file.name, text: _("The upload failed. Check the connection and drop it again.") });
    }
  }));
  if (faults.length) showErrors(faults, total);
  const added = total - faults.length;
  changed(); // what came of them is said once they are read
  trigger("files_added", { count: added });
}

function drop(cardId) {
  const bucket = bucketOf(cardId);
  if (bucket) bucket.cards = bucket.cards.filter((id) => id !== cardId);
  cards.delete(cardId);
}

// What was told of the files beside a refused one is no longer so once they are gone.
function forgetErrors() {
  if (!buckets.some((bucket) => bucket.cards.length)) showErrors([], 0);
}

function showErrors(faults, total) {
  const box = $(".dnd-errors");
  box.replaceChildren();
  box.hidden = faults.length === 0;
  if (!faults.length) return;
  const kept = total - faults.length;
  const head = make("p", "dnd-errors-head");
  const title = total === 1 ? _("The file was not added.") : ngettext("{number} of {files} was not added.", "{number} of {files} were not added.", faults.length, { files: countFiles(total) });
  const rest = kept === 0 ? _("Everything you had is still there.") : ngettext("The other one is on the canvas, and everything you had is still there.", "The other {number} are on the canvas, and everything you had is still there.", kept);
  head.append(make("strong", "", title), make("span", "", ` ${rest}`));
  const close = button("dnd-x", undefined, _("Close the error list"), () => { box.hidden = true; box.replaceChildren(); });
  close.append(icon("close"));
  const list = make("ul");
  for (const fault of faults) {
    const item = make("li");
    const lines = make("div");
    lines.append(make("span", "dnd-error-name", fault.name), make("span", "", fault.text));
    item.append(icon("error"), lines);
    list.append(item);
  }
  box.append(head, close, list);
}

// ---------------------------------------------------------------- Python -> canvas

function take(readings) {
  const fresh = [];
  for (const [id, reading] of Object.entries(readings)) {
    const card = cards.get(id);
    if (!card || reading.split !== card.split) continue; // an answer to an older choice
    if (card.state === "reading") fresh.push(card);
    card.reading = reading;
    card.state = reading.error ? "error" : "ready";
    card.file = null; // the server keeps what it read; the upload is not needed again
  }
  return fresh;
}

function sayRead(fresh) {
  const good = fresh.filter(({ state }) => state === "ready");
  const where = [...new Set(good.map(({ id }) => bucketOf(id)?.name))];
  const parts = fresh.filter(({ state }) => state === "error").map(({ name, reading }) => _("{name} is not used: {why}", { name, why: reading.error }));
  if (good.length) parts.unshift(_("{files} added to {bucket}.", { files: countFiles(good.length), bucket: where.join(", ") }));
  if (parts.length) say(parts.join(" "));
}

// What lay here when the page was left; what was dropped since stays.
function restore(message) {
  const kept = new Map(message.cards.map((card) => [card.id, card]));
  const first = new Map(buckets.map((bucket) => [bucket.id, bucket]));
  const since = buckets.filter(({ cards: ids }) => ids.length);
  buckets = message.buckets.map((was) => {
    const preset = first.get(was.id)?.preset;
    return { ...was, preset: preset && _(preset) === was.name ? preset : null };
  });
  for (const bucket of since) {
    const same = bucketById(bucket.id);
    if (same) same.cards.push(...bucket.cards);
    else buckets.push(bucket);
  }
  for (const [id, card] of kept) if (!cards.has(id)) cards.set(id, { ...card, file: null, reading: null, state: "reading" });
  for (const bucket of buckets) bucket.cards = bucket.cards.filter((id) => cards.has(id));
  take(message.readings);
  setFolded(message.folded);
  changed();
}

function receive(message) {
  if (message.op === "readings") {
    const fresh = take(message.readings);
    commit();
    render();
    sayRead(fresh);
    const states = [...cards.values()].map(({ state }) => state);
    if (tellWhenRead && !states.includes("reading") && !states.includes("uploading")) {
      tellWhenRead = false;
      setTimeout(() => trigger("read")); // after the value, which it is about
    }
  } else if (message.op === "load") {
    for (const set of message.sets) {
      let bucket = buckets.find(({ name, preset }) => preset === set.bucket || name === _(set.bucket));
      if (!bucket) {
        bucket = { id: newId(), name: freeName(_(set.bucket)), weight: 1, cards: [] };
        buckets.push(bucket);
      }
      bucket.weight = set.weight;
      for (const file of set.files) {
        if (bucket.cards.some((id) => cards.get(id).example === file.file.path)) continue; // loaded before
        const card = { id: newId(), name: file.name, size: file.size, split: "auto", file: file.file, reading: null, state: "reading", example: file.file.path };
        cards.set(card.id, card);
        bucket.cards.push(card.id);
      }
    }
    setFolded(false);
    tellWhenRead = message.tell_when_read;
    changed(_("Example files loaded."));
  } else if (message.op === "restore") restore(message);
  else if (message.op === "fold") setFolded(true);
}

function setFolded(value) {
  folded = value;
  $(".dnd-strip").hidden = !folded;
  $(".dnd-open").hidden = folded;
  stage.toggleAttribute("data-dnd-folded", folded);
}

// ---------------------------------------------------------------- drawing

function render() {
  if (dragging) return; // never redraw under the pointer; onEnd draws
  const old = new Map([...board.querySelectorAll(".dnd-card")].map((node) => [node.dataset.card, node]));
  for (const box of [...board.children]) {
    if (!bucketById(box.dataset.bucket)) {
      sortables.get(box.dataset.bucket).destroy();
      sortables.delete(box.dataset.bucket);
      box.remove();
    }
  }
  buckets.forEach((bucket, place) => {
    let box = $(`[data-bucket="${bucket.id}"]`, board);
    if (!box) box = bucketNode(bucket);
    if (board.children[place] !== box) board.insertBefore(box, board.children[place] ?? null);
    drawBucket(box, bucket);
    const list = $(".dnd-list", box);
    bucket.cards.forEach((id, index) => {
      const node = drawCard(old.get(id), cards.get(id), bucket);
      old.delete(id);
      if (list.children[index] !== node) list.insertBefore(node, list.children[index] ?? null);
    });
  });
  for (const node of old.values()) node.remove();
  drawFoot();
}

function bucketNode(bucket) {
  const box = make("article", "dnd-bucket");
  box.dataset.bucket = bucket.id;
  const header = make("header");
  const title = make("input", "dnd-title");
  title.maxLength = MAX_NAME;
  title.spellcheck = false;
  title.autocomplete = "off";
  title.addEventListener("change", () => renameBucket(bucket.id, title));
  title.addEventListener("keydown", (event) => {
    if (event.key === "Enter") title.blur();
    if (event.key === "Escape") { title.value = bucketById(bucket.id).name; title.blur(); }
  });
  const close = button("dnd-x dnd-remove-bucket", undefined, "", () => {
    removeBucket(bucket.id);
    $(".dnd-undo").focus();
  });
  close.append(icon("close"));
  const line = make("div", "dnd-title-row");
  line.append(title, make("span", "dnd-count"), close);
  const weight = make("div", "dnd-weight");
  const range = make("input", "dnd-range");
  Object.assign(range, { type: "range", min: 0, max: 2, step: 0.1 });
  const number = make("input", "dnd-number");
  Object.assign(number, { type: "number", min: -2, max: 2, step: 0.1 });
  range.addEventListener("input", () => { number.value = Number(range.value).toFixed(1); range.style.setProperty("--fill", `${range.value * 50}%`); });
  range.addEventListener("change", () => setWeight(bucket.id, range.value));
  number.addEventListener("change", () => setWeight(bucket.id, number.value));
  weight.append(make("span", "dnd-weight-name"), range, number);
  const call = button("dnd-link dnd-call", "", "", () => { rename(bucketById(bucket.id), call.dataset.name); title.focus(); });
  const facts = make("div", "dnd-row");
  facts.append(make("p", "dnd-share"), call);
  header.append(line, weight, facts);
  const list = make("ul", "dnd-list");
  const dropHere = button("dnd-drop", "", "", () => browse(bucket.id));
  box.append(header, list, dropHere);
  sortables.set(bucket.id, new Sortable(list, {
    group: "dnd-cards", draggable: ".dnd-card", filter: "button,select,a", preventOnFilter: false,
    // Pointer events instead of HTML5 drag: the same for mouse, touch and pen, and never
    // mistaken for files that come from the desktop.
    forceFallback: true, fallbackOnBody: false, fallbackTolerance: 4,
    // A short hold on touch, so that a swipe still scrolls.
    delay: 150, delayOnTouchOnly: true, touchStartThreshold: 6,
    animation: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 160,
    ghostClass: "dnd-ghost", dragClass: "dnd-lifted",
    onStart: () => { dragging = true; root.classList.add("is-dragging"); },
    onMove: (event) => { markTarget(event.to.closest(".dnd-bucket")); },
    onEnd: (event) => {
      dragging = false;
      root.classList.remove("is-dragging");
      markTarget(null);
      move(event.item.dataset.card, event.to.closest(".dnd-bucket").dataset.bucket, event.newDraggableIndex);
    },
  }));
  return box;
}

function drawBucket(box, bucket) {
  const title = $(".dnd-title", box);
  if (document.activeElement !== title) title.value = bucket.name;
  $(".dnd-weight-name", box).textContent = _("Weight");
  $(".dnd-drop", box).textContent = _("Drop files here");
  title.setAttribute("aria-label", _("Bucket name, {bucket}", { bucket: bucket.name }));
  $(".dnd-remove-bucket", box).setAttribute("aria-label", _("Remove bucket {bucket}", { bucket: bucket.name }));
  $(".dnd-list", box).setAttribute("aria-label", _("Files in {bucket}", { bucket: bucket.name }));
  const ready = bucket.cards.filter(usable).length;
  const files = ready === bucket.cards.length ? countFiles(ready) : _("{number} of {files}", { number: ready, files: countFiles(bucket.cards.length) });
  $(".dnd-count", box).textContent = bucket.cards.length ? `${files}, ${countPrompts(promptsIn(bucket))}` : _("empty");
  const range = $(".dnd-range", box);
  const number = $(".dnd-number", box);
  range.setAttribute("aria-label", _("Weight of {bucket}", { bucket: bucket.name }));
  number.setAttribute("aria-label", _("Weight of {bucket}, as a number", { bucket: bucket.name }));
  range.value = Math.max(0, bucket.weight);
  range.style.setProperty("--fill", `${Math.max(0, bucket.weight) * 50}%`);
  number.value = bucket.weight % 0.1 && (bucket.weight * 10) % 1 ? String(bucket.weight) : bucket.weight.toFixed(1);
  const share = shareOf(bucket);
  $(".dnd-share", box).textContent =
    bucket.weight < 0 ? _("Less of this. Works with Sum adapters only.")
    : bucket.weight === 0 ? _("Kept, not used.")
    : share === null ? _("Takes part once it holds prompts.")
    : _("{share} % of the batch", { share: Math.round(share * 100) });
  const better = betterName(bucket);
  const call = $(".dnd-call", box);
  call.hidden = better === null;
  call.dataset.name = better ?? "";
  call.textContent = _("Call it “{name}”", { name: better ?? "" });
  box.classList.toggle("is-off", bucket.weight === 0);
}

function shareOf(bucket) {
  const total = buckets.reduce((sum, other) => sum + (promptsIn(other) ? Math.max(0, other.weight) : 0), 0);
  return promptsIn(bucket) && bucket.weight > 0 ? bucket.weight / total : null;
}

function drawCard(node, card, bucket) {
  // A card is redrawn only when what it shows has changed, so focus and drags survive.
  const { name, size, split, state, reading } = card;
  const shown = JSON.stringify({ language: said.code, name, size, split, state, reading, bucket: bucket.id, off: bucket.weight === 0, names: buckets.map((b) => [b.id, b.name]) });
  if (node?.dataset.shown === shown) return node;
  const fresh = cardNode(card, bucket);
  fresh.dataset.shown = shown;
  if (!node) return fresh;
  const focusClass = node.contains(document.activeElement) && document.activeElement.className;
  node.replaceWith(fresh);
  if (focusClass) (focusClass.startsWith("dnd-card") ? fresh : $(`.${focusClass.split(" ")[0]}`, fresh) ?? fresh).focus();
  return fresh;
}

function cardNode(card, bucket) {
  const node = make("li", `dnd-card is-${card.state}`);
  node.dataset.card = card.id;
  node.title = card.name;
  node.tabIndex = 0;
  node.setAttribute("aria-describedby", "dnd-keys");
  const top = make("div", "dnd-card-top");
  const grip = make("span", "dnd-grip");
  grip.setAttribute("aria-hidden", "true");
  const close = button("dnd-x", undefined, _("Remove {name}", { name: card.name }), () => { removeCard(card.id); $(".dnd-undo").focus(); });
  close.append(icon("close"));
  top.append(card.state === "error" ? icon("error") : grip, make("span", "dnd-name", card.name), close);
  const body = make("div", "dnd-card-body");
  const { reading } = card;
  if (card.state === "error") {
    body.append(make("p", "dnd-fault", reading.error), make("p", "dnd-facts", _("Not used. Fix the file and drop it again, or remove it.")));
  } else if (card.state === "ready") {
    body.append(make("p", "dnd-preview", _("“{words}”", { words: reading.preview })));
    if (reading.asks_split) body.append(splitQuestion(card));
    if (reading.notes.length) body.append(make("p", "dnd-notes", reading.notes.join(" ")));
  }
  const bottom = make("div", "dnd-card-bottom");
  const facts = {
    uploading: _("uploading"), reading: _("reading"), error: kilobytes(card.size),
    ready: reading && (bucket.weight === 0 ? _("{prompts}, not used", { prompts: countPrompts(reading.num_prompts) }) : countPrompts(reading.num_prompts)),
  }[card.state];
  bottom.append(make("span", "dnd-facts", facts));
  if (/\.(txt|md)$/i.test(card.name) && card.state === "ready") bottom.append(splitSelect(card));
  bottom.append(bucketSelect(card, bucket));
  node.append(top, body, bottom);
  return node;
}

const kilobytes = (bytes) => (bytes < 1000 ? `${bytes} B` : bytes < 1e6 ? `${write(bytes / 1000, 1)} kB` : megabytes(bytes));

function splitQuestion(card) {
  const line = make("p", "dnd-question");
  const yes = button("dnd-link", _("Split by line"), _("Split {name} by line", { name: card.name }), () => chooseSplit(card, "lines"));
  line.append(icon("warn"), make("span", "", _("Read as one long prompt. Split by line instead?")), yes);
  return line;
}

function chooseSplit(card, split) {
  card.split = split;
  card.state = "reading";
  changed(_("Reading {name} again.", { name: card.name }));
}

function select(className, label, options, chosen, onChange) {
  const node = make("select", className);
  node.setAttribute("aria-label", label);
  for (const [value, text] of options) {
    const option = make("option", "", text);
    option.value = value;
    option.selected = value === chosen;
    node.append(option);
  }
  node.addEventListener("change", () => onChange(node.value));
  return node;
}

const splits = () => [["auto", _("Split: auto")], ["lines", _("Split: lines")], ["paragraphs", _("Split: paragraphs")], ["separator", _("Split: ---")]];
const splitSelect = (card) => select("dnd-split", _("How to split {name} into prompts", { name: card.name }), splits(), card.split, (split) => chooseSplit(card, split));

function bucketSelect(card, bucket) {
  const options = buckets.map(({ id, name }) => [id, name]);
  return select("dnd-where", _("Bucket of {name}", { name: card.name }), options, bucket.id, (id) => { move(card.id, id); focusCard(card.id); });
}

const focusCard = (id) => $(`[data-card="${id}"]`, board)?.focus();

function drawShares() {
  const shares = buckets.map((bucket) => [bucket, shareOf(bucket)]).filter(([, share]) => share !== null);
  $(".dnd-share-bar").replaceChildren(...shares.map(([, share], index) => {
    const part = make("span", `dnd-part dnd-part-${index % 3}`);
    part.style.flexGrow = share;
    return part;
  }));
  $(".dnd-shares").replaceChildren(...shares.map(([bucket, share], index) => {
    const item = make("li");
    item.append(make("span", `dnd-dot dnd-part-${index % 3}`), make("strong", "", `${Math.round(share * 100)} %`), make("span", "", ` ${bucket.name}`));
    return item;
  }));
  return shares.length;
}

function stripBucket(bucket) {
  const box = make("li", "dnd-strip-bucket");
  box.dataset.strip = bucket.id;
  const mute = button("dnd-mute", _("Mute"), "", () => toggleMute(bucket.id));
  const range = make("input", "dnd-range");
  Object.assign(range, { type: "range", max: 2, step: 0.1 });
  range.setAttribute("aria-label", _("Weight of {bucket} in the mix", { bucket: bucket.name }));
  range.addEventListener("input", () => drawWeight(box, Number(range.value)));
  range.addEventListener("change", () => remix(bucket.id, range.value));
  box.append(make("span", "dnd-strip-name", bucket.name), range, make("output"), mute);
  return box;
}

function drawWeight(box, weight) {
  const range = $(".dnd-range", box);
  range.style.setProperty("--fill", `${Math.max(0, weight) * 50}%`);
  $("output", box).textContent = write(weight, 1);
}

function drawStrip() {
  const filled = buckets.filter(promptsIn);
  const list = $(".dnd-strip-buckets");
  // Redrawn only when the buckets change, so focus and drags survive.
  const shown = JSON.stringify([said.code, filled.map(({ id, name }) => [id, name])]);
  if (list.dataset.shown !== shown) {
    list.dataset.shown = shown;
    list.replaceChildren(...(filled.length > 1 ? filled.map(stripBucket) : filled.map(({ name }) => make("li", "", name))));
  }
  for (const box of $$(".dnd-strip-bucket", list)) {
    const { name, weight } = bucketById(box.dataset.strip);
    const range = $(".dnd-range", box);
    range.min = Math.min(0, weight);
    range.value = weight;
    drawWeight(box, weight);
    const mute = $(".dnd-mute", box);
    mute.setAttribute("aria-pressed", String(weight === 0));
    mute.setAttribute("aria-label", _("Mute {bucket}", { bucket: name }));
    box.classList.toggle("is-off", weight === 0);
  }
}

function drawFoot() {
  const states = [...buckets.flatMap((bucket) => bucket.cards)].map((id) => cards.get(id));
  const count = (state) => states.filter((card) => card.state === state).length;
  const prompts = buckets.reduce((sum, bucket) => sum + promptsIn(bucket), 0);
  const parts = [];
  if (states.length) parts.push(countFiles(count("ready")), countPrompts(prompts));
  if (count("uploading")) parts.push(_("{number} uploading", { number: count("uploading") }));
  if (count("reading")) parts.push(_("{number} reading", { number: count("reading") }));
  const faulty = count("error") ? _("; {files} not used", { files: countFiles(count("error")) }) : "";
  const summary = parts.join(", ") + faulty;
  $(".dnd-status").textContent = summary;
  $(".dnd-strip-text").textContent = `${countBuckets(buckets.filter(promptsIn).length)}, ${summary}`;
  drawStrip();
  $(".dnd-batch").hidden = drawShares() < 2;
  $(".dnd-none").hidden = buckets.length > 0;
  $(".dnd-keys").hidden = states.length === 0;
  $(".dnd-clear").hidden = states.length === 0;
  const last = undoable.at(-1);
  $(".dnd-toast").hidden = !last;
  $(".dnd-toast-text").textContent = last?.told() ?? "";
  stage.toggleAttribute("data-dnd-cards", states.length > 0);
}

// ---------------------------------------------------------------- files from the desktop

const carriesFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
let target = null;
function markTarget(box) {
  if (target === box) return;
  target?.classList.remove("is-target");
  target = box;
  target?.classList.add("is-target");
}
const bucketAt = (event) => event.target.closest?.(".dnd-bucket") ?? board.firstElementChild ?? root;

root.addEventListener("dragover", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = folded ? "none" : "copy";
  markTarget(bucketAt(event));
});
root.addEventListener("dragleave", (event) => { if (!root.contains(event.relatedTarget)) markTarget(null); });
root.addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  const box = bucketAt(event);
  markTarget(null);
  if (folded) return;
  const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
  const isFolder = items.map((item) => item.webkitGetAsEntry?.()?.isDirectory ?? false);
  const dropped = [...event.dataTransfer.files];
  addFiles(dropped.filter((_, i) => !isFolder[i]), box.dataset.bucket ?? someBucket().id, { folders: dropped.filter((_, i) => isFolder[i]).map(({ name }) => name) });
});
// A near miss must not make the browser open the file and lose the page.
if (!window.dndNearMissGuard) {
  window.dndNearMissGuard = true;
  for (const type of ["dragover", "drop"]) {
    window.addEventListener(type, (event) => {
      if (!carriesFiles(event) || event.defaultPrevented) return;
      event.preventDefault();
      if (type === "dragover") event.dataTransfer.dropEffect = "none";
    });
  }
}

// Files need a bucket; where none is left they get a new one.
function someBucket() {
  if (!buckets.length) {
    buckets.push({ id: newId(), name: freeName(_("New bucket")), weight: 1, cards: [] });
    render();
  }
  return buckets[0];
}

function browse(bucketId) {
  lastBucket = bucketId;
  $(".dnd-picker").click();
}
$(".dnd-picker").accept = suffixes.join(",");
$(".dnd-picker").addEventListener("change", (event) => {
  const files = [...event.target.files];
  event.target.value = ""; // so that the same file can be chosen again
  if (files.length) addFiles(files, (bucketById(lastBucket) ?? someBucket()).id);
});
$(".dnd-browse").addEventListener("click", () => browse((bucketById(lastBucket) ?? someBucket()).id));

// ---------------------------------------------------------------- paste

$(".dnd-paste").addEventListener("click", () => {
  const form = $(".dnd-pasteboard");
  form.hidden = !form.hidden;
  if (form.hidden) return;
  someBucket();
  $(".dnd-paste-bucket").replaceChildren(...select("", "", buckets.map(({ id, name }) => [id, name]), lastBucket, () => {}).children);
  $("textarea", form).focus();
});
$(".dnd-paste-cancel").addEventListener("click", () => { $(".dnd-pasteboard").hidden = true; $(".dnd-paste").focus(); });
let pasted = 0;
$(".dnd-pasteboard").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("textarea", event.target).value;
  if (!text.trim()) { say(_("Write or paste a prompt first.")); return; }
  pasted += 1;
  addFiles([new File([text], _("pasted-{number}.txt", { number: pasted }), { type: "text/plain" })], $(".dnd-paste-bucket").value, { pasted: true });
  event.target.reset();
  event.target.hidden = true;
  $(".dnd-paste").focus();
});

// ---------------------------------------------------------------- buttons and keys

$(".dnd-add").addEventListener("click", addBucket);
$(".dnd-clear").addEventListener("click", () => { clearAll(); $(".dnd-undo").focus(); });
$(".dnd-undo").addEventListener("click", () => { undo(); if (!undoable.length) $(".dnd-add").focus(); });
$(".dnd-edit").addEventListener("click", () => { setFolded(false); $(".dnd-browse").focus(); });

board.addEventListener("keydown", (event) => {
  if (!event.target.classList.contains("dnd-card") || event.altKey || event.ctrlKey || event.metaKey) return;
  const id = event.target.dataset.card;
  const bucket = bucketOf(id);
  const column = buckets.indexOf(bucket);
  const index = bucket.cards.indexOf(id);
  if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
    const next = buckets[column + (event.key === "ArrowRight" ? 1 : -1)];
    if (next) move(id, next.id);
    else say(_("No bucket on that side."));
  } else if (event.key === "ArrowUp" && index > 0) move(id, bucket.id, index - 1);
  else if (event.key === "ArrowDown" && index < bucket.cards.length - 1) move(id, bucket.id, index + 1);
  else if (event.key === "Delete" || event.key === "Backspace") {
    removeCard(id);
    const next = bucket.cards[Math.min(index, bucket.cards.length - 1)];
    if (next) focusCard(next);
    else $(".dnd-undo").focus();
    event.preventDefault();
    return;
  } else if (!event.key.startsWith("Arrow")) return;
  event.preventDefault();
  focusCard(id);
});

// Ctrl+Z where nothing is typed: a field has its own.
function onUndoKey(event) {
  if (event.key.toLowerCase() !== "z" || !(event.ctrlKey || event.metaKey) || event.shiftKey || event.altKey) return;
  if (!undoable.length || folded || !root.offsetParent) return;
  if (event.target.closest?.("textarea, select, dialog, [contenteditable=true], input:not([type=checkbox], [type=radio], [type=range])")) return;
  event.preventDefault();
  undo();
}
window.dndUndoKey && document.removeEventListener("keydown", window.dndUndoKey);
window.dndUndoKey = onUndoKey;
document.addEventListener("keydown", onUndoKey);

// ---------------------------------------------------------------- start

buckets = (props.value?.buckets ?? []).map((bucket) => ({ ...bucket, name: _(bucket.name), preset: bucket.name, cards: [] }));
// Should the component be made anew, the old listener must not answer for a canvas that is gone.
window.dndReceive && window.removeEventListener("dnd-inbox", window.dndReceive);
window.dndReceive = (event) => receive(event.detail);
window.addEventListener("dnd-inbox", window.dndReceive);
sayTemplate(element);
root.classList.remove("is-unsaid");
render();
watch("words", () => {
  speak(props.words);
  sayTemplate(element);
  // A bucket that holds files may have given its name to an adapter, so it keeps it.
  const fresh = buckets.filter(({ preset, cards: ids }) => preset && !ids.length);
  for (const bucket of fresh) bucket.name = "";
  for (const bucket of fresh) bucket.name = freeName(_(bucket.preset));
  commit();
  render();
});
