"""What several tests share."""

import subprocess

import pytest


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for the names of the Service, which is its own authority."""
    folder = tmp_path_factory.mktemp("certificate")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
               "-subj", "/CN=keybroker", "-addext", "subjectAltName=DNS:keybroker",
               "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", folder / "key", "-out", folder / "cert"]
    subprocess.run(command, check=True, capture_output=True)
    return {"cert": (folder / "cert").read_text(), "key": (folder / "key").read_text(), "ca": folder / "cert"}
