"""Any picture to digits, without PyTorch: decoding, finding and centring what is written, a network that answers.

Also other people's handwriting, for a fair test. Imports `data`, `evaluation` and `core`.
"""
