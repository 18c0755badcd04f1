"""`python -m mnistflow` in the current checkout, forked from the process that the stages of tests are forked from."""

import runpy
import sys

sys.path[0] = "src"

from mnistflow.pipeline import stage

stage.begin()

runpy.run_module("mnistflow", run_name="__main__", alter_sys=True)
