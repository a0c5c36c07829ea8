"""Device names: which are understood, and what is said of a device that is not there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import UsageError, devices
from trainer.mxnet import mx

NUMBERS = st.lists(st.integers(0, 99), min_size=1, max_size=5, unique=True)
SPACE = st.sampled_from(["", " ", "  "])


@given(st.sampled_from(["cpu", "gpu"]), NUMBERS, SPACE, SPACE)
def test_numbers_are_read_in_their_order_with_or_without_spaces(kind, numbers, before, after):
    text = f"{before}{kind}{before}:{after}{f'{before},{after}'.join(map(str, numbers))}{after}"
    assert devices.parse(text.replace(f"{kind}{before}:", f"{kind}:")) == (kind, tuple(numbers))


@given(st.sampled_from(["cpu", "gpu"]), NUMBERS)
def test_a_device_named_twice_is_refused(kind, numbers):
    text = f"{kind}:{','.join(map(str, [*numbers, numbers[0]]))}"
    with pytest.raises(UsageError, match="names a device twice"):
        devices.parse(text)


@given(st.text(max_size=12))
def test_any_text_is_understood_or_refused_with_the_forms_that_are(text):
    try:
        kind, numbers = devices.parse(text)
    except UsageError as error:
        assert str(error).startswith(f"--devices: {text!r} ")  # noqa: PT017  either way is right
    else:
        assert kind in ("cpu", "gpu", "auto")
        assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("kind", ["cpu", "gpu", "auto"])
def test_a_kind_alone_has_no_numbers(kind):
    assert devices.parse(kind) == (kind, ())


@pytest.mark.parametrize(
    "text", ["", "tpu", "CPU", "cpu:", "cpu:-1", "cpu:a", "cpu:0,", "cpu,gpu", "auto:0", "cpu(0)", "cpu:0 1", "gpu0"]
)
def test_other_forms_are_refused_with_those_that_are_understood(text):
    with pytest.raises(UsageError, match=r"is not a device name\. Use cpu, gpu, auto, or numbered as in gpu:0,1"):
        devices.parse(text)


def test_the_cpu_may_be_several_devices():
    assert devices.contexts("cpu") == [mx.cpu(0)]
    assert devices.contexts("cpu:0,1,2") == [mx.cpu(0), mx.cpu(1), mx.cpu(2)]


def test_auto_is_every_gpu_or_else_the_cpu(monkeypatch):
    monkeypatch.setattr(devices, "gpus", lambda: 0)
    assert devices.contexts("auto") == [mx.cpu(0)]
    monkeypatch.setattr(devices, "gpus", lambda: 2)
    assert devices.contexts("auto") == [mx.gpu(0), mx.gpu(1)]


def test_gpus_that_are_there_are_used(monkeypatch):
    monkeypatch.setattr(devices, "gpus", lambda: 3)
    assert devices.contexts("gpu") == [mx.gpu(0)]
    assert devices.contexts("gpu:2,0") == [mx.gpu(2), mx.gpu(0)]


class Features:
    """What MXNet says of how it was built."""

    def __init__(self, cuda):
        self.cuda = cuda

    def is_enabled(self, name):
        return name == "CUDA" and self.cuda


def test_a_gpu_in_an_mxnet_without_cuda_names_the_cause(monkeypatch):
    monkeypatch.setattr(mx.runtime, "Features", lambda: Features(cuda=False))
    monkeypatch.setattr(devices, "gpus", lambda: 0)
    with pytest.raises(
        UsageError, match=r"gpu\(0\) cannot be used: the installed MXNet is built without CUDA"
    ) as error:
        devices.contexts("gpu")
    assert "--devices cpu" in error.value.fix


@pytest.mark.parametrize(("present", "have"), [(0, "none"), (2, r"2 \(gpu\(0\), gpu\(1\)\)")])
def test_a_gpu_that_is_not_there_is_named_with_those_that_are(monkeypatch, present, have):
    monkeypatch.setattr(mx.runtime, "Features", lambda: Features(cuda=True))
    monkeypatch.setattr(devices, "gpus", lambda: present)
    with pytest.raises(UsageError, match=rf"there is no gpu\(7\); GPUs that MXNet finds: {have}"):
        devices.contexts("gpu:7")


def test_a_driver_that_does_not_answer_counts_as_no_gpu(monkeypatch):
    def fail():
        raise mx.MXNetError("CUDA: unknown error")

    monkeypatch.setattr(mx.context, "num_gpus", fail)
    assert devices.gpus() == 0
    assert devices.contexts("auto") == [mx.cpu(0)]
