"""What a stage needs to run, and what no result depends on: signals, resuming, progress, durations, git, dvc.lock.

An observer: no stage depends on it, so a change here runs nothing again. Imports `training`, `config` and `core`.
"""
