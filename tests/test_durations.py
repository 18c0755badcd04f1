from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mnistflow.core.files import md5
from mnistflow.pipeline import durations


def test_the_last_training_to_the_same_weights_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert durations.seconds_per_epoch() == {}
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    durations.note(md5(one), epochs=2, seconds=10)
    durations.note(md5(two), epochs=4, seconds=10)
    durations.note(md5(one), epochs=2, seconds=6)
    expected = {hashlib.md5(b"1").hexdigest(): 3.0, hashlib.md5(b"2").hexdigest(): 2.5}
    assert durations.seconds_per_epoch() == expected


def test_notes_of_one_subject_come_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    durations.note("a", seconds=1.0, each=[0.5])
    durations.note("b", seconds=2.0)
    durations.note("a", seconds=3.0)
    assert durations.read("a") == {"weights": "a", "seconds": 3.0, "each": [0.5]}
    assert durations.read("c") == {}
