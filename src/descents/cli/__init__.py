"""The command line: options in, sentences out.

`main` has the group of commands, `options` what they share, and each command has a
module. A command checks its options, calls one function of `descents.runs` or
`descents.reproduction`, and prints what it returns.
"""
