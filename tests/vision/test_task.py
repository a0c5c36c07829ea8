"""What may be wrong with images, nets and options, and what is said of it."""

import json
import shutil
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from packages import in_process as trainer
from photos import SMALL_NET, write_colours, write_record
from PIL import Image

from trainer import UsageError, fit
from trainer.config.options import build
from trainer.model.operators import check_operator
from trainer.mxnet import autograd, mx
from trainer.testing import task_checks
from trainer_plugins.image_classification import zoo
from trainer_plugins.image_classification.task import ImageClassification

QUIET = ("progress", "tensorboard", "report", "checkpoint", "metrics-log")


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    return write_colours(tmp_path_factory.mktemp("data"), 10)


def train(data, **options):
    chosen = {**SMALL_NET, "epochs": 1, "steps": 2, "batch_size": 8, "workers": 0, "runs_dir": None, "without": QUIET}
    return fit("image-classification", **{**chosen, "data": data, **options})


def said_by(data, **options):
    with pytest.raises(UsageError) as caught:
        train(data, **options)
    return str(caught.value)


def test_three_colours_are_told_apart(colours):
    run = train(colours, epochs=10, steps=None, augmentation="crop", learning_rate=0.01)
    assert run.metrics["test/accuracy"] == 1.0
    assert "test/top-5-accuracy" not in run.metrics
    assert run.metrics["test/recall/grün"] == 1.0
    assert run.evaluation.labels.shape == (3, 3)


def test_the_weights_do_not_depend_on_workers(colours):
    runs = [train(colours, workers=workers, augmentation="imagenet") for workers in (0, 2)]
    first, second = (run.copy_weights() for run in runs)
    assert all((first[name] == second[name]).all() for name in first)


def test_images_of_all_sizes_and_modes_train_together(colours, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(colours, data)
    for number, mode in enumerate(("L", "P", "RGBA", "1", "CMYK", "I;16")):
        image = Image.new(mode, (9 + 7 * number, 30 - 3 * number))
        image.save(data / "rot" / f"x{number}.{'jpg' if mode == 'CMYK' else 'png'}")
    run = train(data, epochs=1, steps=None)
    assert sum(split.rows for split in (run.train, run.validation, run.test)) == 36
    assert run.epoch_rows == run.train.rows


def test_files_that_are_no_images_are_named_once_and_a_link_upwards_finds_nothing_again(colours, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(colours, data)
    (data / "rot" / "Thumbs.db").write_bytes(b"x")
    (data / "rot" / "again").symlink_to(data / "rot", target_is_directory=True)
    done = trainer(
        "run", "image-classification", "--data", data, "--model", "cifar_resnet20_v1", "--image-size", "16", "--steps",
        "1", "--workers", "0", *(f"--no-plugin={name}" for name in QUIET[1:]), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "images: 24 train, 3 validation, 3 test" in done.stdout
    left = f"{data / 'rot' / 'Thumbs.db'}, {data / 'rot' / 'again'}"
    note = f"note: left out, since they are not images or lead to folders above: {left}\n"
    assert (done.stdout + done.stderr).count(note) == done.stderr.count(note) == 1


def test_splits_of_their_own_and_records(colours, tmp_path):
    record = write_record(
        tmp_path / "test.rec",
        [
            (np.asarray(Image.open(path)), float(n))
            for n, c in enumerate(("blau", "grün", "rot"))
            for path in (colours / c).glob("*")
        ],
        ["blau", "grün", "rot"],
    )
    run = train(colours, test_data=record, validation_data=colours)
    assert run.train.rows == 30
    assert run.validation.rows == run.test.rows == 30
    run = train(colours, validation_data=colours, test_split=0, calibration_split=0.2)
    assert (run.train.rows, run.calibration.rows, run.test) == (24, 6, None)
    assert run.evaluation.split == "calibration"
    assert train(colours, validation_data=colours, calibration_data=record).calibration.rows == 30
    assert train(record).train.rows == 24


def test_a_net_starts_from_a_file_and_says_what_it_took(colours, tmp_path, capfd):
    net = zoo.build("cifar_resnet20_v1", 7, weights=None, freeze="")[0]
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 32, 32)))
    path = tmp_path / "seven.params"
    net.save_parameters(str(path))
    task = build(ImageClassification, {}, where="")
    built, lines = zoo.build("cifar_resnet20_v1", 3, weights=path, freeze="features")
    assert "newly initialized: output.bias, output.weight" in "\n".join(lines)
    assert any(line.startswith("frozen: ") for line in lines)
    own = built._collect_params_with_prefix()
    given = net._collect_params_with_prefix()
    same = [name for name in own if name.startswith("features")]
    assert all((own[name].data().asnumpy() == given[name].data().asnumpy()).all() for name in same)
    assert {own[name].grad_req for name in same} == {"null"}
    run = train(colours, init_params=path, freeze="features", steps=3, epochs=2)
    trained = run.copy_weights()
    for name in same:
        assert (trained[name] == given[name].data().asnumpy()).all(), name
    assert task.freeze == ""


def test_other_names_for_the_same_parameters_are_understood(tmp_path):
    net = zoo.build("cifar_resnet20_v1", 3, weights=None, freeze="")[0]
    net.initialize(mx.init.Xavier())
    net.hybridize()
    net(mx.nd.zeros((1, 3, 16, 16)))
    net.export(str(tmp_path / "whole"))
    mx.nd.save(str(tmp_path / "flat.params"), {name: each.data() for name, each in net.collect_params().items()})
    for file in ("whole-0000.params", "flat.params"):
        built, lines = zoo.build("cifar_resnet20_v1", 3, weights=tmp_path / file, freeze="")
        count = len(list(net.collect_params()))
        assert lines == [f"{file}: it sets {count} of the net's {count} parameters"]
        own, given = (each._collect_params_with_prefix() for each in (built, net))
        assert all((own[name].data().asnumpy() == given[name].data().asnumpy()).all() for name in own)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "cifar_resnet_20"}, "cifar_resnet20_v1"),
        ({"model": "mobilnet_v3_small"}, "mobilenetv3_small"),
        ({"model": "yolo3_darknet53_voc"}, "is not a net for image classification"),
        (
            {"model": "resnet18_v1b", "image_size": None},
            "the net's input is 224 × 224, and the images' shorter side is 16",
        ),
        (
            {"model": "inceptionv3", "image_size": 32, "upscale": True},
            "choose another --image-size|does not take images",
        ),
        ({"init_params": "nowhere.params"}, "there is no such file"),
        ({"freeze": "body"}, "no parameter's name starts with 'body'. Names start with features, output"),
        ({"freeze": ""}, None),
        ({"freeze": ".*"}, "leaves nothing to train"),
        ({"freeze": "("}, "is not a regular expression"),
        ({"deviation": (0.1, 0.0, 0.1)}, r"\(0\.1, 0\.0, 0\.1\) cannot be used"),
        ({"cache_images": "5TB"}, r"'5TB' is not a size"),
        ({"validation_split": 0.01}, "too few for a validation split"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_with_what_can(colours, options, said):
    import re

    if said is None:
        train(colours, **options)
        return
    assert re.search(said, said_by(colours, **options)), said_by(colours, **options)


def test_files_that_are_no_parameters(colours, tmp_path):
    whole = tmp_path / "whole.params"
    mx.nd.save(str(whole), {"other": mx.nd.zeros(3)})
    content = whole.read_bytes()
    huge = content.replace(struct.pack("<q", 3), struct.pack("<q", 2**40), 1)
    reasons = {
        b"nonsense": "it is cut",
        content[:-2]: "it is cut",
        content + b"1": "it has 90 bytes, and its arrays end at 89",
        huge: "it is cut: ",
    }
    for wrong, reason in reasons.items():
        (tmp_path / "a.params").write_bytes(wrong)
        said = said_by(colours, init_params=tmp_path / "a.params")
        assert f"a.params: it is not a usable file of MXNet parameters: {reason}" in said
    mx.nd.save(str(tmp_path / "b.params"), {"other": mx.nd.zeros(3)})
    assert "none of its 1 arrays belongs to cifar_resnet20_v1" in said_by(colours, init_params=tmp_path / "b.params")
    mx.nd.save(str(tmp_path / "c.params"), [mx.nd.zeros(3)])
    assert "its arrays have no names" in said_by(colours, init_params=tmp_path / "c.params")
    both = said_by(colours, init_params=tmp_path / "c.params", pretrained=True)
    assert "--pretrained: it cannot be combined with --init-params" in both


def test_gluoncvs_own_weights_cannot_be_had_without_a_network(colours, monkeypatch, tmp_path):
    from gluoncv.model_zoo import model_store

    def refuse(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(model_store, "download", refuse)
    monkeypatch.setenv("HOME", str(tmp_path))
    said = said_by(colours, pretrained=True)
    assert "--pretrained: the weights of cifar_resnet20_v1 cannot be downloaded (ConnectionError)" in said
    assert "--init-params FILE" in said


@pytest.mark.slow
def test_corrupt_images_are_named_or_left_out(colours, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(colours, data)
    (data / "rot" / "0.png").write_bytes(b"x")
    (data / "rot" / "1.png").write_bytes((data / "rot" / "2.png").read_bytes()[:60])
    options = [
        "--data",
        data,
        "--model",
        "cifar_resnet20_v1",
        "--image-size",
        "16",
        "--batch-size",
        "8",
        "--epochs",
        "1",
    ]
    options += [part for name in ("tensorboard", "progress") for part in ("--no-plugin", name)]
    done = trainer("run", "image-classification", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert ".png: the image cannot be decoded" in done.stderr
    assert "--skip-corrupt" in done.stderr
    done = trainer("run", "image-classification", *options, "--skip-corrupt", "--name", "rest", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "corrupt images left out: " in said
    assert "0.png: it is not an image" in said or "1.png" in said
    assert trainer("report", "rest", cwd=tmp_path).returncode == 0
    page = (tmp_path / "runs" / "image-classification" / "rest" / "report.html").read_text(encoding="utf-8")
    assert "corrupt images left out: 2" in page
    assert page.count("grün") >= 2  # in the confusion matrix, for what is and for what the net says
    for path in (data / "rot").iterdir():
        path.write_bytes(b"x")
    done = trainer("run", "image-classification", *options, "--skip-corrupt", cwd=tmp_path)
    assert done.returncode == 2
    assert "all images of the class 'rot' are corrupt" in done.stderr


def test_without_gluoncv_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gluoncv", None)
    with pytest.raises(UsageError, match=r"gluon-trainer\[vision\]"):
        zoo.find_name("resnet18_v1b")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("mobilenet_v3_small", "mobilenetv3_small"),
        ("ResNet18-v1b", "resnet18_v1b"),
        ("Inception_v3", "inceptionv3"),
        ("cifar_resnet20_v1", "cifar_resnet20_v1"),
    ],
)
def test_a_net_may_be_written_as_people_write_it(written, name):
    assert zoo.find_name(written) == name
    assert zoo.size_of(written) == zoo.size_of(name)


def test_a_name_written_otherwise_trains_the_same_net(colours):
    runs = [train(colours, model=model) for model in ("cifar_resnet20_v1", "CIFAR-ResNet20_v1")]
    first, second = (run.copy_weights() for run in runs)
    assert all((first[name] == second[name]).all() for name in first)


def test_every_net_that_is_offered_gives_one_output_per_class():
    """All names that the zoo has are either refused or build a net of so many outputs: nobody meets a traceback."""
    names = [name for name in zoo.import_zoo().get_model_list() if not zoo.OTHER_TASKS.search(name)]
    assert len(names) > 100
    wrong = []
    for name in names:
        net, _ = zoo.build(name, 3, weights=None, freeze="")
        size = zoo.size_of(name)
        with autograd.predict_mode():
            symbol = net(mx.sym.var("data"))
        _, shapes, _ = symbol.infer_shape(data=(1, 3, size, size))
        for operator in {node["op"] for node in json.loads(symbol.tojson())["nodes"]} - {"null"}:
            check_operator(operator, ())  # a saved model of the net can be loaded
        if shapes != [(1, 3)]:
            wrong.append((name, shapes))
    assert wrong == []


def test_group_normalisation_as_a_symbol_is_gluoncvs():
    from gluoncv.nn import GroupNorm

    from trainer_plugins.image_classification.group_norm import SymbolicGroupNorm

    generator = np.random.default_rng(0)
    images = mx.nd.array(generator.normal(2, 3, (4, 64, 7, 5)))
    scale, shift = (mx.nd.array(generator.normal(size=64)) for _ in range(2))
    found = []
    for kind in (GroupNorm, SymbolicGroupNorm):
        layer = kind(in_channels=64)
        layer.initialize()
        layer.gamma.set_data(scale)
        layer.beta.set_data(shift)
        if kind is SymbolicGroupNorm:
            layer.hybridize()
        given = images.copy()
        given.attach_grad()
        with autograd.record():
            given_out = layer(given)
            loss = (given_out * given_out * given_out).mean()
        loss.backward()
        arrays = (given_out, given.grad, layer.gamma.grad(), layer.beta.grad())
        found.append([array.asnumpy() for array in arrays])
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["hrnet_w18_small_v1_c", "resnet18_v1b_0.89", "resnet50_v1b_gn"])
def test_nets_that_the_zoo_makes_otherwise_train(colours, model):
    run = train(colours, model=model, image_size=64)
    assert np.isfinite(run.metrics["train/loss"])


def test_listing_and_help_do_not_import_the_zoo(tmp_path):
    done = trainer("run", "image-classification", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "--skip-corrupt" in done.stdout
    done = trainer("run", "image-classification", cwd=tmp_path)
    assert done.returncode == 2
    assert "there are no images" in done.stderr


PLACE = tempfile.TemporaryDirectory()
"""Images for the conformance kit, which asks for a task at each call."""


def made():
    data = Path(PLACE.name)
    if not any(data.iterdir()):
        write_colours(data, 10)
    return ImageClassification(data=data, workers=0, **SMALL_NET)


@pytest.mark.parametrize("check", task_checks(made))
def test_the_task_keeps_every_promise(check):
    check()
