// One side of the twin chat. Gradio replaces the markup at every step of a stream; this keeps the
// newest words in view unless the reader has scrolled up, has both sides begin a turn at the same
// height and scroll together, copies the last answer, and tells Python which of its buttons was
// pressed. The right side also keeps the answers on the screen.
let follow = true;
let leadsUntil = 0;
let readUntil = 0;

function log() { return element.querySelector(".dnd-log"); }

function stay() {
  const box = log();
  if (box && follow) box.scrollTop = box.scrollHeight;
}

element.addEventListener("scroll", (event) => {
  const { scrollTop, scrollHeight, clientHeight } = event.target;
  const now = performance.now();
  // Another tab or size of the page scrolls, too. A dragged scroll bar or a flick goes on for longer.
  if (now < readUntil) {
    follow = scrollHeight - scrollTop - clientHeight < 40;
    readUntil = Math.max(readUntil, now + 300);
  }
  if (now < leadsUntil) {
    leadsUntil = Math.max(leadsUntil, now + 300);
    lead(event.target);
  }
}, true);

// The reader scrolls one side; the other goes along, question by question.
for (const input of ["wheel", "touchmove", "pointerdown", "keydown"]) {
  element.addEventListener(input, () => { leadsUntil = performance.now() + 1000; }, { passive: true });
  element.closest("#dnd-panes").addEventListener(input, () => { readUntil = performance.now() + 1000; }, { passive: true });
}

function marks(box) {
  const start = box.firstElementChild?.offsetTop ?? 0;
  const most = box.scrollHeight - box.clientHeight;
  const turns = [...box.querySelectorAll(".dnd-asked-row")];
  return [...turns.map((row) => Math.min(row.offsetTop - start, most)), most];
}

function lead(box) {
  for (const other of document.querySelectorAll("#dnd-panes .dnd-log")) {
    if (other === box) continue;
    const here = marks(box), there = marks(other);
    if (here.length !== there.length) continue;
    const next = here.findIndex((mark) => mark > box.scrollTop);
    if (next < 1) {
      other.scrollTop = next ? other.scrollHeight : box.scrollTop;
      continue;
    }
    const share = (box.scrollTop - here[next - 1]) / (here[next] - here[next - 1]);
    other.scrollTop = there[next - 1] + share * (there[next] - there[next - 1]);
  }
}

// A long answer on one side pushes the next question down; the other side's question goes with it.
function level() {
  const logs = [...document.querySelectorAll("#dnd-panes .dnd-log")];
  const sides = logs.map((box) => [...box.querySelectorAll(".dnd-asked-row")]);
  if (sides.length !== 2 || sides[0].length !== sides[1].length || !logs[0].clientHeight) return;
  const beside = logs[0].getBoundingClientRect().left !== logs[1].getBoundingClientRect().left;
  const margin = (row) => parseFloat(row.style.marginTop) || 0;
  const heights = sides.map((rows) => rows.slice(1).map(
    (row, turn) => row.offsetTop - margin(row) - rows[turn].offsetTop));
  sides.forEach((rows, side) => rows.slice(1).forEach((row, turn) => {
    const short = heights[1 - side][turn] - heights[side][turn];
    row.style.marginTop = beside && short > 0 ? `${short}px` : "";
  }));
}

const count = () => [".dnd-asked", ".dnd-answer"].map((each) => element.querySelectorAll(each).length);
let [asked, answered] = count();
watch("value", () => {
  level();
  const [askedBefore, answeredBefore] = [asked, answered];
  [asked, answered] = count();
  // A conversation that comes back with its visit was not asked now.
  if (document.documentElement.hasAttribute("data-dnd-restoring")) return;
  // Asked again or edited, the last question loses its answer.
  const sent = asked > askedBefore || (asked === askedBefore && answered < answeredBefore);
  follow ||= sent;
  stay();
  if (sent) keepInView();
});

// ---------------------------------------------------------------- on the screen

// What is drawn above the chat after a question was asked, the stages of an imprint say, pushes the
// answers down, on a phone off the screen. So the page follows them until its reader does anything.
// So it does a verdict that came since, as that of Show me does.
let keeps = false;
let judged = false;
const verdict = () => document.querySelector("#dnd-warning .dnd-verdict");
const bottom = (node) => node.getBoundingClientRect().bottom;

function keepInView() {
  if (!element.closest("#dnd-pane-right")) return; // one of the two is enough
  keeps = true;
  showAnswers();
}

function showAnswers() {
  if (!keeps) return;
  const panes = document.querySelector("#dnd-panes");
  // Where both do not fit, the newest answer comes first: the right one, if there is one.
  const newest = element.querySelector(".dnd-answer") ? element : panes;
  const nodes = [panes, newest];
  // Above the answers, so only where the newest fits on the screen below it.
  const news = judged ? null : verdict();
  if (news && bottom(newest) - news.getBoundingClientRect().top <= innerHeight) nodes.push(news);
  for (const node of nodes) node.scrollIntoView({ block: "nearest" });
}

for (const input of ["wheel", "touchmove", "pointerdown", "keydown", "drop"])
  document.addEventListener(input, () => {
    keeps = false;
    judged = Boolean(verdict());
  }, { capture: true, passive: true });
const sizes = new ResizeObserver(() => {
  level();
  stay();
  showAnswers();
});
sizes.observe(document.body);
sizes.observe(element);
element.addEventListener("toggle", level, true);

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
