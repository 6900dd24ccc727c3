"""What synthesis, chat and training cost here, each beside what it is compared with.

Everything of a ratio is measured in turns in one run, so that a busy machine slows both sides. The
numbers are of this machine and this moment; the ratios travel better. Needs no task folder: prompts
and examples are made up, in the shapes that training has. Knows the engine and stock PEFT; knows no
quality.
"""

from dnd_engine.bench.config import SECTIONS, BenchConfig
from dnd_engine.bench.growth import GrowthConfig, GrowthPoint, growth, growth_svg
from dnd_engine.bench.results import BenchResult
from dnd_engine.bench.run import bench

__all__ = [
    "SECTIONS",
    "BenchConfig",
    "BenchResult",
    "GrowthConfig",
    "GrowthPoint",
    "bench",
    "growth",
    "growth_svg",
]
