"""Commands that packages add through entry points."""

from packages import in_process as trainer
from packages import install

GREET = '''
import typer

def greet(name: str = "you") -> None:
    """Greets.

    Example: trainer greet --name me
    """
    from trainer import UsageError
    if name == "nobody":
        raise UsageError("there is nobody", where="--name", fix="Name somebody.")
    if name == "everybody":
        import numpy as np
        np.empty(1 << 57)
    typer.echo(f"hello {name}")

group = typer.Typer(help="Greets in many ways.")

@group.command()
def loudly() -> None:
    """Loudly."""
    typer.echo("HELLO")

@group.command()
def softly() -> None:
    """Softly."""

number = 3
'''


def added(tmp_path, **commands):
    install(
        tmp_path, "greeting", {"trainer.commands": commands}, greeting=GREET, broken="raise RuntimeError('no luck')"
    )
    return (tmp_path,)


def test_a_function_and_a_group_become_commands(tmp_path):
    path = added(tmp_path, greet="greeting:greet", greetings="greeting:group")
    assert trainer("greet", "--name", "me", path=path).stdout == "hello me\n"
    assert trainer("greetings", "loudly", path=path).stdout == "HELLO\n"
    listed = trainer("--help", path=path).stdout
    assert "Greets." in listed
    assert "Greets in many ways." in listed
    done = trainer("greet", "--name", "nobody", path=path)
    assert (done.returncode, done.stderr) == (2, "error: --name: there is nobody. Name somebody.\n")
    done = trainer("greet", "--name", "everybody", path=path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "error: trainer greet failed: there is not enough memory: Unable to allocate 1.00 EiB"
    )
    assert done.stderr.endswith(". A smaller --memory or --batch-size takes less.\n")


def test_one_that_cannot_be_used_says_so_and_disturbs_no_other(tmp_path):
    path = added(tmp_path, bad="broken:greet", number="greeting:number", doctor="greeting:greet")
    for name, message in (("bad", "RuntimeError: no luck"), ("number", "greeting:number cannot be a command")):
        done = trainer(name, path=path)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert "Cannot be used: command 'bad' (greeting 1.0)" in trainer("--help", path=path).stdout.replace("\n  ", " ")
    assert "hello" not in trainer("doctor", path=path).stdout
    assert trainer("plugins", "list", path=path).returncode == 0


def test_a_name_that_two_packages_claim_is_an_error(tmp_path):
    path = added(tmp_path, greet="greeting:greet")
    install(tmp_path, "other", {"trainer.commands": {"greet": "greeting:greet"}})
    done = trainer("greet", path=path)
    assert done.returncode == 2
    assert "is claimed by greeting 1.0, other 1.0" in done.stderr
