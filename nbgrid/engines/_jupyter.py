"""
What of jupyter_client and nbclient is done otherwise here; imported when the first kernel starts, since both are slow to load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import nbformat
import zmq
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from nbclient import NotebookClient
from nbclient.client import timestamp
from nbclient.exceptions import CellControlSignal

from nbgrid.engines import _processes
from nbgrid.engines._forked import ForkRequest

# How long nothing may arrive, after a cell's reply, before its remaining outputs are taken for lost.
_SILENCE_SECONDS = 10.0


class KernelManager(AsyncKernelManager):
    """Starts a kernel that dies with the process that started it, and loses none of its messages."""

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        """Return the kernelspec's command, behind the program that has the kernel killed when its parent dies."""
        return [*_processes.dies_with_its_parent(), *super().format_kernel_cmd(extra_arguments)]

    def client(self, **options: Any) -> Any:
        """Return a client whose sockets take any number of messages: beyond zmq's 1000, outputs would be dropped."""
        self.context.setsockopt(zmq.RCVHWM, 0)
        return super().client(**options)


class ForkProvisioner(LocalProvisioner):
    """Has a fork server make the kernel."""

    server: Any = None
    log: str = ""

    async def launch_kernel(self, cmd: list[str], **options: Any) -> Any:
        """Have a kernel forked; the command stays unused."""
        told: dict[str, Any] = dict(self.connection_info)
        told["key"] = told["key"].decode()
        assert self.parent is not None
        file = self.parent.connection_file
        self.process = await self.server.fork(ForkRequest(told, file, options["env"], options["cwd"], self.log))
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class CellClient(NotebookClient):
    """
    Executes one cell after another in a kernel that others start, watch and end.

    nbclient asks once a second whether the kernel lives, and leaves that task behind when a cell is given up; and it drops the
    outputs that arrive more than 4 seconds after the reply.
    """

    on_output: Callable[[Any], None] | None = None
    """Called with each message that belongs to the cell: the output that it is, or None."""

    async def _async_poll_kernel_alive(self) -> None:
        """Return: whoever executes a cell watches the kernel's process."""

    async def _async_poll_for_reply(
        self, msg_id: str, cell: Any, timeout: int | None, task_poll_output_msg: Any, task_poll_kernel_alive: Any
    ) -> dict[str, Any]:
        """Return the reply to *msg_id*, once the cell's outputs are there."""
        assert self.kc is not None
        while True:
            message: dict[str, Any] = await self.kc.shell_channel.get_msg(timeout=None)
            if message["parent_header"].get("msg_id") == msg_id:
                break
        if self.record_timing:
            cell["metadata"]["execution"]["shell.execute_reply"] = timestamp(message)
        seen = -1
        while not task_poll_output_msg.done() and seen != self._seen:
            seen = self._seen
            await asyncio.wait({task_poll_output_msg}, timeout=_SILENCE_SECONDS)
        if not task_poll_output_msg.done():
            task_poll_output_msg.cancel()
            _mark(cell, "the cell has ended, but the kernel's last outputs did not arrive")
        return message

    _seen = 0

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        """Take one message of the kernel's into *cell*."""
        self._seen += 1
        try:
            output = super().process_message(msg, cell, cell_index)
        except CellControlSignal:
            raise
        except Exception as error:  # noqa: BLE001  a widget's message, say, can be wrong in any way: the next may not be
            _mark(cell, f"an output could not be understood ({type(error).__name__}: {error})")
            return None
        if self.on_output is not None:
            self.on_output(output)
        return output


def _mark(cell: Any, text: str) -> None:
    """Say in *cell*'s outputs that one is missing."""
    cell.outputs.append(nbformat.v4.new_output("stream", name="stderr", text=f"nbgrid: {text}\n"))
