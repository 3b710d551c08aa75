"""What listens while a run is done on one machine: nothing that another machine can reach."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from reasondistill.config import Cluster
from reasondistill.launch.training import environment, training_command
from reasondistill.runs.loopback import is_loopback

TABLES = {"tcp": 4, "tcp6": 16}
LISTENS = "0A"


def address_of(hexadecimal: str) -> IPv4Address | IPv6Address:
    """As /proc/net/tcp writes it: words of four bytes, each backwards."""
    content = bytes.fromhex(hexadecimal)
    words = [content[place : place + 4][::-1] for place in range(0, len(content), 4)]
    address = ip_address(b"".join(words))
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def descendants(pid: int) -> Iterator[int]:
    """The process and all below it."""
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            yield from descendants(int(child))


def sockets_of(pid: int) -> set[str]:
    """The inodes of a process's sockets."""
    found: set[str] = set()
    for path in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            target = os.readlink(path)
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


def listening(pid: int) -> set[str]:
    """`127.0.0.1:4711` of each TCP socket that a process or one below it listens at."""
    inodes: set[str] = set()
    for one in descendants(pid):
        inodes |= sockets_of(one)
    found: set[str] = set()
    for table in TABLES:
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENS and fields[9] in inodes:
                host, port = fields[1].split(":")
                found.add(f"{address_of(host)}:{int(port, 16)}")
    return found


def all_listening_of(command: list[str], cwd: Path, timeout_s: float = 2500) -> set[str]:
    """Every address that the command listens at until it ends; it must end well."""
    variables = environment() | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    log = cwd / "log"
    with open(log, "w") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env=variables, stdout=output, stderr=subprocess.STDOUT
        )
    found: set[str] = set()
    end = time.monotonic() + timeout_s
    try:
        while process.poll() is None and time.monotonic() < end:
            with suppress(OSError):  # one has just ended
                found |= listening(process.pid)
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, log.read_text()
    return found


def reachable(addresses: set[str]) -> set[str]:
    """Those of them that another machine can reach."""
    return {one for one in addresses if not ip_address(one.rpartition(":")[0]).is_loopback}


def test_the_table_of_sockets_is_read_right(tmp_path: Path) -> None:
    code = (
        "import socket, time\n"
        "here = [socket.create_server(('127.0.0.1', 0)), socket.create_server(('', 0))]\n"
        "time.sleep(1)\n"
    )
    found = all_listening_of([sys.executable, "-c", code], tmp_path)
    assert len(found) == 2 and len(reachable(found)) == 1


TALK = """\
import sys, time
from reasondistill.stages.students import processes
with processes.together():
    both = processes.on_first(lambda: "said")
    import torch
    tensor = torch.ones(4)
    torch.distributed.all_reduce(tensor)
    assert both == "said" and float(tensor[0]) == 2
    time.sleep(1)
"""


@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="needs accelerate")
def test_processes_that_train_together_listen_on_loopback_alone(tmp_path: Path) -> None:
    (tmp_path / "talk.py").write_text(TALK)
    cluster = Cluster.model_validate({"train": {"processes": 2}})
    words = training_command(cluster, tmp_path, "student")
    task = words.index("reasondistill", words.index("--config_file")) - 1
    found = all_listening_of([*words[:task], str(tmp_path / "talk.py")], tmp_path)
    assert len(found) >= 2, "torch's store and gloo listen somewhere"
    assert reachable(found) == set()


def test_nodes_and_servers_elsewhere_are_not_cut_off(tmp_path: Path) -> None:
    here = {"processes": 2, "rollouts": "vllm_server", "rollouts_url": "http://localhost:8000"}
    there = here | {"rollouts_url": "http://gpu7:8000"}
    for train, nodes, is_plain in ((here, 1, False), (there, 1, True), (here, 2, True)):
        cluster = Cluster.model_validate({"train": train})
        words = training_command(cluster, tmp_path, "student", nodes=nodes)
        assert ("REASONDISTILL_LOOPBACK=1" not in words) == is_plain


@pytest.mark.parametrize(
    ("url", "is_here"),
    [
        ("http://localhost:8000", True),
        ("http://127.0.0.2:8000", True),
        ("http://[::1]:8000", True),
        ("http://gpu7:8000", False),
        ("http://10.0.0.1:8000", False),
    ],
)
def test_a_host_of_this_machine_is_known(url: str, is_here: bool) -> None:
    assert is_loopback(url) == is_here


RAY = """\
import time
from reasondistill.launch.ray import connected
from reasondistill.config import Cluster
class Run:
    cluster = Cluster(kind="ray")
with connected(Run()) as ray:
    assert ray.get(ray.remote(lambda: 7).remote()) == 7
    time.sleep(2)
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray")
def test_a_private_ray_listens_on_loopback_alone(tmp_path: Path) -> None:
    (tmp_path / "ray_here.py").write_text(RAY)
    found = all_listening_of([sys.executable, str(tmp_path / "ray_here.py")], tmp_path)
    assert found and reachable(found) == set()


VLLM = """\
from reasondistill.config import Cluster, SampledModel, resources
from reasondistill.models.samplers.opening import open_sampler
from reasondistill.models.samplers.requests import Request
from reasondistill.records import Message, Sampling
teacher = SampledModel(model=str(resources.shipped_model("demo-teacher")), sampler="vllm")
with open_sampler(teacher, Cluster(), []) as sampler:
    rendered = sampler.render((Message(role="user", content="1+1?"),), plain=False)
    request = Request("a:0", "0" * 16, rendered, Sampling(max_tokens=4), 1)
    assert len(list(sampler.sample([request]))) == 1
"""


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vllm")
def test_vllm_in_the_process_listens_on_loopback_alone(tmp_path: Path) -> None:
    (tmp_path / "teach.py").write_text(VLLM)
    found = all_listening_of([sys.executable, str(tmp_path / "teach.py")], tmp_path)
    assert reachable(found) == set()
