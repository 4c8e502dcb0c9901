"""A pool in a child of a fork: its threads are not there, and every call says so at once."""

from __future__ import annotations

import inspect
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pykka
import pytest
from helpers_forks import TIMEOUT_S, needs_fork, script

from greenroom import ForkedPoolError, PoolError, PoolRef, PoolStoppedError

pytestmark = needs_fork

POOL = """
    gate = threading.Event()

    def works(payload):
        return payload

    def waits(payload):
        gate.wait()

    def flows(payload):
        yield "one"
        gate.wait()
        yield "two"

    pool = AgentPool.start([Member("a", works)], name="web")
    assert pool.execute(1) == 1
"""

CALLS = {
    "ask": "pool.ask(Request(1))",
    "ask for later": "pool.ask(Request(1), block=False)",
    "ask with a timeout": "pool.ask(Request(1), timeout=5)",
    "ask for an unknown message": "pool.ask(5)",
    "tell": "pool.tell(Request(1))",
    "tell to be stored": "pool.tell(Request(1, durable=True))",
    "atell": "asyncio.run(pool.atell(Request(1)))",
    "execute": "pool.execute(1)",
    "apply": "pool.apply(print)",
    "stream": "pool.stream(Request(1))",
    "aask": "asyncio.run(pool.aask(Request(1)))",
    "aask with a timeout": "asyncio.run(pool.aask(Request(1), timeout=5))",
    "aexecute": "asyncio.run(pool.aexecute(1))",
    "aapply": "asyncio.run(pool.aapply(print))",
    "map": "pool.map([1])",
    "attempts": "next(iter(pool.attempts())).__enter__()",
    "acquire": "pool.acquire().__enter__()",
    "amap": "pool.amap([1])",
    "stats": "pool.stats()",
    "on_event": "pool.on_event(print)",
    "add_member": "pool.add_member(Member('b', works))",
    "remove_member": "pool.remove_member('a')",
    "reset_member": "pool.reset_member('a')",
    "reset_all": "pool.reset_all()",
    "force_open": "pool.force_open('a')",
    "disable_breaker": "pool.disable_breaker('a')",
    "configure": "pool.configure(max_retries=0)",
    "reload": "pool.reload('pool.toml')",
    "drain": "pool.drain()",
    "cancel": "pool.cancel('web-1')",
    "astats": "asyncio.run(pool.astats())",
    "aadd_member": "asyncio.run(pool.aadd_member(Member('b', works)))",
    "aremove_member": "asyncio.run(pool.aremove_member('a'))",
    "areset_member": "asyncio.run(pool.areset_member('a'))",
    "areset_all": "asyncio.run(pool.areset_all())",
    "aforce_open": "asyncio.run(pool.aforce_open('a'))",
    "adisable_breaker": "asyncio.run(pool.adisable_breaker('a'))",
    "aconfigure": "asyncio.run(pool.aconfigure(max_retries=0))",
    "areload": "asyncio.run(pool.areload('pool.toml'))",
    "adrain": "asyncio.run(pool.adrain())",
    "acancel": "asyncio.run(pool.acancel('web-1'))",
    "astop": "asyncio.run(pool.astop())",
    "astop with a timeout": "asyncio.run(pool.astop(timeout=5))",
    "stop": "pool.stop()",
    "stop for later": "pool.stop(block=False)",
    "close": "pool.close()",
    "can_serve": "pool.can_serve()",
    "explain": "pool.explain()",
    "aexplain": "asyncio.run(pool.aexplain())",
    "report_member": "pool.report_member('a', 'closed')",
    "areport_member": "asyncio.run(pool.areport_member('a', 'closed'))",
    "check_process": "pool.check_process()",
    "check_thread": "pool.check_thread()",
    "proxy": "pool.proxy()",
    "forward": "pool.forward(1, context)",
    "forward_stream": "pool.forward_stream(1, context)",
}
CONTEXT = """
    context = CallContext(
        request_id="outer-1", member="web", now=lambda: 0.0, on_side_effects=lambda: None
    )
"""


def test_every_call_of_a_pool_is_in_the_list() -> None:
    """Whoever adds a method to a pool's ref says here what it does in a child."""
    quiet = {"is_alive", "is_elsewhere", "join"}
    known = {call.partition("pool.")[2].partition("(")[0] for call in CALLS.values()}
    methods = inspect.getmembers(PoolRef, inspect.isfunction)
    assert {name for name, _ in methods if not name.startswith("_")} == known | quiet


def test_every_call_in_a_child_raises_at_once() -> None:
    """It names both processes and says what to do; nothing hangs, no tell is lost in silence."""
    notes = "".join(f"note({name!r}, lambda: {call}); " for name, call in CALLS.items())
    said, child, parent = script(f"""
    {POOL}
    {CONTEXT}
    def child():
        {notes}
        note("is_alive", pool.is_alive)
        note("repr", lambda: repr(pool))
    said, pid = forked(child)
    tell([said, pid, os.getpid()])
    """)
    assert said.pop("is_alive") == ["returned", "False"]
    assert said.pop("repr") == ["returned", f"'<PoolRef web, of process {parent}>'"]
    assert set(said) == set(CALLS)
    for name, (kind, text) in said.items():
        assert kind == "ForkedPoolError", name
        assert f"pool 'web' was started in process {parent}, and this is process {child}" in text
        assert "post_fork" in text
        assert "worker_process_init" in text
        assert "initializer" in text


def test_handlers_of_a_stopped_pool_take_it() -> None:
    """It is a PoolError, a PoolStoppedError and Pykka's ActorDeadError; nothing has begun."""
    error = ForkedPoolError("web", 7, 8)
    assert isinstance(error, (PoolError, PoolStoppedError))
    assert isinstance(error, pykka.ActorDeadError)
    assert not error.started
    assert (error.pool_name, error.pool_pid, error.pid) == ("web", 7, 8)


def test_leaving_a_block_in_a_child_does_nothing() -> None:
    """Sync and async, of a pool, a chain and a stream; the parent's pool goes on."""
    said, alive, answer = script(f"""
    {POOL}
    chain = FallbackChain().add("x", 5)
    chain.execute(lambda agent: agent)
    pool.add_member(Member("s", flows))
    stream = pool.stream(Apply(lambda agent: iter("abc")))
    next(stream)

    async def leave(block):
        async with block:
            pass

    def child():
        for name, block in (("pool", pool), ("chain", chain), ("stream", stream)):
            note(name, lambda: block.__exit__(None, None, None))
            note("async " + name, lambda: asyncio.run(leave(block)))
        note("close", stream.close)

    said, _ = forked(child)
    tell([said, pool.is_alive(), [pool.execute(2), chain.execute(lambda a: a), list(stream)]])
    """)
    assert set(map(tuple, said.values())) == {("returned", "None")}
    assert len(said) == 7
    assert alive
    assert answer == [2, 5, ["b", "c"]]


def test_futures_and_streams_of_before_raise_in_a_child() -> None:
    """Read, awaited, watched, cancelled, collected; what had its answer before gives it."""
    said = script(f"""
    {POOL}
    members = [Member("w", waits), Member("s", flows)]
    pool = AgentPool.start(members, name="web", strategy="priority")
    waiting = pool.ask(Request(1), block=False)
    stream = pool.stream(Apply(lambda agent: agent(1)))
    quick = AgentPool.start([Member("a", works)])
    answered = quick.ask(Request(4), block=False)
    answered.get()
    made = waiting.map(lambda reply: reply.value)
    one = Member("a", lambda n: n if n == 1 else waits(n), max_concurrency=4)
    many = AgentPool.start([one], name="web")  # what has been answered by then would be there
    mapped, amapped = many.map([1, 2], max_in_flight=1), many.amap([1, 2], max_in_flight=1)
    assert next(mapped) == 1
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(anext(amapped)) == 1
    stopping = quick.stop(block=False)

    async def wait(future):
        return await future

    async def read():
        async for chunk in stream:
            return chunk

    def child():
        note("get", waiting.get)
        note("get in time", lambda: waiting.get(timeout=1))
        note("await", lambda: asyncio.run(wait(waiting)))
        note("await in a task", lambda: asyncio.run(waiting))
        note("cancel", waiting.cancel)
        note("watch", lambda: waiting.add_done_callback(print))
        note("of a map", made.get)
        note("await of a map", lambda: asyncio.run(wait(made)))
        note("of a stop", stopping.get)
        note("await of a stop", lambda: asyncio.run(wait(stopping)))
        note("next", lambda: next(stream))
        note("for", lambda: list(stream))
        note("async for", lambda: asyncio.run(read()))
        note("first", lambda: stream.first().get(timeout=1))
        note("collect", stream.collect)
        note("acollect", lambda: asyncio.run(stream.acollect()))
        note("cancel of a stream", stream.cancel)
        note("next of a map", lambda: next(mapped))
        note("next of an async map", lambda: asyncio.run(wait(anext(amapped))))
        note("answered", lambda: answered.get().value)
        note("answered, awaited", lambda: asyncio.run(wait(answered)).value)
        note("answered, watched", lambda: answered.add_done_callback(lambda f: None))
        note("answered, cancelled", answered.cancel)
    tell(forked(child)[0])
    """)
    assert said.pop("answered") == ["returned", "4"]
    assert said.pop("answered, awaited") == ["returned", "4"]
    assert said.pop("answered, watched") == ["returned", "None"]
    assert said.pop("answered, cancelled") == ["returned", "False"]
    assert len(said) == 19
    assert {name: kind for name, (kind, _) in said.items() if kind != "ForkedPoolError"} == {}
    # There is a "web" already.
    assert all("pool 'web-2' was started" in said[name][1] for name in ("get", "next", "await"))


def test_locks_that_were_held_at_the_fork_do_not_matter() -> None:
    """Those of futures, channels, owners and breakers, and of this process as a whole."""
    said = script(f"""
    {POOL}
    from greenroom.actors.runtime import event_bus as eventbus
    from greenroom.actors.runtime import loop_thread as loopthread
    from greenroom.logs import log as logs
    from greenroom.testing import EventRecorder
    gated = AgentPool.start([Member("w", waits)], name="web")
    waiting = gated.ask(Request(1), block=False)
    answered = pool.ask(Request(4), block=False)
    answered.get()
    stream = pool.stream(Apply(lambda agent: iter("abc")))
    next(stream)
    chain, lazy = FallbackChain().add("x", 5), FallbackChain().add("x", 6)
    chain.execute(lambda agent: agent)
    breaker, recorder, end = CircuitBreaker(), EventRecorder(), pool.on_event(print)
    inbox = pool.actor_inbox
    locks = [
        waiting._mutex, answered._mutex, stream._channel._lock, chain._lock, lazy._lock,
        breaker._lock, recorder._arrived, inbox._turn, eventbus._observers_lock, logs._switch,
        pykka.ActorRegistry._actor_refs_lock, loopthread._BEGINNING.lock,
    ]
    loopthread.PATIENCE_S = 1e3

    async def aworks(payload):
        return payload

    held, free = threading.Event(), threading.Event()

    def hold():
        with contextlib.ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            held.set()
            free.wait()

    threading.Thread(target=hold, daemon=True).start()
    held.wait()

    def child():
        note("waiting", waiting.get)
        note("cancel", waiting.cancel)
        note("answered", lambda: answered.get().value)
        note("watch", lambda: answered.add_done_callback(lambda f: None))
        note("stream", lambda: next(stream))
        note("leave", stream.close)
        note("end", end)
        note("chain", lambda: chain.add("y", 1))
        note("remove", lambda: chain.remove("x"))
        note("lazy", lambda: lazy.execute(lambda agent: agent))
        note("breaker", lambda: breaker.call(lambda: 7))
        note("stop all", lambda: all(pykka.ActorRegistry.stop_all()[::3]))
        note("log", lambda: log("DEBUG", sink=lambda line: None)())
        with recorder:
            note("new", lambda: AgentPool.start([Member("n", works)], name="new").execute(8))
        note("new loop", lambda: AgentPool.start([Member("n", aworks)]).execute(9))
        note("recorded", lambda: recorder.named("pool.started", pool="new")[0].name)
        del globals()["stream"], globals()["waiting"], globals()["chain"]
        gc.collect()
        note("collected", lambda: None)
    said, _ = forked(child)
    free.set()
    tell(said)
    """)
    assert {name: said[name][1] for name in said if said[name][0] == "returned"} == {
        "answered": "4",
        "watch": "None",
        "leave": "None",
        "end": "None",
        "lazy": "6",
        "breaker": "7",
        "stop all": "True",
        "log": "None",
        "new": "8",
        "new loop": "9",
        "recorded": "'pool.started'",
        "collected": "None",
    }
    failed = {name: kind for name, (kind, _) in said.items() if kind != "returned"}
    assert failed == dict.fromkeys(
        ("waiting", "cancel", "stream", "chain", "remove"), "ForkedPoolError"
    )


def test_a_chain_and_an_executor_of_before_say_so_too() -> None:
    """Every call; one that has not been used before the fork starts its pool in the child."""
    said = script(f"""
    {POOL}
    def make(name, request):
        return works
    def owners():
        chain = FallbackChain().add("x", 5)
        return chain, PoolExecutor("writers", [MemberConfig("a")], make)
    (chain, executor), (lazy_chain, lazy_executor) = owners(), owners()
    chain.execute(lambda agent: agent)
    executor.execute(1)

    def child():
        note("execute", lambda: chain.execute(lambda agent: agent))
        note("execute_detailed", lambda: chain.execute_detailed(lambda agent: agent))
        note("aexecute", lambda: asyncio.run(chain.aexecute(lambda agent: agent)))
        note("add", lambda: chain.add("y", 5))
        note("remove", lambda: chain.remove("x"))
        note("close", chain.close)
        note("aclose", lambda: asyncio.run(chain.aclose()))
        note("run", lambda: executor.run(1))
        note("arun", lambda: asyncio.run(executor.arun(1)))
        note("agent", executor.agent)
        note("executor's apply", lambda: executor.apply(lambda agent: 1))
        note("executor's close", executor.close)
        note("lazy chain", lambda: lazy_chain.execute(lambda agent: agent))
        note("lazy executor", lambda: lazy_executor.execute(6))
    tell(forked(child)[0])
    """)
    assert said.pop("lazy chain") == ["returned", "5"]
    assert said.pop("lazy executor") == ["returned", "6"]
    assert {name: kind for name, (kind, _) in said.items() if kind != "ForkedPoolError"} == {}
    assert len(said) == 12


def test_a_pool_of_before_as_a_member_of_a_new_one_fails_over() -> None:
    """The inner one is out of reach; another member answers, and the error names the fork."""
    said = script(f"""
    {POOL}
    def child():
        both = AgentPool.start([Member("old", pool), Member("new", works)], strategy="priority")
        alone = AgentPool.start([Member("old", pool)])
        note("both", lambda: both.execute(3))
        note("alone", lambda: alone.execute(3, timeout=10))
    tell(forked(child)[0])
    """)
    assert said["both"] == ["returned", "3"]
    kind, text = said["alone"]
    assert kind == "AllPoolMembersFailedError"
    assert "ForkedPoolError: pool 'web' was started in process" in text


def test_a_child_that_ends_by_itself_neither_hangs_nor_stops_the_parents_pool() -> None:
    """Its exit handlers and its collector meet copies of pools, streams, chains and log threads."""
    status, noise, answer = script(f"""
    {POOL}
    import tempfile
    path = tempfile.mkstemp()[1]
    log("DEBUG", sink=path)
    pool.execute(1)
    waiting = AgentPool.start([Member("w", waits)]).ask(Request(1), block=False)
    stream = pool.stream(Apply(lambda agent: iter("abc")))
    chain = FallbackChain().add("x", 5)
    chain.execute(lambda agent: agent)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(write, 2)
        signal.alarm(20)
        sys.exit(3)
    os.close(write)
    noise = os.fdopen(read).read()
    _, status = os.waitpid(pid, 0)
    tell([os.waitstatus_to_exitcode(status), noise, [pool.execute(2), list(stream)]])
    """)
    assert (status, noise) == (3, "")
    assert answer == [2, ["a", "b", "c"]]


def test_the_log_of_a_child_has_its_own_lines_once(tmp_path: Path) -> None:
    """What the parent wrote is not written again, what the child's pool does is there."""
    path = tmp_path / "log"
    script(f"""
    {POOL}
    off = log("INFO", format="json", sink={str(path)!r})
    AgentPool.start([Member("a", works)], name="before").stop()
    def child():
        AgentPool.start([Member("a", works)], name="within").stop()
        off()
    forked(child)
    AgentPool.start([Member("a", works)], name="after").stop()
    off()
    tell(None)
    """)
    lines = path.read_text(encoding="utf-8").splitlines()
    for name in ("before", "within", "after"):
        assert sum('"pool.started"' in line and f'"{name}"' in line for line in lines) == 1, name


def test_a_grandchild_names_the_process_of_its_own_pools() -> None:
    """A pool of the child works there, and in the child's child both pools say whose they are."""
    said = script(f"""
    {POOL}
    def child():
        mine = AgentPool.start([Member("a", works)], name="second")
        note("mine", lambda: mine.execute(2))
        me = os.getpid()
        def grandchild():
            note("web", lambda: pool.execute(1))
            note("second", lambda: mine.execute(1))
        inner, _ = forked(grandchild)
        said.update(inner, pid=me)
    tell([forked(child)[0], os.getpid()])
    """)
    inner, parent = said
    assert inner["mine"] == ["returned", "2"]
    assert f"pool 'web' was started in process {parent}," in inner["web"][1]
    assert f"pool 'second' was started in process {inner['pid']}," in inner["second"][1]


def test_multiprocessing_and_process_pools_that_fork() -> None:
    """The error comes back through the executor's pipe; a pool made by the initializer works."""
    said = script(f"""
    {POOL}
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    fork = multiprocessing.get_context("fork")
    fresh = None

    def ask(payload):
        return pool.execute(payload)

    def start():
        global fresh
        fresh = AgentPool.start([Member("a", works)], name="fresh")

    def ask_fresh(payload):
        return fresh.execute(payload)

    def put(queue):
        note("process", lambda: pool.execute(1))
        queue.put(said)

    with ProcessPoolExecutor(1, mp_context=fork) as workers:
        note("executor", lambda: workers.submit(ask, 1).result(20))
    with ProcessPoolExecutor(1, mp_context=fork, initializer=start) as workers:
        note("initializer", lambda: workers.submit(ask_fresh, 2).result(20))
    queue = fork.SimpleQueue()
    process = fork.Process(target=put, args=(queue,))
    process.start()
    said.update(queue.get())
    process.join(20)
    said["status"] = process.exitcode
    note("parent", lambda: pool.execute(3))
    tell(said)
    """)
    assert said["executor"][0] == said["process"][0] == "ForkedPoolError"
    assert said["initializer"] == ["returned", "2"]
    assert said["status"] == 0
    assert said["parent"] == ["returned", "3"]


APP = """
import os
from greenroom import AgentPool, ForkedPoolError, Member

def answer(payload):
    return f"{payload} from {os.getpid()}"

early = AgentPool.start([Member("a", answer)], name="early")
assert early.execute("preload").startswith("preload")
late = None

def post_fork(server, worker):
    import app
    app.late = AgentPool.start([Member("a", answer)], name="late")

def app(environ, start_response):
    try:
        pool = early if environ["PATH_INFO"] == "/early" else late
        status, text = "200 OK", pool.execute("hello", timeout=20)
    except ForkedPoolError as error:
        status, text = "503 Service Unavailable", f"{type(error).__name__}: {error}"
    start_response(status, [("Content-Type", "text/plain")])
    return [text.encode()]
"""
CONFIG = """
import warnings
warnings.filterwarnings("ignore", category=DeprecationWarning)
preload_app = True
workers = 1
timeout = 30
graceful_timeout = 1

def post_fork(server, worker):
    import app
    app.post_fork(server, worker)

def when_ready(server):
    print("port", server.LISTENERS[0].sock.getsockname()[1], flush=True)
"""


def fetch(url: str) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=TIMEOUT_S) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_gunicorn_with_preload(tmp_path: Path) -> None:
    """A pool made at import answers a request with the error at once, one of post_fork answers."""
    pytest.importorskip("gunicorn")
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "conf.py").write_text(CONFIG)
    command = [sys.executable, "-m", "gunicorn", "-c", "conf.py", "-b", "127.0.0.1:0", "app:app"]
    server = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert server.stdout is not None
        port = next(line for line in server.stdout if line.startswith("port")).split()[1]
        base = f"http://127.0.0.1:{port}"
        status, text = fetch(f"{base}/early")
        assert status == 503
        assert f"ForkedPoolError: pool 'early' was started in process {server.pid}" in text
        status, text = fetch(f"{base}/late")
        assert (status, text.startswith("hello from ")) == (200, True)
        assert str(server.pid) not in text
    finally:
        server.terminate()
        server.communicate(timeout=TIMEOUT_S)


def test_a_child_that_another_thread_forks_keeps_the_handlers_of_signals() -> None:
    """While the main thread has them put off: in the child nobody would ever set them again."""
    said = script("""
        from greenroom.actors.runtime.deferral import DEFERRAL

        def child():
            said["on"], said["handler"] = DEFERRAL.on, repr(signal.getsignal(signal.SIGINT))
            note("Ctrl-C", interrupt)
            note("another turn", lambda: DEFERRAL.run(lambda _: DEFERRAL.on, None))

        def interrupt():
            signal.raise_signal(signal.SIGINT)
            for _ in range(100_000):  # its handler runs between two steps, not in the call
                pass

        def act(_):
            thread = threading.Thread(target=lambda: said.update(forked(child)[0]))
            thread.start()
            thread.join()
            return True

        handler = repr(signal.getsignal(signal.SIGINT))
        DEFERRAL.run(act, None)
        tell([said, handler])
    """)
    assert said[0] == {
        "on": False,
        "handler": said[1],
        "Ctrl-C": ["KeyboardInterrupt", ""],
        "another turn": ["returned", "True"],
    }
