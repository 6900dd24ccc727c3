// The offer to be notified of the end of a long run. It is apart from what is drawn at each step, since
// what is redrawn under a pointer cannot be pressed; `assets/waiting.js` says when it is shown. After `storage.js`.

const NOTIFY = "dnd-notify";
const root = document.documentElement;

// "ask" offers it, "on" says that it will come; without either nothing of it is shown.
function offer() {
  if (!("Notification" in window) || Notification.permission === "denied") { delete root.dataset.dndNotify; return; }
  root.dataset.dndNotify = stored(NOTIFY) && Notification.permission === "granted" ? "on" : "ask";
}

element.addEventListener("click", async ({ target }) => {
  if (!target.closest(".dnd-notify")) return;
  const on = root.dataset.dndNotify !== "on" && (await Notification.requestPermission()) === "granted";
  stored(NOTIFY, on ? "on" : null);
  offer();
});
offer();
