"""What stages need but no result depends on: signals, checkpoints, progress, durations, git, dvc.lock.

An observer: no stage depends on it, so a change here runs nothing again. Imports `training`, `config` and `core`.
"""
