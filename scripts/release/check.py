"""Tries what is in a folder that scripts/dist has made. Anything that is missing or does not work ends it with 1."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib

from check_binary import ROOT, check_binary, need
from check_image import check_image
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

DIST = pathlib.Path(sys.argv[1]).resolve()
VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
COMPLETIONS = {"completions/keybroker.bash", "completions/_keybroker", "completions/keybroker.fish"}


def run(*command, **options):
    """What a command prints; what it says when it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"check-dist: {' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def say(text):
    print(f"check-dist: {text}", file=sys.stderr)


def one(folder, pattern):
    found = sorted((DIST / folder).glob(pattern))
    need(len(found) == 1, f"{folder}/{pattern} is there {len(found)} times")
    return found[0]


def unpack(archive, into):
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")


def sums():
    named = {line.split(maxsplit=1)[1] for line in (DIST / "SHA256SUMS").read_text().splitlines()}
    there = {str(path.relative_to(DIST)) for path in DIST.rglob("*") if path.is_file()} - {"SHA256SUMS"}
    need(named == there, f"SHA256SUMS and the files differ: {sorted(named ^ there)}")
    say(f"SHA256SUMS: {len(named)} files")


def binaries(work):
    archives = sorted(DIST.glob(f"keybroker-{VERSION}-*.tar.gz"))
    need(archives, "there is no binary")
    for archive in archives:
        name = archive.name.removesuffix(".tar.gz")
        target = name.removeprefix(f"keybroker-{VERSION}-")
        unpack(archive, work)
        inside = {str(path.relative_to(work / name)) for path in (work / name).rglob("*") if path.is_file()}
        missing = {"keybroker", "LICENSE", "README.md", "CHANGELOG.md", "man/man1/keybroker.1"} | COMPLETIONS
        need(missing <= inside, f"{archive.name} lacks {sorted(missing - inside)}")
        with tarfile.open(archive) as tar:
            owners = {(member.uid, member.gid, member.uname, member.mtime) for member in tar}
        need(len(owners) == 1, f"{archive.name}: files differ in owner or time: {owners}")
        say(check_binary(work / name, target, VERSION))
        sbom(DIST / f"{name}.cdx.json", target)


def sbom(path, target):
    """Valid, without paths of the host that made it, and with every crate that cargo compiles into the binary."""
    text = path.read_text()
    wrong = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
    need(wrong is None, f"{path.name} is not CycloneDX 1.5: {wrong}")
    for secret in (str(ROOT), str(pathlib.Path.home()) + "/", "file://", "/tmp/"):
        need(secret not in text, f"{path.name} tells of {secret}")
    bom = json.loads(text)
    parts = bom["components"] + [bom["metadata"]["component"]]
    for part in parts:
        need(part["purl"].startswith("pkg:cargo/"), f"{path.name}: {part['name']} has no purl")
        need(part.get("licenses"), f"{path.name}: {part['name']} has no licence")
    tree = run("cargo", "tree", "--locked", "--package", "keybroker", "--target", target, "--edges", "normal", "--prefix", "none",
               "--no-dedupe", "--format", "{p}", cwd=ROOT)
    compiled = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    told = {(part["name"], "v" + part["version"]) for part in parts}
    need(compiled == told, f"{path.name} and cargo tree differ: {sorted(compiled ^ told)[:10]}")
    say(f"{path.name}: valid, {len(told)} crates")


def crates(work):
    meta = json.loads(run("cargo", "metadata", "--locked", "--no-deps", "--format-version", "1", cwd=ROOT))
    names = {package["name"] for package in meta["packages"] if package["publish"] != []}
    there = {path.name for path in (DIST / "crates").iterdir()}
    need(there == {f"{name}-{VERSION}.crate" for name in names}, f"crates/ has {sorted(there)}")
    within = {"keybroker-proto": "keybroker/v1/keybroker.proto", "keybroker": "src/ledger/redis/lua/acquire.lua"}
    for name in sorted(names):
        unpack(DIST / "crates" / f"{name}-{VERSION}.crate", work)
        crate = work / f"{name}-{VERSION}"
        manifest = tomllib.loads((crate / "Cargo.toml").read_text())
        need(manifest["package"]["description"] and manifest["package"]["license"], f"{name} lacks a description or a licence")
        need((crate / "LICENSE").read_text() == (ROOT / "LICENSE").read_text(), f"{name} has another LICENSE")
        for kind in ("dependencies", "build-dependencies"):
            for other, wanted in manifest.get(kind, {}).items():
                need("version" in wanted and "path" not in wanted, f"{name} depends on a path: {other}")
                need(other not in names or wanted["version"] == VERSION, f"{name} depends on another version of {other}")
        need(name not in within or (crate / within[name]).is_file(), f"{name} lacks {within.get(name)}")
    say(f"crates: {', '.join(sorted(names))}")


def python(work):
    wheel, sdist = one("python", "*.whl"), one("python", "*.tar.gz")
    for file in (wheel, sdist):
        need(f"-{VERSION}" in file.name, f"{file.name} is of another version than {VERSION}")
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    run(sys.executable, "-m", "venv", work / "venv")
    fresh = work / "venv/bin/python"
    run(fresh, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    program = ("import importlib.metadata, keybroker, keybroker.httpx; licence = importlib.metadata.files('keybroker');"
               "print(keybroker.__version__, any(file.name == 'LICENSE' for file in licence), keybroker.Broker.__name__)")
    printed = run(fresh, "-c", program, cwd=work).strip()
    need(printed == f"{VERSION} True Broker", f"the wheel: {printed}")
    say(f"python: {wheel.name} installs and imports")


def javascript(work):
    package = one("npm", "*.tgz")
    (work / "package.json").write_text('{"type": "module", "private": true}')
    run("npm", "install", "--silent", "--no-audit", "--no-fund", package, cwd=work)
    inside = work / "node_modules/keybroker"
    need((inside / "LICENSE").is_file(), f"{package.name} has no LICENSE")
    need(json.loads((inside / "package.json").read_text())["version"] == VERSION, f"{package.name} is of another version")
    program = "import { Broker } from 'keybroker'; await new Broker('127.0.0.1:1').close(); console.log(Broker.name);"
    need(run("node", "--input-type=module", "--eval", program, cwd=work).strip() == "Broker", f"{package.name} does not import")
    say(f"npm: {package.name} installs and imports")


def chart(work):
    package = one("helm", f"keybroker-{VERSION}.tgz")
    helm = os.environ["HELM"]
    unpack(package, work)
    for values in sorted((work / "keybroker/examples").glob("*.yaml")):
        run(helm, "lint", "--strict", package, "--values", values)
        rendered = run(helm, "template", "keybroker", package, "--namespace", "keybroker", "--values", values)
        need(re.search(rf"image: \"?keybroker:{re.escape(VERSION)}\"?\n", rendered), f"{values.name} asks for another image")
    need((work / "keybroker/values.schema.json").is_file(), f"{package.name} has no schema")
    say(f"helm: {package.name} is linted and rendered with each example")


def images(work):
    for archive in sorted((DIST / "images").glob("*.tar")) if (DIST / "images").is_dir() else []:
        say(check_image(archive, work / archive.stem, VERSION))


def main():
    work = pathlib.Path(tempfile.mkdtemp())
    try:
        sums()
        for check in (binaries, crates, python, javascript, chart, images):
            (work / check.__name__).mkdir()
            check(work / check.__name__)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
