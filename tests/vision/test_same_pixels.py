"""However an image is given, the net gets the same numbers: in training, evaluation, prediction and Python."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainer import UsageError
from trainer.mxnet import mx
from trainer_plugins.image_classification.decode import decode
from trainer_plugins.image_classification.files import find, read_unlabelled
from trainer_plugins.image_classification.interface import ImageModel, ImageRows
from trainer_plugins.image_classification.loading import Files, Job, load
from trainer_plugins.image_classification.transforms import Transforms, as_input

MEAN, DEVIATION = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
TRANSFORMS = Transforms(16, "none", 18)
MODES = {"RGB": 3, "RGBA": 4, "LA": 2, "L": 1, "P": 1, "1": 1, "CMYK": 4, "I;16": 1}
KINDS = {
    "png": set(MODES) - {"CMYK"},
    "tiff": set(MODES) - {"LA", "CMYK"},
    "jpeg": {"RGB", "L", "CMYK"},
    "webp": {"RGB", "RGBA"},
}


@pytest.fixture(scope="module")
def model():
    return ImageModel(["a", "b"], TRANSFORMS, MEAN, DEVIATION)


@st.composite
def pictures(draw):
    """A kind of file and an image for it: any mode, any side, turned by EXIF in any way."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    mode = draw(st.sampled_from(sorted(KINDS[kind])))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    if mode == "I;16":
        image = Image.fromarray(generator.integers(0, 65536, (height, width), dtype=np.uint16))
    elif mode in ("P", "1"):
        image = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)
    else:
        pixels = generator.integers(0, 256, (height, width, MODES[mode]), dtype=np.uint8)
        image = Image.frombytes(mode, (width, height), pixels.tobytes())
    exif = Image.Exif()
    exif[0x0112] = draw(st.integers(1, 8))
    return kind, image, exif


@given(picture=pictures())
def test_a_file_its_bytes_and_its_pil_image_are_the_same_everywhere(tmp_path_factory, model, picture):
    kind, image, exif = picture
    path = tmp_path_factory.mktemp("images") / f"a.{kind}"
    image.save(path, kind, exif=exif)
    pixels = load(Job([str(path)], None, TRANSFORMS), Files())
    trained = as_input(mx.nd.array(pixels, dtype=np.uint8), MEAN, DEVIATION).asnumpy()
    with Image.open(path) as opened, Image.open(io.BytesIO(path.read_bytes())) as turned:
        turned.load()
        in_python = [model.encode(given) for given in (path, str(path), path.read_bytes(), opened, [turned.copy()])]
    in_python += [model.encode([decode(str(path))]), model.encode(decode(str(path))[None])]
    predicted = list(ImageRows(model, read_unlabelled(path)))
    for encoded in (*in_python, *predicted):
        np.testing.assert_array_equal(encoded.inputs[0], trained)


def test_a_turned_tiff_that_pillow_maps_into_memory_is_turned(tmp_path):
    image, exif = Image.new("CMYK", (3, 2)), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.tiff", exif=exif)
    assert decode(str(tmp_path / "a.tiff")).shape == decode((tmp_path / "a.tiff").read_bytes()).shape == (3, 2, 3)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_an_array_is_what_pil_makes_of_it(model, mode):
    generator = np.random.default_rng(0)
    if mode == "I;16":
        array = generator.integers(0, 65536, (20, 24), dtype=np.uint16)
        image = Image.fromarray(array)
    else:
        array = generator.integers(0, 256, (20, 24, MODES[mode]), dtype=np.uint8)
        image = Image.frombytes(mode, (24, 20), array.tobytes())
    wanted = model.encode(image).inputs[0]
    arrays = [array, mx.nd.array(array, dtype=array.dtype)] if mode != "I;16" else [array]
    for given_array in [*arrays, *([array[..., 0]] if mode == "L" else [])]:
        np.testing.assert_array_equal(model.encode([given_array]).inputs[0], wanted)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ([np.zeros((4, 4, 3))], "image 0 is an array of float64"),
        ([np.zeros((4, 4, 5), np.uint8)], "image 0 is an array of uint8"),
        ([np.zeros((0, 4, 3), np.uint8)], "image 0 is an array of uint8"),
        ([None], "image 0 is a NoneType"),
        (np.zeros((4, 4, 3), np.uint8), r"an array \(4, 4, 3\) does not say what its rows are.*Give .*\[image\]"),
        ([b"x"], "image 0: the image cannot be decoded: it is not an image"),
    ],
)
def test_what_is_not_an_image_is_said(model, data, reason):
    with pytest.raises(UsageError, match=reason):
        model.encode(data)


# ---- links -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name / f"{name}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("target", ["..", "../..", "."])
def test_a_link_upwards_brings_no_other_images(photos, target):
    (photos / "cat" / "loop").symlink_to(target, target_is_directory=True)
    found = find(photos)["train"]
    assert found.items == [str(photos / "cat" / "cat.png"), str(photos / "dog" / "dog.png")]
    assert found.labels.tolist() == [0, 1]
    assert found.left_out == (str(photos / "cat" / "loop"),)
    assert read_unlabelled(photos / "cat").items == [str(photos / "cat" / "cat.png")]


def test_a_link_elsewhere_is_followed_but_not_upwards_from_there(photos, tmp_path):
    (tmp_path / "store" / "more").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "store" / "more" / "1.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "store" / "no.png")
    (tmp_path / "store" / "more" / "up").symlink_to("..", target_is_directory=True)
    (photos / "cat" / "more").symlink_to(tmp_path / "store" / "more", target_is_directory=True)
    names = [item.rpartition("/")[2] for item in find(photos)["train"].items]
    assert names == ["cat.png", "1.png", "dog.png"]


@pytest.mark.parametrize("link", ["cat/friend", "kitten"])
def test_a_folder_of_two_classes_is_refused(photos, link):
    (photos / link).symlink_to(photos / "dog", target_is_directory=True)
    with pytest.raises(UsageError, match=r"its images are in two classes, '(cat|dog)' and '(dog|kitten)'"):
        find(photos)


# ---- corrupt images --------------------------------------------------------------------------------------------------


def test_corrupt_images_are_left_out_and_named(model, photos):
    (photos / "cat" / "bad.png").write_bytes(b"x")
    rows = ImageRows(model, read_unlabelled(photos))
    with pytest.raises(UsageError, match=r"bad\.png: the image cannot be decoded: .*--skip-corrupt"):
        list(rows)
    rows.skip_corrupt()
    (part,) = rows
    assert [path.as_py().rpartition("/")[2] for path in part.kept["path"]] == ["cat.png", "dog.png"]
    assert rows.skipped == [f"{photos / 'cat' / 'bad.png'}: it is not an image"]
    for path in photos.rglob("*.png"):
        path.write_bytes(b"x")
    rows = ImageRows(model, read_unlabelled(photos))
    rows.skip_corrupt()
    with pytest.raises(UsageError, match="all 3 images are corrupt"):
        list(rows)
