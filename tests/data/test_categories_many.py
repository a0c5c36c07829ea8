"""Columns of many categories: from values to rows of weights, in training and everywhere that a model goes."""

import json
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import Run, UsageError, fit, load_model, resume
from trainer.data import Category, Embedded, Hashed, Schema
from trainer.data.tables.embedding import CategoryOptions, Units, automatic
from trainer.data.tables.hashing import text_hashes
from trainer.data.tables.id_tables import id_tables, sized
from trainer.data.tables.learn import Wanted, learn_schema
from trainer.data.tables.text_index import TextIndex
from trainer.data.tables.values import MISSING
from trainer.model.export import to_onnx
from trainer.model.id_reference import reader

LABELS = ["no", "yes"]
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
VALUES = st.lists(st.one_of(st.none(), TEXTS, st.integers(-30, 30).map(str)), min_size=2, max_size=40).filter(
    lambda values: any(value and value not in MISSING and value.isalnum() for value in values)
)


def learn(values, *, untyped=True, **options):
    """The schema of one column of categories, whatever it holds."""
    table = pa.table({"c": values, "y": (LABELS * len(values))[: len(values)]})
    wanted = Wanted("y", categorical=["c"], categories=CategoryOptions(**options))
    return learn_schema(table, wanted, untyped=untyped).schema


def ids_of(schema, values):
    return schema.encode(pa.table({"c": values}), where="here").ids


# ---- encoding --------------------------------------------------------------------------------------------------------


@given(values=VALUES, hashed=st.booleans())
def test_a_row_is_encoded_the_same_alone_in_a_file_and_by_the_reference_function(values, hashed):
    schema = learn(values, hash_bits=8) if hashed else learn(values, one_hot_limit=0)
    whole = ids_of(schema, pa.array(values, pa.string()))
    assert (whole.dtype, whole.shape, whole.flags.c_contiguous) == (np.int32, (len(values), 1), True)
    alone = [ids_of(schema, pa.array([value], pa.string()))[0, 0] for value in values]
    assert whole[:, 0].tolist() == alone
    assert 0 <= whole.min() <= whole.max() < schema.id_tables[0].rows
    from trainer.model.ids import ids_of as described

    rules = json.loads(json.dumps(described(schema).rules))
    if schema.columns[0].form in ("written", "number", "truth"):
        assert [reader(rules)({"c": value})[0] for value in values] == alone


@settings(max_examples=30)
@given(values=VALUES)
def test_a_schema_is_the_same_after_it_was_stored(values):
    schema = learn(values, one_hot_limit=0)
    stored = Schema.from_json(json.loads(json.dumps(schema.to_json())), schema.vocabulary())
    assert stored == schema
    column = pa.array(values, pa.string())
    assert (ids_of(stored, column) == ids_of(schema, column)).all()


@given(texts=st.lists(TEXTS, unique=True, min_size=1, max_size=60), others=st.lists(TEXTS, max_size=3))
def test_texts_are_found_by_their_hashes_as_by_looking_at_each(texts, others):
    index = TextIndex(pa.array(texts, pa.string()))
    asked = [*others, texts[-1]]
    # Few texts go by the hashes, many by Arrow's look-up.
    expected = [texts.index(text) if text in texts else -1 for text in asked]
    assert index.places(pa.array(asked, pa.string())).tolist() == expected
    assert index.places(pa.array(asked * 9, pa.string())).tolist() == expected * 9


@given(texts=st.lists(st.one_of(st.none(), st.text(max_size=5)), max_size=20), start=st.integers(0, 5))
def test_a_text_has_the_same_hash_wherever_it_lies_in_an_array(texts, start):
    array = pa.array(texts, pa.string())
    alone = [int(text_hashes(pa.array([text], pa.string()))[0]) for text in texts[start:]]
    assert text_hashes(array.slice(start)).tolist() == alone


def test_the_hash_never_changes_since_models_depend_on_it():
    """The numbers are those of a few lines of plain Python."""
    hashes = text_hashes(pa.array(["", "a", "Zürich", "x" * 70_000, None]))
    assert hashes.tolist() == [0, 98, 6491192126906572810, 10723715924564493968, 0]
    schema = learn(["a", "b", "7"], hash_bits=16)
    assert ids_of(schema, ["a", "b", "7"])[:, 0].tolist() == [10789, 20474, 11102]


def test_rows_are_the_categories_by_frequency_then_the_others_then_missing_values():
    schema = learn(["b", "a", "b", "c", None, "c", "c"], one_hot_limit=0)
    (column,) = schema.columns
    assert column.row_names == ["c", "b", "a", "(other)", "(missing)"]
    assert ids_of(schema, ["a", "z", None, "c"])[:, 0].tolist() == [2, 3, 4, 0]
    rows = schema.encode(pa.table({"c": ["a", "z", None, "c"]}), where="here")
    assert (rows.unseen, rows.missing) == ({"c": 1}, {"c": 1})
    without = learn(["b", "a", "b"], one_hot_limit=0)
    assert ids_of(without, ["z", None])[:, 0].tolist() == [2, 2]


def test_rare_values_share_the_row_of_unseen_ones():
    schema = learn(["b", "a", "b", "c", "c", "c"], one_hot_limit=0, min_count=2)
    assert schema.columns[0].row_names == ["c", "b", "(other)"]
    assert ids_of(schema, ["a", "z", "b"])[:, 0].tolist() == [2, 2, 1]
    assert schema.unseen_means == "that do not occur in the training rows, or in fewer than 2"
    assert learn(["b", "a"], one_hot_limit=0).unseen_means == "that do not occur in the training rows"


@pytest.mark.parametrize("options", [{"one_hot_limit": 0}, {"hash_bits": 20}])
@pytest.mark.parametrize(
    ("trained", "others"),
    [
        (["7", "8", "7.5"], [pa.array([7.0, 8.0, 7.5]), pa.array(["07", "8.0", " 7.5 "])]),
        (["7", "8", "100"], [pa.array([7, 8, 100]), pa.array([7, 8, 100], pa.uint8()), pa.array([7.0, 8.0, 100.0])]),
        (["true", "false", "true"], [pa.array([True, False, True]), pa.array(["TRUE", "0", "1"])]),
    ],
)
def test_a_value_is_the_same_however_a_file_stores_it(options, trained, others):
    schema = learn(trained, **options)
    expected = ids_of(schema, trained).tolist()
    assert [ids_of(schema, other).tolist() for other in others] == [expected] * len(others)
    assert len(set(map(tuple, expected))) == len(set(trained))


def test_numbers_in_a_typed_column_are_categories_like_those_in_text():
    typed = learn(pa.array([7, 8, 9, 9]), untyped=False, one_hot_limit=0)
    assert ids_of(typed, ["7", "9.0", "10"]).tolist() == ids_of(typed, [7, 9, 10]).tolist() == [[1], [0], [3]]


def test_columns_share_a_table_if_they_have_the_same_units():
    def embedded(name, count, units=0):
        return Embedded(name, count, categories=pa.array(map(str, range(count))), units=units)

    columns = [embedded("a", 3), Category("k", ("x",)), embedded("b", 50_000), embedded("c", 200)]
    found = sized(columns, Units(), is_linear=False, where="here")
    assert [getattr(each, "units", None) for each in found] == [4, None, 16, 4]
    small, large = id_tables(found)
    assert [column.name for column in small.columns] == ["a", "c"]
    assert (small.offsets, small.rows, small.begin, small.end) == ((0, 4), 4 + 201, 0, 2)
    assert (large.offsets, large.rows, large.begin, large.end) == ((0,), 50_001, 2, 3)
    (all_of_them,) = id_tables(sized(columns, Units(), is_linear=True, where="here"))
    assert (all_of_them.rows, all_of_them.units, all_of_them.shared_rows) == (4 + 50_001 + 201, 0, [3, 50_004, 50_205])


@pytest.mark.parametrize(("categories", "units"), [(1, 4), (256, 4), (257, 8), (16_621, 12), (2_000_000, 40)])
def test_the_automatic_number_of_units_grows_with_the_fourth_root(categories, units):
    assert automatic(categories) == units


def test_hashed_columns_share_a_table_and_have_salts_of_their_own():
    values = [f"v{number}" for number in range(300)]
    table = pa.table({"a": values, "b": values, "y": LABELS * 150})
    schema = learn_schema(table, Wanted("y", categories=CategoryOptions(hash_bits=18)), untyped=True).schema
    (shared,) = schema.id_tables
    assert (shared.rows, shared.offsets) == (2**18, (0, 0))
    ids = schema.encode(table, where="here").ids
    assert len(np.unique(ids)) > 590


def test_a_table_that_an_array_cannot_hold_is_refused_with_the_fix():
    columns = [Hashed("a", bits=30)]
    with pytest.raises(UsageError, match=r"1,073,741,824 rows of 64 weights.*Lower --hash-bits or --embedding"):
        sized(columns, Units(64), is_linear=False, where="here")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding": ("x",)}, "'x' is not auto, a number of units or COLUMN:N"),
        ({"embedding": ("c:0",)}, "'c:0' is not auto"),
        ({"embedding": ("4", "8")}, "two values for all columns"),
        ({"embedding": ("c:4", "c:8")}, "'c' is there twice"),
        ({"embedding": ("4",), "is_linear": True}, "no hidden layers"),
        ({"hash_bits": 8, "min_count": 2}, "--min-count: hashed categories are not counted"),
        ({"hash_bits": 8, "one_hot_limit": 5}, "--one-hot-limit: --hash-bits hashes all columns"),
        ({"hash_bits": 8, "embedding": ("c:4",)}, "--embedding: hashed columns share one table"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        CategoryOptions(**options).check()


def test_a_column_without_an_embedding_is_named():
    table = pa.table({"n": ["1.5", "2", "3", "4"], "y": LABELS * 2})
    wanted = Wanted("y", categories=CategoryOptions(embedding=("n:4",)))
    with pytest.raises(UsageError, match="'n' is taken as a number, and has no embedding"):
        learn_schema(table, wanted, untyped=True)


def test_a_vocabulary_that_does_not_fit_its_schema_is_refused():
    schema = learn(["a", "b"], one_hot_limit=0)
    for other, message in (
        (None, "0 categories instead of 2"),
        (learn(["a", "a"], one_hot_limit=0).vocabulary(), "1 categories instead of 2"),
    ):
        with pytest.raises(UsageError, match=message):
            Schema.from_json(schema.to_json(), other)
    with pytest.raises(UsageError, match="not a list of the categories"):
        Schema.from_json(schema.to_json(), pa.table({"a": [1]}))
    twice = pa.table({"column": ["c"], "categories": [["a", "a"]]})
    with pytest.raises(UsageError, match="a category twice"):
        Schema.from_json(schema.to_json(), twice)


# ---- training --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    """A label that depends on a number and on two columns of 40 and 12 categories."""
    generator = np.random.default_rng(0)
    user, shop, size = generator.integers(0, 40, 600), generator.integers(0, 12, 600), generator.normal(size=600)
    score = size + np.linspace(-2, 2, 40)[user] + np.linspace(1, -1, 12)[shop]
    users = [None if number % 50 == 0 else f"u{each}" for number, each in enumerate(user)]
    labels = np.where(score + generator.normal(0, 0.3, 600) > 0, "yes", "no")
    return pa.table({"size": size, "user": users, "shop": [f"s{each}" for each in shop], "score": score, "y": labels})


@pytest.fixture(scope="module")
def file(table, tmp_path_factory):
    from pyarrow import parquet

    path = tmp_path_factory.mktemp("many") / "visits.parquet"
    parquet.write_table(table, path)
    return path


def train(file, folder, task="logreg", **options):
    columns = {"label": "y", "ignore": ("score",)} if task == "logreg" else {"label": "score", "ignore": ("y",)}
    values = {"epochs": 2, "batch_size": 50, "hidden": (), "plugins": ("checkpoint",), "name": "run"} | options
    return fit(task, data=file, **columns, runs_dir=folder, **values)


def outcome(run: Run):
    return {name: value for name, value in run.metrics.items() if name.startswith(("train/", "validation/"))}


@pytest.mark.parametrize("task", ["logreg", "linreg"])
def test_a_linear_model_learns_the_same_from_ids_as_from_one_hot_inputs(file, task):
    """All weights of categories begin at zero; that of the number does not, so that no output is exactly zero."""
    from trainer.catalog import registry
    from trainer.mxnet import mx

    class OfTheNumber(mx.init.Initializer):
        def _init_weight(self, name, array):
            array[:] = 0
            array[:, 0] = 0.1

    class Begun(registry.load(registry.TASKS, task)):
        def initializer(self):
            return OfTheNumber()

    columns = {"label": "y", "ignore": ("score",)} if task == "logreg" else {"label": "score", "ignore": ("y",)}
    optimizer = {"name": "sgd", "learning_rate": 0.1}
    found = []
    for more in ({}, *({"one_hot_limit": 0, "updates": updates} for updates in ("lazy", "dense"))):
        made = Begun(data=(file,), **columns, hidden=(), **more)
        run = fit(made, epochs=3, batch_size=50, optimizer=optimizer, runs_dir=None, without=("tensorboard", "report"))
        found.append(outcome(run))
    assert found[1] == pytest.approx(found[0], rel=1e-4, abs=1e-5)
    assert found[2] == pytest.approx(found[0], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [("sgd", "row_sparse"), ({"name": "sgd", "momentum": 0.9}, "default"), ("rmsprop", "default")],
)
def test_updates_are_lazy_unless_the_optimizer_moves_all_weights(file, optimizer, expected):
    run = fit_many(file, None, optimizer=optimizer)
    (weight,) = run.net.collect_params(".*embedding.*").values()
    assert weight._grad_stype == expected


def fit_many(file, folder, **options):
    values = {"hidden": (), "one_hot_limit": 0, "epochs": 1, "name": "run"} | options
    values |= {} if "solver" in options else {"batch_size": 100}
    without = ("tensorboard", "report", "metrics-log", "progress")
    columns = {"label": "y", "ignore": ("score",)}
    if folder is None:
        del values["name"]
    return fit("logreg", data=file, **columns, runs_dir=folder, without=without, **values)


def test_lazy_updates_are_refused_where_the_optimizer_has_none(file):
    with pytest.raises(UsageError, match="--updates: lamb updates a table of weights as a whole"):
        fit_many(file, None, optimizer="lamb", updates="lazy")


def test_a_solver_updates_all_weights(file):
    run = fit_many(file, None, solver="lbfgs", weight_decay=0.01)
    assert run.step_kind == "lbfgs"
    assert not run.gradients.tables
    with pytest.raises(UsageError, match="--updates: --solver lbfgs updates all weights"):
        fit_many(file, None, solver="lbfgs", updates="lazy")


NETS = {
    "linear": {},
    "ids-alone": {"ignore": None, "features": ("user", "shop")},
    "hidden": {"hidden": (6,), "embedding": ("user:3", "shop:2"), "min_count": 5},
    "hashed": {"hidden": (6,), "hash_bits": 9, "embedding": ("4",), "one_hot_limit": 1000},
}


@pytest.fixture(scope="module", params=NETS)
def run(request, file, tmp_path_factory):
    options = dict(NETS[request.param])
    values = {"hidden": (), "one_hot_limit": 0, "epochs": 2, "batch_size": 100, "learning_rate": 0.5, **options}
    ignore = values.pop("ignore", ("score",))
    return fit(
        "logreg",
        data=file,
        label="y",
        ignore=ignore or (),
        runs_dir=tmp_path_factory.mktemp(request.param),
        name=request.param,
        without=("report", "progress"),
        **values,
    )


def test_a_saved_model_predicts_what_the_run_does_row_by_row(run, table):
    model = load_model(run.folder)
    whole = model.predict(table)["probability"].to_numpy()
    alone = [model.predict(table.slice(row, 1))["probability"][0].as_py() for row in (0, 17, 50)]
    assert alone == pytest.approx(whole[[0, 17, 50]].tolist(), rel=1e-5)
    assert run.metrics["validation/accuracy"] > 0.55
    correct = (whole > 0.5) == (table["y"].to_numpy(zero_copy_only=False) == "yes")
    assert correct.mean() == pytest.approx(run.metrics["validation/accuracy"], abs=0.12)


def test_an_onnx_file_takes_the_ids_that_its_reference_function_makes(run, table, tmp_path):
    import onnxruntime

    model = load_model(run.folder)
    found = to_onnx(model, tmp_path / "model.onnx")
    assert found.inputs[-1][1:] == ("int64", "rows×2")
    file = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    facts = file.get_modelmeta().custom_metadata_map
    scope = {}
    exec(facts["ids_reference"], scope)
    ids = scope["reader"](json.loads(facts["ids"]))
    rows = table.slice(40, 20)
    encoded = model.encode(rows)
    given = dict(zip((each.name for each in file.get_inputs()), encoded.inputs, strict=True))
    given[facts["ids_input"]] = np.array([ids(row) for row in rows.to_pylist()], np.int64)
    assert (given[facts["ids_input"]] == encoded.inputs[-1]).all()
    expected = model.predict(rows)["probability"].to_numpy()
    assert file.run(["prediction"], given)[0] == pytest.approx(expected, rel=1e-5)


def test_coefficients_are_listed_by_category_where_each_has_one(run, table):
    from trainer.model.coefficients import linear_of

    model = load_model(run.folder)
    if run.folder.name in ("hidden", "hashed"):
        reason = "not linear" if run.folder.name == "hidden" else "not linear|hashed"
        with pytest.raises(UsageError, match=reason):
            linear_of(model)
        return
    linear = linear_of(model)
    values = {each.feature: each.values[0] for each in linear.coefficients}
    row = table.slice(3, 1).to_pylist()[0]
    score = linear.intercepts[0] + values[f"user={row['user']}"] + values[f"shop={row['shop']}"]
    score += values.get("size", 0) * row["size"]
    probability = model.predict(table.slice(3, 1))["probability"][0].as_py()
    assert 1 / (1 + np.exp(-score)) == pytest.approx(probability, rel=1e-4)


def test_tensorboard_finds_the_embeddings(run):
    from google.protobuf import text_format
    from tensorboard.plugins.projector import projector_plugin
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    folder = run.folder / "tensorboard"
    path = folder / "projector_config.pbtxt"
    if run.folder.name != "hidden":
        assert not path.exists()
        return
    entries = text_format.Parse(path.read_text(), ProjectorConfig()).embeddings
    assert [(each.tensor_name, list(each.tensor_shape)) for each in entries] == [("user", [37, 3]), ("shop", [12, 2])]
    weights = run.copy_weights()["embedding0.weight"]
    found = projector_plugin._read_tensor_tsv_file(str(folder / entries[0].tensor_path))
    assert (np.array(found, np.float32) == weights[:37]).all()
    names = (folder / entries[0].metadata_path).read_text().splitlines()
    assert names == run.task.schema.columns[1].most_frequent(40)


def test_a_damaged_vocabulary_is_noticed(file, tmp_path):
    run = fit_many(file, tmp_path)
    path = run.folder / "model" / "model-vocabulary.arrow"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UsageError, match=r"model-vocabulary.arrow: it is damaged: its checksum does not match"):
        load_model(run.folder)


@pytest.mark.parametrize("updates", ["lazy", "dense"])
def test_a_resumed_run_ends_as_one_that_was_not_interrupted(file, tmp_path, updates):
    options = {"hidden": (5,), "optimizer": "adam", "learning_rate": 0.05, "updates": updates}
    whole = fit_many(file, tmp_path, epochs=3, **options)
    part = fit_many(file, tmp_path, epochs=1, **options, name="part")
    resumed = resume(part.folder, epochs=3)
    assert outcome(resumed) == pytest.approx(outcome(whole), rel=1e-6)


def test_the_command_line_shows_trains_predicts_and_explains(file, command):
    columns = ("--label", "y", "--ignore", "score", "--one-hot-limit", 20)
    code, out, _ = command("data", "show", file, *columns)
    assert code == 0
    assert re.search(r"user +embedded .* id, one of 42 rows", out)
    assert "3 columns → 13 inputs and 1 id\n" in out
    code, out, _ = command("run", "logreg", "--data", file, *columns, "--hidden", "", "--epochs", 1, "--name", "a")
    assert code == 0
    assert "1 number, 1 embedded, 1 category → 13 inputs, 1 id (42 rows of weights)" in out
    code, out, _ = command("predict", "a", "--data", file, "--output", "-")
    assert (code, out.count("\n")) == (0, 601)
    code, out, _ = command("coefficients", "a")
    assert code == 0
    assert "the 20 largest of each column of many categories; --json has 22 more" in out
    code, _, err = command("run", "logreg", "--data", file, *columns, "--hidden", "", "--embedding", 4)
    assert code == 2
    assert "error: --embedding: the net has no hidden layers" in err
