"""From any picture to digits, without PyTorch: decoding, finding and centring digits, predictions by ONNX Runtime.

Also other people's handwriting, for a fair test. Imports `data`, `evaluation` and `core`.
"""
