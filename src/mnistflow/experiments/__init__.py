"""DVC experiments: running them, reading back what they left, studies of many, and the pipeline run again elsewhere.

The only user of DVC's own API. Imports `checks`, `tracking` and all below.
"""
