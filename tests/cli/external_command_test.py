"""elsa X runs elsa-X: beside the binary, then from PATH; arguments, exit code, signals, help."""

import os
import shutil
import signal
import subprocess

import pytest
from cli_support import BINARY, ROOT


@pytest.fixture
def place(tmp_path):
    """A copy of the binary with nothing beside it, a folder on PATH, and a way to run it."""

    class Place:
        beside = tmp_path / "beside"
        on_path = tmp_path / "on_path"
        elsa = beside / "elsa"
        env = {"PATH": f"{on_path}:/usr/bin:/bin"}

        def script(self, folder, name, text, mode=0o755):
            path = folder / name
            path.write_text("#!/bin/sh\n" + text)
            path.chmod(mode)
            return path

        def run(self, *args, elsa=None, **options):
            return subprocess.run(
                [str(elsa or self.elsa), *args],
                **{"env": self.env, "capture_output": True, "text": True, **options},
            )

    Place.beside.mkdir()
    Place.on_path.mkdir()
    shutil.copy(BINARY, Place.elsa)
    return Place()


@pytest.mark.parametrize("where", ["beside", "on_path"])
def test_arguments_and_exit_code_are_forwarded(place, where):
    place.script(getattr(place, where), "elsa-foo", 'for x in "$@"; do echo "<$x>"; done; exit 7')
    done = place.run("foo", "--json", "a b", "--help", "", "*")
    assert done.stdout == "<--json>\n<a b>\n<--help>\n<>\n<*>\n"
    assert (done.returncode, done.stderr) == (7, "")


def test_standard_streams_are_those_of_the_caller(place):
    place.script(place.on_path, "elsa-foo", "cat; echo to stderr >&2")
    done = place.run("foo", input="through")
    assert (done.stdout, done.stderr) == ("through", "to stderr\n")


def test_beside_the_binary_comes_before_path(place):
    place.script(place.beside, "elsa-foo", "echo beside")
    place.script(place.on_path, "elsa-foo", "echo path")
    assert place.run("foo").stdout == "beside\n"


def test_built_in_commands_come_before_external_ones(place):
    place.script(place.beside, "elsa-params", "echo external")
    assert "external" not in place.run("params").stdout


@pytest.mark.parametrize("where", ["real", "link"])
def test_a_link_to_the_binary_finds_both_folders(place, tmp_path, where):
    links = tmp_path / "links"
    links.mkdir()
    link = links / "elsa"
    link.symlink_to(place.elsa)
    place.script(place.beside if where == "real" else links, "elsa-foo", "echo found")
    assert place.run("foo", elsa=link).stdout == "found\n"
    place.env["PATH"] = f"{links}:/usr/bin:/bin"
    assert place.run("foo", elsa="elsa").stdout == "found\n"


def test_death_by_a_signal_is_the_commands_own(place):
    place.script(place.on_path, "elsa-foo", "kill -TERM $$")
    assert place.run("foo").returncode == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_reach_the_command(place, number):
    name = number.name.removeprefix("SIG")
    place.script(
        place.on_path,
        "elsa-foo",
        f"trap 'echo caught; exit 43' {name}\necho ready\nwhile :; do sleep 0.05; done",
    )
    process = subprocess.Popen(
        [str(place.elsa), "foo"], env=place.env, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.stdout.read() == "caught\n"
    assert process.wait() == 43


def test_help_lists_what_was_found(place):
    foo = place.script(place.beside, "elsa-foo", "")
    place.script(place.on_path, "elsa-foo", "")
    bar = place.script(place.on_path, "elsa-bar", "")
    place.script(place.on_path, "elsa-text", "", mode=0o644)
    (place.on_path / "elsa-folder").mkdir()
    done = place.run("--help")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    start = lines.index("External commands:")
    assert [line.split() for line in lines[start + 1 : start + 4]] == [
        ["bar", str(bar)],
        ["foo", str(foo)],
        [],
    ]
    for native in ("attend", "calibrate", "inspect", "params"):
        assert f"  {native} " in done.stdout


def test_help_without_external_commands_lists_none(place):
    assert "External commands" not in place.run("--help").stdout


def refused(done, *words):
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


def test_an_unknown_command_names_what_there_is(place):
    place.script(place.on_path, "elsa-bar", "")
    refused(place.run("foo"), "'foo'", "attend", "calibrate", "inspect", "params", "bar")


@pytest.mark.parametrize("command", ["bench", "capture", "evaluate"])
def test_commands_of_the_python_package_say_how_to_install_them(place, command):
    refused(place.run(command), f"'{command}'", 'pip install "elsa-attention[models]"')
    assert "pip" not in place.run("foo").stderr


@pytest.mark.parametrize("name", ["../beside/elsa-x", "a/b", "/bin/sh", "", "."])
def test_a_path_is_no_command(place, name):
    place.script(place.beside, "elsa-x", "echo ran")
    refused(place.run(name), f"'{name}'")


def test_a_program_that_cannot_start_is_an_error(place):
    path = place.on_path / "elsa-foo"
    path.write_text("no program\n")
    path.chmod(0o755)
    refused(place.run("foo"), str(path), "format")


def test_without_path_the_folder_beside_still_works(place):
    place.script(place.beside, "elsa-foo", "echo found")
    assert place.run("foo", env={}).stdout == "found\n"
    refused(place.run("bar", env={}), "'bar'")


def test_version_is_that_of_the_build(place):
    text = (ROOT / "CMakeLists.txt").read_text()
    version = text.split("project(elsa VERSION ")[1].split()[0]
    assert place.run("--version").stdout == f"elsa {version}\n"
    assert os.access(place.elsa, os.X_OK)
