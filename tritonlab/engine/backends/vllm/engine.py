"""vLLM's engine on an event loop in a thread of its own, and the requests that it is busy with."""

import asyncio
import atexit
import faulthandler
import os
import threading

import compat
import triton_python_backend_utils as pb_utils
from answer import Answer
from pace import Pace

LOOK_EVERY_S = 0.2
STOP_WAIT_S = 10
STANDS_STILL_S = 240


class Engine:
    """The engine of one model. The constructor waits until it is there, and raises what prevents it.

    Attributes:
        dead: the sentence that says so, once the engine has died.
        is_multimodal: whether it takes images.
        pace: the pace of its streams.
        vocabulary: how many token ids the model has.
        generate: vLLM's, an async generator of `RequestOutput`.
    """

    def __init__(self, name, arguments, metrics=None):
        self._name = name
        self._arguments = compat.engine_args(arguments)
        self._metrics = metrics
        self.dead = None
        self.pace = Pace()
        self._active = {}  # the task of each request -> its answer
        self._left = set()  # of those, the ones whose client has gone
        started, failure = threading.Event(), []
        self._thread = threading.Thread(target=self._run, args=(started, failure))
        # A start that stands still says nothing of itself: its log then tells where each thread is.
        faulthandler.dump_traceback_later(STANDS_STILL_S)
        self._thread.start()
        started.wait()
        faulthandler.cancel_dump_traceback_later()
        if failure:
            self._thread.join()
            raise failure[0]

    def serve(self, triton_request, read):
        """Answer a request on the engine's loop. Whatever it holds and whatever happens, the client gets an answer.

        `read` takes the request and its `Answer`, and gives the coroutine that answers, or None if it has answered. It
        raises BadRequest or ValueError for the client's mistakes. Returns the request's future, or None.
        """
        answer = Answer(triton_request)
        if self.dead:
            answer.fail(self.dead)
            return None
        try:
            work = read(triton_request, answer)
        except ValueError as error:
            answer.fail(str(error))
            return None
        except Exception as error:  # the stub lives on
            answer.fail(f"the request could not be read: {error!r}")
            return None
        return work and asyncio.run_coroutine_threadsafe(self._serve(work, answer), self._loop)

    def stop(self):
        """Cancel every request, and end the engine, and with it soon this process."""
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop)
        self._thread.join(STOP_WAIT_S)
        pb_utils.Logger.log_info(f"[vllm] the engine of {self._name} has ended")
        # Taking vLLM's and torch's modules apart would keep Triton waiting for seconds, and nothing is left to save.
        atexit.register(os._exit, 0)

    def _run(self, started, failure):
        async def main():
            self._loop = asyncio.get_running_loop()
            self._stopping = asyncio.Event()
            try:
                self._engine = compat.start(self._arguments, self._metrics.logger_class() if self._metrics else None)
                self.generate = self._engine.generate
                self.is_multimodal = compat.is_multimodal(self._engine)
                self.vocabulary = compat.vocabulary(self._engine)
            except BaseException as error:
                failure.append(error)
                return
            started.set()
            watch = asyncio.create_task(self._watch())
            await self._stopping.wait()
            watch.cancel()

        try:
            with compat.runner() as runner:
                runner.run(main())
        except BaseException as error:
            failure.append(error)
            raise
        finally:
            started.set()

    async def _shut_down(self):
        try:
            for task in list(self._active):
                task.cancel()
            await asyncio.gather(*self._active, return_exceptions=True)
            self._engine.shutdown()
        finally:
            # Let go while Python is whole: vLLM's __del__ fails when the interpreter is half gone.
            self._engine = self.generate = None
            self._stopping.set()

    async def _watch(self):
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                self._look()
            except Exception as error:  # the next look must come all the same
                pb_utils.Logger.log_error(f"[vllm] the look after model {self._name} failed: {error!r}")

    def _look(self):
        """Abort what its client no longer waits for, and notice an engine that has died."""
        if self._metrics and not self._active:
            # vLLM reports with each step, and after the last request of all was cancelled there is no step.
            self._metrics.idle()
        left = {task for task, answer in self._active.items() if answer.is_unwanted}
        for task in left - self._left:  # once: a second cancel would interrupt the answer to the first
            task.cancel()
        self._left = left
        if self._engine is not None and self._engine.errored and not self.dead:
            self.dead = (
                f"the vLLM engine of model {self._name} has died; load the model again "
                "(its last lines in the server's log say why it died)"
            )
            pb_utils.Logger.log_error(f"[vllm] {self.dead}")
            # In a thread: unloading waits for the requests that this loop has still to answer.
            threading.Thread(target=self._turn_not_ready).start()

    def _turn_not_ready(self):
        try:
            pb_utils.unload_model(self._name)
        except pb_utils.TritonModelException as error:
            pb_utils.Logger.log_error(
                f"[vllm] model {self._name} still counts as ready, since the server does not run with "
                f"--model-control-mode=explicit: {error}"
            )

    async def _serve(self, work, answer):
        task = asyncio.current_task()
        self._active[task] = answer
        try:
            await work
        except asyncio.CancelledError:
            answer.fail("the request was cancelled")
        except compat.EngineDeadError:
            answer.fail(f"the vLLM engine of model {self._name} has died")
        except compat.REFUSALS as error:  # e.g. a prompt that is too long
            answer.fail(f"vLLM refused the request: {error}")
        except Exception as error:  # whatever went wrong, the client gets an answer
            answer.fail(f"the request failed: {error!r}")
        finally:
            del self._active[task]
            answer.fail("the engine ended the request without a last response")
            # vLLM keeps the error of a dead engine, and that keeps this frame: a sender must go before its server does.
            answer.let_go()
