"""Near-duplicates by MinHash, as in FineWeb: texts that share about three quarters of their runs of five words.

datatrove does it in three steps: signatures of every text, texts with an equal bucket of signatures, clusters of them.
(Lee et al. 2022, "Deduplicating Training Data Makes Language Models Better"; 14 buckets of 8 hashes find 92% of the
pairs of a similarity of 0.8, and 5% of those of 0.5.)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datatrove.pipeline.dedup import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupSignature,
)
from datatrove.utils.hashing import HashConfig

from clp_transfer.files import write_json
from clp_transfer.prepare.chunks import chunk_paths
from clp_transfer.prepare.clean import rows
from clp_transfer.prepare.clean.executor import Step
from clp_transfer.prepare.clean.filters import Words
from clp_transfer.prepare.clean.ngrams import runs, word_hashes
from clp_transfer.prepare.clean.reading import ReadChunk

# sha1 is never used (see Signatures), but datatrove's default, xxhash, refuses strings from version 4 on.
CONFIG = MinhashConfig(hash_config=HashConfig(precision=64, hash_fc="sha1"))
# datatrove holds a number of every hash for every run of words: of a long text, so many runs at a time.
_RUNS = 2048
# Clusters are found by one task that holds all pairs: it gets the memory of so many cores.
_CLUSTER_CPUS = 8
EXAMPLES = 10


class Signatures(MinhashDedupSignature):  # type: ignore[misc]
    """datatrove's signatures over this project's hashes of runs of words: six times as fast, and flat memory."""

    def get_shingles(self, text: str) -> npt.NDArray[np.uint64]:
        """The hashes of the text's runs of words, shape (runs, 1)."""
        size = self.config.n_grams
        found = [run for words, _ in word_hashes([text]) for _, run in runs(words, size, size)]
        return np.concatenate(found).reshape(-1, 1) if found else np.empty((0, 1), np.uint64)

    def get_signature(self, shingles: npt.NDArray[np.uint64]) -> list[list[int]]:
        """The smallest value of every hash, in buckets."""
        sign = super().get_signature
        parts = [sign(shingles[start : start + _RUNS]) for start in range(0, len(shingles), _RUNS)]
        return parts[0] if len(parts) == 1 else np.min(np.array(parts, np.uint64), axis=0).tolist()


def steps(chunks: Path, removed: Sequence[Path], work: Path) -> list[Step]:
    """What datatrove has to do; `removed`: results of earlier steps, whose rows are not compared."""
    signatures, buckets, clusters = (str(work / name) for name in ("signatures", "buckets", "clusters"))
    number = len(chunk_paths(chunks))
    sign: list[Any] = [ReadChunk(chunks, removed), Signatures(signatures, CONFIG, language=Words())]
    match = [MinhashDedupBuckets(signatures, buckets, config=CONFIG, lines_to_buffer=64)]
    cluster = [MinhashDedupCluster(buckets, clusters, CONFIG, save_cluster_id=True, lines_to_buffer=4096)]
    return [
        Step("near-signatures", sign, number),
        Step("near-buckets", match, CONFIG.num_buckets),
        Step("near-clusters", cluster, 1, _CLUSTER_CPUS),
    ]


def collect(chunks: Path, work: Path, results: Path) -> None:
    """Write which rows are near-duplicates: of each cluster, the first text in the corpus's order stays.

    `results/examples.json` then has the first few, `{"chunk", "row", "kept_chunk", "kept_row"}`.
    """
    first = np.empty((0, 2), np.int64)  # of each cluster: chunk and row of its first text, or -1
    examples: list[dict[str, int]] = []
    for rank, path in enumerate(chunk_paths(chunks)):
        chunk, file = int(path.stem), work / "clusters" / f"{rank:06d}.clusters"
        members = (
            np.fromfile(file, "<u4").reshape(-1, 2).astype(np.int64) if file.exists() else np.empty((0, 2), np.int64)
        )
        members = members[np.argsort(members[:, 0], kind="stable")]
        clusters, begins = np.unique(members[:, 1], return_index=True)
        if len(clusters) and clusters[-1] >= len(first):
            more = np.full((max(clusters[-1] + 1, 2 * len(first)) - len(first), 2), -1, np.int64)
            first = np.concatenate([first, more])
        begins = begins[first[clusters, 0] < 0]  # the clusters of which no chunk before had a text
        first[members[begins, 1]] = np.stack([np.full(len(begins), chunk), members[begins, 0]], axis=1)
        members = np.delete(members, begins, axis=0)
        rows.write(results, chunk, {"near_duplicate": {"": members[:, 0].tolist()}} if len(members) else {})
        for row, cluster in members[: EXAMPLES - len(examples)].tolist():
            kept_chunk, kept_row = first[cluster].tolist()
            examples.append({"chunk": chunk, "row": row, "kept_chunk": kept_chunk, "kept_row": kept_row})
    write_json(results / "examples.json", examples)
