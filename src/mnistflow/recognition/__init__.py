"""From any picture to numbers, without PyTorch: decoding, finding and cutting digits, predictions by ONNX Runtime.

Also other people's handwriting, for a fair test. Imports `data`, `evaluation` and `core`.
"""
