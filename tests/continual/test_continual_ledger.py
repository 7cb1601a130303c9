"""A run that can be stopped at any instant and go on."""

import json
import os
from pathlib import Path

import pytest

from instruction_vectors.continual.ledger import Ledger
from instruction_vectors.errors import DataError

CONFIG = {"seed": 0, "tasks": ("a", "b"), "stage": {"epochs": 2}}


class Work:
    """Something to compute that counts how often it was."""

    def __init__(self, value=7, fail=None):
        self.value, self.fail, self.runs = value, fail, 0

    def __call__(self):
        self.runs += 1
        if self.fail:
            raise self.fail
        return self.value


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path, CONFIG) as held:
        yield held


def resumed(folder, name, work):
    """The result of a step in a later process."""
    with Ledger(folder, CONFIG) as later:
        return later.step(name, work)


def files(folder):
    """What a run left, but for its lock."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return sorted(str(path.relative_to(folder)) for path in found)


def test_a_step_is_computed_once(ledger):
    work = Work({"accuracy": 0.5, "rows": [1, 2]})
    assert not ledger.finished("measure")
    assert ledger.step("measure", work) == {"accuracy": 0.5, "rows": [1, 2]}
    assert ledger.step("measure", work) == {"accuracy": 0.5, "rows": [1, 2]}
    assert work.runs == 1
    assert ledger.finished("measure")


def test_a_resumed_run_reads_what_the_first_had_finished(tmp_path):
    again, new = Work(99), Work(2)
    assert resumed(tmp_path, "one", Work(1)) == 1
    assert (resumed(tmp_path, "one", again), resumed(tmp_path, "two", new)) == (1, 2)
    assert (again.runs, new.runs) == (0, 1)


def test_a_first_result_is_what_a_resumed_run_would_read(tmp_path):
    value = {"pair": (1, 2), 3: "three"}
    first = resumed(tmp_path, "one", lambda: value)
    assert first == resumed(tmp_path, "one", Work()) == {"pair": [1, 2], "3": "three"}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({**CONFIG, "seed": 1}, "seed"),
        ({**CONFIG, "stage": {"epochs": 3}}, "stage.epochs"),
        ({**CONFIG, "stage": {"epochs": 2, "rank": 4}, "seed": 1}, "seed, stage.rank"),
        ({**CONFIG, "extra": 1, "seed": 2}, "extra, seed"),
        ({"seed": 0, "tasks": ("a", "b")}, "stage"),
    ],
)
def test_other_settings_are_refused_by_name_and_change_nothing(tmp_path, changed, named):
    resumed(tmp_path, "one", Work(1))
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    with pytest.raises(DataError, match=f"other settings \\({named}\\); choose another folder"), Ledger(tmp_path, changed):
        pass
    assert before == {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    assert resumed(tmp_path, "one", Work(2)) == 1


@pytest.mark.parametrize("failure", [ValueError("no"), KeyboardInterrupt()])
def test_a_step_that_is_interrupted_leaves_nothing_and_can_be_done_again(ledger, failure):
    with pytest.raises(type(failure)):
        ledger.step("one", Work(fail=failure))
    assert files(ledger.folder) == ["config.json"]
    assert not ledger.finished("one")
    assert ledger.step("one", Work(5)) == 5


def test_a_result_that_is_no_number_is_not_kept(ledger):
    with pytest.raises(ValueError, match="not JSON compliant"):
        ledger.step("one", lambda: float("nan"))
    assert files(ledger.folder) == ["config.json"]


def test_a_kill_between_writing_and_naming_a_result_leaves_the_step_undone(tmp_path, monkeypatch):
    def killed(self, target):
        raise SystemExit

    with Ledger(tmp_path, CONFIG) as ledger, monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(SystemExit):
            ledger.step("one", Work(1))
        assert not ledger.finished("one")
    assert resumed(tmp_path, "one", Work(2)) == 2


def test_a_second_process_is_refused_while_the_first_runs_and_let_in_after_it(tmp_path):
    with Ledger(tmp_path, CONFIG), pytest.raises(DataError, match="another process is running"), Ledger(tmp_path, CONFIG):
        pass
    assert resumed(tmp_path, "one", Work(3)) == 3


def test_an_error_inside_the_run_lets_go_of_the_folder(tmp_path):
    with pytest.raises(ValueError, match="no"), Ledger(tmp_path, CONFIG) as ledger:
        ledger.step("one", Work(fail=ValueError("no")))
    assert resumed(tmp_path, "one", Work(3)) == 3


def test_a_place_that_cannot_be_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write to"), Ledger(tmp_path / "file", CONFIG):
        pass


def test_names_that_look_alike_on_disk_are_kept_apart(ledger):
    names = ["train/a", "train_a", "train?a", "x" * 300, "x" * 301, "../up", "ä"]
    for number, name in enumerate(names):
        ledger.step(name, Work(number))
    assert [ledger.step(name, Work()) for name in names] == list(range(len(names)))
    assert len(list((ledger.folder / "steps").iterdir())) == len(names)


def test_seconds_are_told_by_step_in_the_order_of_finishing(ledger):
    for number, name in enumerate(("zebra", "ant", "bear")):
        ledger.step(name, Work())
        path = next((ledger.folder / "steps").glob(f"{name}*"))
        os.utime(path, ns=(number, number))
    assert list(ledger.seconds()) == ["zebra", "ant", "bear"]
    assert all(seconds >= 0 for seconds in ledger.seconds().values())


def test_the_settings_stand_beside_the_steps_as_json(tmp_path):
    with Ledger(tmp_path / "deep" / "run", CONFIG):
        pass
    assert json.loads((tmp_path / "deep" / "run" / "config.json").read_text()) == json.loads(json.dumps(CONFIG))
