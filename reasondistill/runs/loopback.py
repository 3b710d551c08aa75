"""Processes that do a task on one machine talk to each other over loopback: nobody else's machine
can reach them.

torch's store would listen at every address, gloo and vLLM at that of the host's name. Where a task
has several nodes none of this is called.
"""

from __future__ import annotations

import importlib
import os
import socket
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ADDRESS = "127.0.0.1"
# Set by a launcher whose processes are all on this machine.
WANTED = "REASONDISTILL_LOOPBACK"
_INTERFACES = Path("/sys/class/net")
_STORE = "TCPStore"
# Where torch looks for its store: the launcher's side and that of its processes.
_USERS = (
    "torch.distributed",
    "torch.distributed.rendezvous",
    "torch.distributed.elastic.rendezvous.static_tcp_rendezvous",
    "torch.distributed.elastic.rendezvous.c10d_rendezvous_backend",
)
_DEFAULT_TIMEOUT = timedelta(minutes=5)


def is_loopback(url: str) -> bool:
    """Whether the host of a URL is this machine, seen from itself."""
    try:
        host = urlsplit(url).hostname or ""
        if host == "localhost":
            return True
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_wanted() -> bool:
    """Whether the launcher of this process has said that none of the others is elsewhere."""
    return WANTED in os.environ


def prefer_loopback() -> None:
    """Let gloo, NCCL and vLLM of this process and its children use loopback, unless the environment
    says where they shall listen.
    """
    if (_INTERFACES / "lo").exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    os.environ.setdefault("VLLM_HOST_IP", ADDRESS)


def stay_on_loopback() -> None:
    """The same, and the stores that torch opens in this process listen on loopback alone. Imports
    torch.
    """
    prefer_loopback()
    os.environ[WANTED] = "1"
    store = _loopback_store()
    for name in _USERS:
        setattr(importlib.import_module(name), _STORE, store)


def _loopback_store() -> Any:
    """torch's store, which listens at one address instead of all: it is handed a socket, since it
    cannot be told an address.
    """
    import torch.distributed as dist

    plain: Any = dist.TCPStore
    if getattr(plain, "listens_on_loopback", False):
        return plain

    class LoopbackStore(plain):
        listens_on_loopback = True

        def __init__(
            self,
            host_name: str,
            port: int,
            world_size: int | None = None,
            is_master: bool = False,
            timeout: timedelta = _DEFAULT_TIMEOUT,
            wait_for_workers: bool = True,
            multi_tenant: bool = False,
            master_listen_fd: int | None = None,
            use_libuv: bool = True,
        ) -> None:
            if is_master and master_listen_fd is None:
                listener = socket.create_server((ADDRESS, port))
                port = listener.getsockname()[1]
                # The store closes it.
                master_listen_fd = listener.detach()
                host_name = ADDRESS
            super().__init__(
                host_name=host_name,
                port=port,
                world_size=world_size,
                is_master=is_master,
                timeout=timeout,
                wait_for_workers=wait_for_workers,
                multi_tenant=multi_tenant,
                master_listen_fd=master_listen_fd,
                use_libuv=use_libuv,
            )

    return LoopbackStore
