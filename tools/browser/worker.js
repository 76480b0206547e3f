// Classifies sounds beside the page, so that the page answers while the model works.

import * as ort from "./onnxruntime/ort.js";
import { fault, features, mixed, passages, peaks, resample, segments, softmax } from "./sound.js";

const PEAKS = 600; // of the waveform that the page draws
const ready = load();
ready.then(
  () => postMessage({ ready: true }),
  (error) => postMessage({ unusable: `The model cannot be loaded: ${error.message}.` }),
);

async function load() {
  const [settings, binary, model] = await Promise.all([
    fetched("settings.json").then((answer) => answer.json()),
    fetched("onnxruntime/ort.wasm").then((answer) => answer.arrayBuffer()),
    fetched("model.onnx").then((answer) => answer.arrayBuffer()),
  ]);
  ort.env.wasm.numThreads = 1; // more need headers that few static servers send
  ort.env.wasm.wasmBinary = binary;
  const session = await ort.InferenceSession.create(model, { logSeverityLevel: 3 });
  const mel = settings.mel_filters && new Float64Array(await (await fetched(settings.mel_filters)).arrayBuffer());
  return { audio: settings.audio, session, mel };
}

async function fetched(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name}: HTTP ${answer.status}`);
  return answer;
}

// {id, channels: [Float32Array], rate} in; {id, error}, {id, progress} or the prediction out.
onmessage = async ({ data: { id, channels, rate } }) => {
  try {
    const { audio, session, mel } = await ready;
    const wave = mixed(channels);
    const error = fault(wave, rate);
    postMessage(error ? { id, error } : { id, ...(await predicted(id, wave, rate, audio, session, mel)) });
  } catch (error) {
    postMessage({ id, error: `It cannot be classified: ${error.message}.` });
  }
};

async function predicted(id, samples, rate, audio, session, mel) {
  const spans = [];
  const logits = [];
  for (const { start, wave } of passages(samples, rate, audio)) {
    const end = start + wave.length / rate;
    for (const [number, segment] of segments(resample(wave, rate, audio.sampling_rate), audio).entries()) {
      const begin = Math.min(start + number * audio.hop_seconds, Math.max(start, end - audio.segment_seconds));
      const { data, shape } = features(segment, audio, mel);
      const input = new ort.Tensor("float32", data, [1, ...shape]);
      const output = await session.run({ [session.inputNames[0]]: input });
      logits.push(Array.from(output.logits.data));
      spans.push([begin, Math.min(begin + audio.segment_seconds, end)]);
      postMessage({ id, progress: spans.at(-1)[1] });
    }
  }
  const mean = logits[0].map((_, label) => logits.reduce((sum, row) => sum + row[label], 0) / logits.length);
  return { probabilities: softmax(mean), spans, overTime: logits.map(softmax), peaks: peaks(samples, PEAKS) };
}
