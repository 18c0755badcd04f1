"""Networks as files that other programs run: ONNX, PyTorch's exported graph, ONNX in 8-bit integers.

Imports `recognition`, `models`, `config` and `core`; heavy packages only where they are needed.
"""
