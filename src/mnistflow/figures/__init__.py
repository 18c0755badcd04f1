"""Plots of the data, the training and the result, by Matplotlib.

Drawn without pyplot's global state, and with the same bytes each time; one file for each kind of picture. The only
user of Matplotlib. Imports `evaluation`, `models` and `core`.
"""

import os

# Set before Matplotlib reads it: Matplotlib cannot be imported with a backend that it does not have, and a notebook
# names one that only the notebook's environment has. Nothing here is shown in a window.
os.environ["MPLBACKEND"] = "agg"

from mnistflow.figures.classes import confusion, per_class, separation
from mnistflow.figures.confidence import reliability
from mnistflow.figures.convolution import convolution, worked_convolution
from mnistflow.figures.curves import comparison, curves, robustness, study
from mnistflow.figures.images import grid, mistakes, pick_stratified, predictions, samples
from mnistflow.figures.network import inside, weights
from mnistflow.figures.reading import reading
from mnistflow.figures.style import PALETTES, Background, Palette, background, save

__all__ = [
    "PALETTES",
    "Background",
    "Palette",
    "background",
    "comparison",
    "confusion",
    "convolution",
    "curves",
    "grid",
    "inside",
    "mistakes",
    "per_class",
    "pick_stratified",
    "predictions",
    "reading",
    "reliability",
    "robustness",
    "samples",
    "save",
    "separation",
    "study",
    "weights",
    "worked_convolution",
]
