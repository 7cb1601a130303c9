"""Tasks, their two forms, and the prompts made from them."""

from instruction_vectors.tasks.shipped import load_task, task_names
from instruction_vectors.tasks.task import Example, Task

__all__ = ["Example", "Task", "load_task", "task_names"]
