"""The server as a whole: start, demo, readiness, end."""

from pathlib import Path

from tests.server import serving


def test_a_fresh_server_serves_a_demo_clinic_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with serving(f"sqlite:///{tmp_path}/clinic.db", tmp_path) as server:
        with server.client() as client:
            assert len(client.get("/api/v1/locations").json()["items"]) == 4
            assert len(client.get("/api/v1/therapists").json()["items"]) == 12
            assert client.get("/").status_code == 200
        assert len(server.pids()) >= 4
        assert server.stop() == 0
        assert server.pids() == []
