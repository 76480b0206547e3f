"""Write every clip's embedding, the mean of the trained model's last layer over time, as Parquet.

data/embeddings.parquet has one row per clip: clip, label, split, predicted, embedding, and x and y,
its place on the app's page Map. Similar clips have similar embeddings, so they show duplicates and
wrong labels. data/reference.npz has what tools.predict and the app compare other sounds with.
Uses the exported model and the encoded clips.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsRegressor
from threadpoolctl import threadpool_limits
from tqdm import tqdm
from transformers import PreTrainedModel

from genrepro.core.errors import PipelineError
from genrepro.core.files import atomic_output
from genrepro.core.params import load
from genrepro.core.paths import EMBEDDINGS, ENCODED, EXPORT, REFERENCE
from genrepro.core.stage import log, run
from genrepro.encoding.store import Encoded
from genrepro.model import allocator, backbone, device
from genrepro.model.inference import MOST_NUMBERS, average_segments, batches, segment_logits
from tools import results, unlike

AT_ONCE = 256  # segments between two steps of the progress bar
TSNE_CLIPS = 5000  # more would take minutes


def main() -> None:
    argparse.ArgumentParser(
        prog=unlike.COMMAND,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    params = load()
    allocator.keep_freed_memory()
    used = device.set_up_inference(params.evaluate)
    made_of, clips = unlike.made_of(), results.clips()
    encoded = Encoded.open(ENCODED)
    with device.explain_out_of_memory(device.LESS_MEMORY):
        model = backbone.load(EXPORT).to(used)
        found = process(model, encoded, params.evaluate.batch_size)
    table, reference = tabulate(found, clips, labels_of(model), made_of)
    with atomic_output(REFERENCE) as draft:
        reference.save(draft)
    with atomic_output(EMBEDDINGS) as draft:
        pq.write_table(table, draft)
    log(f"{EMBEDDINGS}: {len(table):,} clips; `make app` shows them on its page Map")


@dataclass(frozen=True)
class Processed:
    """A model's outputs for all clips.

    Attributes:
        clips: names, in the order of the encoded corpus.
        clip_of: (segments,), the index in `clips` of each.
        logits: (clips, labels).
        embeddings: (clips, channels), the mean of the last layer.
        profiles: (segments, layers, channels), as `run_segments` returns them.
    """

    clips: list[str]
    clip_of: np.ndarray
    logits: np.ndarray
    embeddings: np.ndarray
    profiles: np.ndarray


def process(model: PreTrainedModel, encoded: Encoded, batch_size: int) -> Processed:
    """Run the model on all clips of an encoded corpus, with a progress bar."""
    place = {clip: index for index, clip in enumerate(dict.fromkeys(encoded.clip))}
    clip_of = np.array([place[clip] for clip in encoded.clip])
    parts = []
    with tqdm(total=len(encoded), desc="embeddings", unit=" segments", disable=None) as bar:
        for start in range(0, len(encoded), AT_ONCE):
            rows = range(start, min(start + AT_ONCE, len(encoded)))
            parts.append(run_segments(model, [encoded[row] for row in rows], batch_size))
            bar.update(len(rows))
    logits, profiles = (np.concatenate(each) for each in zip(*parts))
    last = profiles[:, -1, : profiles.shape[2] // 2]
    return Processed(
        list(place),
        clip_of,
        average_segments(logits, clip_of),
        average_segments(last, clip_of),
        profiles,
    )


def run_segments(
    model: PreTrainedModel, segments: Sequence[np.ndarray], batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Logits and profiles of segments: statistics of several of the model's layers.

    Args:
        segments, batch_size: as of `segment_logits`.

    Returns:
        (segments, labels), and (segments, layers, 2 × channels) float32: the mean and the standard
        deviation over time of at most unlike.LAYERS layers. The last of them is the model's last.
    """
    found: list[torch.Tensor] = []

    def keep(module: object, arguments: object, output) -> None:
        states = output.hidden_states
        count = min(unlike.LAYERS, len(states))
        kept = [states[round(at)] for at in np.linspace(0, len(states) - 1, count)[:-1]]
        both = [_mean_and_deviation(state) for state in [*kept, output.last_hidden_state]]
        found.append(torch.stack(both, dim=1).cpu())

    body = next(
        child for name, child in model.named_children() if not name.startswith(backbone.HEAD)
    )
    hook = body.register_forward_hook(keep)
    model.config.output_hidden_states = True
    try:
        logits = segment_logits(model, segments, batch_size)
    finally:
        model.config.output_hidden_states = False
        hook.remove()
    most = MOST_NUMBERS[model.device.type]
    rows = list(chain(*batches([segment.shape for segment in segments], batch_size, most)))
    profiles = np.empty((len(segments), *found[0].shape[1:]), np.float32)
    profiles[rows] = torch.cat(found).numpy()
    return logits, profiles


def _mean_and_deviation(state: torch.Tensor) -> torch.Tensor:
    """(batch, frames, channels) to (batch, 2 × channels)."""
    state = state.float()
    return torch.cat([state.mean(dim=1), state.std(dim=1, correction=0)], dim=1)


def labels_of(model: PreTrainedModel) -> list[str]:
    return [model.config.id2label[index] for index in range(model.config.num_labels)]


def tabulate(
    found: Processed, clips: pd.DataFrame, labels: list[str], made_of: dict[str, str]
) -> tuple[pa.Table, unlike.Reference]:
    """The table of all clips, and the reference for other sounds.

    Args:
        clips: as results.clips().

    Raises:
        PipelineError: clips and encoded corpus do not fit each other.
    """
    facts = clips.set_index("clip")
    if missing := set(found.clips) - set(facts.index):
        raise PipelineError(
            f"{len(missing)} encoded clips, such as {min(missing)}, are not in data/clips.csv: "
            "type `dvc repro`."
        )
    facts = facts.loc[found.clips]
    split = facts["split"].to_numpy()
    places, how = arrange(found.embeddings)
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array(found.embeddings.astype(np.float32).reshape(-1)), found.embeddings.shape[1]
    )
    table = pa.table(
        {
            "clip": found.clips,
            "label": facts["label"].tolist(),
            "split": split.tolist(),
            "predicted": [labels[best] for best in found.logits.argmax(axis=1)],
            "embedding": vectors,
            "x": pa.array(places[:, 0], pa.float32()),
            "y": pa.array(places[:, 1], pa.float32()),
        }
    )
    described = {"made_of": json.dumps(made_of), "map": how}
    return table.replace_schema_metadata(described), reference(found, split, made_of)


def reference(found: Processed, split: np.ndarray, made_of: dict[str, str]) -> unlike.Reference:
    by_segment = split[found.clip_of]
    profiles = {}
    for name in ("train", "validation"):
        rows = by_segment == name
        _, clip_of = np.unique(found.clip_of[rows], return_inverse=True)
        profiles[name] = found.profiles[rows], clip_of
    segments, clip_of = profiles["train"]
    shape = segments.shape[1:]
    train = average_segments(segments.reshape(len(segments), -1), clip_of).reshape(-1, *shape)
    return unlike.Reference.fit(made_of, train, *profiles["validation"])


def arrange(embeddings: np.ndarray) -> tuple[np.ndarray, str]:
    """Places of clips in two dimensions, from 0 to 1; similar clips are close to each other.

    Returns:
        (clips, 2), and how they were found, in a sentence. The same clips get the same places.
    """
    count = len(embeddings)
    chosen = np.sort(np.random.default_rng(0).permutation(count)[:TSNE_CLIPS])
    with threadpool_limits(1):  # sums over several threads differ in their last bits
        reduced = embeddings
        if min(embeddings.shape) > 50:  # as van der Maaten and Hinton (2008) do
            reduced = PCA(50, random_state=0).fit_transform(embeddings)
        perplexity = min(30, max(1, (len(chosen) - 1) / 3))
        tsne = TSNE(perplexity=perplexity, init="pca", random_state=0)
        places = tsne.fit_transform(reduced[chosen])
        how = "t-SNE of the embeddings: neighbours are alike, but distances between groups and "
        how += "their sizes mean little."
        if count > len(chosen):
            near = KNeighborsRegressor(3, weights="distance").fit(reduced[chosen], places)
            rest = np.setdiff1d(np.arange(count), chosen)
            every = np.empty((count, 2), places.dtype)
            every[chosen], every[rest] = places, near.predict(reduced[rest])
            places = every
            how += f" It was computed for {len(chosen):,} of {count:,} clips; each of the others "
            how += "is between the three most similar of them."
    low, high = places.min(axis=0), places.max(axis=0)
    return (places - low) / np.maximum(high - low, 1e-9), how


if __name__ == "__main__":
    run(main)
