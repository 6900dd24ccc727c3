// Runs before anything else on the page.

// Gradio's own words, such as those on an upload field, are in the language that the browser names.
{
  const { lang } = document.currentScript.dataset;
  Object.defineProperty(navigator, "language", { get: () => lang });
}

// `assets/visit.js` says whether leaving loses something.
window.addEventListener("beforeunload", (event) => {
  if (!window.dndLeavingLoses?.()) return;
  event.preventDefault();
  event.stopImmediatePropagation(); // Gradio would break off what runs, though one may yet stay
});
