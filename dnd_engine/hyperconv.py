"""Alias of `HyperConvDecoder`, for comparisons with the authors' code."""

from dnd_engine.generator.hyperconv import HyperConvDecoder as HyperConvDecoder
