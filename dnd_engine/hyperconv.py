"""`HyperConvDecoder` under the address by which comparisons with the authors' code import it."""

from dnd_engine.generator.hyperconv import HyperConvDecoder

__all__ = ["HyperConvDecoder"]
