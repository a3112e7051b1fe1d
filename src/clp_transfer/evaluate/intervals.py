"""How far a figure could lie from its value on other documents of the same kind: the bootstrap over documents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
# Numbers that are drawn at a time.
BLOCK = 1 << 21


def ratio_intervals(
    values: NDArray[np.float64], sizes: dict[str, NDArray[np.int64]], resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of Σ values / Σ sizes, by the name of the size, over resampled documents.

    values float64 [documents] and each size int64 [documents] belong together. Documents are drawn with replacement,
    as many as there are (Efron 1979); a ratio of sums, not a mean of ratios, so that long documents weigh as they do
    in the figure itself. Empty for fewer than two documents or no resamples: there is nothing to resample.
    """
    count = len(values)
    if count < 2 or resamples < 1:
        return {}
    draw = np.random.default_rng(seed)
    table = np.stack([values, *sizes.values()], axis=1).astype(np.float64)
    sums = np.empty((resamples, table.shape[1]))
    step = max(1, BLOCK // count)
    for start in range(0, resamples, step):
        drawn = draw.integers(0, count, size=(min(step, resamples - start), count))
        for column in range(table.shape[1]):
            sums[start : start + len(drawn), column] = table[drawn, column].sum(axis=1)
    ratios = sums[:, :1] / sums[:, 1:]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail], axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(sizes)}
