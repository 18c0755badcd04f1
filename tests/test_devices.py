from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mnistflow.core import devices


def test_auto_takes_the_best_there_is() -> None:
    found = devices.available()
    assert found[-1] == "cpu"
    assert str(devices.resolve("auto")) == found[0]
    assert devices.resolve("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "cuda:99"])
def test_a_missing_device_is_an_error(name: str) -> None:
    if {"cuda": "cuda:0"}.get(name, name) in devices.available():
        assert devices.resolve(name).type == name.partition(":")[0]
        return
    with pytest.raises(ValueError, match=f"there is no device '{name}' on this machine; available: .*cpu"):
        devices.resolve(name)


def test_bf16_is_multiplied_where_the_processor_says_so() -> None:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("flags")[2].partition("\n")[0].split()
    except OSError:
        pytest.skip("only Linux lists what its processor can do")
    assert devices.multiplies_bf16(torch.device("cpu")) == bool({"amx_bf16", "avx512_bf16"}.intersection(flags))


def test_seeding_repeats_everything_and_sets_the_threads() -> None:
    before = torch.get_num_threads()
    draws = []
    try:
        for _ in range(2):
            generator = devices.seeded(7, 1, torch.device("cpu"))
            assert torch.get_num_threads() == 1
            draws.append((torch.rand(3), torch.rand(3, generator=generator)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(draws[0][0], draws[1][0])
    assert torch.equal(draws[0][1], draws[1][1])


def test_denormal_numbers_are_flushed_to_zero() -> None:
    tiny = "torch.full((100_000,), 1e-20)"
    code = f"from mnistflow.core import devices; import torch; devices.repeatable(2, torch.device('cpu')); x = {tiny}; "
    code += "print(int((x * x).count_nonzero()), torch.get_num_threads())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "2"]


@pytest.mark.gpu
def test_on_a_gpu_only_deterministic_algorithms_are_used() -> None:
    try:
        devices.seeded(7, 1, torch.device("cuda"))
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.gpu
def test_a_gpu_is_described_by_its_name() -> None:
    assert torch.cuda.get_device_name(0) in devices.describe(torch.device("cuda:0"))
