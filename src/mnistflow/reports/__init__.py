"""Results for people: a self-contained HTML report on one, a comparison of several.

Reads files and what MLflow has recorded, computes nothing anew. Imports `tracking`, `evaluation` and below.
"""
