"""How results of a frame are numbered."""

import numpy as np

from flows.risk.step import _counts_within
from schemas.results import RESULT


def test_more_results_than_sixteen_bits_count_are_told_apart() -> None:
    """Fails where the index of an account's rows wraps: consumers would drop what they take for a repetition."""
    account = np.repeat([8, 9], [70_000, 3]).astype(np.uint32)
    rows = np.zeros(account.shape[0], RESULT)

    rows["index"] = _counts_within(account)

    assert rows["index"][[0, 65_536, 69_999, 70_000, 70_002]].tolist() == [0, 65_536, 69_999, 0, 2]
    assert RESULT.itemsize == 72, "a row has grown"
