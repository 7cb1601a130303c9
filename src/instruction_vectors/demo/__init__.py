"""The main job from end to end on a real model."""

from instruction_vectors.demo.config import DemoConfig
from instruction_vectors.demo.run import run_demo

__all__ = ["DemoConfig", "run_demo"]
