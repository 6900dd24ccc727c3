// Runs before anything else on the page.

// Gradio's own words, such as those on an upload field, are in the language that the browser names.
{
  const { lang } = document.currentScript.dataset;
  Object.defineProperty(navigator, "language", { get: () => lang });
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
