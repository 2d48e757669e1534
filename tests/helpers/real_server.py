"""imae-serve's REST and gRPC in this process, on a base folder."""

import asyncio
import contextlib
import threading

import uvicorn

from imae_tf.export.server import core
from imae_tf.export.server import rest
from imae_tf.export.server import rpc


@contextlib.contextmanager
def served(base, **kwargs):
  """Serves the versions of a folder; yields (http endpoint, grpc endpoint, `core.Server`)."""
  server = core.Server(base, poll_s=0, **kwargs)
  loop = asyncio.new_event_loop()
  thread = threading.Thread(target=loop.run_forever, daemon=True)
  thread.start()

  def run(coroutine):
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

  async def start():
    http = uvicorn.Server(
        uvicorn.Config(rest.app(server), port=0, lifespan="off", log_level="critical")
    )
    http.capture_signals = contextlib.nullcontext
    task = asyncio.create_task(http.serve())
    listener = rpc.grpc_server(server)
    port = listener.add_insecure_port("127.0.0.1:0")
    await listener.start()
    while not http.started:
      await asyncio.sleep(0.01)
    return http, task, listener, http.servers[0].sockets[0].getsockname()[1], port

  async def stop():
    http.should_exit = http.force_exit = True
    await asyncio.gather(task, listener.stop(None))

  http, task, listener, rest_port, grpc_port = run(start())
  try:
    yield f"http://127.0.0.1:{rest_port}", f"grpc://127.0.0.1:{grpc_port}", server
  finally:
    run(stop())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    server.close(0.0)
