"""Each benchmark from tiny files in its format: what is read, how it is split, and every complaint with file and row."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import instruction_vectors
from instruction_vectors.errors import DataError
from instruction_vectors.tasks import Benchmark, Example, Task, benchmark_names, load_benchmark, readers
from instruction_vectors.tasks.benchmarks import _readers
from instruction_vectors.tasks.layout import LayoutTemplate, template_of
from instruction_vectors.tasks.prompts import PLAIN
from instruction_vectors.tasks.readers import func, long, superni, trace
from instruction_vectors.tasks.readers.rows import MAX_CHARACTERS

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def put(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def func_folder(root: Path, rows: Any = None, name: str = "antonym", kind: str = "abstractive") -> Path:
    rows = [{"input": f"w{i}", "output": f"v{i}"} for i in range(20)] if rows is None else rows
    put(root / "func" / kind / f"{name}.json", rows)
    return root


def long_folder(root: Path, train: Any = None, labels: Any = ("Good", "Bad"), name: str = "sst2") -> Path:
    rows = [{"label": "Good", "sentence": "Text: fine"}, {"label": "Bad", "sentence": "Text: dull"}]
    put(root / "long" / name / "train.json", rows if train is None else train)
    put(root / "long" / name / "test.json", [{"label": "Bad", "sentence": "Text: flat"}])
    put(root / "long" / name / "labels.json", labels)
    return root


def stance(i: int) -> dict[str, str]:
    return {"prompt": f"What is the stance?\nText:\ntext {i}\nand on\nStance:", "answer": "ABC"[i % 3]}


def trace_folder(root: Path, train: Any = None, name: str = "FOMC", variant: str = "500") -> Path:
    for side, rows in (("train", [stance(0), stance(1)]), ("eval", [stance(2)]), ("test", [stance(3)])):
        put(root / "trace" / variant / name / f"{side}.json", train if side == "train" and train is not None else rows)
    return root


def superni_task(**changes: Any) -> dict[str, Any]:
    return {
        "Definition": ["Say the colour."],
        "Positive Examples": [{"input": "snow", "output": "white", "explanation": "It is."}],
        "Instances": [{"id": f"i{i}", "input": f"thing {i}", "output": ["red", "crimson"]} for i in range(10)],
    } | changes


def superni_folder(root: Path, names: tuple[str, ...] = superni.SEQUENCES["C1"], **changes: Any) -> Path:
    for name in names:
        put(root / "superni" / f"{name}_colours.json", superni_task(**changes))
    return root


def superni_rows(root: Path, rows: Any = None) -> Path:
    return superni_folder(root, **({} if rows is None else {"Instances": rows}))


FOLDERS = {"func": func_folder, "long": long_folder, "trace": trace_folder, "superni": superni_rows}
KEYS = {"func": ("input", "output"), "long": ("label", "sentence"), "trace": ("prompt", "answer"), "superni": ("input", "output")}
ROW = {
    "func": {"input": "up", "output": "down"},
    "long": {"label": "Good", "sentence": "Text: ok"},
    "trace": {"prompt": "What is the stance?\nText:\nx\nStance:", "answer": "A"},
    "superni": {"input": "up", "output": "down"},
}
FILE = {"func": "antonym.json", "long": "train.json", "trace": "train.json", "superni": "task195_colours.json"}
CALLED = {"superni": "instance"}
"""What a benchmark calls its rows, where it is another word."""


def called(name: str) -> str:
    return CALLED.get(name, "row")


# --- what all have in common ---


def test_benchmarks_are_found_in_the_readers_folder() -> None:
    assert {"func", "long", "superni", "trace"} <= set(benchmark_names())
    assert instruction_vectors.load_benchmark is load_benchmark


def test_a_new_file_in_readers_is_a_new_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "colours.py").write_text(
        "from instruction_vectors.tasks import Benchmark, Example, Sides, Task\nNAME = 'colours'\n"
        "def read(data_dir, *, tasks=None, seed=0):\n"
        "    side = Task('sky', ('Which colour?',), (Example('sky', 'blue'),))\n"
        "    return Benchmark(NAME, {'sky': Sides(side, side)}, {'only': ('sky',)})\n"
    )
    monkeypatch.setattr(readers, "__path__", [*readers.__path__, str(tmp_path)])
    _readers.cache_clear()
    try:
        assert "colours" in benchmark_names()
        assert load_benchmark("colours", tmp_path).sequence("only")[0].name == "sky"
    finally:
        _readers.cache_clear()


def test_unknown_benchmark_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown benchmark 'nosuch'.*func.*long"):
        load_benchmark("nosuch", tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        load_benchmark("func", tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["func", "long", "trace", "superni"])
def test_an_empty_folder_is_an_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)):
        load_benchmark(name, tmp_path)


@pytest.mark.parametrize("name", FOLDERS)
def test_the_folder_above_and_the_benchmarks_own_read_the_same(name: str, tmp_path: Path) -> None:
    FOLDERS[name](tmp_path)
    assert load_benchmark(name, tmp_path) == load_benchmark(name, tmp_path / name)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda row, key: {k: v for k, v in row.items() if k != key}, "{row} 2: no '{key}'"),
        (lambda row, key: row | {key: 7}, "{row} 2: '{key}' must be text, got int"),
        (lambda row, key: row | {key: None}, "{row} 2: '{key}' must be text, got NoneType"),
        (lambda row, key: row | {key: " \n"}, "{row} 2: '{key}' is empty"),
        (lambda row, key: row | {key: "x" * 10_000_000}, "{row} 2: '{key}' has 10,000,000 characters"),
        (lambda row, key: row | {key: "half \ud800"}, "{row} 2: '{key}' is not UTF-8 text"),
        (lambda row, key: [row], "{row} 2: expected an object, got list"),
    ],
)
def test_a_malformed_row_is_named(name: str, spoil: Any, complaint: str, tmp_path: Path) -> None:
    for number, key in enumerate(KEYS[name]):
        FOLDERS[name](tmp_path / str(number), [ROW[name], spoil(ROW[name], key), ROW[name]])
        with pytest.raises(DataError) as caught:
            load_benchmark(name, tmp_path / str(number))
        assert FILE[name] in str(caught.value)
        assert complaint.format(key=key, row=called(name)) in str(caught.value)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not JSON"),
        (b'[{"input": ', "not JSON (line 1"),
        (b'{\n"a": 1,\n"b": }', "not JSON (line 3"),
        (b"[" * 100_000, "not JSON"),
        (b"[" + b"9" * 5000 + b"]", "not JSON that can be read"),
        (b'[\xff{"input": "a"}]', "not JSON (line 1, column 2"),
    ],
)
def test_a_malformed_file_is_named(name: str, content: bytes, complaint: str, tmp_path: Path) -> None:
    FOLDERS[name](tmp_path)
    path = next(tmp_path.rglob(FILE[name]))
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_benchmark(name, tmp_path)
    assert str(path) in str(caught.value)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize(("rows", "complaint"), [([], "no {row}s"), ({"a": 1}, "expected a list of {row}s, got dict")])
def test_rows_that_are_none_or_no_list_are_named(name: str, rows: Any, complaint: str, tmp_path: Path) -> None:
    FOLDERS[name](tmp_path, rows)
    with pytest.raises(DataError) as caught:
        load_benchmark(name, tmp_path)
    assert FILE[name] in str(caught.value)
    assert complaint.format(row=called(name)) in str(caught.value)


@pytest.mark.parametrize("name", FOLDERS)
def test_bytes_that_are_not_utf8_are_named_with_their_row(name: str, tmp_path: Path) -> None:
    FOLDERS[name](tmp_path)
    path = next(tmp_path.rglob(FILE[name]))
    FOLDERS[name](tmp_path, [ROW[name], ROW[name] | {KEYS[name][1]: "spoiled"}])
    path.write_bytes(path.read_bytes().replace(b"spoiled", b"sp\xe9il"))
    with pytest.raises(DataError, match=rf"{FILE[name]}, {called(name)} 2: '{KEYS[name][1]}' is not UTF-8"):
        load_benchmark(name, tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("name", FOLDERS)
@FEW
@given(data=st.data())
def test_whatever_stands_in_the_rows_is_read_or_refused(name: str, data: st.DataObject, tmp_path: Path) -> None:
    words = st.sampled_from(["Good", "Bad", "A", "B", " ", "a\nb\nc", "{input}", "{instruction}\n{input}"]) | st.text(max_size=9)
    rows = data.draw(st.lists(st.fixed_dictionaries(dict.fromkeys(KEYS[name], words | json_values)) | json_values, max_size=6))
    FOLDERS[name](tmp_path, rows)
    try:
        benchmark = load_benchmark(name, tmp_path)
    except DataError as error:
        refusal = str(error)
    else:
        refusal = ""
        task = next(iter(benchmark.tasks.values())).train
        assert task.fingerprint
        for row in task.rows:
            template_of(task)(task.instruction, (), row.input)
    assert not refusal or str(tmp_path) in refusal or "task" in refusal


@pytest.mark.parametrize("name", FOLDERS)
@FEW
@given(content=st.binary(max_size=60))
def test_whatever_bytes_a_file_holds_are_read_or_refused(name: str, content: bytes, tmp_path: Path) -> None:
    FOLDERS[name](tmp_path)
    next(tmp_path.rglob(FILE[name])).write_bytes(content)
    with pytest.raises(DataError, match=FILE[name]):
        load_benchmark(name, tmp_path)


# --- FUNC ---


def test_func_reads_both_folders_and_splits_by_seed(tmp_path: Path) -> None:
    func_folder(
        func_folder(tmp_path), [{"input": f"a{i}, b, c", "output": f"a{i}"} for i in range(30)], "choose_first_of_3", "extractive"
    )
    benchmark = load_benchmark("func", tmp_path)
    assert list(benchmark.tasks) == ["antonym", "choose_first_of_3"]
    sides = benchmark.tasks["choose_first_of_3"]
    assert [(side, len(task.rows)) for side, task in sides.items()] == [("train", 21), ("eval", 3), ("test", 6)]
    assert sides.train.kind == "choose"
    assert sides.train.knowledge == ()
    assert "three" in sides.train.instructions[1]
    assert benchmark == load_benchmark("func", tmp_path)
    assert benchmark.tasks["antonym"].test != load_benchmark("func", tmp_path, seed=1).tasks["antonym"].test


def test_func_merges_repeated_inputs_and_counts_them(tmp_path: Path) -> None:
    rows = [{"input": f"w{i}", "output": "x"} for i in range(9)]
    rows += [{"input": "w0", "output": "y"}, {"input": "w1", "output": "x"}, {"input": "w0", "output": "z"}]
    sides = load_benchmark("func", func_folder(tmp_path, rows)).tasks["antonym"]
    merged = {row.input: row for _, task in sides.items() for row in task.rows}
    assert len(merged) == sum(len(task.rows) for _, task in sides.items()) == 9
    assert merged["w0"] == Example("w0", "x", ("x", "y", "z"))
    assert merged["w1"] == Example("w1", "x")
    assert sides.train.notes == ("3 rows merged into the first with the same input; 1 inputs gained a further right answer",)


def test_func_refuses_a_label_outside_the_set_and_a_task_without_wording(tmp_path: Path) -> None:
    rows = [{"input": "fine", "output": "positive"}, {"input": "so so", "output": "middling"}]
    with pytest.raises(DataError, match=r"sentiment\.json, row 2: the output 'middling' is not among the labels"):
        load_benchmark("func", func_folder(tmp_path, rows, "sentiment"))
    with pytest.raises(DataError, match=r"made_up\.json: no instruction"):
        load_benchmark("func", func_folder(tmp_path / "b", None, "made_up"))
    with pytest.raises(DataError, match="2 different inputs; a split needs at least 3"):
        load_benchmark("func", func_folder(tmp_path / "c", [{"input": x, "output": "y"} for x in "abb"]))


def test_func_tasks_by_name_and_two_files_of_one_name(tmp_path: Path) -> None:
    func_folder(func_folder(tmp_path), None, "synonym")
    assert list(load_benchmark("func", tmp_path, tasks=["synonym"]).tasks) == ["synonym"]
    with pytest.raises(DataError, match="no task plural; there are: antonym, synonym"):
        load_benchmark("func", tmp_path, tasks=["plural"])
    func_folder(tmp_path, None, "synonym", "extractive")
    with pytest.raises(DataError, match="has the same name"):
        load_benchmark("func", tmp_path)


def test_func_wordings_are_whole() -> None:
    for name, words in func._wordings().items():
        assert len(words["instructions"]) >= 4, name
        assert len(set(words["instructions"])) == len(words["instructions"]), name
        assert set(words) <= {"instructions", "knowledge", "options", "kind"}, name
        for cloze in words.get("knowledge", ()):
            assert cloze.count("{input}") == 1, (name, cloze)
            assert cloze.replace("{input}", "") == cloze.replace("{input}", "").rstrip(), (name, cloze)
        assert not ({"knowledge", "kind"} <= set(words)), name
    for order in func.SEQUENCES.values():
        assert len(order) == 5
        for name in order:
            assert func.wording(name, Path(name))


# --- LONG ---


def test_long_prompts_read_as_published(tmp_path: Path) -> None:
    benchmark = load_benchmark("long", long_folder(tmp_path))
    task = benchmark.tasks["sst2"].train
    assert template_of(task)(task.instruction, (), task.rows[0].input) == (
        "What is the sentiment of the following paragraph? Choose one from the option.\nOption: Good, Bad \nText: fine\nAnswer:"
    )
    assert task.options == ("Good", "Bad")
    assert task.kind == "classify"
    assert benchmark.sequences == {}
    assert "wic" in benchmark.notes[0]


def test_long_has_fifteen_tasks_three_orders_and_a_short_one(tmp_path: Path) -> None:
    for name in long.INSTRUCTIONS:
        long_folder(tmp_path, name=name)
    benchmark = load_benchmark("long", tmp_path)
    assert len(benchmark.tasks) == 15
    assert [len(set(order)) for order in benchmark.sequences.values()] == [15, 15, 15, 6]
    assert benchmark.sequences["order_5"][:3] == ("multirc", "boolq", "wic")
    copa = benchmark.tasks["copa"].train
    assert template_of(copa)(copa.instruction, (), "Which?") == "Which?\nAnswer:"


def test_long_refuses_labels_and_folders_that_do_not_belong(tmp_path: Path) -> None:
    rows = [{"label": "Good", "sentence": "a"}, {"label": "good", "sentence": "b"}]
    with pytest.raises(DataError, match=r"train\.json, row 2: the label 'good' is not in labels\.json \(Good, Bad\)"):
        load_benchmark("long", long_folder(tmp_path, rows))
    for number, labels in enumerate([["Good"], ["Good", "Good"], {"a": 1}, ["Good", 1]]):
        with pytest.raises(DataError, match=r"labels\.json"):
            load_benchmark("long", long_folder(tmp_path / str(number), labels=labels))
    with pytest.raises(DataError, match="sst3: no such task in LONG"):
        load_benchmark("long", long_folder(tmp_path / "x", name="sst3"))
    (tmp_path / "0" / "long" / "sst2" / "test.json").unlink()
    put(tmp_path / "0" / "long" / "sst2" / "labels.json", ["Good", "Bad"])
    with pytest.raises(DataError, match=r"test\.json: no such file"):
        load_benchmark("long", tmp_path / "0")


# --- TRACE ---


def test_trace_prompts_come_back_letter_for_letter(tmp_path: Path) -> None:
    task = load_benchmark("trace", trace_folder(tmp_path)).tasks["FOMC"].train
    assert task.instruction == "What is the stance?"
    assert task.layout == "{instruction}\nText:\n{input}\nStance:"
    assert task.rows[1] == Example("text 1\nand on", "B")
    assert template_of(task)(task.instruction, (), task.rows[0].input) == stance(0)["prompt"]
    assert template_of(task)(None, (), "x") == "Text:\nx\nStance:"


def test_trace_prompts_without_an_instruction_stay_whole(tmp_path: Path) -> None:
    for side in ("train", "eval", "test"):
        put(tmp_path / "trace/500/Py150" / f"{side}.json", [{"prompt": f"<s> a = {side} <EOL>", "answer": "b"}])
    task = load_benchmark("trace", tmp_path).tasks["Py150"].train
    assert task.layout == "{input}"
    assert task.metric == "edit_similarity"
    assert template_of(task)(task.instruction, (), task.rows[0].input) == "<s> a = train <EOL>"


@FEW
@given(
    head=st.lists(st.text("ab {}", max_size=4), max_size=3),
    tail=st.lists(st.text("ab {}", max_size=4), max_size=3),
    middles=st.lists(st.text("xy\n ", min_size=1, max_size=6).filter(str.strip), min_size=3, max_size=5, unique=True),
)
def test_trace_layouts_lose_nothing(head: list[str], tail: list[str], middles: list[str], tmp_path: Path) -> None:
    prompts = ["\n".join([*head, middle, *tail]) for middle in middles]
    rows = [{"prompt": prompt, "answer": "A"} for prompt in prompts]
    for side in ("train", "eval", "test"):
        put(tmp_path / "trace/500/MeetingBank" / f"{side}.json", rows)
    task = load_benchmark("trace", tmp_path).tasks["MeetingBank"].train
    back = [template_of(task)(task.instruction, (), row.input) for row in task.rows]
    left_out = len(prompts) - len(back)
    assert left_out == sum("holds no input" in note for note in task.notes)
    assert back == prompts if not left_out else set(back) <= set(prompts)


def test_trace_leaves_out_and_names_a_row_without_input(tmp_path: Path) -> None:
    rows = [stance(0), stance(1), {"prompt": "What is the stance?\nText:\n\nStance:", "answer": "A"}]
    task = load_benchmark("trace", trace_folder(tmp_path, rows)).tasks["FOMC"].train
    assert len(task.rows) == 2
    assert task.notes == ("row 3 of train.json left out: its prompt holds no input",)


def test_trace_prompts_that_are_all_the_same_are_refused(tmp_path: Path) -> None:
    for side in ("train", "eval", "test"):
        put(tmp_path / "trace/500/MeetingBank" / f"{side}.json", [{"prompt": "x\n", "answer": "A"}] * 2)
    with pytest.raises(DataError, match=r"train\.json: no prompt holds anything"):
        load_benchmark("trace", tmp_path)


def test_trace_size_variants_and_labels(tmp_path: Path) -> None:
    trace_folder(trace_folder(tmp_path), variant="5000")
    with pytest.raises(DataError, match=r"several size variants; name one: .*/500, .*/5000"):
        load_benchmark("trace", tmp_path)
    assert list(load_benchmark("trace", tmp_path / "trace" / "5000").tasks) == ["FOMC"]
    with pytest.raises(DataError, match=r"train\.json, row 1: the answer 'D' is not among A, B, C"):
        load_benchmark("trace", trace_folder(tmp_path / "x", [stance(0) | {"answer": "D"}]))
    for name in trace.METRICS:
        trace_folder(tmp_path / "all", name=name)
    benchmark = load_benchmark("trace", tmp_path / "all")
    assert [len(order) for order in benchmark.sequences.values()] == [6, 8]
    assert {sides.test.metric for sides in benchmark.tasks.values()} == {"accuracy", "rouge_l", "edit_similarity", "sari"}


def test_trace_with_and_without_seen_test_rows(tmp_path: Path) -> None:
    sides = load_benchmark("trace", trace_folder(tmp_path, [stance(0), stance(0), stance(3)])).tasks["FOMC"]
    assert len(sides.train.rows) == 3  # published repeats stay
    with pytest.raises(DataError, match=r"every test row.s input also stands in train or eval"):
        sides.without_seen()
    put(tmp_path / "trace/500/FOMC/test.json", [stance(0), stance(7)])
    clean = load_benchmark("trace", tmp_path).tasks["FOMC"].without_seen()
    assert [row.input for row in clean.test.rows] == ["text 7\nand on"]
    assert "1 test rows left out" in clean.test.notes[-1]
    assert clean.without_seen() is clean


# --- SuperNI ---


def test_superni_reads_a_sequence_with_all_right_answers(tmp_path: Path) -> None:
    superni_folder(superni_folder(tmp_path), ("task900",))
    benchmark = load_benchmark("superni", tmp_path)
    assert {sides.test.metric for sides in benchmark.tasks.values()} == {"rouge_l_stemmed"}  # as natural-instructions scores
    assert benchmark.sequences == {"C1": ("task195", "task1343", "task1310", "task1292", "task363")}
    assert benchmark.notes == ("sequences not complete here: G1, M1, C2, G2, M2", "1 further tasks in the folder not read")
    train = benchmark.sequence("C1")[0].train
    assert train.instruction == "Say the colour."
    assert train.rows[0].answers == ("red", "crimson")
    assert train.demonstrations == (Example("snow", "white"),)
    assert list(load_benchmark("superni", tmp_path, tasks=["task900"]).tasks) == ["task900"]
    with pytest.raises(DataError, match="no sequence 'M2'; it has: C1"):
        benchmark.sequence("M2")


def test_superni_merges_repeats_and_drops_known_demonstrations_with_a_note(tmp_path: Path) -> None:
    rows = [{"input": f"t{i}", "output": ["a"]} for i in range(5)] + [{"input": "t0", "output": ["b", "a"]}]
    superni_folder(tmp_path, ("task001",), Instances=rows, **{"Positive Examples": [{"input": "t1", "output": "a"}]})
    task = load_benchmark("superni", tmp_path, tasks=["task001"]).tasks["task001"].train
    assert task.demonstrations == ()
    assert "1 rows merged" in task.notes[0]
    assert "1 positive examples left out" in task.notes[1]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"Instances": [{"input": "a", "output": ["x"]}, {"output": ["x"]}]}, "instance 2: no 'input'"),
        ({"Instances": [{"input": "a", "output": []}]}, "instance 1: 'output' is empty"),
        ({"Instances": [{"input": "a", "output": ["x", 3]}]}, "instance 1: output 2 must be text, got int"),
        ({"Instances": [{"input": "a"}]}, "instance 1: no 'output'"),
        ({"Instances": []}, "no instances"),
        ({"Instances": "none"}, "expected a list of instances"),
        ({"Definition": []}, "'Definition' must be"),
        ({"Definition": [" "]}, "definition 1: the text is empty"),
        ({"Positive Examples": ["x"]}, "positive example 1: expected an object"),
    ],
)
def test_superni_names_what_is_malformed(changes: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    superni_folder(tmp_path, ("task001",), **changes)
    with pytest.raises(DataError) as caught:
        load_benchmark("superni", tmp_path, tasks=["task001"])
    assert "task001_colours.json" in str(caught.value)
    assert complaint in str(caught.value)


def test_superni_files_that_clash_or_lack_a_field(tmp_path: Path) -> None:
    superni_folder(tmp_path, ("task001",))
    with pytest.raises(DataError, match="complete none of the six sequences"):
        load_benchmark("superni", tmp_path)
    put(tmp_path / "superni" / "task001_other.json", superni_task())
    with pytest.raises(DataError, match="has the same number"):
        load_benchmark("superni", tmp_path, tasks=["task001"])
    put(tmp_path / "superni" / "task002_x.json", {"Definition": "d"})
    (tmp_path / "superni" / "task001_other.json").unlink()
    with pytest.raises(DataError, match=r"task002_x\.json: no 'Instances'"):
        load_benchmark("superni", tmp_path, tasks=["task002"])


@FEW
@given(
    value=st.fixed_dictionaries({"Definition": json_values, "Instances": json_values, "Positive Examples": json_values})
    | json_values
)
def test_superni_reads_or_refuses_whatever_stands_there(value: Any, tmp_path: Path) -> None:
    put(tmp_path / "superni" / "task001_x.json", value)
    with pytest.raises(DataError, match="task001"):
        load_benchmark("superni", tmp_path, tasks=["task001"])


def test_the_published_orders() -> None:
    assert {name: [task.removeprefix("task") for task in order] for name, order in superni.SEQUENCES.items()} == {
        "C1": ["195", "1343", "1310", "1292", "363"],
        "G1": ["618", "1290", "589", "511", "1357"],
        "M1": ["360", "363", "1290", "339", "1510"],
        "C2": ["231", "1343", "220", "224", "273"],
        "G2": ["1355", "141", "619", "163", "002"],
        "M2": ["195", "611", "292", "488", "024"],
    }
    middle = ("cb", "copa", "qqp", "rte", "imdb", "sst2", "dbpedia", "agnews")
    assert {
        "order_4": (
            *("mnli", "cb", "wic", "copa", "qqp", "boolq", "rte", "imdb", "yelp"),
            *("amazon", "sst2", "dbpedia", "agnews", "multirc", "yahoo"),
        ),
        "order_5": ("multirc", "boolq", "wic", "mnli", *middle, "yelp", "amazon", "yahoo"),
        "order_6": ("yelp", "amazon", "mnli", *middle, "yahoo", "multirc", "boolq", "wic"),
        "short": ("mnli", "cb", "wic", "copa", "qqp", "sst2"),
    } == long.SEQUENCES
    assert trace.SEQUENCES["figure_3"] == ("C-STANCE", "FOMC", "MeetingBank", "Py150", "ScienceQA", "NumGLUE-cm")


# --- tasks and layouts ---


def test_shots_and_a_dropped_instruction_in_a_layout() -> None:
    layout = LayoutTemplate("{instruction}\nText:\n{input}\nStance:")
    assert layout("Judge.", (Example("a", "B"),), "c") == "Judge.\nText:\na\nStance: B\n\nText:\nc\nStance:"
    assert layout(None, (Example("a", "B"),), "{instruction}") == "Text:\na\nStance: B\n\nText:\n{instruction}\nStance:"
    assert template_of(Task("t", ("c",), (Example("a", "b"),))) is PLAIN


def test_task_checks_references_layout_and_repeats() -> None:
    with pytest.raises(DataError, match="row 1: the output 'b' is not among its references"):
        Task("t", ("c",), (Example("a", "b", ("c", "d")),))
    with pytest.raises(DataError, match=r"needs \{input\} once"):
        Task("t", ("c",), (Example("a", "b"),), layout="{instruction}")
    twice = (Example("a", "b"), Example("a", "b"))
    with pytest.raises(DataError, match="already in row 1"):
        Task("t", ("c",), twice)
    assert len(Task("t", ("c",), twice, repeats=True).rows) == 2


@FEW
@given(st.lists(st.sampled_from("abcdefgh"), min_size=8, max_size=30), st.integers(0, 5))
def test_a_split_never_parts_rows_of_one_input(inputs: list[str], seed: int) -> None:
    task = Task("t", ("c",), tuple(Example(text, str(i)) for i, text in enumerate(inputs)), repeats=True)
    try:
        parts = task.split(4, 2, -1, seed=seed)
    except DataError:  # too few inputs that stand there once or twice
        assume(False)
    assert [len(part.rows) for part in parts] == [4, 2, len(inputs) - 6]
    assert sorted(row.output for part in parts for row in part.rows) == sorted(map(str, range(len(inputs))))
    sides = [{row.input for row in part.rows} for part in parts]
    assert not (sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2])


def test_references_count_in_the_fingerprint_and_plain_rows_keep_theirs() -> None:
    plain, more = (Task("t", ("c",), (Example("a", "b", references),)) for references in ((), ("b", "c")))
    assert plain.fingerprint != more.fingerprint
    assert plain.fingerprint == "7976e5e7b74e9abf4e094fde6dc2855ddc1a340fade4140843b0787cfa473301"


def test_a_benchmark_checks_its_sequences() -> None:
    with pytest.raises(DataError, match="no tasks"):
        Benchmark("b", {}, {})
    assert MAX_CHARACTERS > 163_532
