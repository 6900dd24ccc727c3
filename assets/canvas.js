// The prompt canvas. Gradio runs this text as a function body with `element`, `props`, `upload`,
// `trigger` and `watch` in scope, after `words.js` and `columns.js`; `Sortable` is vendored and on the page already.
//
// One-way traffic keeps it simple: only this file writes `props.value` (what the visitor arranged),
// and Python answers through the hidden inbox component, as "dnd-inbox" events (what was read, an
// example to load, fold). A server answer can therefore never undo a move made meanwhile.
//
// Every name comes from a stranger. Text reaches the page through `textContent` alone.

speak(props.words);
const { suffixes, max_file_bytes: maxFileBytes, max_files: maxFiles, max_instruction_chars: maxInstruction } = props.limits;
const $ = (selector, root = element) => root.querySelector(selector);
const $$ = (selector, root = element) => [...root.querySelectorAll(selector)];
const root = $(".dnd-canvas");
const board = $(".dnd-buckets");
// The action bar and the examples are ordinary Gradio components beside the canvas; the page's CSS
// arranges them by what is marked here.
const stage = document.getElementById("dnd-tabs") ?? document.body;
const MAX_NAME = 60; // characters of a bucket name, as the engine has it
const FIELDS = "textarea, [contenteditable]:not([contenteditable=false]), input:not([type=checkbox], [type=radio], [type=range])";

let buckets = []; // [{id, name, preset, auto, namedBy, weight, unmuted, instruction, cards: [card id]}]; an example's name, or a file's
let cards = new Map(); // card id -> {id, name, size, split, choices, accepted, version, file, reading, state}
let undoable = []; // what Undo takes back, newest last: {told, back}, of a removed prompt {card, place} too
let refused = { faults: [], total: 0 }; // the files of the last drop that were not added, and how many it had
let undoOffered = false; // until files are added: "removed" beside them would be puzzling
const sortables = new Map(); // bucket id -> Sortable
let dragging = false;
let folded = false;
let foldable = false; // once an adapter was made of the prompts
let tellWhenRead = false; // an example was loaded to be shown: go on once its files are read
let remixing = false;
let received = ""; // nonce of the message that was taken last
let attempt = 0; // differs when the same arrangement is sent again
let retries = 0; // those sent in a row because no answer came
let retry = null;
let lastBucket = null; // the bucket in use: where files and pasted prompts go

// ---------------------------------------------------------------- small helpers

function button(className, text, label, onClick) {
  const node = make("button", className, text);
  node.type = "button";
  if (label) node.setAttribute("aria-label", label);
  node.addEventListener("click", onClick);
  return node;
}

// Voice-control users say the visible text, so the accessible name begins with it.
const about = (words, card) => `${words}: ${card.name}`;

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
const listed = (parts, word) => parts.join(", ").replace(/, (?=[^,]*$)/, ` ${word} `);
const suffixList = () => listed(suffixes.map((suffix) => suffix.slice(1)), _("or"));

// What the engine quotes in backticks, set as code.
function prose(node, text) {
  for (const [index, part] of text.split(/\x60([^\x60\n]+)\x60/).entries()) node.append(index % 2 ? make("code", "", part) : part);
  return node;
}
const proseNode = (tag, className, text) => prose(make(tag, className), text);

function say(text) {
  const live = $(".dnd-live");
  live.textContent = "";
  // Screen readers would read out the marks of what the page sets as code.
  requestAnimationFrame(() => { live.textContent = text.replaceAll("`", ""); });
}

// ---------------------------------------------------------------- state -> Python

function commit() {
  const present = buckets.map((bucket) => ({
    id: bucket.id, name: bucket.name, weight: bucket.weight, unmuted: bucket.unmuted ?? 1, instruction: bucket.instruction ?? "",
    cards: bucket.cards.filter((id) => cards.get(id).state !== "uploading"),
  }));
  const sent = present.flatMap((bucket) => bucket.cards).map((id) => {
    const { name, size, split, choices, accepted, version, file, state, example } = cards.get(id);
    return { id, name, size, split, choices, accepted, version, file, waiting: state === "reading", example: example ?? "" };
  });
  props.value = { buckets: present, cards: sent, attempt, remixing, looking };
  // A message can be lost, while the page starts or the server is restarted: ask again, for a minute.
  clearTimeout(retry);
  if (!sent.some((card) => card.waiting)) retries = 0;
  else if (retries < 20) retry = setTimeout(() => { attempt += 1; retries += 1; commit(); }, 3000);
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
  if (!from || !to) { render(); return; } // its upload failed while it was dragged
  const { name } = cards.get(cardId);
  const told = () => _("{name} moved to {bucket}.", { name, bucket: to.name });
  if (from !== to) remember({ told, back: () => putBack(cardId, from.id) });
  from.cards = from.cards.filter((id) => id !== cardId);
  to.cards.splice(index ?? to.cards.length, 0, cardId);
  lastBucket = to.id;
  changed(told());
}

function putBack(cardId, bucketId) {
  const to = bucketById(bucketId);
  if (!bucketOf(cardId) || !to) return;
  bucketOf(cardId).cards = bucketOf(cardId).cards.filter((id) => id !== cardId);
  to.cards.push(cardId);
}

// The first file stays, and each other one gets a bucket that it names.
function spread(bucketId) {
  const bucket = bucketById(bucketId);
  const [, ...others] = bucket.cards.filter(usable);
  bucket.cards = bucket.cards.filter((id) => !others.includes(id));
  const made = others.map((id) => newBucket(stemOf(cards.get(id).name), { auto: true, weight: bucket.weight, instruction: bucket.instruction, cards: [id] }).id);
  const told = () => _("{files} of {bucket} moved to buckets of their own.", { files: countFiles(others.length), bucket: bucket.name });
  remember({ told, back: () => {
    for (const id of others) putBack(id, bucketId);
    buckets = buckets.filter(({ id, cards: held }) => held.length || !made.includes(id));
  } });
  changed(told());
}

function remember(step) {
  undoOffered = true;
  undoable.push(step);
  if (undoable.length > 20) undoable.shift();
}

function remove(told, leave) {
  const was = structuredClone(buckets);
  remember({ told, back: () => bringBack(was) });
  leave();
  forgetErrors();
  changed(`${told()} ${_("Undo brings it back.")}`);
}

function removeCard(cardId) {
  const bucket = bucketOf(cardId);
  const { name } = cards.get(cardId);
  const told = () => _("{name} removed from {bucket}.", { name, bucket: bucket.name });
  remove(told, () => takeOut(bucket, cardId));
}

function removeBucket(bucketId) {
  const bucket = bucketById(bucketId);
  const { name, cards: { length } } = bucket;
  const told = () => (length ? _("{bucket} and its {files} removed.", { bucket: name, files: countFiles(length) }) : _("{bucket} removed.", { bucket: name }));
  remove(told, () => { buckets = buckets.filter(({ id }) => id !== bucketId); });
}

function undo() {
  const last = undoable.pop();
  if (!last) return;
  last.back();
  changed(_("Brought back."));
}

function bringBack(last) {
  // Put back what is gone and leave what came since: a file dropped after the removal stays.
  for (const [index, was] of last.entries()) {
    const now = bucketById(was.id) ?? { ...was, cards: [] };
    if (!bucketById(was.id)) {
      if (nameTaken(now.name, now.id)) now.name = freeName(now.name);
      buckets.splice(Math.min(index, buckets.length), 0, now);
    }
    for (const [place, id] of was.cards.entries()) {
      if (bucketOf(id)) continue;
      if (!cards.has(id)) continue; // its upload failed meanwhile
      now.cards.splice(place, 0, id);
    }
  }
}

// As the server cleans it: what is not seen, other than joiners, would make names differ that look the same.
// Not within a character: an emoji has two code units.
const cut = (name, most) => name.slice(0, most).replace(/[\ud800-\udbff]$/, "");
const clean = (name) => name.replace(/\s+/g, " ").replace(/(?![\u200c\u200d])[\p{Cc}\p{Cf}]/gu, "").trim();
const nameTaken = (name, exceptId) => buckets.some((bucket) => bucket.id !== exceptId && bucket.name === name);
function freeName(base, exceptId) {
  if (!nameTaken(base, exceptId)) return base;
  for (let number = 2; ; number += 1) {
    const tail = ` ${number}`;
    const name = cut(base, MAX_NAME - tail.length) + tail;
    if (!nameTaken(name, exceptId)) return name;
  }
}

function newBucket(name, more = {}) {
  const bucket = { id: newId(), name: freeName(name), weight: 1, cards: [], ...more };
  buckets.push(bucket);
  return bucket;
}

function addBucket() {
  const bucket = newBucket(_("New bucket"), { unnamed: true });
  lastBucket = bucket.id;
  changed(_("{bucket} added.", { bucket: bucket.name }));
  const input = $(`[data-bucket="${bucket.id}"] .dnd-title`);
  input.focus();
  input.select();
}

function renameBucket(bucketId, input) {
  const bucket = bucketById(bucketId);
  const name = clean(input.value);
  if (name === bucket.name) input.value = name;
  else if (!name || nameTaken(name, bucketId)) {
    refuse(name ? _("There is already a bucket named {name}.", { name }) : _("A bucket needs a name."));
    input.value = bucket.name;
  } else rename(bucket, name);
}

// Said to all, because the name goes back.
const refuse = (words) => window.dispatchEvent(new CustomEvent("dnd-refused", { detail: words }));

function rename(bucket, name) {
  const { name: before, preset } = bucket;
  const told = () => _("Bucket renamed to {name}.", { name });
  remember({ told, back: () => { if (!nameTaken(before, bucket.id)) Object.assign(bucket, { name: before, preset }); } });
  bucket.name = name;
  bucket.preset = bucket.namedBy = null;
  bucket.auto = bucket.unnamed = false;
  refuse("");
  changed(told());
}

// The first file makes a bucket and names it; the adapter is called so.
function stemOf(fileName) {
  return cut(clean(fileName.replace(/\.[^.]*$/, "").replace(/[\s_-]+/g, " ")), MAX_NAME) || _("Prompts");
}

// The bucket in use, or a new one where there is none.
function bucketInUse(name, namedBy) {
  const found = bucketById(lastBucket) ?? buckets.at(-1) ?? newBucket(name, { auto: true, namedBy });
  lastBucket = found.id;
  return found;
}

// A file names its bucket before it is read. If it cannot be used, the first one that can does.
function nameByUsable() {
  for (const bucket of buckets.filter(({ namedBy }) => namedBy)) {
    const { state } = (bucket.cards.includes(bucket.namedBy) && cards.get(bucket.namedBy)) || {};
    if (state === "uploading" || state === "reading") continue;
    const first = state === "ready" ? bucket.namedBy : bucket.cards.find(usable);
    if (!first) continue;
    if (first !== bucket.namedBy) bucket.name = freeName(stemOf(cards.get(first).name), bucket.id);
    bucket.namedBy = null;
  }
}

function setWeight(bucketId, value) {
  const bucket = bucketById(bucketId);
  // An empty field keeps what was, as Gradio's do; as a number it would be 0, which mutes.
  const weight = value === "" ? NaN : Math.round(Math.max(-2, Math.min(2, Number(value))) * 100) / 100;
  if (Number.isFinite(weight)) bucket.weight = weight;
  changed();
}

// For the bucket's prompts that have none. It takes precedence over the field under Advanced.
function setInstruction(bucketId, text) {
  bucketById(bucketId).instruction = text.trim();
  changed();
}

// On the folded canvas a weight acts at once: the adapter is remixed.
function remix(bucketId, value) {
  remixing = true; // so nobody says meanwhile that the adapter is of earlier prompts
  setWeight(bucketId, value);
  remixing = false;
  refuse("");
  setTimeout(() => trigger("remix"));
}

function toggleMute(bucketId) {
  const bucket = bucketById(bucketId);
  if (bucket.weight !== 0) bucket.unmuted = bucket.weight;
  remix(bucketId, bucket.weight === 0 ? (bucket.unmuted ?? 1) : 0);
  say(bucket.weight === 0 ? _("{bucket} muted.", { bucket: bucket.name }) : _("{bucket} unmuted.", { bucket: bucket.name }));
}

function clearAll() {
  if (!buckets.some((bucket) => bucket.cards.length)) return;
  remove(() => _("All files removed."), () => { buckets = []; });
}

// ---------------------------------------------------------------- files

function suffixOf(name) {
  const dot = name.lastIndexOf(".");
  return dot > 0 ? name.slice(dot).toLowerCase() : "";
}

// One message for all files of other kinds, which lists the right ones once.
function otherKinds(names) {
  const kinds = [...new Set(names.map(suffixOf))].sort().map((suffix) => suffix.slice(1).toUpperCase() || _("A name without a suffix"));
  const kind = listed(kinds, _("and"));
  return ngettext("{kind} is not a prompt file. Use {kinds}.", "{kind} are not prompt files. Use {kinds}.", kinds.length, { kind, kinds: suffixList() });
}

// Why a file is refused, as a function, so that another language can say it again; null if it is not.
function refusal(file) {
  if (!suffixes.includes(suffixOf(file.name))) return otherKinds;
  if (file.size > maxFileBytes) {
    return () => _("{size}; the limit is {limit} MB a file. Keep a sample: a few hundred prompts are plenty.", { size: megabytes(file.size), limit: maxFileBytes / 1e6 });
  }
  if (buckets.reduce((sum, bucket) => sum + bucket.cards.length, 0) >= maxFiles) {
    return () => _("The canvas holds {number} files already. Remove some first.", { number: maxFiles });
  }
  return null;
}

// Without a bucket, they go to the one in use.
async function addFiles(files, bucketId, { folders = [], pasted = false } = {}) {
  undoOffered = false;
  const faults = folders.map((name) => ({ name, why: () => _("This is a folder. Drop the files in it instead.") }));
  const uploads = [];
  for (const file of files) {
    const why = refusal(file);
    if (why) { faults.push({ name: file.name, why }); continue; }
    const card = newCard({ name: file.name, size: file.size, state: "uploading" });
    const namedBy = pasted ? null : card.id;
    const bucket = bucketById(bucketId) ?? bucketInUse(pasted ? _("My prompts") : stemOf(file.name), namedBy);
    lastBucket = bucket.id;
    if (bucket.unnamed && !pasted) Object.assign(bucket, { name: freeName(stemOf(file.name), bucket.id), namedBy });
    bucket.unnamed = false;
    bucket.cards.push(card.id);
    uploads.push([card, file]);
  }
  const total = files.length + folders.length;
  showErrors(faults, total);
  render();
  if (uploads.length && !faults.length) reveal(`[data-card="${uploads[0][0].id}"]`);
  await Promise.all(uploads.map(async ([card, file]) => {
    try {
      const { path, url } = await upload(file);
      card.file = { path, url, orig_name: file.name, size: file.size, meta: { _type: "gradio.FileData" } };
      card.state = "reading";
    } catch (error) {
      console.warn("upload failed", error);
      drop(card.id);
      faults.push({ name: file.name, why: () => _("The upload failed. Check the connection and drop it again.") });
    }
  }));
  if (faults.length) showErrors(faults, total);
  changed(); // what came of them is said once they are read
}

function newCard(known) {
  const card = { id: newId(), split: "auto", choices: {}, accepted: false, version: 0, file: null, reading: null, ...known };
  cards.set(card.id, card);
  return card;
}

function drop(cardId) {
  const bucket = bucketOf(cardId);
  cards.delete(cardId);
  if (bucket) takeOut(bucket, cardId);
}

function takeOut(bucket, cardId) {
  bucket.cards = bucket.cards.filter((id) => id !== cardId);
  // A bucket that a file made and named goes with its last file.
  if (bucket.auto && !bucket.cards.length) buckets = buckets.filter(({ id }) => id !== bucket.id);
}

// What was told of the files beside a refused one is no longer so once they are gone.
function forgetErrors() {
  if (!buckets.some((bucket) => bucket.cards.length)) showErrors([], 0);
}

function showErrors(faults, total) {
  refused = { faults, total };
  drawErrors();
  if (faults.length) reveal(".dnd-errors");
}

function someOf(names) {
  const shown = names.slice(0, 10).join(", ");
  return names.length > 10 ? _("{names} and {number} more", { names: shown, number: names.length - 10 }) : shown;
}

function drawErrors() {
  const { faults, total } = refused;
  const box = $(".dnd-errors");
  box.replaceChildren();
  box.hidden = faults.length === 0;
  if (!faults.length) return;
  const kept = total - faults.length;
  const head = make("p", "dnd-errors-head");
  const title = total === 1 ? _("The file was not added.") : ngettext("{number} of {files} was not added.", "{number} of {files} were not added.", faults.length, { files: countFiles(total) });
  const rest = kept === 0 ? _("Everything you had is still there.") : ngettext("The other one is on the canvas, and everything you had is still there.", "The other {number} are on the canvas, and everything you had is still there.", kept);
  head.append(make("strong", "", title), make("span", "", ` ${rest}`));
  const close = button("dnd-x", undefined, _("Close the error list"), () => showErrors([], 0));
  close.append(icon("close"));
  const list = make("ul");
  // One message for one fault, however many files have it.
  const faultOf = ({ why }) => (why === otherKinds ? why : why());
  for (const fault of new Set(faults.map(faultOf))) {
    const names = faults.filter((one) => faultOf(one) === fault).map(({ name }) => name);
    const item = make("li");
    const lines = make("div");
    lines.append(make("span", "dnd-error-name", someOf(names)), make("span", "", fault === otherKinds ? fault(names) : fault));
    item.append(icon("error"), lines);
    list.append(item);
  }
  box.append(head, close, list);
}

// Files may be let go far from the canvas, or on another tab, which opens with the next frame. What is
// in view already stays where it is.
function reveal(selector) {
  requestAnimationFrame(() => $(selector)?.scrollIntoView({ block: "nearest" }));
}

// ---------------------------------------------------------------- Python -> canvas

function take(readings) {
  const fresh = [];
  for (const [id, reading] of Object.entries(readings)) {
    const card = cards.get(id);
    if (!card || reading.version !== card.version) continue; // an answer to an older choice
    if (card.state === "reading") fresh.push(card);
    card.reading = reading;
    card.state = reading.error ? "error" : reading.doubt ? "doubt" : "ready";
    card.file = null; // the server keeps what it read; the upload is not needed again
  }
  return fresh;
}

function sayRead(fresh) {
  const good = fresh.filter(({ state }) => state === "ready");
  const where = [...new Set(good.map(({ id }) => bucketOf(id)?.name))];
  const unused = new Map(); // why -> the names of the files
  for (const { name, state, reading } of fresh) {
    const why = reading.error || reading.doubt;
    if (state !== "ready") unused.set(why, [...(unused.get(why) ?? []), name]);
  }
  const parts = [...unused].map(([why, names]) => ngettext("{name} is not used: {why}", "{files} are not used: {why}", names.length, { name: names[0], files: countFiles(names.length), why }));
  if (good.length) parts.unshift(_("{files} added to {bucket}.", { files: countFiles(good.length), bucket: where.join(", ") }));
  if (parts.length) say(parts.join(" "));
}

// What lay here when the page was left; what was dropped since stays.
function restore(message) {
  const kept = new Map(message.cards.map((card) => [card.id, card]));
  const since = buckets.filter(({ cards: ids }) => ids.length);
  buckets = message.buckets;
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
  // Gradio may tell of a value once more, a second later: a visit restored then would undo what was done since.
  if (message.nonce === received) return;
  received = message.nonce;
  if (message.op === "readings") {
    const fresh = take(message.readings);
    nameByUsable();
    commit();
    render();
    sayRead(fresh);
    if (message.looked) drawLook(message.looked);
    else if (message.readings[looking?.card]?.error) drawLookFault(cards.get(looking.card));
    // Not of those that were removed while they were read, which Undo brings back.
    const states = buckets.flatMap((bucket) => bucket.cards).map((id) => cards.get(id).state);
    if (tellWhenRead && !states.includes("reading") && !states.includes("uploading")) {
      tellWhenRead = false;
      setTimeout(() => trigger("read")); // after the value, which it is about
    }
  } else if (message.op === "load") {
    undoOffered = false;
    for (const set of message.sets) {
      let bucket = buckets.find(({ name, preset }) => preset === set.bucket || name === _(set.bucket));
      if (!bucket) {
        bucket = newBucket(_(set.bucket), { preset: set.bucket, auto: true });
      }
      lastBucket = bucket.id;
      bucket.weight = set.weight;
      for (const file of set.files) {
        if (bucket.cards.some((id) => cards.get(id).example === file.file.path)) continue; // loaded before
        bucket.cards.push(newCard({ name: file.name, size: file.size, file: file.file, state: "reading", example: file.file.path }).id);
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
  const leaves = folded && $(".dnd-open").contains(document.activeElement);
  foldable ||= folded;
  $(".dnd-strip").hidden = !folded;
  $(".dnd-open").hidden = folded;
  stage.toggleAttribute("data-dnd-folded", folded);
  if (leaves) $(".dnd-edit").focus({ preventScroll: true }); // what had the focus is hidden
  drawFoot();
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
  title.addEventListener("focus", () => { lastBucket = bucket.id; });
  title.addEventListener("change", () => renameBucket(bucket.id, title));
  title.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
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
  number.addEventListener("change", () => {
    number.defaultValue = number.value; // no longer typed, so that it is drawn as it counts
    setWeight(bucket.id, number.value);
  });
  weight.append(make("span", "dnd-weight-name"), range, number);
  const own = make("textarea", "dnd-own");
  Object.assign(own, { rows: 1, maxLength: maxInstruction });
  own.addEventListener("focus", () => { lastBucket = bucket.id; });
  own.addEventListener("change", () => setInstruction(bucket.id, own.value));
  header.append(line, weight, make("p", "dnd-share"), own);
  // Pressed by the forecast, which says why.
  const apart = button("dnd-spread", "", "", () => spread(bucket.id));
  apart.hidden = true;
  header.append(apart);
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
    onStart: () => { dragging = true; closeLook(); },
    onMove: (event) => { markTarget(event.to.closest(".dnd-bucket")); },
    onEnd: (event) => {
      dragging = false;
      droppedAt = Date.now();
      markTarget(null);
      move(event.item.dataset.card, event.to.closest(".dnd-bucket").dataset.bucket, event.newDraggableIndex);
    },
  }));
  return box;
}

// Never under somebody's typing; a new bucket has the focus before its first file names it.
function drawField(field, text) {
  if (document.activeElement !== field || field.value === field.defaultValue) field.value = field.defaultValue = text;
}

function drawBucket(box, bucket) {
  drawField($(".dnd-title", box), bucket.name);
  $(".dnd-weight-name", box).textContent = _("Weight");
  $(".dnd-drop", box).textContent = _("Drop files here");
  $(".dnd-title", box).setAttribute("aria-label", _("Bucket name, {bucket}", { bucket: bucket.name }));
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
  drawField(number, bucket.weight % 0.1 && (bucket.weight * 10) % 1 ? String(bucket.weight) : bucket.weight.toFixed(1));
  const share = shareOf(bucket);
  $(".dnd-share", box).textContent =
    bucket.weight < 0 ? _("Less of this. Works with Sum adapters, without imprint.")
    : bucket.weight === 0 ? _("Kept, not used.")
    : share === null ? _("Takes part once it holds prompts.")
    : _("{share} % of the batch", { share: Math.round(share * 100) });
  // One bucket needs no weight, unless it has one already.
  const weighs = buckets.length > 1 || bucket.weight !== 1;
  $(".dnd-weight", box).hidden = !weighs;
  $(".dnd-share", box).hidden = !weighs;
  drawInstruction($(".dnd-own", box), bucket);
  box.classList.toggle("is-off", bucket.weight === 0);
}

function drawInstruction(own, bucket) {
  own.placeholder = _("Instruction for the prompts that have none");
  own.setAttribute("aria-label", _("Instruction for the prompts of {bucket} that have none", { bucket: bucket.name }));
  if (document.activeElement !== own) own.value = bucket.instruction ?? "";
  // A file that is being read again counts as before.
  const lacking = bucket.cards.map((id) => cards.get(id)).some(({ state, reading }) => ["ready", "reading"].includes(state) && reading?.lacks_instruction);
  // A single bucket uses the field under Advanced.
  own.hidden = !(lacking && (buckets.length > 1 || bucket.instruction));
}

function shareOf(bucket) {
  const total = buckets.reduce((sum, other) => sum + (promptsIn(other) ? Math.max(0, other.weight) : 0), 0);
  return promptsIn(bucket) && bucket.weight > 0 ? bucket.weight / total : null;
}

function drawCard(node, card, bucket) {
  // A card is redrawn only when what it shows has changed, so focus and drags survive.
  const { name, size, split, state, reading } = card;
  const shown = JSON.stringify({ language: said.code, name, size, split, state, reading, like: nameOfLike(card), bucket: bucket.id, off: bucket.weight === 0, names: buckets.map((b) => [b.id, b.name]) });
  if (node?.dataset.shown === shown) return node;
  const fresh = cardNode(card, bucket);
  fresh.dataset.shown = shown;
  if (!node) return fresh;
  const focusClass = node.contains(document.activeElement) && document.activeElement.className;
  node.replaceWith(fresh);
  if (focusClass) (focusClass.startsWith("dnd-card") ? fresh : $(`.${focusClass.split(" ")[0]}`, fresh) ?? fresh).focus();
  return fresh;
}

// The name of the first file on the canvas if it has the fault of this one: its card says it in full.
function nameOfLike(card) {
  const first = buckets.flatMap(({ cards: ids }) => ids.map((id) => cards.get(id))).find(({ state, reading }) => state === "error" && reading.error === card.reading?.error);
  return first?.name;
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
    const like = nameOfLike(card);
    const isFirst = like === card.name;
    body.append(isFirst ? proseNode("p", "dnd-fault", reading.error) : make("p", "dnd-fault", _("The same fault as in {name}.", { name: like })));
    const good = reading.num_good;
    const words = ngettext("Use the {number} good prompt", "Use the {number} good prompts", good);
    if (good) body.append(button("dnd-link dnd-use-good", words, about(words, card), () => choose(card, { choices: { ...card.choices, skip_broken: true } })));
    if (isFirst) body.append(make("p", "dnd-facts", good ? _("Not used until you choose, or fix the file and drop it again.") : _("Not used. Fix the file and drop it again, or remove it.")));
  } else if (card.state === "doubt") {
    body.append(doubtQuestion(card));
  } else if (card.state === "ready") {
    body.append(make("p", "dnd-preview", _("“{words}”", { words: reading.preview })));
    if (reading.asks_split) body.append(splitQuestion(card));
    if (reading.notes.length) body.append(proseNode("p", "dnd-notes", reading.notes.join(" ")));
  }
  const bottom = make("div", "dnd-card-bottom");
  const facts = {
    uploading: _("uploading"), reading: _("reading"), error: kilobytes(card.size), doubt: _("not used yet"),
    ready: reading && (bucket.weight === 0 ? _("{prompts}, not used", { prompts: countPrompts(reading.num_prompts) }) : countPrompts(reading.num_prompts)),
  }[card.state];
  const look = reading?.has_columns ? _("See prompts and columns") : _("See prompts");
  const see = opens(card) && button("dnd-link dnd-see", look, about(look, card), () => openLook(card));
  bottom.append(make("span", "dnd-facts", facts));
  if (see) bottom.append(see);
  if (reading?.splits) bottom.append(splitSelect(card));
  bottom.append(bucketSelect(card, bucket));
  node.append(top, body, bottom);
  return node;
}

const kilobytes = (bytes) => (bytes < 1000 ? `${bytes} B` : bytes < 1e6 ? `${write(bytes / 1000, 1)} kB` : megabytes(bytes));

function splitQuestion(card) {
  const line = make("p", "dnd-question");
  const yes = button("dnd-link", _("Split by line"), about(_("Split by line"), card), () => chooseSplit(card, "lines"));
  line.append(icon("warn"), make("span", "", _("Read as one long prompt. Split by line instead?")), yes);
  return line;
}

function doubtQuestion(card) {
  const line = make("p", "dnd-question");
  const yes = button("dnd-link dnd-accept", _("Use as prompts"), about(_("Use as prompts"), card), () => choose(card, { accepted: true }));
  const counted = _("Read as it is, it would give {prompts}.", { prompts: countPrompts(card.reading.num_prompts) });
  line.append(icon("warn"), make("span", "", `${card.reading.doubt} ${counted}`), yes);
  return line;
}

// A choice has the file read again; the answer names the choice it belongs to.
function choose(card, choice) {
  Object.assign(card, choice);
  // A prompt that is back, or has another place now, cannot be brought back by Undo.
  undoable = undoable.filter((step) => step.card !== card.id || card.choices.without.includes(step.place));
  card.version += 1;
  card.state = "reading";
  changed(_("Reading {name} again.", { name: card.name }));
}
// Other prompts have other places. Those that were removed stay so when their columns are chosen again.
function chooseColumns(card, columns, roles) {
  const ROLES = ["text", "instruction", "label"];
  const found = (role) => columns.find((column) => column.role === role)?.name ?? "";
  // No text column means that one is to be found; no label and no instruction, that there is none.
  const had = (role) => (role === "text" ? card.choices.text || found(role) : card.choices[role] ?? found(role));
  const before = JSON.stringify(ROLES.map(had));
  const now = JSON.stringify(ROLES.map((role) => roles[role]));
  card.removed = { ...card.removed, [before]: card.choices.without };
  choose(card, { choices: { ...card.choices, ...roles, without: card.removed[now] ?? [] } });
}

function chooseSplit(card, split) {
  card.removed = {};
  choose(card, { split, choices: { ...card.choices, without: [] } });
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
  range.style.setProperty("--fill", `${(100 * (weight - range.min)) / (range.max - range.min)}%`);
  $("output", box).textContent = write(weight, Math.round(100 * weight) % 10 ? 2 : 1);
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
    range.min = Math.floor(10 * Math.min(0, weight)) / 10; // its steps include 0
    range.value = weight;
    drawWeight(box, weight);
    const mute = $(".dnd-mute", box);
    mute.setAttribute("aria-pressed", String(weight === 0));
    mute.setAttribute("aria-label", _("Mute {bucket}", { bucket: name }));
    box.classList.toggle("is-off", weight === 0);
  }
}

function drawFoot() {
  const used = buckets.filter(({ weight }) => weight !== 0);
  const states = buckets.flatMap((bucket) => bucket.cards).map((id) => cards.get(id).state);
  const count = (state) => states.filter((one) => one === state).length;
  const ready = used.flatMap((bucket) => bucket.cards).filter(usable).length;
  const prompts = used.reduce((sum, bucket) => sum + promptsIn(bucket), 0);
  const parts = [];
  if (states.length) parts.push(countFiles(ready), countPrompts(prompts));
  if (count("uploading")) parts.push(_("{number} uploading", { number: count("uploading") }));
  if (count("reading")) parts.push(_("{number} reading", { number: count("reading") }));
  const unused = count("error") + count("doubt") + count("ready") - ready;
  const faulty = unused ? _("; {files} not used", { files: countFiles(unused) }) : "";
  const counts = parts.join(", ") + faulty;
  const isSilent = buckets.some(promptsIn) && !used.some(promptsIn);
  const summary = isSilent ? _("Every bucket with prompts is muted") : counts;
  $(".dnd-status").textContent = summary;
  $(".dnd-strip-text").textContent = isSilent ? summary : `${countBuckets(used.filter(promptsIn).length)}, ${counts}`;
  drawStrip();
  $(".dnd-batch").hidden = drawShares() < 2;
  $(".dnd-zone").hidden = buckets.length > 0;
  $(".dnd-zone-kinds").textContent = _("{kinds}. Or paste them.", { kinds: suffixList() });
  $(".dnd-add").hidden = buckets.length === 0;
  stage.toggleAttribute("data-dnd-mixing", buckets.length > 1);
  $(".dnd-keys").hidden = states.length === 0;
  $(".dnd-clear").hidden = states.length === 0;
  $(".dnd-fold-away").hidden = !foldable || states.length === 0;
  const last = undoable.at(-1);
  $(".dnd-toast").hidden = !last || !undoOffered;
  $(".dnd-toast-text").textContent = last?.told() ?? "";
  stage.toggleAttribute("data-dnd-cards", states.length > 0);
}

// ---------------------------------------------------------------- files from the desktop

const carries = (event, type) => event.dataTransfer?.types.includes(type);
// Text that is dragged from elsewhere is added where it is let go on the canvas, as if pasted there.
const carriesText = (event) => carries(event, "text/plain") && root.contains(event.target) && !event.target.closest(FIELDS);
let target = null;
function markTarget(box) {
  if (target === box) return;
  target?.classList.remove("is-target");
  target = box;
  target?.classList.add("is-target");
}
// Library and Measure take one file each, wherever on their tab it is let go.
const TAKERS = {
  "#dnd-import": (button) => button.previousElementSibling,
  // While it shows a file it has no input, and its kinds are beside it.
  "#dnd-measure-file": (box) => $("input[type=file]", box),
};
function openTaker() {
  for (const [selector, inputOf] of Object.entries(TAKERS)) {
    const box = document.querySelector(selector);
    if (box?.offsetParent) return { box, inputOf };
  }
  return null;
}

// Whether the open tab takes a file, which it is given then.
function given(file) {
  const taker = openTaker();
  if (!taker) return false;
  const input = taker.inputOf(taker.box);
  const kinds = input?.accept ?? document.querySelector("[data-kinds]").dataset.kinds;
  if (!kinds.split(",").some((kind) => file.name.toLowerCase().endsWith(kind.trim()))) return false;
  if (!input) $("button", taker.box)?.click(); // takes away the file that is shown
  (function give(left) {
    const input = taker.inputOf(taker.box);
    if (!input) {
      if (left) setTimeout(give, 50, left - 1);
      else say(_("{name} was not added.", { name: file.name }));
      return;
    }
    const one = new DataTransfer();
    one.items.add(file);
    input.files = one.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  })(100);
  return true;
}

// Files may be let go anywhere on the page: on a bucket they go there, elsewhere to the one in use. A
// part of the page that takes files itself has said so by then.
const bucketAt = (event) => (root.contains(event.target) ? event.target.closest(".dnd-bucket") : null);
const inUse = () => (buckets.length ? $(`[data-bucket="${(bucketById(lastBucket) ?? buckets.at(-1)).id}"]`, board) : root);

function onDragOver(event) {
  const isFiles = carries(event, "Files");
  if (event.defaultPrevented || !(isFiles || carriesText(event))) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = "copy";
  const taker = isFiles && event.dataTransfer.items.length === 1 ? openTaker() : null;
  markTarget(bucketAt(event) ?? taker?.box ?? (folded ? root : inUse()));
}

function onDrop(event) {
  markTarget(null);
  const isFiles = carries(event, "Files");
  if (event.defaultPrevented || !(isFiles || carriesText(event))) return;
  event.preventDefault();
  const { files } = event.dataTransfer;
  if (files.length === 1 && given(files[0])) return;
  const bucketId = bucketAt(event)?.dataset.bucket;
  closeLook();
  showCanvas();
  if (isFiles) addCarried(event.dataTransfer, bucketId);
  else addPasted(event.dataTransfer.getData("text/plain"), bucketId);
}

// The files of a drop or of the clipboard; folders are refused.
function addCarried(carried, bucketId) {
  const items = [...carried.items].filter((item) => item.kind === "file");
  const isFolder = items.map((item) => item.webkitGetAsEntry?.()?.isDirectory ?? false);
  const files = [...carried.files];
  addFiles(files.filter((_, i) => !isFolder[i]), bucketId, { folders: files.filter((_, i) => isFolder[i]).map(({ name }) => name) });
}

function onDragLeave(event) {
  if (!event.relatedTarget) markTarget(null); // left the window
}

// The canvas may be folded, or on a tab that is not open.
function showCanvas() {
  if (folded) setFolded(false);
  if (!root.offsetParent) stage.querySelector("[role=tab]")?.click();
}

function browse(bucketId) {
  lastBucket = bucketId;
  $(".dnd-picker").click();
}
$(".dnd-picker").accept = suffixes.join(",");
$(".dnd-picker").addEventListener("change", (event) => {
  const files = [...event.target.files];
  event.target.value = ""; // so that the same file can be chosen again
  if (files.length) addFiles(files, lastBucket);
});
for (const selector of [".dnd-browse", ".dnd-zone"]) $(selector).addEventListener("click", () => browse(lastBucket));

// ---------------------------------------------------------------- paste

$(".dnd-paste").addEventListener("click", () => {
  const form = $(".dnd-pasteboard");
  form.hidden = !form.hidden;
  if (form.hidden) return;
  const used = (bucketById(lastBucket) ?? buckets.at(-1))?.id;
  $(".dnd-paste-bucket").replaceChildren(...select("", "", buckets.map(({ id, name }) => [id, name]), used, () => {}).children);
  $(".dnd-paste-where").hidden = buckets.length < 2;
  $("textarea", form).focus();
});
function closePaste() {
  $(".dnd-pasteboard").hidden = true; // its text stays for the next time
  $(".dnd-paste").focus();
}
$(".dnd-paste-cancel").addEventListener("click", closePaste);
$(".dnd-pasteboard").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) {
    event.preventDefault();
    event.currentTarget.requestSubmit();
  }
  if (event.key !== "Escape" || event.isComposing) return;
  event.preventDefault();
  closePaste();
});
let pasted = 0;
function addPasted(text, bucketId) {
  if (!text.trim()) { say(_("Write or paste a prompt first.")); return false; }
  pasted += 1;
  addFiles([new File([text], _("pasted-{number}.txt", { number: pasted }), { type: "text/plain" })], bucketId, { pasted: true });
  return true;
}
$(".dnd-pasteboard").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!addPasted($("textarea", event.target).value, $(".dnd-paste-bucket").value)) return;
  event.target.reset();
  closePaste();
});

// Ctrl+V where nothing is typed. On Linux, browsers also paste what is selected at a press of the mouse
// wheel, which opens links and scrolls: that adds nothing.
let wheelPressed = false;
function onPress(event) {
  wheelPressed = event.button === 1;
}
function onPaste(event) {
  const { clipboardData: copied } = event;
  if (event.defaultPrevented || wheelPressed || !root.offsetParent || document.querySelector("dialog[open]")) return;
  if (event.target.closest?.(FIELDS)) return;
  event.preventDefault();
  showCanvas();
  const text = copied.getData("text/plain");
  // Cells of a spreadsheet come with their picture.
  const isPictured = copied.types.includes("text/html") && text.trim();
  if (copied.files.length && !isPictured) addCarried(copied);
  else addPasted(text);
}

// ---------------------------------------------------------------- the prompts of a file

let looking = null; // {card, query, most}: whose prompts are shown
let droppedAt = 0; // a card that was dragged is not clicked
const dialog = $(".dnd-look");
$(".dnd-look-close").append(icon("close"));

function opens(card) {
  return ["ready", "doubt"].includes(card.state) || (card.state === "error" && card.reading?.opens);
}

function openLook(card) {
  if (!opens(card)) return;
  looking = { card: card.id, query: "", most: 50 };
  $("#dnd-look-name").textContent = card.name;
  $(".dnd-look-query").value = "";
  $(".dnd-look-count").textContent = _("Reading the prompts.");
  for (const selector of [".dnd-look-list", ".dnd-look-notes"]) $(selector).replaceChildren();
  for (const selector of [".dnd-columns", ".dnd-look-more", ".dnd-look-fault"]) $(selector).hidden = true;
  dialog.showModal();
  commit();
}

function closeLook() {
  if (dialog.open) dialog.close();
}

function lookAgain(more) {
  if (!looking) return;
  looking = { ...looking, ...more };
  commit();
}

function drawLook(found) {
  if (!looking || found.card !== looking.card || found.query !== looking.query) return;
  const card = cards.get(found.card);
  if (!card) { closeLook(); return; }
  drawLookFault(card);
  $(".dnd-look-notes").replaceChildren();
  prose($(".dnd-look-notes"), found.notes.join(" "));
  // While another choice is read, this is the answer to an earlier one.
  if (card.state !== "reading") drawColumns($(".dnd-columns"), found.columns, (roles) => chooseColumns(card, found.columns, roles));
  const gone = new Set(card.choices.without ?? []);
  const focused = dialog.contains(document.activeElement) && document.activeElement.dataset.place;
  $(".dnd-look-list").replaceChildren(...found.prompts.map((prompt) => promptNode(card, prompt, gone.has(prompt.place))));
  if (focused !== undefined) $(`[data-place="${focused}"]`, dialog)?.focus();
  const all = countPrompts(found.num_prompts);
  const removed = gone.size ? `, ${ngettext("{number} removed", "{number} removed", gone.size)}` : "";
  $(".dnd-look-count").textContent = (found.query ? _("{number} of {prompts} found", { number: write(found.num_found), prompts: all }) : all) + removed;
  $(".dnd-look-more").hidden = found.prompts.length >= found.num_found || looking.most >= 1000;
}

function drawLookFault(card) {
  const fault = $(".dnd-look-fault");
  fault.hidden = card.state !== "error";
  fault.replaceChildren();
  if (card.state === "error") prose(fault, card.reading.error);
}

function promptNode(card, prompt, gone) {
  const node = make("li", gone ? "is-gone" : "");
  const words = make("div", "dnd-look-words");
  if (prompt.instruction) words.append(make("p", "dnd-look-instruction", prompt.instruction));
  words.append(make("p", "dnd-look-input", prompt.input));
  if (prompt.label) words.append(make("p", "dnd-facts", _("Label: {label}", { label: prompt.label })));
  const number = prompt.place + 1;
  const name = gone ? _("Bring back prompt {number}", { number }) : _("Remove prompt {number}", { number });
  const toggle = button("dnd-link dnd-toggle-prompt", gone ? _("Bring back") : _("Remove"), name, () => (gone ? bringBackPrompt : removePrompt)(card, prompt.place));
  toggle.dataset.place = prompt.place;
  node.append(words, toggle);
  return node;
}

function removePrompt(card, place) {
  const told = () => _("Prompt {number} of {name} removed.", { number: place + 1, name: card.name });
  remember({ told, back: () => bringBackPrompt(card, place), card: card.id, place });
  choose(card, { choices: { ...card.choices, without: [...(card.choices.without ?? []), place] } });
}

function bringBackPrompt(card, place) {
  choose(card, { choices: { ...card.choices, without: card.choices.without.filter((one) => one !== place) } });
}

let typing = null;
$(".dnd-look-query").addEventListener("input", (event) => {
  clearTimeout(typing);
  typing = setTimeout(() => lookAgain({ query: event.target.value, most: 50 }), 200);
});
$(".dnd-look-more").addEventListener("click", () => lookAgain({ most: Math.min(1000, looking.most * 4) }));
$(".dnd-look-close").addEventListener("click", closeLook);
dialog.addEventListener("click", (event) => { if (event.target === dialog) closeLook(); }); // beside it
dialog.addEventListener("close", () => {
  const card = looking?.card;
  looking = null;
  commit();
  if (card) focusCard(card);
});
board.addEventListener("click", (event) => {
  const card = event.target.closest(".dnd-card");
  if (!card || event.target.closest("button, select, a") || Date.now() - droppedAt < 300) return;
  openLook(cards.get(card.dataset.card));
});

// ---------------------------------------------------------------- buttons and keys

$(".dnd-add").addEventListener("click", addBucket);
$(".dnd-clear").addEventListener("click", () => { clearAll(); $(".dnd-undo").focus(); });
$(".dnd-undo").addEventListener("click", () => { undo(); if (!undoable.length) $(".dnd-browse").focus(); });
$(".dnd-edit").addEventListener("click", () => { setFolded(false); $(".dnd-browse").focus(); });
$(".dnd-fold-away").addEventListener("click", () => { setFolded(true); $(".dnd-edit").focus(); });

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
  } else if (event.key === "Enter") {
    event.preventDefault();
    openLook(cards.get(id));
    return;
  } else if (!event.key.startsWith("Arrow")) return;
  event.preventDefault();
  focusCard(id);
});

// Ctrl+Z where nothing is typed: a field has its own.
function onUndoKey(event) {
  if (event.key.toLowerCase() !== "z" || !(event.ctrlKey || event.metaKey) || event.shiftKey || event.altKey) return;
  if (!undoable.length || folded || !root.offsetParent) return;
  if (event.target.closest?.(`${FIELDS}, select`)) return;
  // The dialog of a file hides the canvas, so its prompts alone are brought back.
  if (document.querySelector("dialog[open]") && !(looking && undoable.at(-1).card === looking.card)) return;
  event.preventDefault();
  undo();
}

// ---------------------------------------------------------------- start

const LISTENERS = {
  dragover: onDragOver, drop: onDrop, dragleave: onDragLeave, paste: onPaste, pointerdown: onPress,
  keydown: (event) => { onPress(event); onUndoKey(event); },
  "dnd-inbox": ({ detail }) => receive(detail),
};
// Should the component be made again, the old listeners must not answer for a canvas that is gone.
for (const [type, listener] of Object.entries(LISTENERS)) {
  const key = `dndOn${type}`;
  window[key] && window.removeEventListener(type, window[key]);
  window[key] = listener;
  window.addEventListener(type, listener);
}
sayTemplate(element);
root.classList.remove("is-unsaid");
render();
watch("words", () => {
  speak(props.words);
  sayTemplate(element);
  $(".dnd-live").textContent = ""; // said in the earlier language
  drawErrors();
  // A bucket that holds files may have given its name to an adapter, so it keeps it.
  const fresh = buckets.filter(({ preset, cards: ids }) => preset && !ids.length);
  for (const bucket of fresh) bucket.name = "";
  for (const bucket of fresh) bucket.name = freeName(_(bucket.preset));
  commit();
  render();
});
