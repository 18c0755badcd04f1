"""What every room stands on: files that appear whole or not at all, tensors on disk, devices, text that is safe.

Imports no other room. Small, because a change here runs every stage again.
"""
