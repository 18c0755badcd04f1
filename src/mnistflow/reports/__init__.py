"""Results laid out for people: one as a page that needs nothing else, several side by side.

Reads files and what MLflow has recorded, computes nothing anew. Imports `tracking`, `evaluation` and below.
"""
