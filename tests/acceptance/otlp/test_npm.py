"""The OTLP exporters of JavaScript deliver, as protobuf and as JSON. Skipped only where there is no Node."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.otlp.test_receiver import OTLP, Site
from tests.acceptance.servers import environment, uvicorn

PACKAGE = Path(__file__).with_name("npm")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script beside its dependencies."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("npm") / "package"
    shutil.copytree(PACKAGE, folder)
    command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("npm-site")
    env = environment(home, f"sqlite:///{home / 'turntrace.db'}", redaction="off", content="full")
    with uvicorn("example_app.fastapi_app:app", env, home / "log") as server:
        found = Site(server)
        with found.api:
            yield found


@pytest.mark.parametrize("kind", ["proto", "http"])
def test_the_exporters_of_npm_deliver(kind: str, package: Path, site: Site) -> None:
    key = site.headers["Authorization"].removeprefix("Bearer ")
    command = ["node", "export.js", kind, f"{site.server.url}{OTLP}/traces", key]
    done = subprocess.run(command, cwd=package, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    found = site.observations(done.stdout.strip(), 4)
    top = next(item for item in found if item["name"] == "POST /ask")
    calls = [item for item in found if item["type"] == "generation"]
    assert sorted(item["usage"]["input"] for item in calls) == [10, 11, 12]
    assert {item["parent_id"] for item in calls} == {top["id"]}
    assert {(item["provider"], item["session_id"], *item["finish_reasons"]) for item in calls} == {
        ("openai", "s-npm", "stop")
    }
    assert {item["input"][0]["content"] for item in calls} == {"Grüße 🫖"}
