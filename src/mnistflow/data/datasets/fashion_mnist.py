"""Fashion-MNIST: 60,000 + 10,000 articles of clothing, 28 x 28 (Xiao, Rasul and Vollgraf 2017)."""

from __future__ import annotations

from mnistflow.data.datasets.dataset import register
from mnistflow.data.datasets.idx import IDX

__all__ = ["FashionMNIST"]

SHA256 = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}


@register("fashion_mnist")
class FashionMNIST(IDX):
    """In the form of MNIST and harder: ten kinds of clothing, from photographs."""

    title = "Fashion-MNIST"
    torchvision_name = "FashionMNIST"
    checksums = SHA256
    classes = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
