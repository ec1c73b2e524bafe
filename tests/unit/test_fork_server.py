"""The process that forks Ray's workers; see the end-to-end tests for whole launches with it."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from resnet_core.code import Source
from sweeps import environment
from sweeps.execution import fork_server, tied

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no fork server there")

REPORT = """
import json, os, random, resource, signal, sys
import numpy
print(json.dumps({
    "arguments": sys.argv[1:],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "folder": os.getcwd(),
    "group": os.getpgid(0),
    "id": os.getpid(),
    "loaded": sorted({"torch", "ray.tune", "sklearn.svm", "torch._dynamo"} & set(sys.modules)),
    "name": __name__,
    "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "open files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    "parent": os.getppid(),
    "random": [random.random(), float(numpy.random.random())]
    + ([float(sys.modules["torch"].rand(1))] if "torch" in sys.modules else []),
    "said": os.environ.get("SAID"),
    "server's": os.environ.get("RAY_RAYLET_PID"),
}))
print("an error", file=sys.stderr)
"""
ASLEEP = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n"


@pytest.fixture(scope="module")
def server():
    own = fork_server.ForkServer()
    yield own
    own.stop()


def command(path: str, folder: Path, program: str, *words: str, name: str = "default_worker.py") -> list[str]:
    """What the raylet executes for a worker whose program this is."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(program)
    return [sys.executable, "-I", "-S", tied.__file__, path, str(folder / name), *words]


def variables(**more: str) -> dict[str, str]:
    """The environment that the raylet gives a worker."""
    of_ray = {"OMP_NUM_THREADS": "1", "RAY_JOB_ID": fork_server.FIRST_JOB, "RAY_RAYLET_PID": "1"}
    return {**os.environ, **environment.of_this_package(), **of_ray, **more}


def report(server, folder: Path, *words: str, name: str = "default_worker.py", nice: int = 0, **more: str):
    asked = ["nice", f"-n{nice}", *command(server.socket, folder, REPORT, *words, name=name)]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=folder, env=variables(**more), timeout=60)
    assert done.stderr == "an error\n"
    return json.loads(done.stdout)


def test_a_worker_is_a_fork_with_what_it_would_have_been_given(server, tmp_path):
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    found = report(server, tmp_path, "--node-id=1", nice=3, SAID="ü")
    assert found["parent"] == server._process.pid
    assert {"torch", "ray.tune"} <= set(found["loaded"])
    assert found["name"] == "__main__"
    assert found["arguments"] == ["--node-id=1"]
    assert found["folder"] == str(tmp_path)
    assert found["group"] == os.getpgid(0)
    assert found["nice"] == nice + 3
    assert (found["said"], found["server's"]) == ("ü", "1")


def test_workers_draw_other_random_numbers(server, tmp_path):
    first, second = report(server, tmp_path)["random"], report(server, tmp_path)["random"]
    assert len(first) == 3  # of Python, NumPy and torch
    assert set(first).isdisjoint(second)


def test_workers_draw_other_ids_of_ray(server, tmp_path):
    program = "import ray; print(*(ray.ObjectID.from_random().hex() for _ in range(1000)))"
    drawn = [
        subprocess.check_output(command(server.socket, tmp_path, program), env=variables(), text=True).split()
        for _ in range(3)
    ]
    assert len({one for ids in drawn for one in ids}) == 3000


@pytest.mark.parametrize(
    "more",
    [{"OMP_NUM_THREADS": "2"}, {"MKL_DYNAMIC": "false"}, {"PYTHONHASHSEED": "1"}, {"RAY_JOB_ID": "02000000"}],
    ids=lambda more: next(iter(more)),
)
def test_a_worker_with_other_settings_than_were_read_is_started_anew(server, tmp_path, more):
    found = report(server, tmp_path, **more)
    assert (found["parent"], found["loaded"]) == (os.getpid(), [])


def test_another_program_is_started_anew(server, tmp_path):
    assert report(server, tmp_path, name="agent.py")["loaded"] == []


def test_a_worker_is_started_anew_without_a_server(tmp_path):
    lost = fork_server.ForkServer()
    lost.stop()
    assert report(lost, tmp_path)["loaded"] == []


def test_a_worker_is_started_anew_where_the_server_ends_before_it_answers(tmp_path):
    lost = fork_server.ForkServer()
    asked = command(lost.socket, tmp_path, REPORT)
    worker = subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=variables())
    time.sleep(0.3)  # it waits for the imports of the server, which take seconds
    lost.stop()
    assert json.loads(worker.communicate(timeout=60)[0])["loaded"] == []


def test_a_process_with_another_thread_does_not_fork():
    assert _can_fork("") == "True"
    other = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
    assert _can_fork(other) == "False"


def _can_fork(before: str) -> str:
    program = f"import os; from sweeps.execution import fork_server\n{before}\nprint(fork_server._can_fork(os.environ))"
    return subprocess.check_output([sys.executable, "-c", program], text=True).strip()


def test_what_a_studys_code_imports_is_imported_ahead(server, tmp_path, monkeypatch):
    (tmp_path / "job.py").write_text("from sklearn import svm\nfrom torch import nn\nfrom . import nothing\n")
    monkeypatch.setattr(fork_server, "_current", server)
    fork_server.import_for([Source("job:train", tmp_path, ("job.py",), "sha256:0")])
    assert report(server, tmp_path / "w")["loaded"] == ["ray.tune", "sklearn.svm", "torch", "torch._dynamo"]


def test_the_one_that_waits_ends_with_its_worker(server, tmp_path):
    waiting = subprocess.Popen(
        command(server.socket, tmp_path, ASLEEP), stdout=subprocess.PIPE, text=True, env=variables()
    )
    os.kill(int(waiting.stdout.readline()), signal.SIGKILL)
    waiting.communicate(timeout=10)


def test_workers_end_with_the_server(tmp_path):
    own = fork_server.ForkServer()
    waiting = subprocess.Popen(
        command(own.socket, tmp_path, ASLEEP), stdout=subprocess.PIPE, text=True, env=variables()
    )
    worker = psutil.Process(int(waiting.stdout.readline()))
    own.stop()
    worker.wait(timeout=10)
    waiting.communicate(timeout=10)


def test_the_server_ends_with_the_process_that_started_it():
    program = (
        "import sys, time; from sweeps.execution import fork_server; fork_server.start(None)\n"
        "print(fork_server.current()._process.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    process = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    until = time.monotonic() + 10
    while psutil.pid_exists(process):
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("address", "of_environment", "gpus", "starts"),
    [
        (None, "", (), True),
        ("local", "head:6379", (), True),
        (None, " ", (), True),
        ("head:6379", "", (), False),
        (None, "auto", (), False),
        (None, "", (os.devnull,), False),
    ],
)
def test_there_is_a_server_where_ray_is_started_on_a_machine_without_a_gpu(
    monkeypatch, address, of_environment, gpus, starts
):
    monkeypatch.setenv("RAY_ADDRESS", of_environment)
    monkeypatch.setattr(fork_server, "_GPUS", gpus)
    with fork_server.running(address):
        assert (fork_server.current() is not None) is starts
    assert fork_server.current() is None


def test_a_second_start_is_none(monkeypatch):
    monkeypatch.setattr(fork_server, "_GPUS", ())
    with fork_server.running(None):
        first = fork_server.current()
        fork_server.start(None)
        assert fork_server.current() is first


def test_a_server_needs_no_folder_for_temporary_files(monkeypatch):
    monkeypatch.setattr(fork_server, "_GPUS", ())
    monkeypatch.setenv("TMPDIR", "/no/such/folder")
    with fork_server.running(None):
        assert fork_server.current() is not None


def test_a_launch_inside_another_leaves_its_server(monkeypatch):
    monkeypatch.setattr(fork_server, "_GPUS", ())
    with fork_server.running(None):
        first = fork_server.current()
        with fork_server.running(None):
            pass
        assert fork_server.current() is first
        assert first._process.poll() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_another_users_request_is_not_answered(server, tmp_path):
    asks = (
        "import os, socket, sys; os.setuid(65534)\n"
        "with socket.socket(socket.AF_UNIX) as connection:\n"
        "    connection.connect('\\0' + sys.argv[1]); print(connection.recv(1))"
    )
    said = subprocess.check_output([sys.executable, "-S", "-c", asks, server.socket], text=True, timeout=60)
    assert said == "b''\n"
    assert "torch" in report(server, tmp_path)["loaded"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_worker_is_not_asked_of_another_user(tmp_path):
    listens = (
        "import os, socket; os.setuid(65534)\n"
        "server = socket.socket(socket.AF_UNIX); server.bind('\\0' + 'sweeps-of-another-user'); server.listen()\n"
        "print(flush=True); connection, _ = server.accept(); print(connection.recv(1))"
    )
    other = subprocess.Popen([sys.executable, "-S", "-c", listens], stdout=subprocess.PIPE, text=True)
    other.stdout.readline()
    asked = command("sweeps-of-another-user", tmp_path, REPORT)
    done = subprocess.run(asked, capture_output=True, text=True, env=variables(), timeout=60)
    assert json.loads(done.stdout)["loaded"] == []
    assert other.communicate(timeout=60)[0] == "b''\n"


def test_a_worker_may_open_as_many_files_as_the_process_that_asks(server, tmp_path):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1
    asked = ["sh", "-c", f'ulimit -Sn {most} && exec "$@"', "sh", *command(server.socket, tmp_path, REPORT)]
    found = json.loads(subprocess.check_output(asked, stderr=subprocess.DEVNULL, env=variables(), timeout=60))
    assert (found["parent"], found["open files"]) == (server._process.pid, most)


def test_a_worker_blocks_the_signals_that_the_process_that_asks_does(server, tmp_path):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        found = report(server, tmp_path)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert (found["parent"], found["blocked"]) == (server._process.pid, sorted({*before, signal.SIGINT}))


def test_a_worker_that_cannot_begin_as_a_fork_is_started_anew(server, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    asked = ["sh", "-c", f'rmdir {gone} && exec "$@"', "sh", *command(server.socket, tmp_path, REPORT)]
    program = REPORT.replace("os.getcwd()", "None")
    (tmp_path / "default_worker.py").write_text(program)
    done = subprocess.run(asked, capture_output=True, text=True, cwd=gone, env=variables(), timeout=60)
    assert json.loads(done.stdout)["loaded"] == []


def test_a_request_that_is_none_leaves_the_server_as_it_is(server, tmp_path):
    for words in (b"\n", b"{}\n", b"[1]\n", b'{"import": ["no.such.module"]}\n', b""):
        with socket.socket(socket.AF_UNIX) as connection:
            tied.connect(connection, server.socket)
            connection.sendall(words)
    assert "torch" in report(server, tmp_path)["loaded"]


def test_many_workers_are_asked_for_at_once(server, tmp_path):
    found = []
    threads = [
        threading.Thread(target=lambda i=i: found.append(report(server, tmp_path / f"{i}")["id"])) for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 6
