// The columns of the rows to measure on. Gradio runs this text as a function body with `element`, `props`, `trigger` and
// `watch` in scope, after `words.js` and `columns.js`.

function draw() {
  const { words, columns } = JSON.parse(props.value);
  speak(words);
  drawColumns(element.querySelector(".dnd-columns"), columns, (roles) => trigger("choose", roles));
}
watch("value", draw);
draw();
