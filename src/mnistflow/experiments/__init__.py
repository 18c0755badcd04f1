"""DVC experiments: running them, reading their results, studies, and verification in a clone.

The only user of DVC's own API. Imports `checks`, `tracking` and all below.
"""
