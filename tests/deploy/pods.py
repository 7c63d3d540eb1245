"""What the kubelet would give to a pod: its variables, and the files that it mounts."""

import os
import re
import subprocess
import sys

from chart import ROOT, rendered

sys.path.append(str(ROOT / "tests/observe"))
import dockerfile  # noqa: E402
from processes import free_port  # noqa: E402

KEYBROKER = os.environ["KEYBROKER"]
MOUNTED = "/etc/keybroker"
# What every process of the image has.
IMAGE = dockerfile.environment()


def keybroker(*arguments, env=None):
    return subprocess.run([KEYBROKER, *arguments], capture_output=True, text=True, env=env, timeout=120)


def expanded(text, environment):
    """As the kubelet does it."""
    return re.sub(r"\$\((\w+)\)", lambda name: environment[name[1]], text)


def value_of(variable, chart):
    """What a variable of a container is: of a Secret of the chart, or a stand-in for one that exists already."""
    reference = variable.get("valueFrom", {}).get("secretKeyRef")
    if reference is None:
        return variable.get("value", "stand-in")
    if secret := chart.named("Secret", reference["name"]):
        return secret["stringData"][reference["key"]]
    if reference["key"] == "url":
        return "rediss-cluster://user:stand-in@redis.invalid:6379"
    return "stand-in"


def environment_of(values, certificate, folder):
    """
    The variables of a broker's container, above those of its image, and the files that it mounts, with the folder in place
    of /etc/keybroker.
    """
    chart = rendered(values)
    spec = chart.broker()
    container = spec["containers"][0]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}

    def place(text):
        return text.replace(MOUNTED, str(folder))

    environment = dict(IMAGE)
    for variable in container["env"]:
        environment[variable["name"]] = place(expanded(value_of(variable, chart), environment))
    wanted = " ".join([*environment.values()])
    for mount in container["volumeMounts"]:
        if mount["mountPath"].startswith(f"{MOUNTED}/"):
            inside = folder / mount["mountPath"].removeprefix(f"{MOUNTED}/")
            inside.mkdir(parents=True)
            volume = volumes[mount["name"]]
            thing = chart.named("ConfigMap", volume.get("configMap", {}).get("name", "")) or chart.named(
                "Secret", volume.get("secret", {}).get("secretName", "")) or {}
            for name, text in {**thing.get("data", {}), **thing.get("stringData", {})}.items():
                (inside / name).write_text(place(text))
                wanted += place(text)
    # What existing Secrets would hold: the files that are asked for.
    for path in re.findall(rf"{re.escape(str(folder))}/[-\w./]+", wanted):
        path = folder / path.removeprefix(f"{folder}/")
        if not path.exists() and path.parent.exists():
            kind = path.parent.name
            stand_in = f"stand-in-for-a-key-{path.name}\n"
            if kind in ("tls", "redis-tls"):
                stand_in = certificate["key" if "key" in path.name else "cert"]
            elif kind == "master-key":
                stand_in = ("07" if path.name == "old" else "08") * 32
            path.write_text(stand_in)
            path.chmod(0o400)
    return environment
