"""dvc.lock: the dependencies, params and outputs of each stage when it last ran."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, JsonValue, ValidationError

from mnistflow.core.files import parse_yaml

__all__ = ["Entry", "Lock", "Stage"]


class Entry(BaseModel):
    """A file or folder; the MD5 of a folder is that of its list of files, and ends with ``.dir``."""

    path: str
    md5: str | None = None


class Stage(BaseModel):
    """A stage when it was run."""

    deps: list[Entry] = []
    outs: list[Entry] = []
    params: dict[str, dict[str, JsonValue]] = {}  # by file

    def dependency(self, path: Path) -> str | None:
        """The MD5 of a file that it depends on; None: it does not."""
        return next((entry.md5 for entry in self.deps if entry.path == path.as_posix()), None)

    def output(self, path: Path) -> str | None:
        """The MD5 of a file that it left; None: it leaves no such file."""
        return next((entry.md5 for entry in self.outs if entry.path == path.as_posix()), None)

    @property
    def values(self) -> dict[str, JsonValue]:
        """The params that it was run with, by the paths that dvc.yaml names; a block is one value."""
        return self.params.get("params.yaml", {})


class Lock(BaseModel):
    """The whole file."""

    stages: dict[str, Stage] = {}

    @classmethod
    def parse(cls, text: str, name: str) -> Lock:
        """Read its text.

        Args:
            text: of dvc.lock.
            name: what to call it in messages.

        Raises:
            ValueError: it is not a lock file.
        """
        try:
            return cls.model_validate(parse_yaml(text, name))
        except ValidationError as error:
            raise ValueError(f"{name} is not a lock file of DVC's; `dvc repro` makes one") from error

    @classmethod
    def read(cls, path: Path = Path("dvc.lock")) -> Lock:
        """Read the file; nothing has been run where there is none.

        Raises:
            ValueError: it is not a lock file, or cannot be read.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
        return cls.parse(text, str(path))

    def stage(self, name: str) -> Stage:
        """A stage; one that has not been run has no files and no params."""
        return self.stages.get(name, Stage())
