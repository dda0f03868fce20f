"""Progress on a terminal only, and interruption: no file is left, the exit says which signal."""

import os
import pty
import signal
import subprocess
import time

import numpy as np
import pytest
from cli_support import BINARY, make_plan, metadata, random_tensors, run, write_trace
from safetensors.numpy import load_file, save_file

ERASE = "\r\x1b[K"


def run_on_terminal(*args):
    """Exit code, stdout (a pipe) and what a terminal on stderr got."""
    terminal, stderr = pty.openpty()
    process = subprocess.Popen(
        [str(BINARY), *map(str, args)], stdout=subprocess.PIPE, stderr=stderr, text=True
    )
    os.close(stderr)
    shown = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(terminal)
    stdout = process.stdout.read()
    return process.wait(), stdout, shown.decode()


@pytest.fixture
def trace(tmp_path):
    return write_trace(tmp_path / "t.safetensors", random_tensors())


def test_progress_is_drawn_on_a_terminal_and_erased(tmp_path, trace):
    code, stdout, shown = run_on_terminal("calibrate", trace, "--p", 1, "-o", tmp_path / "p.json")
    assert code == 0
    assert "thresholds [" in shown
    assert "0/2" in shown and "1/2" in shown and "2/2" in shown
    assert shown.endswith(ERASE)
    assert "\x1b" not in stdout

    code, _, shown = run_on_terminal("attend", trace, "--plan", tmp_path / "p.json", "--json")
    assert code == 0
    assert "attention [" in shown
    assert shown.endswith(ERASE)


def test_progress_is_erased_before_an_error(tmp_path):
    # Two layers of which the plan centres keys: refused while layers are observed.
    trace = write_trace(tmp_path / "t.safetensors", random_tensors(), causal=True)
    args = ["calibrate", trace, "--p", 1, "--centring", "on", "-o", tmp_path / "p.json"]
    code, _, shown = run_on_terminal(*args)
    assert code == 2
    assert "thresholds [" in shown
    assert shown.split(ERASE)[-1].startswith("elsa calibrate: error: ")


def test_nothing_goes_to_stderr_in_a_pipe(tmp_path, trace):
    done = run("calibrate", trace, "--p", 1, "-o", tmp_path / "p.json")
    assert (done.returncode, done.stderr) == (0, "")
    done = run("attend", trace, "--plan", tmp_path / "p.json")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_calibration_leaves_nothing(tmp_path, number):
    # Minutes of work, so that it is running when the signal comes.
    trace = write_trace(
        tmp_path / "t.safetensors", random_tensors(layers=1, batch=1, heads=2, n_q=16384)
    )
    plan = tmp_path / "plan.json"
    plan.write_text("the old plan")
    terminal, stderr = pty.openpty()
    process = subprocess.Popen(
        [str(BINARY), "calibrate", str(trace), "--p", "1", "-o", str(plan)],
        stdout=subprocess.PIPE,
        stderr=stderr,
    )
    os.close(stderr)
    shown = b""
    while b"thresholds [" not in shown:
        shown += os.read(terminal, 4096)
    process.send_signal(number)
    assert process.wait(timeout=60) == -number
    os.close(terminal)
    assert process.stdout.read() == b""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plan.json", "t.safetensors"]
    assert plan.read_text() == "the old plan"


def test_an_interruption_while_writing_removes_the_temporary_file(tmp_path):
    # Much to write, little to compute.
    tensors = {f"layer.0.{x}": np.ones((1, 2000, 8, 1024), dtype=np.float32) for x in "qkv"}
    trace = tmp_path / "t.safetensors"
    save_file(tensors, trace, metadata=metadata(1024))
    for attempt in range(20):
        output = tmp_path / f"out{attempt}"
        process = subprocess.Popen(
            [str(BINARY), "attend", str(trace), "-o", str(output)], stdout=subprocess.PIPE
        )
        # The first temporary file is the early check of the output.
        pending = f"{output.name}.{process.pid}-1.tmp"
        while process.poll() is None and pending not in os.listdir(tmp_path):
            pass
        process.send_signal(signal.SIGINT)
        code = process.wait()
        process.stdout.close()
        left = sorted(set(os.listdir(tmp_path)) - {trace.name})
        if code == -signal.SIGINT and left == []:
            trace.unlink()  # 200 MB that pytest would keep
            return
        # The signal came too late: then the whole file is there.
        assert left == [output.name]
        assert load_file(output)["layer.0.output"].shape == (1, 2000, 8, 1024)
        output.unlink()
    pytest.fail("never interrupted while writing")


def test_an_ignored_interrupt_stays_ignored(tmp_path, trace):
    output = tmp_path / "p.json"
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT; "$0" "$@" & kill -INT $!; wait $!; exit $?']
        + [str(BINARY), "calibrate", str(trace), "--p", "1", "-o", str(output)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert output.exists()


def test_a_closed_pipe_ends_quietly(tmp_path, trace):
    plan = make_plan(tmp_path / "p.json", trace)
    start = time.monotonic()
    done = subprocess.run(
        ["sh", "-c", f'"{BINARY}" attend "{trace}" --plan "{plan}" | true'],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert time.monotonic() - start < 60
