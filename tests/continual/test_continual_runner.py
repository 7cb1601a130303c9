"""Cells from beginning to end on a tiny model: what they hold, and that stopping them changes nothing."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_world
import torch
from transformers import AutoTokenizer

from instruction_vectors import run_sequence
from instruction_vectors.analysis.stages import stages_in
from instruction_vectors.continual import methods as folder_of_methods
from instruction_vectors.continual.bench import cells_of, overridden
from instruction_vectors.continual.cell import Cell, grid
from instruction_vectors.continual.curriculum import Curriculum
from instruction_vectors.continual.grid import run_grid, standing
from instruction_vectors.continual.ledger import Ledger
from instruction_vectors.continual.methods import method_named, methods
from instruction_vectors.continual.replay import replay
from instruction_vectors.continual.runner import Runner, made_with
from instruction_vectors.continual.stage import StageConfig
from instruction_vectors.errors import DataError, IVError
from instruction_vectors.models.adapters import has_adapters
from instruction_vectors.tasks import task_names
from instruction_vectors.tasks.layout import template_of
from instruction_vectors.tasks.prompts import instructed
from instruction_vectors.training.config import IVGuidanceConfig
from instruction_vectors.vectors.vector import InstructionVector


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_world.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def finished(model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Cell, Path]:
    cell, out = tiny_world.cell(model, guide="iv"), tmp_path_factory.mktemp("grid")
    Runner(out).run(cell)
    return cell, out


def content(out: Path, cell: Cell) -> bytes:
    return (Runner(out).folder(cell) / "result.json").read_bytes()


def test_mixing_in_takes_instructions_that_no_general_set_measures(model: str, tmp_path: Path) -> None:
    cell = tiny_world.cell(model, method="mix_in", general_rows=3, sequence=tiny_world.TASKS[0])
    with pytest.raises(DataError, match=r"mixes in eval/instructions_alpaca.json: give --data-dir"):
        run_sequence(cell, tmp_path / "out")
    rows = [{"instruction": f"Say {i}", "output": str(i)} for i in range(9)]
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "instructions_alpaca.json").write_text(json.dumps(rows))
    curriculum = Curriculum.of(cell, tmp_path)
    assert [q.answers[0] for q in curriculum.instructions] == ["5", "6", "7", "8"]  # three measured, two shots
    result = run_sequence(cell, tmp_path / "out", tmp_path)
    assert result["data"]["instructions_alpaca/instructions"]
    trained = [json.loads(p.read_text())["value"] for p in (tmp_path / "out").glob("cells/*/*/steps/train*.json")]
    assert [step["rows"] for step in trained] == [9]


def test_a_cell_is_read_back_from_its_settings(model: str) -> None:
    cell = tiny_world.cell(model, method="ewc", guide="plain_kl", seed=3, triangle=True)
    assert Cell.of(json.loads(json.dumps(cell.resolved()))) == cell


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "magic"}, "unknown method 'magic'; there are .*ewc"),
        ({"guide": "magic"}, "unknown guide 'magic'; there are .*plain_kl"),
        ({"train_rows": 0}, "train_rows must be at least 1, got 0"),
        ({"general_rows": 0}, "general_rows must be at least 1, got 0"),
        ({"shots": -1}, "shots must be at least 0, got -1"),
        ({"magic": 1}, "unknown settings: magic; there are benchmark"),
        ({"stage": {"magic": 1}}, "unknown settings under stage: magic; there are epochs"),
        ({"stage": 3}, "stage: expected settings by name, got 3"),
        ({"stage": {"epochs": 0}}, "epochs must be above 0, got 0"),
        ({"stage": {"weight_decay": -1}}, "weight_decay cannot be negative"),
    ],
)
def test_a_cell_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(IVError, match=message):
        Cell.of({"benchmark": "shipped", "sequence": "capitalize", **change})


def test_a_grid_is_every_combination_each_with_a_name_of_its_own(model: str) -> None:
    cells = list(
        grid(
            tiny_world.cell(model),
            methods=("sequential", "ewc"),
            guides=("none", "iv"),
            seeds=(0, 1),
            learning_rates=(1e-3, 1e-4),
        )
    )
    assert len({cell.name for cell in cells}) == len(cells) == 16
    assert [cell.seed for cell in cells] == [0] * 8 + [1] * 8
    assert all(cell.stage.seed == cell.seed for cell in cells)


def test_the_numbers_of_a_result_are_those_of_its_rows(finished: tuple[Cell, Path]) -> None:
    cell, out = finished
    result = json.loads(content(out, cell))
    first, second = tiny_world.TASKS
    assert result["tasks"] == [first, second]
    stages = result["stages"]
    assert [set(stage["matrix"]) for stage in stages] == [{first, second}] * 3
    assert all(len(rows) == 6 for stage in stages for rows in stage["matrix"].values())

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    matrix = [[mean(stage["matrix"][task]) for task in (first, second)] for stage in stages]
    assert result["matrix"] == matrix
    assert result["ap"]["mean"] == pytest.approx((matrix[1][0] + matrix[2][1]) / 2)
    assert result["fp"]["mean"] == pytest.approx((matrix[2][0] + matrix[2][1]) / 2)
    assert result["forget"]["mean"] == pytest.approx(result["ap"]["mean"] - result["fp"]["mean"])
    assert result["bwt"] == pytest.approx(matrix[2][0] - matrix[1][0])
    assert result["fwt"] == pytest.approx(matrix[1][1] - matrix[0][1])
    for form, over_stages in result["forms"].items():
        groups = [[rows[form] for rows in stage["probes"].values() if form in rows] for stage in stages]
        assert [entry["mean"] for entry in over_stages] == pytest.approx([mean([mean(g) for g in group]) for group in groups])
        assert over_stages[0]["change"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    # Only `present-past` of the two probes has a knowledge form.
    assert result["forms"]["in_context"][0]["n"] == 8
    assert result["forms"]["knowledge"][0]["n"] == 4


def test_training_changes_the_model_and_guidance_changes_the_training(finished: tuple[Cell, Path], tmp_path: Path) -> None:
    cell, out = finished
    plain = replace(cell, guide="none")
    Runner(tmp_path).run(plain)

    def losses(folder: Path) -> list[float]:
        steps = [json.loads(path.read_text()) for path in sorted((folder / "steps").glob("train_*.json"))]
        return [step["value"]["loss"] for step in steps]

    guided, unguided = losses(Runner(out).folder(cell)), losses(Runner(tmp_path).folder(plain))
    assert len(guided) == len(unguided) == 2
    assert all(abs(a - b) > 1e-6 for a, b in zip(guided, unguided, strict=True))


def test_a_lower_triangle_leaves_out_what_is_not_learnt_yet(model: str, tmp_path: Path) -> None:
    result = Runner(tmp_path).run(tiny_world.cell(model, triangle=True))
    assert [len(stage["matrix"]) for stage in result["stages"]] == [2, 1, 2]
    assert result["matrix"][1][1] is None
    assert result["fwt"] is None
    assert result["bwt"] is not None


class Killed(BaseException):
    pass


def test_stopped_after_any_step_a_cell_ends_with_the_same_bytes(
    finished: tuple[Cell, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, out = finished
    undisturbed = content(out, cell)
    write = Ledger.step
    computed: list[str] = []

    def step(self: Ledger, name: str, compute: Any) -> Any:
        fresh = not self.finished(name)
        value = write(self, name, compute)
        if fresh:
            computed.append(name)
            raise Killed
        return value

    monkeypatch.setattr(Ledger, "step", step)
    sittings = 0
    while standing(cell, tmp_path).state != "finished":
        sittings += 1
        try:
            Runner(tmp_path).run(cell)
        except Killed:
            continue
    # M0, two means, two effects, then training and measuring twice, and what either ledger was made with: each once.
    assert len(computed) == 11
    assert len(set(computed)) == 10
    assert sittings == 12
    assert content(tmp_path, cell) == undisturbed


def test_killed_at_random_moments_a_cell_ends_with_the_same_bytes(finished: tuple[Cell, Path], tmp_path: Path) -> None:
    cell, out = finished
    (tmp_path / "cell.json").write_text(json.dumps(cell.resolved()))
    program = (
        "import json, sys, torch; torch.set_num_threads(1)\n"
        "from instruction_vectors import run_sequence\n"
        f"run_sequence(json.load(open({str(tmp_path / 'cell.json')!r})), {str(tmp_path / 'grid')!r})"
    )
    path = Runner(tmp_path / "grid").folder(cell) / "steps"
    kills = 0
    for wanted in (1, 2, 100):  # killed once a step of its own is done, once two are, then left alone
        process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
        while process.poll() is None:
            if len(list(path.glob("*.json"))) >= wanted:
                process.kill()
                kills += 1
                process.wait()
            time.sleep(0.005)
    assert kills >= 1
    assert process.returncode == 0
    assert content(tmp_path / "grid", cell) == content(out, cell)


def test_a_finished_cell_is_read_and_not_run_again(finished: tuple[Cell, Path]) -> None:
    cell, out = finished
    before = content(out, cell), (Runner(out).folder(cell) / "result.json").stat().st_mtime_ns
    assert run_grid([cell], out)[0] == json.loads(before[0])
    assert (content(out, cell), (Runner(out).folder(cell) / "result.json").stat().st_mtime_ns) == before


def test_a_finished_cell_keeps_its_last_stage_or_all_of_them(finished: tuple[Cell, Path], model: str, tmp_path: Path) -> None:
    cell, out = finished
    assert list(stages_in(Runner(out).folder(cell) / "adapters" / cell.method)) == [str(len(cell.sequence.split(",")))]
    kept = tiny_world.cell(model, triangle=True)
    run_grid([kept], tmp_path, keep_stages=True)
    folder = Runner(tmp_path).folder(kept) / "adapters" / kept.method
    names = kept.sequence.split(",")
    assert list(stages_in(folder)) == [str(k + 1) for k in range(len(names))]
    assert list(stages_in(folder, names)) == names


def test_stages_that_are_gone_from_a_finished_cell_are_told_of(
    finished: tuple[Cell, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    cell, out = finished
    Runner(out, keep_stages=True).run(cell)
    assert "was finished before, and what it left after earlier tasks is gone" in " ".join(capsys.readouterr().err.split())
    Runner(out).run(cell)
    assert not capsys.readouterr().err


def test_a_replayed_cell_gives_the_same_numbers_and_a_changed_one_is_noticed(finished: tuple[Cell, Path], tmp_path: Path) -> None:
    cell, out = finished
    path = Runner(out).folder(cell) / "result.json"
    assert replay(path, tmp_path / "again") == []
    changed = json.loads(path.read_text())
    changed["matrix"][0][0] = 0.123
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    assert replay(tmp_path / "changed.json", tmp_path / "again") == ["matrix"]
    changed["code"] = "of another day"
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    assert replay(tmp_path / "changed.json", tmp_path / "again") == ["matrix", "code"]
    same = json.loads(path.read_text()) | {"code": "of another day"}
    (tmp_path / "same.json").write_text(json.dumps(same))
    assert replay(tmp_path / "same.json", tmp_path / "again") == []
    changed["data"]["capitalize/probe"] = "0"
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    with pytest.raises(DataError, match="would be compared with itself"):
        replay(path, out)
    earlier = Runner(tmp_path / "again").folder(cell) / "result.json"
    earlier.write_text(json.dumps(same))
    with pytest.raises(DataError, match="was replayed with other code; choose another folder, or delete it"):
        replay(path, tmp_path / "again")
    with pytest.raises(DataError, match="other data than here: capitalize/probe"):
        replay(tmp_path / "changed.json", tmp_path / "again")


def test_a_folder_with_other_settings_or_in_use_is_refused(finished: tuple[Cell, Path]) -> None:
    cell, out = finished
    changed = "train_rows, data.sentiment-word/train, data.verb-v-adjective-3/train"
    with pytest.raises(DataError, match=rf"holds a run with other settings \({changed}\)"):
        Runner(out).run(replace(cell, train_rows=7, test_rows=6))
    held = {**cell.resolved(), "data": Curriculum.of(cell, None).fingerprints()}
    with Ledger(Runner(out).folder(cell), held), pytest.raises(DataError, match="another process is running in"):
        Runner(out).run(cell)


def test_a_result_handed_on_without_its_settings_is_not_that_of_others(finished: tuple[Cell, Path], tmp_path: Path) -> None:
    cell, out = finished
    given = Runner(tmp_path).folder(cell)
    given.mkdir(parents=True)
    result = (Runner(out).folder(cell) / "result.json").read_text()
    (given / "result.json").write_text(result)
    with pytest.raises(DataError, match=r"holds a run with other settings \(probe_rows"):
        Runner(tmp_path).run(replace(cell, probe_rows=cell.probe_rows - 1))
    assert sorted(path.name for path in given.iterdir()) == ["result.json"]
    assert Runner(tmp_path).run(cell) == json.loads(result)


def test_a_sequence_of_task_files_has_a_folder_among_the_others(model: str) -> None:
    cell = tiny_world.cell(model, sequence="data/a.jsonl,data/b.jsonl")
    assert cell.name.count("/") == 1
    assert cell.name.startswith("shipped-data_a.jsonl,data_b.jsonl/")


def test_a_long_sequence_has_a_name_that_file_systems_take_and_no_other_has(model: str, tmp_path: Path) -> None:
    names = [tiny_world.cell(model, sequence=f"{'é' * 200}{last}").name for last in "ab"]
    assert names[0] != names[1]
    for name in names:
        (tmp_path / name).mkdir(parents=True)
    usual = "english-french," * 10
    assert tiny_world.cell(model, sequence=usual).name.startswith(f"shipped-{usual}/")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage": StageConfig(target_modules=("q_proj", "c_attn"))}, "the model has no module 'c_attn'"),
        ({"method": "frozen_bottom", "method_settings": {"frozen_bottom": {"share": 1}}}, "freezes all 3 layers"),
        ({"guide": "other_task", "sequence": "sentiment-word"}, "needs a sequence of at least two tasks"),
        ({"guide": "iv", "heads": 99}, "99 heads were asked for, but the model has 12"),
        ({"method": "anchors", "probes": tuple(name for name in task_names() if name not in tiny_world.TASKS)}, "none left"),
    ],
)
def test_what_cannot_come_to_its_end_is_refused_before_anything_is_measured(
    model: str, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(IVError, match=message):
        Runner(tmp_path).run(tiny_world.cell(model, **change))
    assert not list(tmp_path.glob("shared/*/steps/*"))


def test_a_model_on_which_a_broken_cell_left_its_adapter_is_not_handed_on(model: str, tmp_path: Path) -> None:
    cell, runner = tiny_world.cell(model, method="replay"), Runner(tmp_path)
    runner.run(cell)
    first, _ = runner._open(cell)
    assert runner._open(cell)[0] is first
    folder = runner.folder(cell)
    for path in (folder / "result.json", *folder.glob("steps/measure*_2-*")):
        path.unlink()
    (folder / "adapters" / "replay" / "2" / "memory.json").write_text("{")
    with pytest.raises(DataError):
        runner.run(cell)
    assert has_adapters(first)
    assert not has_adapters(runner._open(cell)[0])


def test_a_task_of_one_row_is_refused(model: str, tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text('{"instruction": "Do."}\n{"input": "a", "output": "b"}\n')
    with pytest.raises(DataError, match="has one row; at least two are needed"):
        run_sequence(tiny_world.cell(model, sequence=str(tmp_path / "one.jsonl")), tmp_path)


def test_a_read_only_folder_is_refused(model: str, tmp_path: Path) -> None:
    (tmp_path / "cells").write_text("a file where a folder should be")
    with pytest.raises(DataError, match="cannot write to"):
        Runner(tmp_path).run(tiny_world.cell(model))


def test_a_probe_that_is_trained_on_is_refused(model: str) -> None:
    with pytest.raises(DataError, match="capitalize: trained on, so no probe"):
        run_sequence(tiny_world.cell(model, sequence="capitalize"))


def test_a_benchmark_without_a_folder_is_refused(model: str) -> None:
    with pytest.raises(DataError, match="'func' is read from a folder: give --data-dir"):
        run_sequence(tiny_world.cell(model, benchmark="func", sequence="A"))


def test_going_on_with_other_weights_or_threads_is_refused(model: str, tmp_path: Path) -> None:
    with Ledger(tmp_path, {}) as ledger:
        causal_lm = tiny.model("llama")
        assert made_with(ledger, causal_lm) == made_with(ledger, causal_lm)
        with torch.no_grad():
            causal_lm.lm_head.weight[0, 0] += 1
        with pytest.raises(DataError, match="was begun with another model_fingerprint; go on as then"):
            made_with(ledger, causal_lm)


@pytest.mark.parametrize("named", [True, False])
def test_going_on_on_another_device_is_refused_where_the_first_is_named(named: bool, tmp_path: Path) -> None:
    causal_lm = tiny.model("llama")
    with Ledger(tmp_path / "other", {}) as ledger:
        begun = made_with(ledger, causal_lm)
    assert begun["device"] == "cpu"
    with Ledger(tmp_path, {}) as ledger:
        ledger.step("made with", lambda: {**begun, "device": "cuda"} if named else {k: begun[k] for k in begun if k != "device"})
        if named:
            with pytest.raises(DataError, match="was begun with another device"):
                made_with(ledger, causal_lm)
        else:
            assert made_with(ledger, causal_lm) == begun


def test_a_result_names_every_code_that_had_a_part_in_it(model: str, tmp_path: Path) -> None:
    cell = tiny_world.cell(model, sequence=tiny_world.TASKS[0], probes=("capitalize",))
    now = Runner(tmp_path).run(cell)["code"]
    assert isinstance(now, str)
    (made,) = tmp_path.glob("shared/*/steps/made*.json")
    made.write_text(made.read_text().replace(now, "of another day"))
    assert Runner(tmp_path).run(replace(cell, method="averaging"))["code"] == sorted([now, "of another day"])
    # Of a sitting in between, too.
    (tmp_path / "cells" / cell.name / "result.json").unlink()
    (trained,) = (tmp_path / "cells" / cell.name).glob("steps/train*.json")
    trained.write_text(trained.read_text().replace(now, "a sitting"))
    assert Runner(tmp_path).run(cell)["code"] == sorted([now, "of another day", "a sitting"])


def test_one_seed_decides_everything_that_is_drawn(model: str) -> None:
    assert tiny_world.cell(model, seed=3).stage.seed == 3


def test_a_task_twice_is_refused(model: str) -> None:
    with pytest.raises(DataError, match="has a task twice"):
        run_sequence(tiny_world.cell(model, sequence="sentiment-word,sentiment-word"))


def test_one_failing_cell_does_not_stop_the_others(model: str, tmp_path: Path) -> None:
    good = tiny_world.cell(model)
    with pytest.raises(IVError, match=r"1 of 2 cells failed: .*has a task twice"):
        run_grid([replace(good, sequence="sentiment-word,sentiment-word"), good], tmp_path)
    assert standing(good, tmp_path).state == "finished"


def test_settings_of_a_grid_take_one_value_or_many_and_numbers_as_yaml_reads_them(model: str) -> None:
    base = {"benchmark": "shipped", "sequence": "sentiment-word", "model": model}
    cells = cells_of({**base, "methods": "ewc", "learning_rates": "1e-4", "seeds": 0, "guides": ["none", "iv"]})
    assert [(c.method, c.guide, c.seed, c.stage.learning_rate) for c in cells] == [("ewc", g, 0, 1e-4) for g in ("none", "iv")]
    (kept,) = cells_of({**base, "method": "replay", "guide": "iv", "seed": 4})
    assert (kept.method, kept.guide, kept.seed) == ("replay", "iv", 4)
    for axis, value in (("seeds", "a"), ("seeds", True), ("seeds", [0.7]), ("epochs", 2.9)):
        with pytest.raises(IVError, match=f"{axis}: expected int values, got "):
            cells_of({**base, axis: value})
    assert [cell.stage.epochs for cell in cells_of({**base, "epochs": [2.0, "3"]})] == [2, 3]


def test_variants_of_a_grid_change_one_thing_each_and_their_cells_are_called_by_it(model: str) -> None:
    base = {"benchmark": "shipped", "sequence": "sentiment-word", "model": model, "methods": "ewc", "seeds": [0, 1]}
    guided = {"guides": "iv", "guidance": {"kl_weight": 0.5}}
    variants = [{}, {"guidance": {"sign": -1}}, {"heads": 3, "guides": ["none", "iv"]}, {"learning_rates": [1e-2]}]
    cells = cells_of({**base, **guided, "variants": variants})
    ways = [
        "ewc+iv-kl_weight=0.5-lr0.001",
        "ewc+iv-sign=-1-kl_weight=0.5-lr0.001",
        "ewc-lr0.001",  # without a guide there is nothing that heads are chosen for
        "ewc+iv-kl_weight=0.5-heads=3-lr0.001",
        "ewc+iv-kl_weight=0.5-lr0.01",
    ]
    assert [cell.name for cell in cells] == [f"shipped-sentiment-word/{way}-e2-s{seed}" for seed in (0, 1) for way in ways]
    assert (cells[1].guidance.sign, cells[1].guidance.kl_weight, cells[3].heads) == (-1, 0.5, 3)


@pytest.mark.parametrize("variants", [{"heads": 3}, ["heads"], "heads", []])
def test_variants_are_a_list_of_settings(variants: object) -> None:
    with pytest.raises(IVError, match="variants: expected a list, one entry a variant"):
        cells_of({"benchmark": "shipped", "sequence": "sentiment-word", "variants": variants})


def test_cells_that_differ_in_nothing_they_use_are_one_and_others_of_one_name_are_refused(model: str) -> None:
    def ways(**given: Any) -> list[str]:
        return [cell.name.split("/")[1].split("-lr")[0] for cell in cells_of({**base, **given})]

    base = {"benchmark": "shipped", "sequence": "sentiment-word", "model": model, "guides": ["none", "plain_kl", "lwf", "fvg"]}
    usual = ["sequential", "sequential+plain_kl", "sequential+lwf", "sequential+fvg"]
    # Plain training has no vectors and no guidance, plain KL no vectors, LwF and FVG their authors' settings; FVG has vectors.
    assert ways(variants=[{}, {"heads": 5}]) == [*usual, "sequential+fvg-heads=5"]
    assert ways(variants=[{}, {"guidance": {"kl_weight": 4}}]) == [*usual, "sequential+plain_kl-kl_weight=4"]
    # Steered anchors are answered under vectors, whatever guides them.
    assert ways(methods="steered_anchors", guides=["none", "anchors_kl", "anchors_iv"], heads=5) == [
        "steered_anchors-heads=5",
        "steered_anchors-heads=5+anchors_kl",
        "steered_anchors+anchors_iv-heads=5",
    ]
    with pytest.raises(IVError, match=r"two cells are called .*-s0 and differ in test_rows, probe_rows, which is"):
        cells_of({**base, "variants": [{}, {"test_rows": 5, "probe_rows": 5}]})


def test_a_variant_reaches_into_settings_within_settings_and_is_heard(model: str) -> None:
    base = {"benchmark": "shipped", "sequence": "sentiment-word", "model": model, "methods": ["inscl"]}
    given = {"method_settings": {"inscl": {"memory": 5}}, "stage": {"batch_size": 4}}
    changed = {"method_settings": {"inscl": {"embedded": 7}}, "stage": {"rank": 2}}
    (cell,) = cells_of({**base, **given, "variants": [changed]})
    assert cell.own_settings == {"memory": 5, "embedded": 7}
    assert (cell.stage.batch_size, cell.stage.rank) == (4, 2)
    for variant, said in (
        ({"method": "ewc"}, "method has no effect where methods is given; write methods"),
        ({"stage": {"epochs": 1}, "epochs": 2}, "stage.epochs has no effect where epochs is given"),
    ):
        with pytest.raises(IVError, match=f"variant 1: {said}"):
            cells_of({**base, "variants": [variant]})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"seed": 5, "seeds": [0]}, "seed has no effect where seeds is given"),
        ({"stage": {"seed": 7}}, "stage.seed has no effect"),
        ({"methods": []}, "methods: expected at least one value"),
    ],
)
def test_a_setting_of_a_grid_that_would_go_unheard_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(IVError, match=said):
        cells_of({"benchmark": "shipped", "sequence": "sentiment-word", **given})


def test_what_is_asked_for_goes_before_the_single_setting_that_it_stands_for() -> None:
    file = {"method": "osf", "stage": {"learning_rate": 1e-4, "batch_size": 4}, "seeds": [0, 1]}
    asked = {"methods": ["ewc"], "learning_rates": ["1e-3"], "stage": {"batch_size": 8}}
    assert overridden(file, asked) == {"seeds": [0, 1], **asked}


def test_an_unknown_setting_of_a_variant_is_refused_like_any_other() -> None:
    with pytest.raises(IVError, match=r"variant 2: unknown settings under guidance: sing \(did you mean sign\?\); there"):
        cells_of({"benchmark": "shipped", "sequence": "sentiment-word", "variants": [{}, {"guidance": {"sing": -1}}]})


def test_cells_with_other_vectors_do_not_share_them(model: str, tmp_path: Path) -> None:
    usual = tiny_world.cell(model, guide="iv", sequence=tiny_world.TASKS[0])
    others = [replace(usual, heads=usual.heads - 1), replace(usual, source="instructions")]
    for cell in (usual, *others):
        result = Runner(tmp_path).run(cell)
        assert Cell.of(result["cell"]) == cell
    made = [InstructionVector.from_pretrained(path) for path in (tmp_path / "shared").glob(f"*/vectors/{tiny_world.TASKS[0]}")]
    (fewer,) = (vector for vector in made if len(vector.heads) == usual.heads - 1)
    plain, told = sorted((vector for vector in made if vector is not fewer), key=lambda vector: vector.metadata["source"])
    assert (plain.metadata["source"], told.metadata["source"]) == ("demonstrations", "instructions")
    # From solved examples a head's mean is the same, few heads or many; the instruction alone says something else.
    assert torch.equal(fewer.values[0], plain.values[plain.heads.index(fewer.heads[0])])
    assert not any(torch.equal(one, other) for one in told.values for other in plain.values)


def test_two_cells_of_one_name_are_refused(model: str, tmp_path: Path) -> None:
    cell = tiny_world.cell(model)
    with pytest.raises(IVError, match="two cells are called"):
        run_grid([cell, replace(cell, test_rows=5)], tmp_path)


def test_training_and_test_rows_share_no_input_and_test_rows_are_the_same_for_all_seeds(model: str) -> None:
    zero, one = (Curriculum.of(tiny_world.cell(model, seed=seed), None) for seed in (0, 1))
    for lesson, other in zip(zero.lessons, one.lessons, strict=True):
        assert not {row.input for row in lesson.train.rows} & {row.input for row in lesson.test.rows}
        assert lesson.test.rows == other.test.rows
        assert lesson.train.rows != other.train.rows


def test_a_method_is_one_new_file(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "halved.py").write_text(
        "from instruction_vectors.continual.method import Method\n\n\n"
        "class Halved(Method):\n"
        "    name = 'halved'\n"
        "    source = 'a test'\n\n"
        "    def begin(self, number, rows):\n"
        "        return list(rows)[::2]\n"
    )
    monkeypatch.setattr(folder_of_methods, "__path__", [*folder_of_methods.__path__, str(tmp_path / "methods")])
    methods.cache_clear()
    try:
        assert method_named("halved").source == "a test"
        Runner(tmp_path).run(cell := tiny_world.cell(model, method="halved"))
        steps = [json.loads(p.read_text()) for p in (Runner(tmp_path).folder(cell) / "steps").glob("train_*.json")]
        assert [step["value"]["rows"] for step in steps] == [4, 4]
    finally:
        monkeypatch.undo()
        methods.cache_clear()
        sys.modules.pop("instruction_vectors.continual.methods.halved", None)


@pytest.mark.slow
def test_ray_gives_the_bytes_of_this_process(finished: tuple[Cell, Path], tmp_path: Path) -> None:
    from instruction_vectors.continual.ray_grid import run_on_ray

    cell, out = finished
    other = replace(cell, method="replay")
    results = run_on_ray([cell, other], tmp_path, cpus=1, memory_gb=1)
    assert [result["name"] for result in results] == [cell.name, other.name]
    assert content(tmp_path, cell) == content(out, cell)


def test_general_sets_are_measured_at_every_stage(model: str, tmp_path: Path) -> None:
    questions = [{"query": f"{i} and", "choices": ["one", "two"], "gold": i % 2} for i in range(8)]
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "openbookqa.json").write_text(json.dumps(questions))
    cell = tiny_world.cell(model, general=("openbookqa",), general_rows=4)
    with pytest.raises(DataError, match="general set 'openbookqa' is read from a folder"):
        run_sequence(cell, tmp_path / "grid")
    result = run_sequence(cell, tmp_path / "grid", tmp_path)
    assert [set(stage["general"]["openbookqa"]) for stage in result["stages"]] == [{"zero_shot", "in_context"}] * 3
    assert "openbookqa/general" in result["data"]
    for form, names in result["counted_general"].items():
        assert names in ([], ["openbookqa"])
        assert len(result["general"][form]) == 3 * len(names)


def test_rows_that_do_not_fit_are_counted(model: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    free = Curriculum.of(tiny_world.cell(model), None)
    texts = {
        (lesson.name, side): [instructed(task, row, template=template_of(task)).text for row in task.rows]
        for lesson in free.lessons
        for side, task in (("train_inputs", lesson.train), ("test_inputs", lesson.test))
    }
    # A token a character: the budget lies below the longest of all prompts, and above the instructions.
    budget = max(len(text) for rows in texts.values() for text in rows) - 2
    found = Curriculum.of(tiny_world.cell(model, max_tokens=budget, max_new_tokens=4), None).cut(tokenizer)
    for (name, side), rows in texts.items():
        assert found[name][side] == sum(len(text) > budget for text in rows)
    assert sum(counts[side] for counts in found.values() for side in ("train_inputs", "test_inputs")) > 0
    for lesson in free.lessons:
        answers = [template_of(lesson.train).answer(row.output) for row in lesson.train.rows]
        assert found[lesson.name]["train_answers"] == sum(len(answer) > 4 for answer in answers) > 0


def test_frozen_weights_of_half_the_size_are_trained_over_and_measured(model: str, tmp_path: Path) -> None:
    cell = tiny_world.cell(model, guide="iv", sequence=tiny_world.TASKS[0], dtype="bfloat16")
    runner = Runner(tmp_path)
    result = runner.run(cell)
    whole = Runner(tmp_path / "whole").run(replace(cell, dtype="float32"))
    assert result["model_fingerprint"] != whole["model_fingerprint"]
    opened, _ = runner._open(cell)
    assert {weight.dtype for weight in opened.parameters()} == {torch.bfloat16}
    losses = [
        json.loads(path.read_text())["value"]["loss"]
        for out in (tmp_path, tmp_path / "whole")
        for path in out.glob("cells/*/*/steps/train*.json")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert losses[0] != losses[1]
    with pytest.raises(IVError, match=r"guidance\.mode 'summed' needs a vector's layer"):
        replace(cell, guidance=IVGuidanceConfig(mode="summed"))
    with pytest.raises(IVError, match="dtype must be 'float32' or 'bfloat16', got 'int8'"):
        replace(cell, dtype="int8")  # type: ignore[arg-type]
