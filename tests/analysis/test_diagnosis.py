"""The whole diagnosis on tiny models: measured rows against slow ones, judged rungs by hand, outputs."""

import json
import re
import sys
from dataclasses import replace

import pytest
import tiny
import tiny_training
import torch
from peft import LNTuningConfig, get_peft_model
from tiny_diagnosis import PLAN, TASKS, task

from instruction_vectors.analysis.conditions import Condition, ask, shuffled, write_out
from instruction_vectors.analysis.diagnosis import diagnose
from instruction_vectors.analysis.examination import Examination
from instruction_vectors.analysis.extracted import Vectors
from instruction_vectors.analysis.frames import TABLES, frames, write_frames
from instruction_vectors.analysis.ladder import dialled, rung_of
from instruction_vectors.analysis.pair import Pair
from instruction_vectors.analysis.plan import LAST, Plan, Subject, other_of, subjects_of
from instruction_vectors.analysis.relearn import relearned
from instruction_vectors.analysis.remedies import check_folder, write_diagnosis
from instruction_vectors.analysis.repairs import ADDED, PROMPTED, SUBTRACTED, Repair
from instruction_vectors.analysis.summary import markdown
from instruction_vectors.analysis.verdict import Rules, Rung
from instruction_vectors.analysis.words import sentences
from instruction_vectors.analysis.worse import change_of, floors_of, forms_of
from instruction_vectors.errors import DataError, IVError
from instruction_vectors.evaluation.knowledge import Estimate
from instruction_vectors.evaluation.statistics import noise_floor
from instruction_vectors.tasks.prompts import instructed
from instruction_vectors.tasks.task import Example


@pytest.fixture(scope="module")
def found():
    return diagnose(None, tiny_training.adapted(), TASKS, tokenizer=tiny.tokenizer(), last=task("last", 17), plan=PLAN)


def slow_hit(model, tok, subject, row, prompt):
    """The right option has the highest log-likelihood, one forward an option."""
    values = []
    for option in subject.task.choices(row):
        ids = tok(f"{prompt} {option}", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logprobs = model(input_ids=ids).logits.log_softmax(-1)
        values.append(float(logprobs[0, -2, ids[0, -1]]))
    return values.index(max(values)) == subject.task.choices(row).index(row.output)


def test_ranked_rows_equal_slow_ones_under_every_condition():
    model, tok = tiny.shared("llama"), tiny.tokenizer()
    subject = Subject.of(TASKS[0], PLAN)
    vector = tiny_training.vector(model)
    shots = subject.probe.demonstrations.rows[:2]
    asked = {"x+c": Condition(), "iv": Condition("x+c", vector, -1.5), "few": Condition("few-shot", shots=[shots])}
    fast = ask(model, tok, subject, asked)
    for number, row in enumerate(subject.probe.queries):
        prompt = instructed(subject.task, row).text
        assert (fast["x+c"][number] == 1) == slow_hit(model, tok, subject, row, prompt)
        few = instructed(subject.task, row, shots=shots).text
        assert (fast["few"][number] == 1) == slow_hit(model, tok, subject, row, few)
        where = torch.zeros(1, len(tok(f"{prompt} {row.output}")["input_ids"]), dtype=torch.bool)
        where[0, -2] = True
        with vector.applied(model, scale=-1.5, positions=where):
            assert (fast["iv"][number] == 1) == slow_hit(model, tok, subject, row, prompt)
    wrong = {v for rows in fast.values() for v in rows if v != 1}
    assert len(wrong) == 1
    assert wrong.pop() == pytest.approx(-1 / 3)


def test_written_answers_equal_greedy_decoding():
    model, tok = tiny.shared("llama"), tiny.tokenizer()
    subject = Subject.of(TASKS[0], PLAN)
    shots = subject.probe.demonstrations.rows[:2]
    (found,) = write_out(model, tok, subject, {"few": Condition("few-shot", shots=[shots])}).values()
    for number, row in enumerate(subject.probe.queries):
        ids = tok(instructed(subject.task, row, shots=shots).text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            best = int(model(input_ids=ids).logits[0, -1].argmax())
        assert found[number] == float(tok.convert_ids_to_tokens(best) == row.output)


def test_parts_of_a_task_are_disjoint():
    subject = Subject.of(TASKS[0], PLAN)
    parts = [subject.probe.queries, subject.validation, subject.probe.demonstrations.rows]
    inputs = [row.input for part in parts for row in part]
    assert len(inputs) == len(set(inputs)) == len(TASKS[0].rows)


def test_the_other_task_is_never_the_task_itself():
    for count in range(2, 9):
        names = [str(n) for n in range(count)]
        assert all(other_of(name, names) != name for name in names)


def test_the_other_task_can_be_asked_not_to_be_a_certain_one():
    names = ["a", "b", "c", "d"]
    assert other_of("a", names) == "c"
    assert other_of("a", names, but="c") == "d"
    assert other_of("a", names, but="b") == "c"
    assert other_of("b", ["a", "b"], but="a") == "a"  # there is none
    for count in range(3, 6):
        for but in names[:count]:
            assert not {other_of(name, names[:count], but=but) for name in names[:count] if name != but} & {but}


def test_the_last_task_s_own_vector_is_no_control_for_subtracting_it():
    class Taken(Examination):
        def result(self):
            tools = self.tools
            stand_ins = {name: tools._stand_ins(SUBTRACTED, name, 0).values() for name in self.subjects}
            return {name: [tools.last.mean.cosine(vector) for vector in vectors] for name, vectors in stand_ins.items()}

    plan, last = replace(PLAN, rows=4), TASKS[2]
    pair = Pair(tiny.tokenizer(), tiny_training.adapted())
    subjects = subjects_of(TASKS, plan)
    assert other_of("one", list(subjects)) == "two"
    assert other_of("two", list(subjects)) == "three"
    likeness = Taken(pair, subjects, {LAST: Subject.of(last, plan)}, plan, lambda: None).result()
    assert max(*likeness["one"], *likeness["two"]) < 0.999


def test_shuffled_answers_are_the_same_answers_at_other_inputs():
    shots = [Example("a", "1"), Example("b", "2"), Example("c", "3")]
    assert shuffled(shots) == (Example("a", "3"), Example("b", "1"), Example("c", "2"))


def test_a_rung_by_hand():
    base = {"x+c": [1.0] * 10, "few-shot": [1.0] * 10}
    tuned = {"x+c": [0.0] * 9 + [1.0], "few-shot, other task's shots": [0.0] * 9 + [1.0]}
    after = [1.0] * 8 + [0.0, 1.0]
    rung = rung_of(PROMPTED, after, base, tuned, 1.0, Rules())
    assert rung.gain.value == pytest.approx(0.8)
    assert rung.share is not None
    assert rung.share.value == pytest.approx(0.8 / 0.9)
    assert rung.of_base == pytest.approx(0.9)
    assert rung.beyond is not None
    assert rung.beyond.value == pytest.approx(0.8)
    assert rung.over["few-shot, other task's shots"].value == pytest.approx(0.8)
    assert rung.required == ("few-shot, other task's shots",)
    assert rung.beats_controls


def test_a_rung_without_a_clear_drop_has_no_share():
    rung = rung_of(Repair("r"), [1.0] * 5, {"x+c": [1.0, 0.0] * 2 + [0.0]}, {"x+c": [0.0] * 5}, 1.0, Rules())
    assert (rung.share, rung.of_base, rung.beyond) == (None, None, None)


def test_a_diagnosis_has_every_part(found):
    assert set(found.tasks) == {"one", "two", "three"}
    assert set(found.tasks["one"].changes) == {"in_context", "zero_shot", "knowledge", "instruction"}
    assert set(found.tasks["three"].changes) == {"in_context", "zero_shot", "instruction"}
    assert found.split is not None
    assert found.split.before.tasks == ("one", "two")
    assert len(found.heads) == 3
    assert found.scale in PLAN.scales
    for each in found.tasks.values():
        assert -1 <= each.trace.cosine < 1
        assert set(each.grid["base"]) == set(each.grid["tuned"])
        fell = each.changes["instruction"].drop.value > 0
        names = [rung.name for rung in each.rungs]
        assert names == (["few-shot", "x+c+iv(base)", "x+c-iv(last)", "0.5 of the fine-tune"] if fell else [])
        worse = each.changes["in_context"].drop.value > 0
        written = [rung.name for rung in each.written_rungs]
        assert written == (["few-shot+iv(base)", "few-shot-iv(last)", "few-shot, 0.5 of the fine-tune"] if worse else [])
        for rung in each.rungs:
            if rung.name == ADDED.name:
                assert set(rung.over) == set(ADDED.controls)


def test_the_grid_s_instruction_cell_is_the_instruction_form(found):
    for each in found.tasks.values():
        assert each.grid["base"]["x+c"] == pytest.approx(each.changes["instruction"].base.value)
        assert each.grid["tuned"]["x+c"] == pytest.approx(each.changes["instruction"].tuned.value)


def test_a_diagnosis_can_be_repeated_and_written(found, tmp_path):
    again = diagnose(None, tiny_training.adapted(), TASKS, tokenizer=tiny.tokenizer(), last=task("last", 17), plan=PLAN)
    first, second = (json.dumps(d.to_dict(), allow_nan=False) for d in (found, again))
    assert first == second
    tables = frames(found)
    assert tables.keys() <= set(TABLES)
    assert list(tables["verdicts"]["task"]) == ["one", "two", "three"]
    assert len(tables["effects"]) == tiny.LAYERS * tiny.HEADS
    import pandas

    for path in write_frames(found, tmp_path):
        assert len(pandas.read_parquet(path)) == len(tables[path.stem])


def test_remedies_of_an_earlier_diagnosis_go_and_what_a_user_put_beside_them_stays(found, tmp_path):
    verdicts = {name: replace(each.verdict, name="intact") for name, each in found.tasks.items()}
    fine = {name: replace(each, verdict=verdicts[name], written=verdicts[name]) for name, each in found.tasks.items()}
    fine = replace(found, tasks=fine)
    bad = replace(fine, tasks=fine.tasks | {"one": replace(fine.tasks["one"], verdict=replace(verdicts["one"], name="lost"))})
    own = tmp_path / "vectors" / "two" / "mine"
    own.mkdir(parents=True)
    write_diagnosis(bad, tmp_path)
    assert (tmp_path / "vectors" / "one" / "vector.safetensors").exists()
    assert (tmp_path / "guidance.json").exists()
    write_diagnosis(fine, tmp_path)
    assert sorted(path.name for path in (tmp_path / "vectors").iterdir()) == ["two"]
    assert own.exists()
    assert not (tmp_path / "guidance.json").exists()


def test_the_words_name_every_task_and_verdict(found):
    text = markdown(found)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    for name, each in found.tasks.items():
        assert f"| {name} | **{each.verdict.name}** |" in text
    assert "smallest drop" in " ".join(sentences(found))


def test_the_words_name_what_fell_whatever_its_verdict_and_say_what_rose(found):
    drop = Estimate(0.68, (0.48, 0.8))
    one, two = found.tasks["one"], found.tasks["two"]
    fell = replace(one.changes["in_context"], drop=drop, worse=True)
    same = replace(two.changes["in_context"], worse=False)
    tasks = {
        "one": replace(one, changes=one.changes | {"in_context": fell}, written=replace(one.written, name="inconclusive")),
        "two": replace(two, changes=two.changes | {"in_context": same}, written=replace(two.written, name="lost")),
    }
    rose = replace(found.split, instruction_drop=Estimate(-0.27, (-0.54, -0.05)), knowledge_drop=Estimate(0.1, (0.0, 0.2)))
    said = sentences(replace(found, tasks=tasks, split=rose, weight_distance=None))
    assert "Few-shot answers, written out, fell in: one by 0.68 [0.48, 0.80] (inconclusive)." in said
    assert (
        "Over the tasks with a knowledge form the instruction form rose by 0.27 [0.05, 0.54], the knowledge form fell by "
        "0.10 [0.00, 0.20]."
    ) in said
    assert not any("weights" in sentence for sentence in said)


def test_a_repair_without_controls_to_beat_does_not_say_that_it_beat_them(found):
    rungs = [Rung(name, True, *[Estimate(0.5, (0.4, 0.6))] * 2, required=r, over={"c": Estimate(0.1, (-0.1, 0.3))})
             for name, r in (("turned", ()), ("vector", ("c",)))]  # fmt: skip
    tasks = {"one": replace(found.tasks["one"], rungs=rungs, written_rungs=[])}
    table = frames(replace(found, tasks=tasks))["repairs"]
    assert list(table["beats_controls"]) == [None, False]


def test_what_would_stop_the_writing_is_told_before_anything_is_measured(found, tmp_path, monkeypatch):
    check_folder(tmp_path / "new")
    write_diagnosis(found, tmp_path / "old")
    check_folder(tmp_path / "old")
    for content in ('{"hello": 1}', "[1]", '{"tasks": {"a": 3}}'):
        (tmp_path / "old" / "diagnosis.json").write_text(content)
        with pytest.raises(DataError, match="is no diagnosis of this tool; choose another folder"):
            check_folder(tmp_path / "old")
    (tmp_path / "old" / "diagnosis.json").unlink()
    with pytest.raises(DataError, match="holds the results of another run"):
        check_folder(tmp_path / "old")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        check_folder(tmp_path / "file")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(IVError, match="data frames need the data extra"):
        check_folder(tmp_path / "new")


def test_a_model_against_its_own_copy_shows_no_drop():
    base, copy = tiny.model("llama"), tiny.model("llama")
    found = diagnose(base, copy, TASKS, tokenizer=tiny.tokenizer(), plan=PLAN)
    assert found.weight_distance == 0
    assert not found.bad
    assert not any(each.rungs or each.written_rungs for each in found.tasks.values())
    for each in found.tasks.values():
        assert each.changes["instruction"].drop.value == 0
        assert each.trace.cosine == pytest.approx(1)
        assert each.trace.effect_after == pytest.approx(each.trace.effect_before)


def test_the_floor_is_the_spread_of_the_base_asked_again(tok):
    several = [replace(t, instructions=(*t.instructions, tiny.text(1, 2), tiny.text(9, 4, 7))) for t in TASKS[:2]]
    subjects = subjects_of(several, PLAN)
    model = tiny.shared("llama")
    forms = forms_of(model, tok, subjects, lambda: None)
    floors = floors_of(model, tok, subjects, forms, 2)
    assert set(floors) == {"in_context", "zero_shot", "instruction"}  # one cloze only: knowledge cannot be asked otherwise
    scores = []
    for each in several:
        runs = []
        for turn in range(3):
            turned = replace(each, instructions=each.instructions[turn:] + each.instructions[:turn])
            rows = ask(model, tok, Subject.of(turned, PLAN), {"x+c": Condition()})["x+c"]
            runs.append(sum(rows) / len(rows))
        scores.append(runs)
    assert floors["instruction"] == pytest.approx(noise_floor(*scores))
    assert floors_of(model, tok, subjects, forms, 0) == {}


def test_asking_again_keeps_rows_and_options_and_changes_shots():
    subject = Subject.of(TASKS[0], PLAN)
    again = subject.again(1)
    assert again.queries == subject.probe.queries
    assert [again.task.choices(row) for row in again.queries] == [subject.task.choices(row) for row in again.queries]
    assert again.shot_sets() != subject.probe.shot_sets()


def test_a_drop_counts_only_beyond_the_floor():
    base, tuned = [1.0] * 20, [1.0] * 10 + [0.0] * 10
    assert change_of(base, tuned, 1.0, Rules(), floor=0.4).worse
    beyond = change_of(base, tuned, 1.0, Rules(), floor=0.6)
    assert not beyond.worse
    assert beyond.drop.interval[0] > 0
    assert beyond.smallest >= 0.6
    assert not change_of(base, [1.0] * 19 + [0.0], 1.0, Rules()).worse  # within the noise of the rows


def test_shuffled_heads_hold_the_same_outputs_elsewhere():
    model, heads = tiny.shared("llama"), ((0, 1), (1, 0), (2, 2))
    mean = tiny.means("llama").float()
    vectors = Vectors.of(model, {"t": mean}, heads)
    moved = vectors.shuffled["t"]
    assert moved.heads == heads
    own = [mean[head] for head in heads]
    places = [next(k for k, value in enumerate(own) if torch.equal(value, found)) for found in moved.values]
    assert sorted(places) == [0, 1, 2]
    assert all(place != here for here, place in enumerate(places))
    assert Vectors.of(model, {"t": mean}, heads[:1]).shuffled == {}


def test_relearning_stands_beside_other_rows_and_wrong_answers(tok):
    plan = replace(PLAN, relearn_steps=3, relearn_rate=5e-2, dials=())
    subject, other = (Subject.of(t, plan) for t in TASKS[:2])
    pair = Pair(tok, tiny_training.adapted())
    ((repair, after, controls),) = dialled(pair, tok, subject, plan, other=other)
    assert tuple(controls) == repair.controls == ("3 steps of relearning another task", "3 steps of relearning shuffled answers")
    assert not repair.evidence
    assert not repair.required
    assert len({tuple(rows) for rows in (after, *controls.values())}) > 1


@pytest.mark.parametrize("kind", ["lora", "other"])
def test_relearning_lowers_the_loss_and_leaves_no_trace(kind):
    model, tok = tiny_training.adapted(), tiny.tokenizer()
    if kind == "other":
        settings = LNTuningConfig(target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        model = get_peft_model(tiny.model("llama"), settings).to(torch.float64)
    subject = Subject.of(TASKS[0], PLAN)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    wanted = {name: weight.requires_grad for name, weight in model.named_parameters()}
    row = subject.probe.demonstrations.rows[0]
    ids = tok(f"{instructed(subject.task, row).text} {row.output}", return_tensors="pt")["input_ids"]

    def loss():
        with torch.no_grad():
            return float(-model(input_ids=ids).logits.log_softmax(-1)[0, -2, ids[0, -1]])

    start = loss()
    with relearned(model, tok, subject, replace(PLAN, relearn_steps=8, relearn_rate=2e-2)):
        assert loss() < start - 0.1
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name])
        assert weight.requires_grad == wanted[name]
        assert weight.grad is None


def test_bad_tasks_are_told_before_any_model_is_opened():
    with pytest.raises(DataError, match="two tasks or more"):
        diagnose("no such model", "neither", [TASKS[0]], plan=PLAN)
    with pytest.raises(DataError, match="unknown task"):
        diagnose("no such model", "neither", ["nonsense", "country-capital"], plan=PLAN)
    with pytest.raises(DataError, match="has 18 rows"):
        diagnose("no such model", "neither", TASKS)


def test_the_default_tasks_are_the_shipped_ones_with_a_knowledge_form():
    subjects = subjects_of(None, Plan())
    assert len(subjects) == 14
    # Those of 106 rows are left out where more are asked for.
    assert subjects.keys() - subjects_of(None, Plan(rows=100)).keys() == {"country-language", "fruit-or-vegetable"}
    with pytest.raises(DataError, match="rows; with these settings a diagnosis needs 5010"):
        subjects_of(None, Plan(rows=5000))
    assert all(subject.task.knowledge for subject in subjects.values())


def test_a_task_named_twice_is_measured_once_and_is_no_control_of_itself():
    assert list(subjects_of([*TASKS, TASKS[0]], PLAN, trained=(TASKS[1], TASKS[1]))) == ["one", "two", "three"]
    with pytest.raises(DataError, match="two tasks or more"):
        subjects_of([TASKS[0], TASKS[0]], PLAN)
