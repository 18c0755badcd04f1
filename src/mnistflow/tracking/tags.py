"""Names of the tags that are ours; the others that are set are MLflow's own."""

RESULT = "mnistflow.result"  # the digest of all that the run stands for
WEIGHTS = "mnistflow.weights"  # SHA-256; set last: training is recorded completely
DVC_WEIGHTS = "dvc.weights"  # MD5, what dvc.lock calls the weights by
DVC = "dvc.experiment"  # its name
MODEL = "mnistflow.model"  # the URI of the model to serve
MODEL_SHA256 = "mnistflow.model.sha256"  # of its archive
TEST_IMAGES = "mnistflow.test_images"  # SHA-256 of the images and labels that it was evaluated on
EVALUATED = "mnistflow.evaluated"  # the digest of the evaluation; set last: it is recorded completely
TRAINED_BY = "mnistflow.trained_by"  # the run that trained these weights, if another did
