// One side of the twin chat. Gradio replaces the markup at every step of a stream; this keeps the
// newest words in view unless the reader has scrolled up, copies the last answer, and tells Python
// which of its buttons was pressed.
let follow = true;

function log() { return element.querySelector(".dnd-log"); }

element.addEventListener("scroll", (event) => {
  const { scrollTop, scrollHeight, clientHeight } = event.target;
  follow = scrollHeight - scrollTop - clientHeight < 40;
}, true);

watch("value", () => {
  const box = log();
  if (box && follow) box.scrollTop = box.scrollHeight;
});

element.addEventListener("click", async (event) => {
  const button = event.target.closest(".dnd-tool");
  if (button?.dataset.event) trigger(button.dataset.event);
  if (!button?.matches(".dnd-copy")) return;
  const answers = element.querySelectorAll(".dnd-answer-text");
  const last = answers[answers.length - 1];
  if (!last) return;
  try {
    await navigator.clipboard.writeText(last.textContent);
    button.classList.add("is-copied");
    setTimeout(() => button.classList.remove("is-copied"), 1200);
  } catch {
    // No clipboard without a secure context: select the words instead, ready for Ctrl+C.
    getSelection().selectAllChildren(last);
  }
});
