// The page Map: clips as points on a canvas, to choose by mouse or by keyboard.
// gradio passes `element`, `props`, `trigger` and `watch`; props.value is what map.points returns.

const canvas = element.querySelector('canvas'), pen = canvas.getContext('2d');
const [colour, split] = element.querySelectorAll('select');
const legend = element.querySelector('.legend'), status = element.querySelector('.status');
const RADIUS = 4, REACH = 12;  // pixels
const ORANGE = '#d9772b';
// Ten colours that differ for the colour-blind too (Petroff 2021, arXiv:2107.02270); the next ten
// labels have the same ones in another shape.
const COLOURS = ['#3f90da', '#ffa90e', '#bd1f01', '#94a4a2', '#832db6', '#a96b59', '#e76300',
  '#b9ac70', '#717581', '#92dadd'];
const CORNERS = [16, 4, 3, 5, 6];  // 16: a circle
let points = [], labels = [], shapes = [], only = null;  // only: the one label that is not pale, or null
let view = {zoom: 1, x: 0.5, y: 0.5}, chosen = null, hovered = null, drag = null;

const hue = index => COLOURS[index % COLOURS.length];
const shape = index => {  // corners around 0, 0 at a distance of 1
  const count = CORNERS[Math.floor(index / COLOURS.length) % CORNERS.length];
  return Array.from({length: count}, (_, at) => (2 * at / count - 0.5) * Math.PI)
    .map(angle => [Math.cos(angle), Math.sin(angle)]);
};
const css = name => getComputedStyle(element).getPropertyValue(name).trim();
const shown = point => split.value === 'all' || point.split === split.value;
const wrong = point => point.predicted !== point.label;
const about = point => `${point.clip}: ${point.label}` +
  (wrong(point) ? `, predicted as ${point.predicted}` : '') + ` (${point.split || 'unused'})`;

function size() { return [canvas.clientWidth, canvas.clientHeight]; }
function place(point) {  // in pixels
  const [width, height] = size(), edge = 16;
  return [
    width / 2 + (point.x - view.x) * (width - 2 * edge) * view.zoom,
    height / 2 - (point.y - view.y) * (height - 2 * edge) * view.zoom,
  ];
}

function tint(point, grey) {
  if (colour.value === 'error') return wrong(point) ? ORANGE : grey;
  return hue(point.label_index);
}

function draw() {
  const [width, height] = size(), scale = window.devicePixelRatio || 1;
  if (!width) return;  // the page is not visible
  canvas.width = width * scale; canvas.height = height * scale;
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  const grey = css('--body-text-color-subdued'), ink = css('--body-text-color');
  const order = points.filter(shown);
  if (colour.value === 'error') order.sort((a, b) => wrong(a) - wrong(b));  // mistakes on top
  for (const point of order) {
    const [x, y] = place(point);
    if (x < -RADIUS || y < -RADIUS || x > width + RADIUS || y > height + RADIUS) continue;
    const pale = (colour.value === 'error' && !wrong(point)) || (only && only !== point.label);
    pen.globalAlpha = pale ? 0.25 : 0.8;
    pen.fillStyle = tint(point, grey); pen.strokeStyle = ink; pen.lineWidth = 0.5;
    pen.beginPath();
    for (const [dx, dy] of shapes[colour.value === 'label' ? point.label_index : 0])
      pen.lineTo(x + RADIUS * dx, y + RADIUS * dy);
    pen.closePath(); pen.fill(); pen.stroke();
  }
  pen.globalAlpha = 1;
  for (const [point, line] of [[hovered, 1.5], [chosen, 3]]) {
    if (!point) continue;
    const [x, y] = place(point);
    pen.strokeStyle = ink; pen.lineWidth = line;
    pen.beginPath(); pen.arc(x, y, RADIUS + 3, 0, 7); pen.stroke();
  }
  const named = hovered || chosen;
  if (!named) return;
  const [x, y] = place(named), text = about(named);
  pen.font = `13px ${css('font-family')}`;
  const wide = pen.measureText(text).width + 10, left = Math.max(2, Math.min(x + 10, width - wide - 2));
  const top = y > 34 ? y - 32 : y + 12;
  pen.fillStyle = css('--background-fill-primary'); pen.globalAlpha = 0.9;
  pen.fillRect(left, top, wide, 22);
  pen.globalAlpha = 1; pen.fillStyle = ink;
  pen.fillText(text, left + 5, top + 15);
}

let asked = false;
function redraw() {  // at most once per frame
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; draw(); });
}

function nearest(x, y) {
  let best = null, least = REACH ** 2;
  for (const point of points.filter(shown)) {
    const [px, py] = place(point), distance = (px - x) ** 2 + (py - y) ** 2;
    if (distance < least) { best = point; least = distance; }
  }
  return best;
}

// The next point to the right, left, above or below: the nearest within 45 degrees of that way.
function beside(from, right, up) {
  let best = null, least = Infinity;
  for (const point of points) {
    if (point === from || !shown(point)) continue;
    const dx = point.x - from.x, dy = point.y - from.y;
    const along = dx * right + dy * up, across = Math.abs(dx * up) + Math.abs(dy * right);
    const distance = along + 2 * across;
    if (along > 0 && across <= along && distance < least) { best = point; least = distance; }
  }
  return best;
}

function choose(point, listen) {
  if (!point) return;
  chosen = point;
  const [x, y] = place(point), [width, height] = size();
  if (x < 0 || y < 0 || x > width || y > height) [view.x, view.y] = [point.x, point.y];
  status.textContent = about(point);
  redraw();
  if (listen) trigger('select', {clip: point.clip});
}

function zoom(factor, x = 0.5, y = 0.5) {  // x and y: the place that stays, as shares of the canvas
  const next = Math.min(60, Math.max(1, view.zoom * factor));
  view.x += (x - 0.5) * (1 / view.zoom - 1 / next);
  view.y -= (y - 0.5) * (1 / view.zoom - 1 / next);
  view.zoom = next;
  if (next === 1) [view.x, view.y] = [0.5, 0.5];
  redraw();
}

function fill() {
  const found = props.value || {labels: [], clips: []};
  labels = found.labels;
  shapes = labels.map((_, index) => shape(index));
  points = found.clips.map(([clip, label, split, predicted, x, y]) => (
    {clip, label: labels[label], label_index: label, split, predicted: labels[predicted], x, y}
  ));
  [chosen, hovered, only] = [null, null, null];
  view = {zoom: 1, x: 0.5, y: 0.5};
  describe();
}

function describe() {  // the legend, and how many clips are shown
  legend.replaceChildren();
  const visible = points.filter(shown), mistakes = visible.filter(wrong).length;
  status.textContent = `${visible.length.toLocaleString('en')} clips, ` +
    `${mistakes.toLocaleString('en')} predicted wrongly`;
  if (colour.value === 'label') labels.forEach((label, index) => {
    const button = entry('button', hue(index), label, shapes[index]);
    button.setAttribute('aria-pressed', only === label);
    button.onclick = () => {
      only = only === label ? null : label;
      describe();
      legend.children[index].focus();
    };
  });
  else {
    entry('span', ORANGE, 'predicted wrongly');
    entry('span', css('--body-text-color-subdued'), 'predicted correctly');
    only = null;
  }
  redraw();
}

function entry(tag, color, text, corners = shape(0)) {  // of the legend
  const made = document.createElement(tag), dot = document.createElement('i');
  const outline = corners.map(([x, y]) => `${50 + 50 * x}% ${50 + 50 * y}%`);
  dot.style.cssText = `background: ${color}; clip-path: polygon(${outline})`;
  made.append(dot, text);
  legend.append(made);
  return made;
}

const at = event => {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};
canvas.addEventListener('pointerdown', event => {
  drag = {from: at(event), view: {...view}, moved: false};
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener('pointermove', event => {
  const [x, y] = at(event), [width, height] = size();
  if (drag) {
    const dx = x - drag.from[0], dy = y - drag.from[1];
    drag.moved ||= Math.hypot(dx, dy) > 4;
    if (drag.moved && view.zoom > 1) {
      view.x = drag.view.x - dx / width / view.zoom;
      view.y = drag.view.y + dy / height / view.zoom;
    }
  } else {
    hovered = nearest(x, y);
    canvas.style.cursor = hovered ? 'pointer' : '';
  }
  redraw();
});
canvas.addEventListener('pointerup', event => {
  if (drag && !drag.moved) { canvas.focus(); choose(nearest(...at(event)), true); }
  drag = null;
});
canvas.addEventListener('pointercancel', () => { drag = null; });
canvas.addEventListener('pointerleave', () => { hovered = null; redraw(); });
canvas.addEventListener('wheel', event => {
  if (!event.ctrlKey && document.activeElement !== canvas) return;  // the page scrolls
  event.preventDefault();
  const [x, y] = at(event), [width, height] = size();
  zoom(event.deltaY < 0 ? 1.25 : 0.8, x / width, y / height);
}, {passive: false});

const WAYS = {ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]};
canvas.addEventListener('keydown', event => {
  const visible = points.filter(shown);
  if (!visible.length || event.ctrlKey || event.altKey || event.metaKey) return;
  const middle = {x: view.x, y: view.y};
  if (WAYS[event.key]) choose(chosen ? beside(chosen, ...WAYS[event.key]) : closest(middle), false);
  else if (event.key === 'Enter' || event.key === ' ') choose(chosen || closest(middle), true);
  else if (event.key === '+' || event.key === '-') {
    if (chosen) [view.x, view.y] = [chosen.x, chosen.y];
    zoom(event.key === '+' ? 1.5 : 1 / 1.5);
  } else if (event.key === '0') zoom(0);
  else return;
  event.preventDefault();
});
const closest = to => points.filter(shown).reduce((a, b) =>
  Math.hypot(a.x - to.x, a.y - to.y) <= Math.hypot(b.x - to.x, b.y - to.y) ? a : b);

for (const button of element.querySelectorAll('[data-factor]'))
  button.onclick = () => zoom(Number(button.dataset.factor));
for (const select of [colour, split]) select.addEventListener('change', describe);
new ResizeObserver(redraw).observe(canvas);
new MutationObserver(redraw).observe(document.body, {attributes: true, attributeFilter: ['class']});
watch('value', fill);
fill();
