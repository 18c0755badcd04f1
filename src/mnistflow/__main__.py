"""``python -m mnistflow`` is the console command ``mnistflow``."""

from mnistflow.cli import main

main()
