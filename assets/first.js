// Runs before anything else on the page.

// Gradio's own words, such as those on an upload field, are in the language that the browser names.
{
  const { lang } = document.currentScript.dataset;
  Object.defineProperty(navigator, "language", { get: () => lang });
}

// The clock of Gradio's loading sign goes on after the sign is gone: a frame after another, 60 a second, for as long as the
// page is open. No clock of Gradio's is ever seen here, because every event hides its progress.
{
  const ask = window.requestAnimationFrame;
  const isClock = (draw) => /performance\.now\(\).*1e3/.test(draw);
  window.requestAnimationFrame = (draw) => (isClock(draw) ? 0 : ask.call(window, draw));
}

// Until a visit is back, the page would look like a new one; `assets/visit.js` says when it is, and keeps both keys.
try {
  const comesBack = localStorage.getItem("dnd-visit") && !localStorage.getItem("dnd-visit-empty");
  document.documentElement.toggleAttribute("data-dnd-restoring", Boolean(comesBack));
} catch { /* a page in a frame may be denied its storage */ }

// `assets/visit.js` says whether leaving loses something.
window.addEventListener("beforeunload", (event) => {
  if (!window.dndLeavingLoses?.()) return;
  event.preventDefault();
  event.stopImmediatePropagation(); // Gradio would break off what runs, though one may yet stay
});
