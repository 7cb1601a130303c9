"""Versions of Python and of the packages: against the supported ranges, and against those known to work together."""

import platform
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from instruction_vectors.doctor.finding import Finding
from instruction_vectors.errors import install_extra

DISTRIBUTION = "instruction-vectors"
_GROUPS = ("all", "dev", "docs")
"""Extras that are no ability of their own."""


def python() -> list[Finding]:
    """The interpreter's version against what the package supports."""
    return [judge_python(platform.python_version(), metadata(DISTRIBUTION)["Requires-Python"] or "")]


def judge_python(running: str, supported: str) -> Finding:
    """`running` against a range such as `>=3.11`."""
    if SpecifierSet(supported).contains(running, prereleases=True):
        return Finding("python", "ok", running)
    return Finding("python", "problem", running, f"make the environment anew with Python {supported}")


def packages() -> list[Finding]:
    """The core packages one by one, then each extra with all of its packages."""
    wanted = [Requirement(text) for text in requires(DISTRIBUTION) or ()]
    pins = pinned(Path(__file__).parents[3] / "constraints.txt")
    core = [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    found = [judge_package(r, installed(r.name), pins.get(_plain(r.name))) for r in core]
    for extra in metadata(DISTRIBUTION).get_all("Provides-Extra") or ():
        if extra not in _GROUPS:
            of_extra = [r for r in wanted if r.marker and r not in core and r.marker.evaluate({"extra": extra})]
            found.append(judge_extra(extra, {r: installed(r.name) for r in of_extra}, pins))
    return found


def installed(name: str) -> str | None:
    """The version of a package, None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def pinned(path: Path) -> dict[str, str]:
    """Versions by package from a constraints file; empty where there is none, as in a plain install."""
    if not path.exists():
        return {}
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {_plain(name): number for name, _, number in (line.partition("==") for line in lines) if number}


def judge_package(requirement: Requirement, have: str | None, pin: str | None) -> Finding:
    """One package against its supported range, then against its pinned version."""
    name, wanted = requirement.name, f"{requirement.name}{requirement.specifier}"
    if have is None:
        return Finding(name, "problem", "not installed", f"pip install '{wanted}'")
    if not requirement.specifier.contains(have, prereleases=True):
        return Finding(name, "problem", f"{have}, supported is {requirement.specifier}", f"pip install '{wanted}'")
    if pin is not None and Version(have).public != Version(pin).public:
        return Finding(name, "warning", f"{have}, tested with {pin}", "pip install -c constraints.txt -e .")
    return Finding(name, "ok", have)


def judge_extra(extra: str, have: dict[Requirement, str | None], pins: dict[str, str]) -> Finding:
    """All packages of an extra together: none installed is fine, some or wrong ones are not."""
    name = f"extra {extra}"
    if not any(have.values()):
        return Finding(name, "ok", f"not installed; wanted? {install_extra(extra)}")
    each = [judge_package(r, number, pins.get(_plain(r.name))) for r, number in have.items()]
    bad = [finding for finding in each if finding.status == "problem"]
    odd = bad or [finding for finding in each if finding.status == "warning"]
    if not odd:
        return Finding(name, "ok", ", ".join(f"{finding.name} {finding.found}" for finding in each))
    found = ", ".join(f"{finding.name} {finding.found}" for finding in odd)
    # What an extra lacks stops only who uses it, so it never fails the whole.
    return Finding(name, "warning", found, install_extra(extra) if bad else f"pip install -c constraints.txt -e '.[{extra}]'")


def _plain(name: str) -> str:
    """A package's name as PyPI compares names."""
    return name.lower().replace("_", "-").replace(".", "-")
