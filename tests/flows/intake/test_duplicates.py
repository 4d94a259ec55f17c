"""The duplicate window: exact, against a plain dict, through evictions and restarts."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.intake import duplicates
from flows.intake.duplicates import EVENT_ROW, IdTable, id_key

WINDOW = 50


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 4), st.lists(st.integers(0, 60), max_size=12), st.booleans()), max_size=60),
    block_rows=st.sampled_from([1, 5, 10_000]),
)
def test_the_table_is_a_dict_with_a_window(steps: list[tuple[int, list[int], bool]], block_rows: int) -> None:
    """An id that is forgotten early counts twice; one that is kept too long refuses what is new."""
    plain: dict[int, tuple[int, int]] = {}
    table = IdTable(EVENT_ROW.size, WINDOW)
    now = 1000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_RECENT_ROWS_MAX", block_rows)
        for wait, ids, restart in steps:
            table.look_up([id_key(str(one)) for one in ids])
            for place, one in enumerate(ids):
                now += wait
                key = id_key(str(one))
                row = table.get(key, now)
                known = plain.get(one)

                expected = known if known is not None and known[0] >= now - WINDOW else None

                assert (None if row is None else EVENT_ROW.unpack(row)[1:]) == expected
                if row is None:
                    table.put(key, EVENT_ROW.pack(key, now, place))
                    plain[one] = (now, place)
                elif place % 3 == 0:
                    time_ns, content = plain[one]
                    table.replace(key, EVENT_ROW.pack(key, time_ns, content + 100))
                    plain[one] = (time_ns, content + 100)
            table.settle(now)
            if restart:
                data = table.dump(now)
                table = IdTable(EVENT_ROW.size, WINDOW)
                table.load(data)
                assert table.dump(now) == data


def test_half_a_million_ids_are_dumped_and_loaded_quickly() -> None:
    """A checkpoint that takes seconds would stop a venue at each."""
    table = IdTable(EVENT_ROW.size, 10**9)
    for place in range(500_000):
        key = id_key(str(place))
        table.put(key, EVENT_ROW.pack(key, place, 0))
        if place % 4096 == 0:
            table.settle(place)

    started = time.process_time()
    data = table.dump(500_000)
    other = IdTable(EVENT_ROW.size, 10**9)
    other.load(data)
    took = time.process_time() - started

    other.look_up([id_key("77"), id_key("x")])
    row = other.get(id_key("77"), 500_000)
    assert row is not None
    assert EVENT_ROW.unpack(row)[1] == 77
    assert len(data) == 500_000 * EVENT_ROW.size
    assert took < 1.0


def test_what_left_the_window_is_given_back() -> None:
    """Memory that grows with the log would end every long replay."""
    table = IdTable(EVENT_ROW.size, 20_000)

    for place in range(200_000):
        key = id_key(str(place))
        table.put(key, EVENT_ROW.pack(key, place, 0))
        if place % 4096 == 0:
            table.settle(place)

    assert len(table) < 60_000
    assert table._rows.shape[0] < 200_000
