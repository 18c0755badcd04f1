from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from dvc.utils.serialize import parse_yaml

from mnistflow.core import files

SCALARS = """
1e-3 1.0e-3 1E5 .5 5. -0.0 +1 -7 0o10 010 0x1F 1_000 1:30 .inf -.inf .nan inf nan
true True TRUE yes no on off null Null ~ "" "1" '0.1' text 1e 2024-01 1.2.3 0b11 a-b -0x1F .5e3 .5e+3 1.e3 0b12
""".split()  # noqa: SIM905 - shorter to read


@pytest.mark.parametrize("text", SCALARS)
def test_a_scalar_is_read_as_dvc_reads_it(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"key: {text}\n", encoding="utf-8")
    ours, dvcs = files.read_yaml(path), parse_yaml(f"key: {text}\n", "x.yaml")
    assert repr(ours) == repr(dvcs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "line 2, column 1: duplicate key 'a'"),
        ("a: [1\n", "not valid YAML, line 2"),
        ("1: a\n", "key 1 is not text"),
        ("a: !!python/object:os.system x\n", "the tag tag:yaml.org,2002:python/object:os.system does not fit"),
        ("a: !other x\n", "the tag !other does not fit"),
        ("a: !!binary aGk=\n", "does not fit"),
        ("a: !!set {b}\n", "does not fit"),
        ("a: !!omap [b: 1]\n", "does not fit"),
        ("a: !!timestamp 2020-01-01\n", "does not fit"),
        ("a: !!map [1]\n", "does not fit"),
        ("a: !!seq {b: 1}\n", "does not fit"),
        ("a: !!bool maybe\n", "line 1, column 4: 'maybe' is not a valid !!bool"),
        ("a: !!int x\n", "'x' is not a valid !!int"),
        ("a: !!float x\n", "'x' is not a valid !!float"),
        ("a: " + "9" * 5000, "is not a valid !!int"),
        ("a: " + "[" * 5000 + "]" * 5000, "it is nested more than 100 levels deep"),
        ("a: " + "[" * 300_000, "it is nested more than 100 levels deep"),  # which would end Python itself
        ("- " * 20_000 + "1", "it is nested more than 100 levels deep"),
        ("a: &a [*a]\n", "its aliases (*name) make more than 1,000,000 values of it"),
        (
            "a0: &a0 [1, 1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
            "its aliases (*name) make more than 1,000,000 values of it",
        ),
        ("a: 1\n---\nb: 1\n", "found another document"),
        ("a: \0\n", "not valid YAML"),
    ],
)
def test_what_is_not_yaml_is_refused_with_its_place(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="x.yaml is not valid YAML") as caught:
        files.read_yaml(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_alias_is_what_it_repeats(tmp_path: Path) -> None:
    assert files.parse_yaml("a: &a [1, 2]\nb: *a\n", "x.yaml") == {"a": [1, 2], "b": [1, 2]}


def test_json_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(ValueError, match="x.json cannot be read"):
        files.read_json(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("name", "reason"), [("loop", "symbolic links"), ("x" * 5000, "file name too long"), ("a\0b", "null byte")]
)
def test_a_path_that_no_file_can_have_is_refused(
    name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match="is not a usable path") as caught:
        files.named_path(name)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 150
    assert files.named_path("none/at/all") == tmp_path / "none" / "at" / "all"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (files.read_yaml, files.read_json, files.read_csv):
        with pytest.raises(ValueError, match=r"nowhere.* cannot be read"):
            read(tmp_path / "nowhere")


def test_writes_are_atomic(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with files.atomic_write(path) as temporary:
        temporary.write_text("one", encoding="utf-8")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "one"

    def fail() -> None:
        with files.atomic_write(path) as temporary:
            temporary.write_text("two", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text(encoding="utf-8") == "one"
    assert list(path.parent.iterdir()) == [path]


def test_leftovers_of_a_killed_process_are_removed_by_the_next_write(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    left, at_work = tmp_path / f".file.{ended.pid}.x.tmp", tmp_path / f".file.{os.getpid()}.x.tmp"
    other = tmp_path / f".file2.{ended.pid}.x.tmp"
    for path in (left, at_work, other):
        path.mkdir()
        (path / "half").touch()
    with files.atomic_write(tmp_path / "file") as temporary:
        temporary.write_text("x", encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {"file", at_work.name, other.name}
    left.mkdir()
    files.remove(tmp_path / "file")
    assert {path.name for path in tmp_path.iterdir()} == {at_work.name, other.name}


def test_what_a_library_writes_beside_goes_as_well(tmp_path: Path) -> None:
    with files.atomic_write(tmp_path / "file") as temporary:
        temporary.write_text("x", encoding="utf-8")
        temporary.with_name(".its-own").write_text("y", encoding="utf-8")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_file_gets_the_mode_that_the_user_has_set(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with files.atomic_write(tmp_path / "file") as temporary:
            temporary.write_text("x", encoding="utf-8")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_tables_and_objects_come_back(tmp_path: Path) -> None:
    files.write_csv(tmp_path / "t.csv", [{"a": 1, "b": None}, {"a": 0.5, "b": "x,y"}])
    assert (tmp_path / "t.csv").read_bytes() == b'a,b\n1,\n0.5,"x,y"\n'
    assert files.read_csv(tmp_path / "t.csv") == [{"a": "1", "b": ""}, {"a": "0.5", "b": "x,y"}]
    files.write_json(tmp_path / "o.json", {"é": [1, None]})
    assert files.read_json(tmp_path / "o.json") == {"é": [1, None]}
    (tmp_path / "o.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no JSON object"):
        files.read_json(tmp_path / "o.json")


def test_what_must_outlive_an_experiment_belongs_to_the_main_repository(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    assert files.project_root() == tmp_path.resolve()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    assert files.project_root() == (tmp_path / "main").resolve()


def test_a_link_leads_to_what_was_brought(tmp_path: Path) -> None:
    path, images, others = tmp_path / "below" / "link", tmp_path / "images", tmp_path / "others"
    images.mkdir()
    for target in (images, images, others):
        files.link(path, target)
        assert path.readlink() == target
        assert list(path.parent.iterdir()) == [path]
    files.link(path, None, otherwise="nothing\n")
    assert not path.is_symlink()
    assert path.read_text(encoding="utf-8") == "nothing\n"
    files.link(path, images)
    files.link(path, None)
    assert list(path.parent.iterdir()) == []
    assert images.is_dir()

    files.note(path, {"images": images, "weights": None})
    assert files.read_json(path) == {"images": str(images)}
    files.note(path, {"images": None, "weights": None})
    assert not path.exists()


def test_links_into_the_project_move_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, elsewhere = tmp_path / "one", tmp_path / "elsewhere"
    for folder in (project / "shapes", elsewhere):
        folder.mkdir(parents=True)
        (folder / "image").write_text(folder.name)
    monkeypatch.setenv("DVC_ROOT", str(project))
    for name, target in (("own", project / "shapes"), ("other", elsewhere)):
        files.link(project / "inputs" / name, target)
    files.note(project / "links.json", {"own": project / "shapes", "other": elsewhere})
    assert files.read_json(project / "links.json") == {"own": "shapes", "other": str(elsewhere)}
    moved = project.rename(tmp_path / "two")
    assert (moved / "inputs" / "own" / "image").read_text() == "shapes"
    assert (moved / "inputs" / "other" / "image").read_text() == "elsewhere"
