// The choice of a table's columns: which hold the prompts, the instructions and the labels. It is put before each
// script that offers it, the canvas's and Measure's, and after `words.js`. Text reaches the page through
// `textContent` alone.

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function select(className, label, options, chosen, onChange) {
  const node = make("select", className);
  if (label) node.setAttribute("aria-label", label);
  for (const [value, text] of options) {
    const option = make("option", "", text);
    option.value = value;
    option.selected = value === chosen;
    node.append(option);
  }
  node.addEventListener("change", () => onChange(node.value));
  return node;
}

// Draws columns as the server describes them; `choose` gets all three roles. One column leaves no choice.
function drawColumns(section, columns, choose) {
  section.hidden = columns.length < 2;
  if (section.hidden) return;
  if (!section.hasChildNodes()) {
    const scroll = make("div", "dnd-column-scroll");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.append(make("table"));
    section.append(make("div", "dnd-column-choices"), scroll);
  }
  const [choices, scroll] = section.children;
  const names = columns.map(({ name }) => [name, name]);
  const of = (role) => columns.find((column) => column.role === role)?.name ?? "";
  // A second choice may come before the first one's answer, and adds to it.
  const roles = { text: of("text"), instruction: of("instruction"), label: of("label") };
  const choosing = section.contains(document.activeElement) && document.activeElement.dataset.role;
  const field = (role, text, options) => {
    const label = make("label", "", `${text} `);
    const menu = select("dnd-column", "", options, of(role), (value) => {
      roles[role] = value;
      // A column has one role: what had it before gives it up.
      for (const other of ["instruction", "label"]) {
        if (other === role || roles[other] !== value) continue;
        roles[other] = "";
        choices.querySelector(`[data-role="${other}"]`).value = "";
      }
      choose({ ...roles });
    });
    menu.dataset.role = role;
    label.append(menu);
    return label;
  };
  const none = [["", _("none")]];
  choices.replaceChildren(
    field("text", _("Prompt or input"), of("text") ? names : [...none, ...names]),
    field("instruction", _("Instruction"), [...none, ...names.filter(([name]) => name !== of("text"))]),
    field("label", _("Label"), [...none, ...names.filter(([name]) => name !== of("text"))]),
  );
  if (choosing) choices.querySelector(`[data-role="${choosing}"]`)?.focus();
  // Those in use come first: a phone has no room for all.
  const shown = [...columns.filter(({ role }) => role), ...columns.filter(({ role }) => !role)];
  const head = make("tr");
  const roleNames = { text: _("Prompt"), instruction: _("Instruction"), label: _("Label") };
  for (const { name, role } of shown) {
    const cell = make("th", role ? "is-used" : "", name);
    cell.scope = "col";
    if (role) cell.append(make("span", "dnd-role", roleNames[role]));
    head.append(cell);
  }
  const rows = columns[0].samples.map((_, row) => {
    const line = make("tr");
    line.append(...shown.map(({ samples, role }) => make("td", role ? "is-used" : "", samples[row])));
    return line;
  });
  section.setAttribute("aria-label", _("Columns"));
  scroll.setAttribute("aria-label", _("First rows"));
  scroll.firstChild.replaceChildren(head, ...rows);
}
