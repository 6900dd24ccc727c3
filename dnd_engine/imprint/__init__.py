"""Imprint: an instruction written into the weights in closed form.

Run the model on a prompt with its instruction and on the input alone, with the same answer. At each
token that both read, the state *with* the instruction is the target for the state *without* it. A
ridge regression per layer finds the low-rank change of `down_proj` that maps one to the other. It
needs no labels, no gradient and no prior training.

`solve` is the regression, `ordinary` measures the activity to preserve, and `fit` queries the model
and iterates over the layers.
"""
