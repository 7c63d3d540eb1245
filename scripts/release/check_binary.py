"""Tries the binary of an archive: what it is made for, and whether it does what it is for."""

import os
import pathlib
import platform
import shutil
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

ROOT = pathlib.Path(__file__).parent.parent.parent
sys.path.append(str(ROOT / "tests/observe"))
from processes import free_port  # noqa: E402

MACHINES = {"x86_64": 62, "aarch64": 183}
DYNAMIC, INTERPRETER, NEEDED, POSITION_INDEPENDENT = 2, 3, 1, 3
CONFIGURATION = """
[[projects]]
id = "one"
keys = [{ secret = "fake-key-one" }]
"""


def need(condition, text):
    if not condition:
        sys.exit(f"check-dist: {text}")


def elf(path):
    """The machine that an executable is made for, whether it is static, and whether it may lie anywhere in memory."""
    data = path.read_bytes()
    need(data[:5] == b"\x7fELF\x02", f"{path} is no executable of 64 bits")
    kind, machine = struct.unpack_from("<HH", data, 16)
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    static = True
    for place in range(table, table + size * count, size):
        (segment,) = struct.unpack_from("<I", data, place)
        (offset,) = struct.unpack_from("<Q", data, place + 8)
        (length,) = struct.unpack_from("<Q", data, place + 32)
        static &= segment != INTERPRETER
        if segment == DYNAMIC:
            entries = struct.iter_unpack("<qQ", data[offset:offset + length])
            static &= all(tag != NEEDED for tag, _ in entries)
    return machine, static, kind == POSITION_INDEPENDENT


def starter(architecture):
    """What a binary is started with on this machine: nothing, an emulator, or None where it cannot be."""
    if sys.platform == "linux" and platform.machine() == architecture:
        return []
    for emulator in (f"qemu-{architecture}-static", f"qemu-{architecture}"):
        if found := shutil.which(emulator):
            return [found]
    return None


def wait_until_ready(port, process, seconds=60):
    """Asks until leases can be had."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    sys.exit(f"check-dist: the broker is not ready; it ended with {process.poll()}" if process.poll() is not None
             else f"check-dist: the broker is not ready after {seconds} s")


@contextmanager
def serving(command, environment, port, log, name):
    """A broker that is ready, and that must end well when it is told to; its log goes to the file LOG."""
    with open(log, "w") as writing:
        broker = subprocess.Popen(command, env=environment, stdout=writing, stderr=writing)
        try:
            wait_until_ready(port, broker)
            yield broker
        finally:
            broker.terminate()
        need(broker.wait(60) == 0, f"{name}: the broker ended with {broker.returncode}: {log.read_text()}")


def check_binary(folder, target, version):
    """Checks FOLDER/keybroker; a line that says what was seen."""
    binary = folder / "keybroker"
    architecture = target.split("-")[0]
    machine, static, anywhere = elf(binary)
    need(machine == MACHINES[architecture], f"{target}: made for machine {machine}")
    need(static, f"{target}: not static")
    text = binary.read_bytes()
    need(b"\0.symtab\0" not in text, f"{target}: the binary has the names of its functions")
    for path in (str(pathlib.Path.home()) + "/.cargo", f"{ROOT}/"):
        need(path.encode() not in text, f"{target}: the binary tells of {path}")
    said = f"{target}: static, {'position-independent, ' if anywhere else ''}{len(text) / 1e6:.1f} MB"
    start = starter(architecture)
    if start is None:
        return f"{said}; not started: apt-get install qemu-user-static"

    environment = {"PATH": os.environ["PATH"], "KEYBROKER_DATA_DIR": str(folder / "data"), "MIMALLOC_ALLOW_THP": "0"}

    def run(*words):
        done = subprocess.run([*start, binary, *words], capture_output=True, text=True, env=environment)
        need(done.returncode == 0, f"{target}: keybroker {' '.join(words)} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    need(run("--version") == f"keybroker {version}\n", f"{target}: another version: {run('--version')}")
    for shell, name in (("bash", "keybroker.bash"), ("zsh", "_keybroker"), ("fish", "keybroker.fish")):
        need(run("completions", shell) == (folder / "completions" / name).read_text(), f"{target}: completions of {shell}")
    if bash := shutil.which("bash"):
        subprocess.run([bash, "-n", folder / "completions/keybroker.bash"], check=True)
    configuration = folder / "keybroker.toml"
    configuration.write_text(CONFIGURATION)
    run("config", "check", "--config", str(configuration))

    http, grpc = free_port(), free_port()
    addresses = ("--grpc-addr", f"127.0.0.1:{grpc}", "--http-addr", f"127.0.0.1:{http}")
    serve = [*start, binary, "serve", "--config", configuration, *addresses]
    with serving(serve, environment, http, folder / "log", target):
        run("health", "--http-addr", f"127.0.0.1:{http}")
        leased = run("lease", "acquire", "--model", "gemini-2.5-flash", "--broker", f"127.0.0.1:{grpc}")
        need(leased.strip(), f"{target}: no lease")
    return f"{said}; serves and leases{' under ' + pathlib.Path(start[0]).name if start else ''}"
