"""Imprint: an instruction written into the weights in closed form.

Run the model on a prompt with its instruction and on the input alone, with the same answer. Where
both read the same token, the state *with* the instruction is what the state *without* it should
be. A ridge regression per layer finds the low-rank change of `down_proj` that turns one into the
other. No labels, no gradient, nothing trained beforehand.

`solve` is the regression, `ordinary` the activity that it must leave alone, `fit` asks the model
and walks through the layers.
"""
