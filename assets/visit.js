// A visit's way back: this browser keeps its key and a question that was not sent, other tabs of it
// hear who shows the visit, and leaving asks only where it would lose something. Gradio runs this text as a function body with
// `element`, `props`, `trigger` and `watch` in scope, after `storage.js`.

const KEY = "dnd-visit";
const SHOWN = "dnd-visit-shown"; // changes whenever a tab begins to show the visit
const EMPTY = "dnd-visit-empty"; // set when a page was left with nothing on it
const DRAFT = "dnd-draft"; // what was in the question box when a page was left
const $ = (selector) => element.querySelector(selector);

// What assets/first.js marks: a visit is on its way, and app.css hides what is not of it.
const RESTORING = "data-dnd-restoring";
const root = document.documentElement;

// Said by the script, because a live region says only what changes in it.
function sayRestoring(how) {
  if (!root.hasAttribute(RESTORING)) return;
  const status = $(".dnd-restoring p");
  $(".dnd-restoring").hidden = false;
  status.textContent = status.dataset[how];
}
sayRestoring("coming");
window.addEventListener("dnd-not-opened", () => {
  $(".dnd-restoring").classList.add("is-error");
  sayRestoring("failed");
});

function isBack() {
  $(".dnd-restoring").hidden = true;
  root.removeAttribute(RESTORING);
}

let mine = "";
let letGo = false; // the visitor has decided to leave

function claim() {
  if (!props.visit_key || props.visit_key === mine) return;
  mine = props.visit_key;
  $(".dnd-lost").hidden = props.outcome !== "lost" || stored(EMPTY) !== null;
  stored(KEY, mine);
  stored(SHOWN, String(crypto.getRandomValues(new Uint32Array(1))[0]));
  stored(EMPTY, null);
  bringDraft();
  // What came with the key is drawn by then.
  requestAnimationFrame(() => requestAnimationFrame(isBack));
}
watch("visit_key", claim);

const question = () => document.querySelector("#dnd-box textarea");

function bringDraft() {
  const box = question(), draft = stored(DRAFT);
  stored(DRAFT, null); // or it might come back after it was sent
  if (!draft || !box || box.value) return;
  box.value = draft;
  box.dispatchEvent(new Event("input", { bubbles: true })); // for Gradio
}

claim();

// Whether this browser has it now.
function keepDraft() {
  const draft = question()?.value ?? "";
  if (!letGo && (!mine || stored(KEY) === mine)) stored(DRAFT, draft || null);
  return !draft.trim() || stored(DRAFT) === draft;
}

// These texts are sent when their field is left (Gradio's own event for typing skips the first change
// after a value of the server's). A reload leaves no field, so a pause counts as leaving it.
const SENT = "#dnd-teach-rows textarea, #dnd-sampling textarea, .dnd-own";
const PAUSE_MS = 300;
let unsent = null;
let pause;
document.addEventListener("input", ({ target }) => {
  if (!target.matches?.(SENT)) return;
  unsent = target;
  clearTimeout(pause);
  pause = setTimeout(sendTyped, PAUSE_MS);
});
function sendTyped() {
  unsent?.dispatchEvent(unsent.matches(".dnd-own") ? new Event("change") : new FocusEvent("blur"));
  unsent = null;
}

// Comes from other tabs only.
window.addEventListener("storage", ({ key }) => {
  if (key === SHOWN && mine && stored(KEY) === mine) moved();
});

function moved() {
  letGo = true;
  const dialog = $(".dnd-moved");
  if (!dialog.open) dialog.showModal();
}

// ---------------------------------------------------------------- answers

const theirs = window.fetch;
let started; // which start of the app this page belongs to (ui/server/headers.py)
window.fetch = async (...asked) => {
  const answer = await theirs(...asked);
  const start = answer.headers.get("x-dnd-started");
  started ??= start;
  if (start && start !== started) $(".dnd-restarted").hidden = false;
  if (!answer.ok && new URL(answer.url, location.href).pathname.endsWith("/run/predict")) readRefusal(answer.clone());
  return answer;
};

// Gradio shows the errors of events in the queue only. What any other event is refused with is said here.
async function readRefusal(answer) {
  const { error } = await answer.json().catch(() => ({}));
  if (typeof error === "string") sayRefused(error);
}

// Without words, what was refused is settled.
function sayRefused(words) {
  $(".dnd-refused p").textContent = words;
  $(".dnd-refused").hidden = !words;
}
window.addEventListener("dnd-refused", ({ detail }) => sayRefused(detail)); // by the canvas
document.addEventListener("click", ({ target }) => {
  if (target.closest?.("#dnd-synthesize, #dnd-imprint-now, #dnd-teach-start")) sayRefused("");
});

// ---------------------------------------------------------------- leaving

const RUNNING = ["#dnd-stop-synthesis", "#dnd-imprint-stop", "#dnd-teach-stop", "#dnd-stop-chat", "#dnd-batch-stop", "#dnd-measure-stop", "#dnd-train-stop"];
const TYPED = ["#dnd-batch-inputs textarea", ".dnd-pasteboard:not([hidden]) textarea"];

function losesSomething() {
  sendTyped(); // what was typed since the last pause
  const runs = RUNNING.some((one) => document.querySelector(one));
  const typed = !keepDraft() || TYPED.some((one) => document.querySelector(one)?.value.trim());
  return runs || typed || document.querySelector(".dnd-card.is-uploading") !== null;
}

window.dndLeavingLoses = () => !letGo && losesSomething(); // asked by assets/first.js
window.addEventListener("pagehide", () => {
  keepDraft();
  const nothing = !document.querySelector(".dnd-card, .dnd-asked, #dnd-adapter, #dnd-batch-table table");
  if (nothing && stored(KEY) === mine) stored(EMPTY, "1");
});

// ---------------------------------------------------------------- buttons

// Delegated: another language draws them again.
const PRESSED = {
  ".dnd-forget": () => $(".dnd-forget-sure").showModal(),
  ".dnd-forget-no": () => $(".dnd-forget-sure").close(),
  ".dnd-forget-yes": () => { letGo = true; stored(KEY, null); stored(DRAFT, null); trigger("forget"); },
  ".dnd-take-over, .dnd-reload": () => location.reload(),
  ".dnd-lost-close": () => { $(".dnd-lost").hidden = true; },
  ".dnd-refused-close": () => sayRefused(""),
};
element.addEventListener("click", ({ target }) => {
  for (const [selector, press] of Object.entries(PRESSED)) if (target.closest(selector)) press();
});
// The visit of this tab is in another one, whatever is pressed.
element.addEventListener("cancel", (event) => { if (event.target.matches(".dnd-moved")) event.preventDefault(); }, true);
watch("outcome", () => { if (props.outcome === "forgotten") location.reload(); });
