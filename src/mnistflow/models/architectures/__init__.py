"""Networks by name. A new one is a file in this folder with one registered class, and a block in params.yaml."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
