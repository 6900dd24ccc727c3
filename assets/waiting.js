// A run that waits for its turn asks each second what is still ahead of it. A long one is watched from
// another tab: the page's title says what runs and how it ended, and who asked for it is notified.
// Gradio runs this text as a function body; `element` holds the stages of a run, drawn anew at each step.

const root = document.documentElement;
window.dndTitle ??= document.title;
let running = false;
let asking = null;

const words = (node) => [...(node?.childNodes ?? [])].filter(({ nodeType }) => nodeType === Node.TEXT_NODE).map((text) => text.data.trim()).join(" ");

function name(start) {
  document.title = start ? `${start} · ${window.dndTitle}` : window.dndTitle;
}

function ended() {
  const done = words(element.querySelector(".dnd-made summary"));
  const told = element.querySelector(".dnd-notice");
  const how = done ? `✓ ${done}` : `! ${told?.textContent.trim() ?? ""}`;
  if (!document.hidden) { name(""); return; }
  name(how);
  if (root.dataset.dndNotify !== "on") return;
  try {
    new Notification(window.dndTitle, { body: how, tag: "dnd-run" });
  } catch {
    delete root.dataset.dndNotify; // phones let only service workers notify
  }
}

watch("value", () => {
  const making = element.querySelector(".dnd-making:not(:has(.dnd-notice))");
  if (making) name(making.querySelector(".dnd-heading").textContent);
  else if (running) ended();
  running = making !== null;
  clearInterval(asking); // an interval, because an answer can be lost
  if (element.querySelector("[data-doing=waiting]")) asking = setInterval(() => trigger("waits", {}), 1000);
  root.toggleAttribute("data-dnd-long", making?.matches(".is-long") ?? false); // see notify.js
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && !running) name(""); });
