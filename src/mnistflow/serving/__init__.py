"""Models over HTTP: a catalogue, an API for programs, and a page to draw on.

The only user of FastAPI and uvicorn. Imports `tracking`, `export` and `recognition`; never PyTorch.
"""
