// The page: takes a sound from a file or the microphone, and shows what the worker predicts.

import { fileRate } from "./sound.js";

const LARGEST = 50e6; // bytes of a file: an hour of MP3 decodes to 1.3 GB of memory
const SHOWN = 10; // labels; the others can be opened
const USUAL_RATE = 48000; // Hz, where the header does not tell, or tells what no browser decodes
const at = (id) => document.getElementById(id);
const settings = await (await fetch("settings.json")).json();
const worker = new Worker("worker.js", { type: "module" });
let latest = 0; // number of the sound that is being classified
let current; // its name and address
let recorder;

at("title").textContent = document.title = settings.title;
at("about").textContent = settings.about;
for (const { text, link } of settings.origin) {
  const part = link ? Object.assign(document.createElement("a"), { href: link }) : document.createElement("span");
  part.textContent = text;
  at("origin").append(part, " ");
}

worker.onmessage = ({ data }) => {
  if (data.ready) {
    at("file").disabled = false;
    at("record").disabled = !navigator.mediaDevices;
    if (!navigator.mediaDevices) at("record").title = "Browsers give the microphone to HTTPS pages only";
    say("Ready.");
  } else if (data.unusable) say(data.unusable);
  else if (data.id !== latest) return; // of a sound before the last
  else if (data.error) say(data.error);
  else if (data.progress) progress(data.progress / current.seconds);
  else show(data);
};
worker.onerror = () => say("This browser cannot run the model: it needs WebAssembly and module workers.");

at("file").onchange = ({ target }) => {
  if (target.files[0]) classify(target.files[0]);
  target.value = ""; // so that the same file can be chosen again
};
document.ondragover = (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
};
document.ondragleave = () => at("drop").classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file && !at("file").disabled) classify(file);
};
at("record").onclick = () => (recorder ? recorder.stop() : record());

async function record() {
  let stream;
  at("record").disabled = true; // while the browser asks
  try {
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
  } catch (error) {
    return say(`The microphone cannot be used: ${error.message}.`);
  } finally {
    at("record").disabled = false;
  }
  const pieces = [];
  recorder = new MediaRecorder(stream);
  recorder.ondataavailable = ({ data }) => pieces.push(data);
  recorder.onstop = () => {
    stream.getTracks().forEach((track) => track.stop());
    recorder = undefined;
    recording(false);
    classify(new File(pieces, "Recording", { type: pieces[0]?.type }));
  };
  recorder.start();
  recording(true);
  const seconds = settings.audio.max_seconds;
  say(`Recording, for ${clock(seconds)} at most.`);
  const mine = recorder;
  setTimeout(() => mine.state === "recording" && mine.stop(), 1000 * seconds);
}

function recording(on) {
  at("record").textContent = on ? "Stop" : "Record";
  at("record").setAttribute("aria-pressed", on);
}

async function classify(file) {
  const id = ++latest;
  at("result").hidden = true;
  at("player").pause();
  if (file.size > LARGEST) return say(`${file.name} is larger than ${LARGEST / 1e6} MB: cut it into parts.`);
  say(`Classifying ${file.name} …`);
  progress(0);
  try {
    const { channels, rate } = await decoded(await file.arrayBuffer());
    if (id !== latest) return;
    if (current) URL.revokeObjectURL(current.address);
    current = { name: file.name, address: URL.createObjectURL(file), seconds: channels[0].length / rate };
    worker.postMessage({ id, channels, rate }, channels.map((channel) => channel.buffer));
  } catch (error) {
    const undecoded = `This browser cannot decode ${file.name}: try WAV, FLAC, MP3 or Ogg.`;
    say(error.name === "EncodingError" ? undecoded : `${file.name} cannot be read: ${error.message}`);
  }
}

async function decoded(bytes) {
  const context = contextAt(fileRate(new Uint8Array(bytes)) ?? USUAL_RATE);
  const sound = await context.decodeAudioData(bytes);
  const channels = Array.from({ length: sound.numberOfChannels }, (_, index) => sound.getChannelData(index).slice());
  return { channels, rate: sound.sampleRate };
}

function contextAt(rate) {
  try {
    return new OfflineAudioContext(1, 1, rate);
  } catch {
    return new OfflineAudioContext(1, 1, USUAL_RATE); // the rate is out of this browser's range
  }
}

function show({ probabilities, spans, overTime, peaks }) {
  const ranked = probabilities.map((probability, index) => ({ probability, label: settings.labels[index] }));
  ranked.sort((a, b) => b.probability - a.probability);
  const [best] = ranked;
  at("answer").textContent = best.label;
  const rows = ranked.map((each) => {
    const item = document.createElement("li");
    item.className = "row";
    Object.assign(item.dataset, each); // all digits, for programs
    item.append(...cells(each.label, each.probability));
    return item;
  });
  const shown = rows.length > SHOWN ? SHOWN / 2 : rows.length;
  at("labels").replaceChildren(...rows.slice(0, shown));
  at("more").hidden = shown === rows.length;
  at("more").querySelector("ol").replaceChildren(...rows.slice(shown));
  at("course").hidden = spans.length === 1;
  at("segments").replaceChildren(...spans.map((span, index) => segment(span, overTime[index])));
  at("player").src = current.address;
  at("result").dataset.file = current.name;
  at("result").hidden = false;
  current.peaks = peaks;
  draw(peaks);
  say(`${current.name}, ${clock(current.seconds)}: ${best.label}, ${percent(best.probability)}.`);
}

function segment([start, end], probabilities) {
  const best = probabilities.indexOf(Math.max(...probabilities));
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.className = "row";
  button.title = "Play from here";
  Object.assign(button.dataset, { start, end });
  const time = document.createElement("span");
  time.className = "time";
  time.textContent = `${clock(start)}–${clock(end)}`;
  button.append(time, ...cells(settings.labels[best], probabilities[best]));
  button.onclick = () => {
    at("player").currentTime = start;
    at("player").play();
  };
  item.append(button);
  return item;
}

at("player").ontimeupdate = ({ target: { currentTime } }) => {
  for (const button of at("segments").querySelectorAll("button"))
    button.setAttribute("aria-current", currentTime >= button.dataset.start && currentTime < button.dataset.end);
};

function cells(label, probability) {
  const [bar, name, number] = ["bar", "label", "number"].map((part) =>
    Object.assign(document.createElement("span"), { className: part }),
  );
  bar.style.width = `${100 * probability}%`;
  name.textContent = label;
  number.textContent = percent(probability);
  return [bar, name, number];
}

function draw(peaks) {
  const canvas = at("wave");
  const pen = canvas.getContext("2d");
  const middle = canvas.height / 2;
  const loudest = peaks.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = getComputedStyle(canvas).color;
  for (let x = 0; x < peaks.length / 2; x++) {
    const [low, high] = [peaks[2 * x] / loudest, peaks[2 * x + 1] / loudest];
    pen.fillRect(x, middle * (1 - high), 1, Math.max(1, middle * (high - low)));
  }
  canvas.setAttribute("aria-label", `Waveform of ${current.name}, ${clock(current.seconds)}`);
}
matchMedia("(prefers-color-scheme: dark)").onchange = () => at("result").hidden || draw(current.peaks);

const percent = (probability) => `${(100 * probability).toFixed(1)}%`;
const clock = (seconds) => {
  const tenths = Math.round(10 * seconds);
  return `${Math.floor(tenths / 600)}:${((tenths % 600) / 10).toFixed(1).padStart(4, "0")}`;
};
function say(words) {
  at("status").textContent = words;
  at("progress").hidden = true;
}
function progress(share) {
  at("progress").value = share;
  at("progress").hidden = false;
}
