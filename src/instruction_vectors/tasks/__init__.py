"""Tasks, their two forms, and the prompts made from them."""

from instruction_vectors.tasks.benchmark import Benchmark, Sides
from instruction_vectors.tasks.benchmarks import benchmark_names, load_benchmark
from instruction_vectors.tasks.shipped import load_task, task_names
from instruction_vectors.tasks.task import Example, Task

__all__ = ["Benchmark", "Example", "Sides", "Task", "benchmark_names", "load_benchmark", "load_task", "task_names"]
