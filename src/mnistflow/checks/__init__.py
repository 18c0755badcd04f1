"""Checks of params.yaml, and of what this machine lacks for it, before any work is done.

The stage `check` is made of it. It looks at data sets and models as the stages will, and may import all rooms below but
those that draw or export; what needs PyTorch imports it only where there is something new to look at.
"""
