"""The plain manifests are what the chart renders now."""

import os
import subprocess

import yaml
from chart import HELM, ROOT, OneOfEachKey

MANIFESTS = ROOT / "deploy/manifests"


def test_they_are_what_the_chart_renders(tmp_path):
    subprocess.run([ROOT / "deploy/render", tmp_path], check=True, env={**os.environ, "HELM": HELM})
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text() for path in MANIFESTS.iterdir()}
    assert made == kept, "run deploy/render with HELM=$(tests/deploy/get-helm)"


def test_nothing_in_them_is_of_helm():
    for path in MANIFESTS.iterdir():
        text = path.read_text()
        assert "helm.sh" not in text and "managed-by" not in text
        assert list(yaml.load_all(text, OneOfEachKey))
