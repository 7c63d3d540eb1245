"""Tries an image as `docker save` writes it: what it says of itself, and the broker in it, on its own file system."""

import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tarfile

from check_binary import MACHINES, elf, free_port, need, serving

USER = 65532
PLATFORMS = {"amd64": "x86_64", "arm64": "aarch64"}
# With a root that nobody can write to, a folder for the ledger, and as the image's user.
CONTAINER = """
set -e
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
mount -t tmpfs -o mode=0755,uid=65532,gid=65532 ledger "$1/data"
exec chroot --userspec=65532:65532 "$@"
"""


def check_image(archive, folder, version):
    """Checks the image in an archive, which is unpacked into FOLDER; a line that says what was seen."""
    folder.mkdir()
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "image", filter="data")
    manifest = json.loads((folder / "image/manifest.json").read_text())[0]
    image = json.loads((folder / "image" / manifest["Config"]).read_text())
    config = image["config"]
    name, architecture = archive.name, PLATFORMS[image["architecture"]]
    need(archive.stem.endswith(image["architecture"]), f"{name} is for {image['architecture']}")
    need(f":{version}" in manifest["RepoTags"][0], f"{name} has the tag {manifest['RepoTags']}")
    need(config["User"] == f"{USER}:{USER}", f"{name} runs as {config['User']}")
    need(config["Entrypoint"] == ["keybroker"] and config["Cmd"] == ["serve"], f"{name} starts something else")
    need(config["Healthcheck"]["Test"] == ["CMD", "keybroker", "health"], f"{name} has no health check")
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    need(labels["version"] == version, f"{name} has the label {labels['version']} for its version")
    need(len(labels["revision"]) >= 40 and labels["licenses"] == "Apache-2.0", f"{name} has the labels {labels}")

    root, size = folder / "root", 0
    root.mkdir()
    for layer in manifest["Layers"]:
        size += (folder / "image" / layer).stat().st_size
        with tarfile.open(folder / "image" / layer) as tar:
            owners = {member.name.rstrip("/"): member.uid for member in tar}
            tar.extractall(root, filter="tar")
    need(size < 25_000_000, f"{name} has {size} bytes")
    need(owners["data"] == USER, f"{name}: /data belongs to {owners['data']}")
    machine, static, _ = elf(root / "usr/local/bin/keybroker")
    need(static and machine == MACHINES[architecture], f"{name}: the binary is for machine {machine}")
    said = f"{name}: {size / 1e6:.1f} MB, user {USER}"
    if sys.platform != "linux" or platform.machine() != architecture or os.geteuid() != 0 or not shutil.which("unshare"):
        return f"{said}; not run: that needs root and its own machine"

    http = free_port()
    # All that the image sets but PATH, which finds the programs that make the container.
    environment = dict(entry.split("=", 1) for entry in config["Env"]) | {
        "PATH": os.environ["PATH"], "GEMINI_API_KEYS": "fake-key-one", "KEYBROKER_INSECURE": "true",
        "KEYBROKER_GRPC_ADDR": f"127.0.0.1:{free_port()}", "KEYBROKER_HTTP_ADDR": f"127.0.0.1:{http}"}
    # The mounts are of this process alone, and go with it.
    command = ["unshare", "--mount", "sh", "-c", CONTAINER, "sh", str(root)]
    serve = [*command, "/usr/local/bin/keybroker", *config["Cmd"]]
    with serving(serve, environment, http, folder / "log", name) as broker:
        status = pathlib.Path(f"/proc/{broker.pid}/status").read_text()
        ids = {line.split(":")[0]: line.split()[1:] for line in status.splitlines()}
        need(set(ids["Uid"] + ids["Gid"]) == {str(USER)}, f"{name} runs as {ids['Uid']}, {ids['Gid']}")
        # The health check, in the same root.
        health = ["chroot", f"--userspec={USER}:{USER}", root, "/usr/local/bin/keybroker", *config["Healthcheck"]["Test"][2:]]
        done = subprocess.run(health, env=environment, capture_output=True, text=True)
        need(done.returncode == 0, f"{name}: keybroker health ended with {done.returncode}: {done.stderr}")
        need(pathlib.Path(f"/proc/{broker.pid}/root/data").stat().st_uid == USER, f"{name}: no folder for the ledger")
    memory = ids["VmRSS"][0]
    return f"{said}; serves on a read-only root, {int(memory) * 1024 / 1e6:.1f} MB of memory, keybroker health answers"
