"""What every room builds on: atomic file writes, tensors on disk, devices, escaping of text.

Imports no other room. Small, because a change here runs every stage again.
"""
