"""Secret options come from the environment or a flag, and no file of a run ever holds them."""

import os
from dataclasses import dataclass
from typing import Annotated

import pytest
from pydantic import Field, SecretStr
from tiny import Tiny

from trainer import Defaults, Plugin, UsageError
from trainer.catalog import registry
from trainer.config.options import build, options_of, to_toml
from trainer.launch.prepare import Request, prepare_run
from trainer.launch.resume import prepare_resume

TOKEN = "https://hooks.example/T0KEN"
NONE = SecretStr("none")
PLUGINS = ["hook", "checkpoint", "metrics-log", "report", "tensorboard"]


@dataclass
class Hook(Plugin):
    """Tells somebody."""

    url: Annotated[SecretStr | None, Field(description="Where to send to.")] = None

    on_error = "disable"

    def on_epoch_end(self, run):
        if self.url is not None:
            raise ConnectionError(f"cannot reach {self.url.get_secret_value()}")


@dataclass
class Toy(Tiny):
    """A task with a password."""

    password: Annotated[SecretStr, Field(min_length=3)] = NONE

    defaults = Defaults(epochs=1, batch_size=2)


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    real, real_load = registry.installed.__wrapped__, registry.load
    ours = {registry.PLUGINS: ("hook", "toys:Hook"), registry.TASKS: ("toy", "toys:Toy")}
    toys = {group: registry.Installed(group, *about, "toys", "1.0") for group, about in ours.items()}
    monkeypatch.setattr(registry, "installed", lambda group: (*([toys[group]] if group in toys else []), *real(group)))
    monkeypatch.setattr(
        registry, "load", lambda group, name: {"hook": Hook, "toy": Toy}.get(name) or real_load(group, name)
    )


def everything_in(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("by", ["environment", "flag"])
def test_a_secret_reaches_the_plugin_and_no_file_and_has_to_be_given_again(tmp_path, monkeypatch, by, caplog):
    sets = [f"hook.url={TOKEN}", "toy.password=T0KEN"]
    if by == "environment":
        sets = []
        monkeypatch.setenv("TRAINER_HOOK_URL", TOKEN)
        monkeypatch.setenv("TRAINER_TOY_PASSWORD", "T0KEN")
    launch = prepare_run(Request("toy", plugins=PLUGINS, sets=sets, runs_dir=tmp_path, name="run"))
    assert launch.plugins[0].url.get_secret_value() == TOKEN
    assert launch.task.password.get_secret_value() == "T0KEN"
    run = launch.train()
    assert "cannot reach <url>" in run.decisions[0].reason
    assert b"secrets = [" in everything_in(run.folder)
    assert b"T0KEN" not in everything_in(run.folder)
    assert "T0KEN" not in caplog.text
    for name in [name for name in os.environ if name.startswith("TRAINER_")]:
        monkeypatch.delenv(name)
    with pytest.raises(UsageError) as missing:
        prepare_resume(run.folder, epochs=2)
    assert f"{run.folder / 'config.toml'}: the secret option task.password is not in it" in str(missing.value)
    assert "Set TRAINER_TOY_PASSWORD in the environment, or pass --set task.password=VALUE." in str(missing.value)
    monkeypatch.setenv("TRAINER_HOOK_URL", TOKEN)
    again = prepare_resume(run.folder, epochs=2, sets=["task.password=T0KEN"])
    assert again.plugins[0].url.get_secret_value() == TOKEN
    # A run that leaves the plugin out does not need its secret.
    monkeypatch.delenv("TRAINER_HOOK_URL")
    config = run.folder / "config.toml"
    prepare_run(Request("toy", without=["hook"], config=config, sets=["task.password=abc"], runs_dir=None))


def test_a_resumed_run_takes_secret_options_alone(tmp_path):
    run = prepare_run(Request("toy", plugins=["hook", "checkpoint"], runs_dir=tmp_path, name="run")).train()
    with pytest.raises(UsageError, match=r"--set: checkpoint\.keep-last is not a secret option"):
        prepare_resume(run.folder, epochs=2, sets=["checkpoint.keep-last=3"])


def test_a_secret_that_does_not_fit_is_not_shown():
    with pytest.raises(UsageError) as refused:
        build(Toy, {"password": "T0"}, where="--")
    assert str(refused.value).startswith("--password: its value does not fit")
    assert "T0" not in str(refused.value)
    assert "T0" not in repr(refused.value.__cause__)


def test_a_required_secret_says_how_to_give_it():
    @dataclass
    class Strict(Plugin):
        """Needs one."""

        url: SecretStr

    with pytest.raises(UsageError, match=r"'url' has to be given.*TRAINER_…_URL"):
        build(Strict, {}, where="plugin 'strict'")


def test_a_secret_is_an_option_with_a_name_of_its_kind():
    option = options_of(Hook)[0]
    assert (option.type_name, option.default_text, option.is_secret) == ("secret", "", True)
    made = build(Hook, {"url": TOKEN}, where="")
    assert (to_toml(made), TOKEN in repr(made)) == ({}, False)
