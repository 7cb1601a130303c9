"""IV-guided training: losses, schedule, teacher, the mixin and its trainers."""
