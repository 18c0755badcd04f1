"""``python -m mnistflow`` is the console command ``mnistflow``."""

from mnistflow.pipeline import stage

__all__ = ["main"]


def main() -> None:
    """Run the command; what takes long to import is imported when Ctrl-C already ends it with one line."""
    stage.begin("mnistflow")
    from mnistflow.cli import main as cli

    cli.main()


if __name__ == "__main__":
    main()
