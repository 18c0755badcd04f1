"""The command `mnistflow`: parsing and printing, a file for each group of commands.

The logic lives in the other rooms, all of which it may import, where a command needs them.
"""
