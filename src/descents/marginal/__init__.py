"""Gaussian models of a table with the factors of its rows integrated out.

`patterns` groups rows by their missing cells, `gaussian` is the problem that a descent
minimizes, and `maximization` has the steps of EM. `features` turns the columns of a table
into features, `posterior` says what is expected of missing cells, and `model` fits a table
and judges the model by cells that it has not seen.

For sparse ratings and tables whose sides are alike, `both_sides` is the problem with the
factors of rows and of columns integrated out, `both_parameters` has its parameters and
`both_rows` what is known of rows given the columns. `both_steps` has its steps, and
`both_turns` the rotation that ends each. `sightings` makes features of which cells are
observed, and `ratings` fits and predicts.
"""
