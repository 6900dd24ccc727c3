// The answers to correct, each below its prompt. Gradio runs this text as a function body with `element`, `props`,
// `trigger` and `watch` in scope. Text reaches the page through `textContent` and `value` alone.

const list = element.querySelector(".dnd-answers");
let taken = null; // nonce of the value that was drawn last

function append(index) {
  const row = document.createElement("label");
  row.id = `dnd-teach-answer-${index}`;
  const field = document.createElement("textarea");
  field.rows = 1;
  field.dir = "auto";
  field.maxLength = Number(list.dataset.most);
  // At once, so that a click on Start sends what was typed last.
  field.addEventListener("input", keepTyped);
  // `assets/visit.js` also sends one while it is typed, so that a reload loses none.
  field.addEventListener("blur", () => trigger("typed"));
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault(); // most answers are one line, and a stray line would be learnt
    row.nextElementSibling?.querySelector("textarea").focus();
  });
  row.append(document.createElement("b"), document.createElement("span"), field);
  list.append(row);
  return row;
}

function fieldOf(index) {
  return list.children[index].querySelector("textarea");
}

function keepTyped() {
  const rows = props.value.rows.map((row, index) => ({ ...row, answer: fieldOf(index).value }));
  props.value = { ...props.value, rows };
}

function draw() {
  const { rows = [], nonce } = props.value ?? {};
  if (nonce === taken) {
    // Gradio may tell of a value once more, a moment later, without what was typed since.
    if (rows.some(({ answer }, index) => answer !== fieldOf(index).value)) keepTyped();
    return;
  }
  taken = nonce;
  while (list.children.length > rows.length) list.lastChild.remove();
  rows.forEach(({ prompt, about, answer }, index) => {
    const [title, more, field] = (list.children[index] ?? append(index)).children;
    title.textContent = prompt;
    more.textContent = about;
    // Only another text: the same one would move the cursor to its end.
    if (field.value !== answer) field.value = answer;
  });
}
watch("value", draw);
draw();
