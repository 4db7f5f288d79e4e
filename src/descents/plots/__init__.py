"""Functions that draw arrays on given axes, and what a notebook shows of a result.

`axes` draws, and `notebook` makes HTML of a sentence, a picture and a table. They take
plain arrays, so that results of every room can be shown; `descents.displays` has the
objects for users. matplotlib is loaded when something is drawn.
"""
