"""`iv doctor`: whether this machine and installation can do the work, and what to fix where they cannot."""

from instruction_vectors.doctor.examine import examine
from instruction_vectors.doctor.finding import Finding
from instruction_vectors.doctor.render import healthy, show, to_dict

__all__ = ["Finding", "examine", "healthy", "show", "to_dict"]
