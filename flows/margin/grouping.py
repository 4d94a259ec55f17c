"""Numbers for what stands together: rows that are equal in some columns share a number."""

from typing import Any

import numpy as np
import numpy.typing as npt

from flows.margin.model import Int64Array

Int32Array = npt.NDArray[np.int32]


def dense(*keys: npt.NDArray[np.floating[Any]] | npt.NDArray[np.integer[Any]]) -> tuple[Int64Array, Int32Array]:
    """Return the first row of each distinct key, and (K,) which of them each row has; keys in rising order."""
    order = np.lexsort(keys[::-1])
    new = np.zeros(order.shape[0], np.bool_)
    for key in keys:
        new[1:] |= key[order][1:] != key[order][:-1]
    which = np.empty(order.shape[0], np.int32)
    which[order] = np.cumsum(new)
    # The sort is stable, so the first of equal rows is the first of them in instrument order.
    starts = np.flatnonzero(np.concatenate(([True], new[1:]))) if order.shape[0] else np.zeros(0, np.int64)
    return order[starts].astype(np.int64), which
