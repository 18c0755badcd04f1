"""Turn the original files into normalised tensors: training, validation and test split."""

import runner

from mnistflow.config.params import load
from mnistflow.config.paths import Paths
from mnistflow.core import devices
from mnistflow.core.documents import write_document
from mnistflow.core.tensors import write_split
from mnistflow.data import datasets, preprocessing


def main() -> None:
    params, paths = load(), Paths.load()
    device = devices.resolve(params.preprocess.device)
    print(f"preprocess: {params.dataset} on {devices.describe(device)}")

    dataset = datasets.build(params.dataset, params.dataset_arguments)
    published = dataset.read(paths.raw / params.dataset)
    splits = preprocessing.prepare(
        published,
        dataset=params.dataset,
        validation_size=params.preprocess.validation_size,
        normalize=params.preprocess.normalize,
        pad=params.preprocess.pad,
        seed=params.seed,
        device=device,
    )

    files = (paths.train_split, paths.validation_split, paths.test_split)
    for path, split in zip(files, splits, strict=True):
        write_split(path, split)
    summary = preprocessing.summary(*splits, published=published, files=files, device=device)
    write_document(paths.data_metrics, summary)
    if warning := summary.warning():
        print(f"preprocess: warning: {warning}")


if __name__ == "__main__":
    runner.run(main)
