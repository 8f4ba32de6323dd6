"""The machines of the tests are apart, and their network fails as it is told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.machines import machines_apart

LISTEN = "import socket; s = socket.create_server(('', 5)); c = s.accept()[0]; print(c.recv(9))"
CALL = """import socket, time
began = time.monotonic()
socket.create_connection(('10.77.0.1', 5), timeout=2).sendall(b'news')
print(time.monotonic() - began)"""


@pytest.mark.slow
def test_machines_share_the_switch_alone(tmp_path: Path) -> None:
    with machines_apart(tmp_path, "one", "two") as ((one, two), switch):
        assert one.run("hostname") == "one\n"
        two.run("touch", "/mnt/mine")
        assert "mine" not in one.run("ls", "/mnt", str(tmp_path))
        listener = one.start(sys.executable, "-c", LISTEN, stdout=-1)
        switch.cut = {1}
        with pytest.raises(AssertionError, match=r"timed out|No route"):
            two.run(sys.executable, "-c", CALL)
        switch.cut, switch.delay_s = set(), 0.1
        assert float(two.run(sys.executable, "-c", CALL)) >= 0.2
        assert listener.communicate()[0] == "b'news'\n"
        sleeper = two.start("sleep", "1000")
        two.kill()
        assert sleeper.wait(10)
