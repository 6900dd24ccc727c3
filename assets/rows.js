// The columns of the rows to measure on. Gradio runs this text as a function body with `element`, `props`, `trigger` and
// `watch` in scope, after `words.js` and `columns.js`.

let asked = null; // the latest choice, until its answer is there
function draw() {
  const { words, columns, choices } = JSON.parse(props.value);
  speak(words);
  // The answer to an earlier choice would undo a later one.
  if (asked && choices && Object.entries(asked).some(([role, name]) => choices[role] !== name)) return;
  asked = null;
  drawColumns(element.querySelector(".dnd-columns"), columns, (roles) => {
    asked = roles;
    trigger("choose", roles);
  });
}
watch("value", draw);
draw();
