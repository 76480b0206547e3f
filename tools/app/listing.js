// A list of clips: filtered, sorted and drawn here, so that 10,000 of them are no work for Python.
// props.value holds the rows as JSON, props.marks the corrections; a chosen clip goes to Python as
// the event "select". Only the rows in view are in the page.

const find = (selector) => element.querySelector(selector);
const view = find(".view"), all = find(".all"), list = find(".rows"), count = find(".count");
const controls = Object.fromEntries(
  [...element.querySelectorAll("[name]")].map((each) => [each.name, each]),
);
const address = new URL(location.href);
const SHOW = {
  all: ["all clips", () => true],
  wrong: ["wrong predictions", (row) => row.predicted && row.predicted !== row.label],
  right: ["correct predictions", (row) => row.predicted && row.predicted === row.label],
  untested: ["clips that were not tested", (row) => !row.predicted],
  marked: ["clips with a correction", (row) => row.clip in marks],
};
const by = (key, sign) => (a, b) => sign * ((a[key] ?? -Infinity) - (b[key] ?? -Infinity));
const SORT = {
  clip: ["name", () => 0], // as Python sent them
  loss: ["highest loss", by("loss", -1)],
  shortest: ["shortest", by("seconds", 1)],
  longest: ["longest", by("seconds", -1)],
};
let rows = [], shown = [], marks = {}, chosen = address.searchParams.get("clip"), waiting;

function fill(select, options, preferred) {
  const kept = select.value || preferred;
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  if (options.some(([value]) => value === kept)) select.value = kept;
}

function fillFrom(key) {
  const values = [...new Set(rows.map((row) => row[key]))].filter(Boolean).sort();
  fill(controls[key], [["", "any"], ...values.map((value) => [value, value])], "");
}

function read() {
  const { columns, values } = JSON.parse(props.value || '{"columns": [], "values": []}');
  rows = values.map((each) => {
    const row = Object.fromEntries(columns.map((name, index) => [name, each[index]]));
    row.text = [row.clip, row.label, row.group, row.title, row.predicted].join(" ").toLowerCase();
    return row;
  });
  ["label", "split", "predicted"].forEach(fillFrom);
  const [clip, label, predicted, group] = ["clip", "label", "predicted", "group"].map((key) => {
    const longest = rows.reduce((most, row) => Math.max(most, row[key].length), 0);
    return `minmax(0, ${Math.min(Math.max(longest, key.length) + (key === "predicted" ? 2 : 0), 24)}fr)`;
  });
  element.style.setProperty("--columns",
    `${clip} ${label} ${predicted} 5.4em ${group} 3.4em 2.6em`);
  fill(controls.show, Object.entries(SHOW).map(([key, [text]]) => [key, text]),
    address.searchParams.get("show") ?? props.show);
  fill(controls.sort, Object.entries(SORT).map(([key, [text]]) => [key, text]), props.sort);
}

function filter() {
  const words = controls.search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = ["label", "split", "predicted"].filter((key) => controls[key].value);
  const fits = SHOW[controls.show.value][1];
  shown = rows.filter((row) => fits(row)
    && wanted.every((key) => row[key] === controls[key].value)
    && words.every((word) => row.text.includes(word)));
  if (controls.sort.value !== "clip") shown.sort(SORT[controls.sort.value][1]);
  const number = (value) => value.toLocaleString("en");
  count.textContent = shown.length === rows.length ? `${number(rows.length)} clips`
    : `${number(shown.length)} of ${number(rows.length)} clips`;
  draw();
  view.scrollTop = Math.max(0, place() - 2) * height();
}

const place = () => shown.findIndex((row) => row.clip === chosen);
const height = () => parseFloat(getComputedStyle(element).getPropertyValue("--row"));

function draw() {
  const size = height();
  all.style.height = `${shown.length * size}px`;
  const first = Math.max(0, Math.floor(view.scrollTop / size) - 5);
  const last = Math.min(shown.length, first + Math.ceil(view.clientHeight / size) + 10);
  list.style.transform = `translateY(${first * size}px)`;
  list.replaceChildren(...shown.slice(first, last).map((row, index) => drawn(row, first + index)));
  view.setAttribute("aria-activedescendant", place() >= 0 ? `clip-${place()}` : "");
}

function drawn(row, index) {
  const line = document.createElement("div");
  line.className = "row";
  line.id = `clip-${index}`;
  line.setAttribute("role", "option");
  line.setAttribute("aria-selected", row.clip === chosen);
  line.setAttribute("aria-posinset", index + 1);
  line.setAttribute("aria-setsize", shown.length);
  const cell = (name, text, title = text) => {
    const span = document.createElement("span");
    span.className = name;
    span.textContent = text;
    span.title = title;
    line.append(span);
    return span;
  };
  cell("clip", row.clip);
  const label = cell("label", row.label);
  const right = marks[row.clip];
  if (right !== undefined && right !== row.label) {
    const old = document.createElement("s");
    old.textContent = row.label;
    label.replaceChildren(old, ` ${right || "left out"}`);
  }
  const wrong = row.predicted && row.predicted !== row.label;
  const predicted = row.predicted && `${wrong ? "✗" : "✓"} ${row.predicted}`;
  cell("predicted", predicted, row.predicted).classList.toggle("wrong", wrong);
  cell("split", row.split);
  cell("group", row.group);
  cell("seconds", row.seconds == null ? "" : `${row.seconds.toFixed(1)} s`);
  cell("loss", row.loss == null ? "" : row.loss.toFixed(2));
  line.addEventListener("click", () => choose(index));
  return line;
}

function choose(index, play = true) {
  if (!shown.length) return;
  index = Math.min(Math.max(index, 0), shown.length - 1);
  chosen = shown[index].clip;
  const top = index * height(), bottom = top + height();
  if (top < view.scrollTop) view.scrollTop = top;
  if (bottom > view.scrollTop + view.clientHeight) view.scrollTop = bottom - view.clientHeight;
  draw();
  address.searchParams.set("clip", chosen);
  history.replaceState(history.state, "", address);
  clearTimeout(waiting); // a key that is held down passes many clips
  waiting = setTimeout(() => trigger("select", { clip: chosen, play }), play ? 120 : 0);
}

const step = (by) => choose(place() < 0 ? 0 : place() + by);
const page = () => Math.floor(view.clientHeight / height());
const MOVES = {
  ArrowDown: () => step(1), ArrowUp: () => step(-1), PageDown: () => step(page()),
  PageUp: () => step(-page()), Home: () => choose(0), End: () => choose(shown.length - 1),
};
const KEYS = {
  j: () => step(1), k: () => step(-1),
  " ": () => document.querySelector(".player .play-pause-button")?.click(),
  m: () => {
    const input = document.querySelector("#right-label input");
    input?.focus();
    input?.select(); // so that typing replaces the prediction
  },
  "/": () => controls.search.focus(),
};

view.addEventListener("keydown", (event) => {
  if (!(event.key in MOVES) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  MOVES[event.key]();
});
document.addEventListener("keydown", (event) => {
  const busy = event.target.closest("input, textarea, select, button, a, [contenteditable]");
  if (busy || !(event.key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  KEYS[event.key]();
});
view.addEventListener("scroll", draw, { passive: true });
new ResizeObserver(draw).observe(view);
for (const control of Object.values(controls)) control.addEventListener("input", filter);

function start() {
  read();
  marks = JSON.parse(props.marks);
  filter();
  if (shown.length) choose(Math.max(0, place()), false);
}
watch("value", start);
watch("marks", () => {
  marks = JSON.parse(props.marks);
  if (controls.show.value === "marked") filter();
  else draw();
});
if (props.value) start();
