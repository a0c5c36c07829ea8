"""Images of every kind become what the net sees, in an order that only the run decides."""

import io
import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from photos import write_colours, write_record
from PIL import Image, ImageFile

from trainer import UsageError
from trainer.mxnet import mx
from trainer_plugins.image_classification.batches import ImageBatches, Normalisation
from trainer_plugins.image_classification.cache import OVERHEAD, Cache, check_limit
from trainer_plugins.image_classification.decode import CorruptImageError, decode, size
from trainer_plugins.image_classification.files import find, read_unlabelled, split_off
from trainer_plugins.image_classification.loading import CorruptError, Files, Job, load
from trainer_plugins.image_classification.pool import Pool, WorkerDiedError
from trainer_plugins.image_classification.transforms import Transforms, as_input, as_pixels

RED, WHITE = (255, 0, 0), (255, 255, 255)


def saved(image, kind="png", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


# ---- decoding --------------------------------------------------------------------------------------------------------


def halves(left, right, mode="RGB"):
    """Eight wide and four high: one colour on the left, one on the right."""
    image = Image.new(mode, (8, 4), left)
    image.paste(right, (4, 0, 8, 4))
    return image


def test_grey_has_three_equal_channels():
    pixels = decode(saved(halves(10, 200, "L")))
    assert pixels.shape == (4, 8, 3)
    assert (pixels[:, :4] == 10).all()
    assert (pixels[:, 4:] == 200).all()


def test_a_palette_gives_its_colours():
    pixels = decode(saved(halves(RED, (0, 0, 255)).convert("P", palette=Image.Palette.ADAPTIVE)))
    assert pixels[0, 0].tolist() == list(RED)
    assert pixels[0, 7].tolist() == [0, 0, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_lies_on_white(mode):
    clear = (0, 0, 0, 0) if mode == "RGBA" else (0, 0)
    solid = (255, 0, 0, 255) if mode == "RGBA" else (40, 255)
    pixels = decode(saved(halves(clear, solid, mode)))
    assert pixels[0, 0].tolist() == list(WHITE)
    assert pixels[0, 7].tolist() == (list(RED) if mode == "RGBA" else [40, 40, 40])


def test_a_palette_with_a_transparent_colour_lies_on_white():
    image = halves(0, 1, "P")
    image.putpalette([0, 0, 0, 255, 0, 0] + [0] * 762)
    pixels = decode(saved(image, transparency=0))
    assert pixels[0, 0].tolist() == list(WHITE)
    assert pixels[0, 7].tolist() == list(RED)


@pytest.mark.parametrize(("orientation", "red_at"), [(1, (0, 0)), (3, (3, 7)), (6, (0, 3)), (8, (7, 0))])
def test_a_photo_stands_upright(orientation, red_at):
    image = Image.new("RGB", (8, 4), (0, 0, 255))
    image.paste(RED, (0, 0, 2, 2))
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(saved(image, "jpeg", quality=100, subsampling=0, exif=exif))
    assert pixels.shape == ((4, 8, 3) if orientation in (1, 3) else (8, 4, 3))
    assert pixels[red_at][0] > 200


def test_sixteen_bits_become_eight():
    values = np.array([[0, 256, 32768, 65535]], np.uint16)
    assert decode(saved(Image.fromarray(values)))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_cmyk_and_black_and_white():
    assert decode(saved(Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "jpeg"))[0, 0, 0] > 200
    assert decode(saved(Image.new("1", (2, 2), 1)))[0, 0].tolist() == list(WHITE)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"no image", "cut", "damaged"])
def test_what_is_damaged_is_said_to_be(content, monkeypatch):
    # As it is where gluoncv's datasets have been imported.
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    whole = saved(Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)))
    given = {"cut": whole[: len(whole) // 2], "damaged": whole[:60] + bytes(60) + whole[120:]}.get(content, content)
    with pytest.raises(CorruptImageError) as caught:
        decode(given)
    assert str(caught.value)


def test_the_size_is_known_without_decoding():
    assert size(saved(halves(RED, WHITE))) == (4, 8)


@hypothesis_settings(deadline=None, max_examples=40)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    chosen=st.sampled_from(["none", "crop", "crop-flip", "imagenet"]),
    net=st.sampled_from([8, 16, 24]),
    seed=st.integers(0, 2**31 - 1),
)
def test_images_of_every_size_become_the_nets(height, width, chosen, net, seed):
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    transforms = Transforms(net, chosen)
    for found in (transforms.train(pixels, seed), transforms.evaluate(pixels)):
        assert found.shape == (net, net, 3)
        assert found.dtype == np.uint8
    assert (transforms.train(pixels, seed) == transforms.train(pixels, seed)).all()


def test_augmentation_differs_by_seed_and_leaves_others_generators_alone():
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    files, content = Files(), saved(Image.fromarray(pixels))
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()

    class Given(Files):
        def source(self, item, record):
            return content

    job = Job(["a", "b"], None, Transforms(16, "crop-flip"), [1, 2])
    images = load(job, Given())
    assert (images[0] != images[1]).any()
    assert before == (random.getstate(), np.random.get_state()[1].tolist())
    assert isinstance(files, Files)


def test_without_augmentation_small_images_are_what_they_were():
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    assert (Transforms(16, "none").train(pixels, 3) == pixels).all()
    assert (Transforms(16, "crop").evaluate(pixels) == pixels).all()


def test_normalisation_and_back():
    pixels = np.random.default_rng(0).integers(0, 255, (2, 5, 5, 3), dtype=np.uint8)
    mean, deviation = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    given = as_input(mx.nd.array(pixels, dtype=np.uint8), mean, deviation).asnumpy()
    expected = (pixels / 255 - mean) / deviation
    assert given == pytest.approx(expected.transpose(0, 3, 1, 2), abs=1e-5)
    assert (as_pixels(given, mean, deviation) == pixels).all()


# ---- finding them ----------------------------------------------------------------------------------------------------


def test_folders_are_classes_in_alphabetical_order(tmp_path):
    found = find(write_colours(tmp_path, 2))["train"]
    assert found.classes == ("blau", "grün", "rot")
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_splits_may_be_folders(tmp_path):
    for split in ("train", "val", "test"):
        write_colours(tmp_path / split, 2)
    found = find(tmp_path)
    assert set(found) == {"train", "validation", "test"}
    assert found["test"].classes == found["train"].classes


def test_hidden_files_are_passed_over_and_others_counted(tmp_path):
    write_colours(tmp_path, 2)
    (tmp_path / ".git").mkdir()
    (tmp_path / "rot" / ".DS_Store").touch()
    (tmp_path / "rot" / "notes.txt").touch()
    (tmp_path / "rot" / "deeper").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "rot" / "deeper" / "a.JPG", "jpeg")
    found = find(tmp_path)["train"]
    assert len(found.items) == 7
    assert [os.path.basename(each) for each in found.left_out] == ["notes.txt"]  # noqa: PTH119


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "no such folder"),
        (lambda folder: folder.mkdir(), "no folder for each class"),
        (lambda folder: (folder.mkdir(), Image.new("L", (4, 4)).save(folder / "a.png")), "it has 1 images"),
        (lambda folder: (folder / "only").mkdir(parents=True), "its only class is 'only'"),
        (lambda folder: (write_colours(folder, 1), (folder / "leer").mkdir()), "class folder has no images"),
        (
            lambda folder: (write_colours(folder, 1), (folder / "z").mkdir(), (folder / "z" / "a.heic").touch()),
            r"class folder has no images; it has .*a\.heic",
        ),
        (lambda folder: folder.write_text("x"), "neither a folder nor a RecordIO file"),
    ],
)
def test_folders_that_nothing_can_be_learned_from(tmp_path, make, said):
    make(tmp_path / "data")
    with pytest.raises(UsageError, match=said):
        find(tmp_path / "data")


def test_classes_that_training_does_not_have_are_refused(tmp_path):
    write_colours(tmp_path / "a", 1)
    write_colours(tmp_path / "b", 1)
    (tmp_path / "b" / "rot").rename(tmp_path / "b" / "rott")
    with pytest.raises(UsageError, match=r"the class 'rott', which the training images do not have.*rot"):
        find(tmp_path / "b", find(tmp_path / "a")["train"].classes)


def test_images_without_classes(tmp_path):
    write_colours(tmp_path, 1)
    assert len(read_unlabelled(tmp_path).items) == 3
    assert len(read_unlabelled(tmp_path / "rot" / "0.png").items) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="there are no images in it"):
        read_unlabelled(tmp_path / "empty")


@hypothesis_settings(deadline=None, max_examples=20)
@given(counts=st.lists(st.integers(10, 40), min_size=2, max_size=4), part=st.floats(0.2, 0.5), seed=st.integers(0, 99))
def test_a_split_has_every_class_in_the_same_share(counts, part, seed):
    from trainer_plugins.image_classification.files import Images

    labels = np.repeat(np.arange(len(counts)), counts)
    images = Images("here", [str(row) for row in range(len(labels))], labels, tuple("abcd"[: len(counts)]))
    rest, taken = split_off(images, part, seed, "test")
    assert sorted([*rest.items, *taken.items]) == sorted(images.items)
    again = split_off(images, part, seed, "test")
    assert again[1].items == taken.items
    for number, count in enumerate(counts):
        assert abs((taken.labels == number).sum() - count * part) <= 1.5


def test_too_few_images_for_a_split_are_refused(tmp_path):
    images = find(write_colours(tmp_path, 1))["train"]
    with pytest.raises(UsageError, match="too few for a test split"):
        split_off(images, 0.1, 0, "test")


# ---- RecordIO --------------------------------------------------------------------------------------------------------


def colours(number):
    return [(np.full((6, 6, 3), 40 * row, np.uint8), float(row % 3)) for row in range(number)]


def test_records_are_read_with_names_where_there_are_some(tmp_path):
    path = write_record(tmp_path / "a.rec", colours(5))
    assert find(path)["train"].classes == ("0", "1", "2")
    found = find(write_record(tmp_path / "b.rec", colours(5), ["x", "y", "z", "never seen"]))["train"]
    assert found.classes == ("x", "y", "z", "never seen")
    assert found.labels.tolist() == [0, 1, 2, 0, 1]
    pixels = load(Job(found.items, str(found.record), Transforms(6, "none")), Files())
    assert [image[0, 0, 0] for image in pixels] == [0, 40, 80, 120, 160]
    (tmp_path / "classes.txt").write_bytes("é\r\ny\r\nz\r\n".encode("utf-16"))
    assert find(tmp_path / "a.rec")["train"].classes == ("é", "y", "z")
    (tmp_path / "classes.txt").write_bytes(b"x\n\xe9\nz\n")
    with pytest.raises(UsageError, match=r"classes\.txt: it is not UTF-8 text at line 2\. Save it as UTF-8\."):
        find(tmp_path / "a.rec")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: write_record(path, colours(3), ["one"]), "of class 2, and there are 1 classes"),
        (lambda path: write_record(path, [(b"x", -1.0), (b"x", 1.0)]), "label is -1"),
        (lambda path: write_record(path, [(b"x", 0.5), (b"x", 1.0)]), r"label is 0\.5"),
        (lambda path: write_record(path, []), "has no records"),
        (lambda path: write_record(path, [(b"x", 0.0), (b"x", 0.0)]), "of one class"),
        (lambda path: path.write_bytes(b"x"), "index a.idx is not next to it"),
        (lambda path: (path.write_bytes(b"nonsense" * 9), path.with_suffix(".idx").write_text("0\t0\n")), "RecordIO"),
    ],
)
def test_records_that_cannot_be_used(tmp_path, make, said):
    path = tmp_path / "a.rec"
    make(path)
    with pytest.raises(UsageError, match=said):
        find(path)


# ---- loading ---------------------------------------------------------------------------------------------------------


def batches(images, workers, *, training=True, batch_size=7, contexts=1, augmentation="crop-flip", cache=0):
    return ImageBatches(
        images,
        Transforms(16, augmentation),
        Normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        Pool(workers),
        Cache(cache),
        batch_size=batch_size,
        contexts=[mx.cpu(number) for number in range(contexts)],
        seed=3,
        training=training,
    )


def contents(source, epoch=1, skip=0):
    return [
        (
            batch.indices.tolist(),
            np.concatenate([shard.inputs[0].asnumpy() for shard in batch.shards if shard.rows]).tobytes(),
            np.concatenate([shard.label.asnumpy() for shard in batch.shards if shard.rows]).argmax(axis=1).tolist(),
        )
        for batch in source.epoch(epoch, skip)
    ]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return find(write_colours(tmp_path_factory.mktemp("colours"), 9, size=18))["train"]


def test_order_and_pixels_do_not_depend_on_workers_devices_or_where_it_begins(images):
    alone = contents(batches(images, 0))
    assert contents(batches(images, 1)) == alone
    assert contents(batches(images, 2)) == alone
    assert contents(batches(images, 0, contexts=3)) == alone
    source = batches(images, 2)
    assert contents(source, skip=2) == alone[2:]
    assert contents(source) == alone
    assert contents(source, epoch=2) != alone
    assert sorted(row for rows, _, _ in alone for row in rows) == list(range(27))
    for rows, _, labels in alone:
        assert labels == images.labels[rows].tolist()


@pytest.mark.parametrize("augmentation", ["none", "crop", "crop-flip", "imagenet"])
@pytest.mark.parametrize("room", [5, 27])
@pytest.mark.parametrize("training", [True, False])
def test_images_in_memory_are_the_same_and_are_read_once(tmp_path, images, monkeypatch, augmentation, room, training):
    chosen = {"augmentation": augmentation, "training": training}
    wanted = [contents(batches(images, 0, **chosen), epoch) for epoch in (1, 2, 3)]
    read = []
    source_of = Files.source
    monkeypatch.setattr(Files, "source", lambda self, *given: read.append(given[0]) or source_of(self, *given))
    source = batches(images, 0, cache=room * (16 * 16 * 3 + OVERHEAD), **chosen)
    before = random.getstate(), np.random.get_state()[1].tolist()
    for epoch, found in enumerate(wanted, start=1):
        assert contents(source, epoch) == found
    assert before == (random.getstate(), np.random.get_state()[1].tolist())
    heavy = training and augmentation == "imagenet"
    assert len(read) == (3 * 27 if heavy else 27 + 2 * (27 - room))


def test_workers_rest_once_all_images_are_in_memory(images):
    source = batches(images, 1, cache=10**6)
    wanted = contents(batches(images, 0))
    assert contents(source) == wanted
    assert [worker.process.poll() for worker in source._pool._started] == [None]
    assert contents(source) == wanted
    processes = [worker.process for worker in source._pool._started]
    assert contents(source, skip=1) == wanted[1:]
    assert source._pool._started == []
    assert [process.wait(20) for process in processes] == [0]
    source._pool.result(source._pool.submit(Job(images.items[:1], None, Transforms(8))))
    assert len(source._pool._started) == 1


@pytest.mark.parametrize(("text", "size"), [("off", 0), ("auto", None), ("500MB", 500_000_000), ("1.5 gb", 1.5e9)])
def test_sizes_of_the_cache(text, size):
    assert check_limit(text) == size


@pytest.mark.parametrize("text", ["", "on", "-1MB", "5", "5TB", "MB"])
def test_what_is_not_a_size_of_the_cache_is_refused(text):
    with pytest.raises(UsageError, match=r"--cache-images: .* is not a size.*500MB"):
        check_limit(text)


def test_auto_leaves_memory_to_others(monkeypatch):
    monkeypatch.setattr("trainer_plugins.image_classification.cache.free_memory", lambda: 8 * (100 + OVERHEAD))
    assert Cache.of_option("auto", 1).takes(2 * (100 + OVERHEAD) - OVERHEAD)
    shared = Cache.of_option("auto", 2)
    assert not shared.takes(101)
    assert shared.takes(100)
    assert not shared.takes(1)


def test_an_epoch_that_is_left_in_the_middle_leaves_nothing_behind(images):
    source = batches(images, 2)
    whole = contents(source)
    for count in (1, 2):
        begun = source.epoch(1)
        for _ in range(count):
            next(begun)
        other = contents(batches(images, 0, training=False))
        assert contents(source) == whole
        assert other == contents(batches(images, 2, training=False))


def test_two_splits_share_the_workers(images):
    source = batches(images, 2)
    judged = ImageBatches(
        images,
        Transforms(16),
        Normalisation((0.5,) * 3, (0.25,) * 3),
        source._pool,
        Cache(0),
        batch_size=5,
        contexts=[mx.cpu()],
        seed=3,
        training=False,
    )
    found = []
    for batch, other in zip(source.epoch(1), judged.epoch(1), strict=False):
        found.append((batch.indices.tolist(), other.indices.tolist()))
    assert [other for _, other in found] == [list(range(start, start + 5)) for start in range(0, 20, 5)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_image_is_named_when_its_turn_comes(images, tmp_path, workers):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    damaged = type(images)("here", [*images.items[:5], str(broken), *images.items[6:]], images.labels, images.classes)
    with pytest.raises(UsageError, match=r"broken\.png: the image cannot be decoded: it is not an.*--skip-corrupt"):
        contents(batches(damaged, workers))


def test_a_worker_that_dies_is_an_error_and_not_a_hang(images):
    source = batches(images, 2)
    begun = source.epoch(1)
    next(begun)
    for worker in source._pool._started:
        worker.process.kill()
    with pytest.raises(WorkerDiedError, match=r"exit code -9.*--workers 0"):
        list(begun)


def test_workers_end_with_their_pool_and_with_their_parent(images):
    source = batches(images, 2)
    next(source.epoch(1))
    processes = [worker.process for worker in source._pool._started]
    del source
    assert [process.wait(20) for process in processes] == [0, 0]
    script = (
        "import sys, os, signal\n"
        "from trainer_plugins.image_classification.pool import Pool\n"
        "from trainer_plugins.image_classification.loading import Job\n"
        "from trainer_plugins.image_classification.transforms import Transforms\n"
        "pool = Pool(1)\n"
        "pool.result(pool.submit(Job([sys.argv[1]], None, Transforms(8))))\n"
        "print(pool._started[0].process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, images.items[0]], capture_output=True, text=True, timeout=120, check=False
    )
    process = int(done.stdout)
    for _ in range(200):
        if not os.path.exists(f"/proc/{process}/cmdline") or not _running(process):  # noqa: PTH110
            break
        import time

        time.sleep(0.1)
    assert not _running(process)


def _running(process):
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_worker_answers_in_json_and_pixels_and_ignores_the_keyboard(images):
    import signal

    process = subprocess.Popen(
        [sys.executable, "-m", "trainer_plugins.image_classification.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    job = Job(list(images.items[:2]), None, Transforms(8))
    for _ in range(2):
        process.stdin.write(json.dumps(job.to_json()).encode() + b"\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline()) == {"shapes": [[8, 8, 3]] * 2}
        assert process.stdout.read(2 * 8 * 8 * 3) == np.stack(load(job, Files())).tobytes()
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
    process.stdin.close()
    assert process.wait(20) == 0
    process.stdout.close()


def test_the_first_corrupt_image_of_a_job_is_told(images, tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(CorruptError) as caught:
        load(Job([images.items[0], str(tmp_path / "a.png")], None, Transforms(8)), Files())
    assert caught.value.row == 1
