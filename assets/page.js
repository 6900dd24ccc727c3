// What belongs to the page as a whole: its language, its keys, and what the engine does for it. Gradio runs this text as a
// function body with `element` and `props` in scope, after `storage.js`; which key presses what comes from Python.

const list = element.querySelector("dialog");
const on = list.querySelector("input");
const SINGLE_KEYS = "dnd-single-keys";
const ATTRIBUTE = "aria-keyshortcuts";

// ---------------------------------------------------------------- language

// Gradio takes the document's language from the browser; it is the page's own.
document.documentElement.lang = list.lang;
let wanted = list.lang;
let asked = 0;
watch("value", () => {
  document.documentElement.lang = list.lang;
  asked = 0;
  askAgain();
  theirs = wordsOfGradio();
  props.shortcuts.flatMap(nodes).filter((node) => node.hasAttribute(ATTRIBUTE)).forEach(untell);
  tell();
  nameTheirs();
});

// The links of the switch lead to the page in another language. Here they switch it in place, so that
// the visit stays, and the choice is kept for the next one: in a cookie, and in the address, since a
// page in a frame may be denied its cookies.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("[data-lang]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const code = link.dataset.lang;
  const framed = location.protocol === "https:" ? "SameSite=None; Secure" : "SameSite=Lax";
  document.cookie = `dnd-language=${code}; Max-Age=31536000; Path=/; ${framed}`;
  const address = new URL(location.href);
  address.searchParams.set("lang", code);
  history.replaceState(history.state, "", address);
  wanted = code;
  // Gradio drops a second switch while the first is on its way; that asks for it once it is there.
  if (!asked ? code !== list.lang : performance.now() - asked > 5000) ask();
});

function ask() {
  asked = performance.now();
  trigger("speak", { code: wanted });
}

// Not at once, and more than once: to Gradio, what brought the language before is still on its way, on a
// slow machine for seconds.
function askAgain(times = 20) {
  if (wanted === list.lang || !times) return;
  setTimeout(() => {
    if (wanted === list.lang) return;
    ask();
    askAgain(times - 1);
  }, 300);
}

// ---------------------------------------------------------------- models

document.addEventListener("click", (event) => {
  if (event.target.closest?.(".dnd-models-open")) trigger("models", {});
});

// ---------------------------------------------------------------- keys

const shown = ({ key }) => list.querySelector(`[data-key="${CSS.escape(key)}"]`).textContent;

const there = (node) => node.getClientRects().length > 0 && !node.disabled;
const nodes = (shortcut) => shortcut.targets.flatMap((target) => [...document.querySelectorAll(target)]);
const typing = (node) => node.closest?.("textarea, select, [contenteditable=true], input:not([type=checkbox], [type=radio], [type=range])");
const questionBox = (node) => node.closest?.("#dnd-box");

// ---------------------------------------------------------------- pressed

let byKey = null; // what a single key has pressed
document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  if (event.defaultPrevented || event.isComposing || event.ctrlKey || event.altKey || event.metaKey) return;
  if (document.querySelector("dialog[open]") || event.repeat) return; // it closes itself with Escape
  const escape = key === "Escape";
  // An Escape that belongs to a field, a list of choices say, is no Stop.
  if (typing(target) && !(escape && questionBox(target))) return;
  // Digits need Shift on some keyboards, letters on none.
  if (!escape && (!on.checked || (event.shiftKey && /^[a-z]$/i.test(key)))) return;
  const shortcut = props.shortcuts.find((one) => one.key.toLowerCase() === key.toLowerCase());
  const node = shortcut && nodes(shortcut).find(there);
  if (node) {
    event.preventDefault();
    if (shortcut.focus) {
      node.focus();
      node.scrollIntoView({ block: "nearest" });
    } else {
      // From nowhere, the focus goes where a press by mouse would have put it.
      if (document.activeElement === document.body) node.focus({ preventScroll: true });
      byKey = node;
      node.click();
    }
  } else if (escape && questionBox(target)) target.blur();
});

// Gradio puts a number within its limits when its field is left; Enter asks for it, too.
document.addEventListener("keydown", ({ key, target }) => {
  if (key !== "Enter" || target.type !== "number") return;
  target.blur();
  target.focus();
});

// What is drawn above a button or a box to tick moves it, a forecast above Synthesize say. Between press and release, a
// browser takes this for no click at all; who has not moved the pointer meant one.
let press = null;
const PRESSED = "button, label:has(:is([type=checkbox], [type=radio]))";
document.addEventListener("pointerdown", ({ target, button, clientX, clientY }) => {
  press = button ? null : { node: target.closest?.(PRESSED), clientX, clientY };
}, true);
document.addEventListener("pointerup", ({ target, clientX, clientY }) => {
  const { node, ...from } = press ?? {};
  press = null;
  if (node && there(node) && !node.contains(target) && Math.hypot(clientX - from.clientX, clientY - from.clientY) < 4) node.click();
}, true);

// ---------------------------------------------------------------- advised

// Advice to press something presses it, and leads into the field that this shows. So does Edit.
document.addEventListener("click", (event) => {
  if (event.target.closest?.("[data-event=edit]")) lead("#dnd-box textarea");
  const link = event.target.closest?.("[data-presses]");
  if (!link) return;
  for (const button of document.querySelectorAll(link.dataset.presses)) button.click();
  if (link.dataset.focuses) lead(link.dataset.focuses);
});

// Gradio takes some frames to unfold what it has not shown before.
function lead(selector, frames = 60) {
  const field = document.querySelector(selector);
  if (field?.checkVisibility()) {
    field.focus();
    field.scrollIntoView({ block: "nearest" }); // also clear of what sticks to the foot of a phone
  } else if (frames) requestAnimationFrame(() => lead(selector, frames - 1));
}

// ---------------------------------------------------------------- told

// Gradio redraws its buttons whenever they change; what they can be pressed with is put back.
function tell() {
  for (const shortcut of props.shortcuts) {
    const active = on.checked || shortcut.key === "Escape";
    for (const node of nodes(shortcut)) {
      if (node.hasAttribute(ATTRIBUTE) === active) continue;
      const tip = node.closest("label") ?? node;
      if (active) {
        node.setAttribute(ATTRIBUTE, shortcut.key);
        node.dataset.ownTitle = tip.title;
        tip.title = tip.title ? `${tip.title} (${shown(shortcut)})` : list.dataset.keyTitle.replace("{key}", shown(shortcut));
      } else untell(node);
    }
  }
}
function untell(node) {
  node.removeAttribute(ATTRIBUTE);
  (node.closest("label") ?? node).title = node.dataset.ownTitle;
}
let due = false;
new MutationObserver(() => {
  keepHeights(); // each time: on a busy machine a remix may begin and end before the next frame
  if (due) return;
  due = true;
  requestAnimationFrame(() => { due = false; tell(); tellDoing(); group(); showChosen(); nameTheirs(); handOn(); showRun(); keepOpen(); });
  // Gradio also redraws in place, which only takes the attribute away.
}).observe(document.body, { childList: true, subtree: true, attributeFilter: [ATTRIBUTE, "disabled"] });

// ---------------------------------------------------------------- focus

// Some buttons go when they are pressed, and the focus would fall to the body. It goes on to the first
// of these that is shown; to the verdict only when nothing runs, since Stop may come a frame later.
const VERDICT = "#dnd-warning";
const BACK = ":back"; // the button that the focus came from
const NEXT = {
  "dnd-synthesize": ["#dnd-stop-synthesis", "#dnd-imprint-stop", VERDICT],
  "dnd-stop-synthesis": ["#dnd-synthesize", "#dnd-imprint-stop", VERDICT],
  "dnd-imprint-now": ["#dnd-imprint-stop", VERDICT],
  "dnd-imprint-stop": [VERDICT],
  "dnd-teach-start": ["#dnd-teach-stop", VERDICT],
  "dnd-teach-stop": ["#dnd-teach-start", VERDICT],
  "dnd-teach-later": ["#dnd-teach-open"],
  "dnd-teach-propose": ["#dnd-teach-answers textarea", "#dnd-teach-propose"],
  "dnd-undo": [VERDICT],
  "dnd-take-close": ["#dnd-take-open"],
  "dnd-export": ["#dnd-export"],
  "dnd-kept-load": [VERDICT, "#dnd-kept-load"],
  "dnd-kept-delete": ["#dnd-kept-undo"],
  "dnd-kept-undo": ["#dnd-kept input:checked"],
  "dnd-models-close": [".dnd-models-open"],
  "dnd-send": ["#dnd-stop-chat", "#dnd-send"],
  "dnd-again": ["#dnd-stop-chat", "#dnd-again"],
  "dnd-stop-chat": [BACK, "#dnd-send"],
  "dnd-cancel-edit": ["#dnd-box textarea"],
  ...Object.fromEntries(["a", "b", "tie", "bad"].map((vote) => [`dnd-vote-${vote}`, ["#dnd-box textarea", "#dnd-again"]])),
  "dnd-batch-start": ["#dnd-batch-stop", "#dnd-batch-start"],
  "dnd-batch-stop": ["#dnd-batch-start"],
  "dnd-measure-start": ["#dnd-measure-stop", "#dnd-measure-start"],
  "dnd-measure-stop": ["#dnd-measure-start"],
  "dnd-train-start": ["#dnd-train-stop", "#dnd-train-start"],
  "dnd-train-stop": ["#dnd-train-start"],
  "dnd-take-trained_lora": [VERDICT],
  "dnd-take-warm_lora": [VERDICT],
};
let held = null; // what has the focus, or had it until it went
let lost = null; // the same once it has gone, even if it is back, as one that was disabled for a while
let before = null; // what handed the focus on to it
document.addEventListener("focusin", ({ target }) => { [held, lost, before] = [target, null, null]; });
// What is hidden, and not removed, loses the focus only once that is drawn; perhaps nothing changes after.
document.addEventListener("focusout", ({ target }) => requestAnimationFrame(() => {
  // It may be back by now, as one that was disabled for less than a frame.
  if (target === held && document.activeElement === document.body) lost = held;
  handOn();
}));
document.addEventListener("pointerdown", ({ target }) => { if (!held?.contains(target)) held = null; });
function handOn() {
  if (document.activeElement !== document.body || !held || (there(held) && lost !== held)) return;
  lost = held;
  const left = held.id;
  const places = NEXT[left]?.map((one) => (one === BACK ? before && `#${before}` : one)).filter(Boolean);
  // Who pressed a single key would press others, which a field would take for text; and on a phone, a field
  // opens its keyboard over what was pressed.
  const noText = byKey === held || matchMedia("(pointer: coarse)").matches;
  const fits = (one) => one && there(one) && !(noText && typing(one));
  const next = places?.map((one) => document.querySelector(one)).find(fits);
  if (!next || (next.matches(VERDICT) && document.querySelector("[data-doing]"))) return;
  if (next.matches(VERDICT)) next.tabIndex = -1;
  next.focus({ preventScroll: true });
  before = left;
}

// ---------------------------------------------------------------- a run and its end

// The progress, and then the verdict above the chat, may be drawn out of sight. Each comes into view once,
// unless somebody has done anything since they pressed.
const MAKES = "#dnd-synthesize, #dnd-imprint-now, #dnd-teach-start";
let awaited = false;
let ran = false;
document.addEventListener("click", ({ target }) => {
  if (target.closest?.(MAKES)) [awaited, ran] = [true, false];
});
for (const deed of ["wheel", "touchmove", "pointerdown", "keydown", "dragenter"]) {
  document.addEventListener(deed, () => { awaited = false; }, { capture: true, passive: true });
}
function showRun() {
  if (!awaited) return;
  if (document.querySelector("[data-doing]")) {
    // Each time: on a slow machine more is drawn above it, a forecast say, and pushes it away again.
    document.querySelector("#dnd-stages .is-running")?.scrollIntoView({ block: "nearest" });
    ran = true;
    return;
  }
  const verdict = document.querySelector(VERDICT);
  if (!ran || !verdict || !there(verdict)) return;
  awaited = false;
  const { top, bottom } = verdict.getBoundingClientRect();
  if (top >= 0 && bottom <= innerHeight) return;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  verdict.scrollIntoView({ block: "center", behavior: still ? "instant" : "smooth" });
}

// ---------------------------------------------------------------- a changed weight

// What a remix says meanwhile is shorter than the facts and the verdict that come back. Both keep their
// heights until the new ones are there, so that the chat below stays in its place.
const JUDGED = `${VERDICT} :is(.dnd-verdict, .is-error)`;
let kept = [];
let unjudged = false; // whether the verdict before has gone; the next one may be drawn in the same node
function keepHeights() {
  const judged = document.querySelector(JUDGED);
  if (document.querySelector(".dnd-made[data-doing]")) {
    unjudged = !judged;
    if (kept.length) return;
    kept = [...document.querySelectorAll(`#dnd-adapter-facts, ${VERDICT}`)];
    for (const { style, offsetHeight } of kept) style.minHeight = `${offsetHeight}px`;
  } else if (kept.length) {
    unjudged ||= !judged;
    if (!document.querySelector(".dnd-making") && !(judged && unjudged)) return;
    for (const { style } of kept) style.minHeight = "";
    kept = [];
  }
}

// ---------------------------------------------------------------- what the visitor opened

// A text that is drawn again would close it. In the chat, each turn has its own.
const opened = new Set();
const titleOf = (fold) => fold.firstElementChild.textContent.replace(/\d+/g, "");
function placeOf(fold) {
  const text = fold.closest(".block");
  const namesakes = [...(text?.querySelectorAll("details") ?? [])].filter((one) => titleOf(one) === titleOf(fold));
  return `${text?.id} ${titleOf(fold)} ${namesakes.indexOf(fold)}`;
}
document.addEventListener("click", ({ target }) => {
  const fold = target.closest?.("summary")?.parentElement;
  if (!fold || fold.closest("#dnd-panes")) return;
  if (fold.open) opened.delete(placeOf(fold));
  else opened.add(placeOf(fold));
}, true);
function keepOpen() {
  if (!opened.size) return;
  for (const fold of document.querySelectorAll("details:not([open])")) {
    if (!fold.closest("#dnd-panes") && opened.has(placeOf(fold))) fold.open = true;
  }
}

// ---------------------------------------------------------------- radio buttons

// Gradio gives each button a name of its own, so the browser sees no group: arrow keys do nothing, and
// Tab stops at every button.
function group() {
  for (const set of document.querySelectorAll("fieldset")) {
    const [first, ...others] = set.querySelectorAll("input[type=radio]");
    for (const button of others) if (button.name !== first.name) button.name = first.name;
  }
}

// ---------------------------------------------------------------- numbers

// Gradio takes an emptied number beside a slider for its least, and a strength of 0 is no adapter. It keeps
// what it was.
const besideSlider = (node) => node.matches?.("input[type=number]:not(.dnd-number)") && node.closest(".block")?.querySelector("input[type=range]");
let number = "";
document.addEventListener("focus", ({ target }) => { if (besideSlider(target)) number = target.value; }, true);
document.addEventListener("blur", ({ target }) => {
  if (!besideSlider(target) || target.value !== "") return;
  target.value = number;
  target.dispatchEvent(new Event("input", { bubbles: true }));
}, true);

// ---------------------------------------------------------------- texts that are too long

// A browser cuts a pasted text to the field's limit, without a word.
document.addEventListener("paste", ({ target, clipboardData }) => {
  if (!(target.maxLength > 0)) return;
  const rest = target.value.length - (target.selectionEnd - target.selectionStart);
  const found = rest + clipboardData.getData("text").replace(/\r\n?/g, "\n").length;
  if (found <= target.maxLength) return;
  const [most, all] = [target.maxLength, found].map((length) => length.toLocaleString(list.lang));
  // After the event of the paste itself, since the next one takes the words away.
  setTimeout(() => {
    target.setCustomValidity(list.dataset.cut.replace("{most}", most).replace("{found}", all));
    target.reportValidity();
    target.addEventListener("input", () => target.setCustomValidity(""), { once: true });
  });
}, true);

// ---------------------------------------------------------------- names that Gradio gives

// Gradio translates neither what it calls its controls for readers of the screen nor that the server is
// gone.
const wordsOfGradio = () => Object.entries(JSON.parse(list.dataset.gradio));
let theirs = wordsOfGradio();
const named = new WeakMap(); // what a control or a text was called, and is now
function nameTheirs() {
  for (const node of document.querySelectorAll("[aria-label]")) {
    nameOne(node, node.getAttribute("aria-label"), (name) => node.setAttribute("aria-label", name));
  }
  for (const { firstChild: text } of document.querySelectorAll(".toast-title, [data-testid=toast-text], .dnd-refused p")) {
    if (text instanceof Text) nameOne(text, text.data.trim(), (name) => { text.data = name; });
  }
}
function nameOne(node, now, rename) {
  const english = named.get(node)?.now === now ? named.get(node).english : now;
  const name = translated(english);
  if (name === now) return;
  rename(name);
  named.set(node, { english, now: name });
}
function translated(english) {
  for (const [words, ours] of theirs) {
    const [before, label] = words.split("{label}"); // a label is ours, and ends the name
    if (label === undefined ? english === words : english.startsWith(before)) return ours.replace("{label}", () => english.slice(before.length));
  }
  return english;
}

// ---------------------------------------------------------------- the names above the chat

// The chosen name comes into view when it, or the names around it, change; and only then, since who
// scrolls looks for another.
const seen = new WeakMap();
const sized = new ResizeObserver(() => showChosen()); // also when its tab is shown
function showChosen() {
  for (const line of document.querySelectorAll(".dnd-choice .wrap")) {
    if (!seen.has(line)) {
      seen.set(line, "");
      sized.observe(line);
    }
    const chosen = line.querySelector("label.selected");
    const state = `${line.clientWidth} ${chosen?.textContent} ${line.textContent}`;
    if (!chosen || !line.clientWidth || seen.get(line) === state) continue;
    seen.set(line, state);
    const [name, box] = [chosen, line].map((node) => node.getBoundingClientRect());
    const edge = 10; // where app.css fades the line
    line.scrollLeft += Math.min(0, name.left - box.left - edge) + Math.max(0, name.right - box.right + edge);
  }
}

// ---------------------------------------------------------------- what the engine does

// The page shows it anyway, so the chip in the header costs no request.
function doing() {
  if (document.querySelector("#dnd-stop-chat, #dnd-batch-stop")) return "answering";
  const run = document.querySelector("[data-doing]")?.dataset.doing;
  return run ?? (document.querySelector("#dnd-checks .dnd-ring, #dnd-proof .dnd-ring") ? "checking" : null);
}
function tellDoing() {
  const chip = document.querySelector(".dnd-chip-device.is-ready");
  if (!chip) return;
  const what = doing();
  const words = chip.querySelector("span");
  words.dataset.idle ??= words.textContent;
  const said = what ? JSON.parse(chip.dataset.doingWords)[what] : words.dataset.idle;
  if (words.textContent !== said) words.textContent = said;
  chip.classList.toggle("is-busy", what !== null);
}

// ---------------------------------------------------------------- the list

document.addEventListener("click", (event) => { if (event.target.closest?.(".dnd-keys-open")) list.showModal(); });
list.addEventListener("click", (event) => { if (event.target === list || event.target.closest(".dnd-keys-close")) list.close(); });
on.checked = stored(SINGLE_KEYS) !== "off";
on.addEventListener("change", () => { stored(SINGLE_KEYS, on.checked ? "on" : "off"); tell(); });
tell();
