"""params.yaml and the paths of dvc.yaml, as frozen, typed and validated objects.

Knows the form of the file and nothing of what its names stand for: whether there is such a model or data set, `checks`
finds out. Imports `core` alone. A change here runs every stage again.
"""
