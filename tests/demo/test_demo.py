"""The demo path itself, on the real model, at a tiny setting."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from instruction_vectors.continual.ledger import Ledger
from instruction_vectors.demo import DemoConfig, run_demo
from instruction_vectors.environment import code_fingerprint
from instruction_vectors.errors import DataError, IVError
from instruction_vectors.vectors.vector import InstructionVector

TINY = DemoConfig(
    size=0.02,
    steered=("present-past", "country-capital"),
    sequence=("sentiment-word", "english-french"),
    untouched=("country-capital", "capitalize"),
    scales=(1.0, 2.0),
)
CONDITIONS = ("x", "x+c", "x+iv", "x+c+iv", "x+c+other_iv", "x+c+random")


def stable(folder: Path) -> dict:
    """The results without what differs from run to run: times and memory."""
    results = json.loads((folder / "results.json").read_text())
    return {key: value for key, value in results.items() if key not in ("seconds", "peak_rss_mb")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    run_demo(TINY, folder)
    return folder


def test_results_hold_what_the_contract_promises(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    assert set(results["steering"]) == set(TINY.steered)
    for entry in (*results["steering"].values(), *results["steering_chat"].values()):
        assert {"template", "n", "exact", "copying", "intervals", *CONDITIONS} <= set(entry)
        assert all(0 <= entry[condition] <= 1 for condition in CONDITIONS)
        assert entry["n"] + (entry["copying"]["n"] if entry["n"] != entry["copying"]["n"] else 0) == TINY.steering_rows
    for arm in ("sequential", "iv_guided"):
        course = results["forgetting"][arm]
        assert course["stages"] == ["M0", *TINY.sequence]
        for name in ("in_context", "zero_shot", "knowledge", "instruction", "trained"):
            assert len(course[name]) == len(course["intervals"][name]) == 3
            assert course["n"][name] > 0
            assert all(
                low <= value + 1e-9 and value <= high + 1e-9
                for value, (low, high) in zip(course[name], course["intervals"][name], strict=True)
            )
    assert len(results["effects"]["top"]) == TINY.heads
    assert results["peak_rss_mb"] > 0
    assert results["seconds"]["total"] > 0
    assert results["environment"]["model_fingerprint"]
    assert results["environment"]["code"] == code_fingerprint()


def test_both_arms_start_from_the_same_model_and_then_differ(finished: Path) -> None:
    forgetting = stable(finished)["forgetting"]
    for name in ("in_context", "knowledge", "trained"):
        assert forgetting["sequential"][name][0] == forgetting["iv_guided"][name][0]
    adapters = [
        (finished / "adapters" / arm / "1" / "adapter_model.safetensors").read_bytes() for arm in ("sequential", "iv_guided")
    ]
    assert adapters[0] != adapters[1]


def test_a_report_and_shareable_vectors_are_left_behind(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert "<svg" in page
    assert "Not run yet" not in page
    for name in (*TINY.steered, *TINY.sequence):
        assert InstructionVector.from_pretrained(finished / "vectors" / name).metadata["task"] == name


def test_an_interrupted_demo_goes_on_and_ends_the_same(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted_after(steps: int) -> None:
        """Run until `steps` more steps are finished, then stop as Ctrl-C does, in the midst of the next one."""
        real, left = Ledger.step, steps

        def step(self: Ledger, name: str, compute: Callable[[], Any]) -> Any:
            def stopped() -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt
                return compute()

            return real(self, name, stopped)

        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "step", step)
            with pytest.raises(KeyboardInterrupt):
                run_demo(TINY, tmp_path)

    total = len(list((finished / "steps").glob("*.json")))
    interrupted_after(total // 2)
    interrupted_after(total // 4)
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "steps").glob("*.json")}
    assert len(done) == total // 2 + total // 4
    run_demo(TINY, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert stable(tmp_path) == stable(finished)


def test_a_finished_demo_is_not_run_again(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "steps").glob("*.json")}
    run_demo(TINY, finished)
    assert {path: path.stat().st_mtime_ns for path in (finished / "steps").glob("*.json")} == before


def test_an_unfinished_demo_is_not_gone_on_with_by_other_versions(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "demo")
    (tmp_path / "demo" / "results.json").unlink()
    (path,) = (tmp_path / "demo" / "steps").glob("made_with-*.json")
    begun = json.loads(path.read_text())
    begun["value"]["versions"]["torch"] = "1.0"
    path.write_text(json.dumps(begun))
    with pytest.raises(DataError, match="was begun with another versions"):
        run_demo(TINY, tmp_path / "demo")


def test_other_settings_in_the_same_folder_are_refused(finished: Path) -> None:
    with pytest.raises(DataError, match="seed"):
        run_demo(DemoConfig(size=TINY.size, seed=1), finished)


def test_a_size_or_sequence_that_means_nothing_is_refused() -> None:
    with pytest.raises(IVError, match="size"):
        DemoConfig(size=0)
    with pytest.raises(IVError, match="untouched"):
        DemoConfig(sequence=("country-capital",))
