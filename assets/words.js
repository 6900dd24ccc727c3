// Gettext for the scripts of the page, put before each that says something. English is in the code; a script tells
// `speak` what another language says instead, as Python's `script_words` makes it.
let said;
let pluralForm;
function speak(words) {
  said = JSON.parse(words);
  // The catalogue's own rule, which is a C expression, and C and JavaScript write these alike.
  pluralForm = Function("n", `return Number(${said.plural})`);
}

const write = (number, digits = 0) => number.toLocaleString(said.code, { minimumFractionDigits: digits, maximumFractionDigits: digits });
const fill = (sentence, values) => sentence.replace(/\{(\w+)\}/g, (hole, name) => values[name] ?? hole);
const _ = (message, values = {}) => fill(said.messages[message] ?? message, values);
function ngettext(one, other, count, values = {}) {
  const forms = said.messages[one] ?? [one, other];
  return fill(forms[said.messages[one] ? pluralForm(count) : Number(count !== 1)], { number: write(count), ...values });
}

// Templates are English too: `data-say` marks an element whose words are a message, and
// `data-say-label` one whose label is.
function sayTemplate(root) {
  for (const node of root.querySelectorAll("[data-say]")) {
    node.dataset.say ||= node.innerHTML;
    node.innerHTML = _(node.dataset.say); // messages may hold markup; they come from our catalogues
  }
  for (const node of root.querySelectorAll("[data-say-label]")) {
    node.dataset.sayLabel ||= node.getAttribute("aria-label");
    node.setAttribute("aria-label", _(node.dataset.sayLabel));
  }
}
