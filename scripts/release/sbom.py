"""Of what cargo-cyclonedx tells of a package, what is compiled into its binary.

    sbom.py BOM TREE BINARY

cargo-cyclonedx asks `cargo metadata`, which mixes in features and crates of tests and of build scripts. TREE says what there
is, and on what each depends: `cargo tree --edges normal --prefix depth --no-dedupe --format '|{p}|{f}'` for the target. Paths
of this host, the time of day and random numbers are taken out: the same sources and binary give the same text. It is printed.
"""

import datetime
import hashlib
import json
import os
import pathlib
import sys
import uuid

bom = json.loads(pathlib.Path(sys.argv[1]).read_text())
tree = pathlib.Path(sys.argv[2]).read_text().splitlines()
binary = pathlib.Path(sys.argv[3]).read_bytes()

features, edges, above = {}, {}, []
for line in filter(None, tree):
    depth, package, enabled = line.split("|")
    name, version = package.split()[:2]
    crate = (name, version.removeprefix("v"))
    features[crate] = enabled
    del above[int(depth):]
    if above:
        edges[above[-1]].add(crate)
    above.append(crate)
    edges.setdefault(crate, set())


def reference(crate):
    return "pkg:cargo/{}@{}".format(*crate)


def cleaned(component):
    crate = (component["name"], component["version"])
    component["bom-ref"] = component["purl"] = reference(crate)
    component["scope"] = "required"
    component.pop("components", None)
    if features[crate]:
        component["properties"] = [{"name": "cargo:features", "value": features[crate]}]
    return component


metadata = bom["metadata"]
root = cleaned(metadata["component"])
del root["scope"]
root["hashes"] = [{"alg": "SHA-256", "content": hashlib.sha256(binary).hexdigest()}]
metadata["timestamp"] = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.UTC).isoformat()
bom["components"] = sorted(
    (cleaned(part) for part in bom["components"] if (part["name"], part["version"]) in features),
    key=lambda part: part["bom-ref"],
)
told = {(part["name"], part["version"]) for part in [root, *bom["components"]]}
if missing := set(features) - told:
    sys.exit(f"sbom: cargo-cyclonedx does not tell of {sorted(missing)}")
bom["dependencies"] = [
    {"ref": reference(crate), "dependsOn": sorted(map(reference, edges[crate]))} for crate in sorted(edges)
]
bom.pop("serialNumber", None)
bom["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bom, sort_keys=True)).urn
print(json.dumps(bom, indent=2, ensure_ascii=False))
