#!/usr/bin/env bash
# What only a GPU can show, in under eight minutes: the tests that need one, what the loop adds to its arithmetic, the
# time to 99 and 99.4 %, and the pipeline itself.
#
#     benchmarks/on_gpu.sh [OUT]
#
# Needs PyTorch with CUDA and the packages that pyproject.toml names; without DVC or MLflow what needs them is left out,
# and said. MNIST's files must be in data/raw/mnist, or be reachable. Tables are kept in benchmarks/results/ and copied to
# OUT. Each part has a limit of its own; one that fails or takes too long does not stop the others, and the exit status
# says how many did.
set -uo pipefail
cd "$(dirname "$0")/.."
device=${DEVICE:-cuda}
out=${1:-}
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" MPLBACKEND=agg
failed=0

part() { # SECONDS WHAT COMMAND...
    local seconds=$1 what=$2 started=$SECONDS
    shift 2
    printf '\n=== %s (limit %d s)\n' "$what" "$seconds"
    timeout --kill-after=10 "$seconds" "$@" || { printf '=== FAILED: %s (status %d)\n' "$what" $?; failed=$((failed + 1)); }
    printf '=== %s: %d s\n' "$what" $((SECONDS - started))
}

has() { python -c "import $1" 2>/dev/null; }

python - <<'PYTHON'
import platform, torch
name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
print(f"{name}, Python {platform.python_version()}, torch {torch.__version__}")
PYTHON
# shellcheck disable=SC2046 - the names have no spaces
part 120 "tests that need a GPU" python -m pytest -q -p no:cacheprovider -m gpu $(grep -l 'mark.gpu' tests/test_*.py)
part 90 "the loop beside its arithmetic" python -m benchmarks.loop --device "$device" --rounds 5 --seconds 0.3
part 90 "time to 99 and 99.4 %" python -m benchmarks.time_to_accuracy --device "$device" --seeds 10
if has dvc && has mlflow; then
    part 100 "the pipeline" dvc repro
    # shellcheck disable=SC2016 - for the other shell
    part 60 "the same weights, by CUDA graphs" bash -c '
set -e
before=$(md5sum models/model.safetensors)
sed -i.before "s/cuda_graph: false/cuda_graph: true/" params.yaml
trap "mv params.yaml.before params.yaml" EXIT
dvc repro --force --single-item train
test "$before" = "$(md5sum models/model.safetensors)"'
    part 20 "the recorded model answers" python -c '
import mlflow.pyfunc, numpy as np, warnings
warnings.filterwarnings("error", message=".*(cuda|device).*")
mlflow.set_tracking_uri("sqlite:///mlflow.db")
print(mlflow.pyfunc.load_model("models:/mnistflow@champion").predict(np.zeros((2, 28, 28), np.uint8)).shape)'
else
    echo "=== left out: the pipeline, which needs dvc and mlflow"
fi
if [[ -n $out ]]; then
    mkdir -p "$out" && cp -r benchmarks/results metrics/*.json "$out"/
fi
printf '\n%d parts failed, %d s in all\n' "$failed" "$SECONDS"
exit "$failed"
