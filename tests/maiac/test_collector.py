"""Garbage collections leave older objects out for a while, and nothing stays frozen."""

from __future__ import annotations

import gc
import weakref

import pytest

from maiac.collector import older_objects_frozen


class Ring:
    """An object that only a collection frees."""

    def __init__(self) -> None:
        self.me = self


def test_new_garbage_is_collected_and_old_garbage_later():
    old = Ring()
    gone = weakref.ref(old)
    with older_objects_frozen():
        del old
        new = weakref.ref(Ring())
        gc.collect()
        assert new() is None and gone() is not None
    gc.collect()
    assert gone() is None


def test_an_error_ends_it():
    with pytest.raises(ValueError, match="no"), older_objects_frozen():
        raise ValueError("no")
    assert gc.get_freeze_count() == 0


def test_what_others_froze_stays_frozen():
    gc.freeze()
    try:
        count = gc.get_freeze_count()
        with older_objects_frozen():
            pass
        assert gc.get_freeze_count() == count
    finally:
        gc.unfreeze()
