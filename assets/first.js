// Runs before anything else on the page. `assets/visit.js` says whether leaving loses something.
window.addEventListener("beforeunload", (event) => {
  if (!window.dndLeavingLoses?.()) return;
  event.preventDefault();
  event.stopImmediatePropagation(); // Gradio would break off what runs, though one may yet stay
});
