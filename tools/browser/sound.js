// From a sound file to what the model takes. Each step is that of export/classify.py and
// tools/classifier.py, so that probabilities equal those of evaluate to three decimals.

const LEAST_SECONDS = 0.1;
const SILENCE = 2 ** -15; // peak to peak: less than one step of 16-bit audio
const LEAST_REST = 0.1; // of a segment: a shorter rest of a long file is ignored
// The filter of soxr's HQ is a sine in Kaiser's window. Fitted to its impulse response, to 3 in 10,000
// (above 48 kHz, 2 in 1,000): beta, half the length in samples of the lower rate, and the middle of
// its edge as a share of the lower Nyquist frequency. Simple ratios of rates have one of their own.
const SIMPLE = { beta: 13.04, half: 96.83 };
const OTHER = { beta: 15.98, half: 109.67 };
const EDGE = 0.95685;
const MP3_RATES = [44100, 48000, 32000];
const AAC_RATES = [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025];

// The sampling rate in a file's header, in Hz, or null. The browser's own resampler is too coarse
// for equal predictions, and a file is not resampled if it is decoded at its own rate.
export function fileRate(bytes) {
  try {
    return headerRate(bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  } catch (error) {
    if (error instanceof RangeError) return null; // the header is cut off
    throw error;
  }
}

function headerRate(bytes, view) {
  const text = (at, length) => String.fromCharCode(...bytes.subarray(at, at + length));
  if (text(0, 4) === "RIFF") {
    for (let at = 12; ; at += 8 + view.getUint32(at + 4, true) + (view.getUint32(at + 4, true) & 1))
      if (text(at, 4) === "fmt ") return view.getUint32(at + 12, true);
  }
  if (view.getUint32(0) === 0x1a45dfa3) return 48000; // WebM, as browsers record: Opus
  if (text(0, 4) === "OggS") {
    if (text(28, 8) === "OpusHead") return 48000;
    return text(29, 4) === "FLAC" ? view.getUint32(55) >>> 12 : view.getUint32(40, true);
  }
  if (text(4, 4) === "ftyp") {
    const codes = new TextDecoder("latin1").decode(bytes);
    const at = codes.indexOf("mp4a", codes.indexOf("stsd"));
    return at < 0 ? null : view.getUint16(at + 28);
  }
  let at = 0;
  if (text(0, 3) === "ID3")
    at = 10 + [6, 7, 8, 9].reduce((size, index) => size * 128 + bytes[index], 0);
  if (text(at, 4) === "fLaC") return view.getUint32(at + 18) >>> 12;
  while (view.getUint16(at) < 0xffe0) at += 1; // to the first MPEG frame
  const version = (bytes[at + 1] >> 3) & 3;
  if (((bytes[at + 1] >> 1) & 3) === 0) return AAC_RATES[(bytes[at + 2] >> 2) & 15] ?? null;
  return MP3_RATES[(bytes[at + 2] >> 2) & 3] / { 3: 1, 2: 2, 0: 4 }[version] || null;
}

// The mean of the channels; the first one where they cancel out.
export function mixed(channels) {
  const [first] = channels;
  if (channels.length === 1) return first;
  const mono = new Float32Array(first.length);
  const size = Math.max(1, Math.floor(65536 / channels.length));
  for (let start = 0; start < mono.length; start += size) {
    const end = Math.min(start + size, mono.length);
    for (let at = start; at < end; at++) {
      let sum = 0;
      for (const channel of channels) sum += channel[at];
      mono[at] = sum / channels.length;
    }
    const cancelled = extent(mono, start, end) < 0.01 * extent(first, start, end);
    if (cancelled) mono.set(first.subarray(start, end), start);
  }
  return mono;
}

function extent(wave, start = 0, end = wave.length) {
  let low = Infinity;
  let high = -Infinity;
  for (let at = start; at < end; at++) {
    if (wave[at] < low) low = wave[at];
    if (wave[at] > high) high = wave[at];
  }
  return high - low;
}

// Why a sound cannot be classified, or null.
export function fault(wave, rate) {
  if (wave.length < LEAST_SECONDS * rate) return "At least 0.1 s of sound are needed.";
  if (!wave.every(Number.isFinite)) return "The file holds samples that are not finite numbers.";
  return extent(wave) < SILENCE ? "This is silence: there is nothing to classify." : null;
}

// Resample as soxr's HQ does.
export function resample(wave, from, to) {
  if (from === to) return wave;
  let divisor = from;
  for (let rest = to; rest; ) [divisor, rest] = [rest, divisor % rest];
  const up = to / divisor;
  const down = from / divisor;
  const scale = Math.min(1, to / from);
  const { beta, half: width } = Math.max(up, down) <= 4 ? SIMPLE : OTHER;
  const half = Math.ceil(width / scale);
  const weight = (x) => {
    const angle = Math.PI * EDGE * scale * x;
    const sine = angle === 0 ? 1 : Math.sin(angle) / angle;
    const inside = Math.max(0, 1 - ((x * scale) / width) ** 2);
    return (EDGE * scale * sine * bessel(beta * Math.sqrt(inside))) / bessel(beta);
  };
  const filters = []; // one for each phase that occurs, half before a point and half after
  const out = new Float32Array(Math.round((wave.length * to) / from));
  for (let n = 0; n < out.length; n++) {
    const at = Math.floor((n * down) / up);
    const phase = n * down - at * up;
    const filter = (filters[phase] ??= Float64Array.from({ length: 2 * half }, (_, tap) =>
      weight(tap - half + 1 - phase / up),
    ));
    const start = at - half + 1;
    const last = Math.min(filter.length, wave.length - start);
    let sum = 0;
    for (let tap = Math.max(0, -start); tap < last; tap++) sum += filter[tap] * wave[start + tap];
    out[n] = sum;
  }
  return out;
}

// The modified Bessel function of order 0, by its series.
function bessel(x) {
  let sum = 1;
  for (let term = 1, k = 1; term > 1e-12 * sum; k++) sum += term *= (x / (2 * k)) ** 2;
  return sum;
}

// Passages of `audio.max_seconds`, at which clips of the corpus were cut: [{start in s, wave}]. The
// rest of a long file starts early enough to fill one segment.
export function passages(wave, rate, audio) {
  const limit = Math.round(audio.max_seconds * rate);
  const whole = Math.round(audio.segment_seconds * rate);
  const found = [];
  let start = 0;
  for (; wave.length - start >= limit; start += limit)
    found.push({ start: start / rate, wave: wave.subarray(start, start + limit) });
  const rest = wave.length - start;
  if (start > 0 && rest < LEAST_REST * whole) return found;
  if (start > 0) start -= Math.min(Math.max(0, whole - rest), limit);
  found.push({ start: start / rate, wave: wave.subarray(start) });
  return found;
}

// Cut as for training; the last segment is moved back to end with the clip.
export function segments(wave, audio) {
  const length = Math.round(audio.segment_seconds * audio.sampling_rate);
  const hop = Math.max(1, Math.round(audio.hop_seconds * audio.sampling_rate));
  if (wave.length <= length + 1) return [wave.subarray(0, length)];
  const starts = [];
  for (let start = 0; start <= wave.length - length; start += hop) starts.push(start);
  if (starts.at(-1) + length < wave.length - 1) starts.push(wave.length - length);
  return starts.map((start) => wave.subarray(start, start + length));
}

// What the model takes for one segment, {data, shape}, rounded to half precision as for training.
export function features(wave, audio, mel) {
  const kinds = { ASTFeatureExtractor: ast, WhisperFeatureExtractor: whisper };
  const found = (kinds[audio.feature_extractor_type] ?? waveform)(wave, audio, mel);
  return { data: halved(found.data), shape: found.shape };
}

function waveform(wave, audio) {
  if (!audio.do_normalize) return { data: Float32Array.from(wave), shape: [wave.length] };
  const mean = wave.reduce((sum, x) => sum + x, 0) / wave.length;
  const variance = wave.reduce((sum, x) => sum + (x - mean) ** 2, 0) / wave.length;
  const scale = 1 / Math.sqrt(variance + 1e-7);
  return { data: wave.map((x) => (x - mean) * scale), shape: [wave.length] };
}

// Kaldi's filter bank, (frames, bands).
function ast(wave, audio, mel) {
  const window = Float64Array.from({ length: 400 }, (_, n) => hann(n, 399));
  const frames = Math.min(audio.max_length, Math.floor((wave.length - 400) / 160) + 1);
  const bank = filterBank(window, 512, mel);
  const [mean, scale] = audio.do_normalize ? [audio.mean, 1 / (2 * audio.std)] : [0, 1];
  const data = new Float32Array(audio.max_length * bank.bands).fill(-mean * scale);
  for (let frame = 0; frame < frames; frame++) {
    const samples = Float64Array.from(wave.subarray(frame * 160, frame * 160 + 400));
    const level = samples.reduce((sum, x) => sum + x, 0) / 400;
    for (let n = 0; n < 400; n++) samples[n] -= level;
    for (let n = 399; n >= 0; n--) samples[n] -= 0.97 * samples[Math.max(0, n - 1)];
    bank.energies(samples).forEach((energy, band) => {
      const level = Math.log(Math.max(energy, 1.192092955078125e-7));
      data[frame * bank.bands + band] = (level - mean) * scale;
    });
  }
  return { data, shape: [audio.max_length, bank.bands] };
}

// Whisper's log-mel spectrogram, (bands, frames).
function whisper(wave, audio, mel) {
  const { n_fft: size, hop_length: hop, n_samples: length } = audio;
  const padded = new Float64Array(length + size);
  padded.set(wave, size / 2);
  for (let n = 1; n <= size / 2; n++) { // both ends are mirrored
    padded[size / 2 - n] = padded[size / 2 + n];
    padded[size / 2 + length - 1 + n] = padded[size / 2 + length - 1 - n];
  }
  const bank = filterBank(Float64Array.from({ length: size }, (_, n) => hann(n, size)), size, mel);
  const frames = Math.floor(length / hop);
  const data = new Float64Array(bank.bands * frames);
  for (let frame = 0; frame < frames; frame++)
    bank.energies(padded.subarray(frame * hop, frame * hop + size)).forEach((energy, band) => {
      data[band * frames + frame] = Math.log10(Math.max(energy, 1e-10));
    });
  const floor = data.reduce((most, x) => Math.max(most, x)) - 8;
  return { data: Float32Array.from(data, (x) => (Math.max(x, floor) + 4) / 4), shape: [bank.bands, frames] };
}

const hann = (n, period) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / period);

// Energies of a frame in mel bands: its power spectrum of `size` points times the filters, (size / 2
// + 1, bands). The transform is a product with a matrix: lengths such as Whisper's 400 are no power
// of two, and it takes less time than the model.
function filterBank(window, size, mel) {
  const [length, bins] = [window.length, size / 2 + 1];
  const bands = mel.length / bins;
  const cosines = new Float64Array(bins * length);
  const sines = new Float64Array(bins * length);
  for (let bin = 0; bin < bins; bin++)
    for (let n = 0; n < length; n++) {
      const angle = (2 * Math.PI * ((bin * n) % size)) / size;
      cosines[bin * length + n] = window[n] * Math.cos(angle);
      sines[bin * length + n] = window[n] * Math.sin(angle);
    }
  const energies = (frame) => {
    const sums = new Float64Array(bands);
    for (let bin = 0, row = 0; bin < bins; bin++) {
      let real = 0;
      let imaginary = 0;
      for (let n = 0; n < length; n++, row++) {
        real += cosines[row] * frame[n];
        imaginary += sines[row] * frame[n];
      }
      const power = real * real + imaginary * imaginary;
      for (let band = 0; band < bands; band++) sums[band] += power * mel[bin * bands + band];
    }
    return sums;
  };
  return { bands, energies };
}

// Round float32 to the 11 bits of half precision, ties to even, in place.
export function halved(values) {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let at = 0; at < values.length; at++) {
    if (Math.abs(values[at]) < 2 ** -14) values[at] = Math.fround(values[at] + 0.75) - 0.75;
    else bits[at] = (bits[at] + 0xfff + ((bits[at] >>> 13) & 1)) & 0xffffe000;
  }
  return values;
}

export function softmax(logits) {
  const most = Math.max(...logits);
  const powers = Array.from(logits, (x) => Math.exp(x - most));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((x) => x / sum);
}

// The lowest and highest sample of each of `count` equal stretches, to draw: [low, high, low, …].
export function peaks(wave, count) {
  const found = new Float32Array(2 * count);
  for (let index = 0; index < count; index++) {
    const start = Math.floor((index * wave.length) / count);
    const end = Math.max(start + 1, Math.floor(((index + 1) * wave.length) / count));
    for (const x of wave.subarray(start, end)) {
      found[2 * index] = Math.min(found[2 * index], x);
      found[2 * index + 1] = Math.max(found[2 * index + 1], x);
    }
  }
  return found;
}
