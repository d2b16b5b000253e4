"""A model in other people's programs: reopened, closed, forked, interrupted, shared, sent away."""

from __future__ import annotations

import gc
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from typing_extensions import override

from fastembed_stream import (
    SPARSE_TEXT,
    OnnxEmbedder,
    OpenModel,
    Runtime,
    SparseTextEmbedding,
    TextEmbedding,
    open_model,
)
from fastembed_stream.errors import DeviceError, ModelFilesError
from fastembed_stream.session import Session
from fastembed_stream.shared_sessions import open_session
from fastembed_stream.values import Feeds, Floats, Outputs
from tests.fastembed_stream.examples import PACKAGED, packaged_model
from tests.fastembed_stream.test_embedder import Device, Squares, embedder
from tests.fastembed_stream.tiny_models import DIM, Toy, row, write
from tests.operators.things import wait_until

ON_CPU = Runtime(device="cpu", threads=1)
LAYOUTS = ({"lanes": 2, "threads": 2}, {"lanes": 1, "threads": 2})
"""Lanes of one thread each; and one lane, whose session has threads of its own."""


def vector(folder: Path) -> Floats:
    with open_model(row(folder), runtime=ON_CPU) as embed:
        return embed(["the stream of text"])[0]


def sessions(embed: OpenModel[Any, Any, Any]) -> tuple[Session, ...]:
    assert isinstance(embed.documents, OnnxEmbedder)
    return embed.documents.sessions


# What the files hold


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "here")


@pytest.fixture
def another(tmp_path: Path) -> Path:
    return write(tmp_path / "another", Toy(seed=7))


def test_another_graph_in_the_same_place_gives_its_own_vectors(folder: Path, another: Path) -> None:
    before, theirs = vector(folder), vector(another)
    assert not np.allclose(before, theirs)
    shutil.copy(another / "model.onnx", folder / "model.onnx")
    np.testing.assert_array_equal(vector(folder), theirs)


def test_another_graph_of_the_same_size_and_time_is_another_graph(
    folder: Path, another: Path
) -> None:
    graph, other = folder / "model.onnx", another / "model.onnx"
    assert graph.stat().st_size == other.stat().st_size
    with open_model(row(folder), runtime=ON_CPU) as held:
        known, before = graph.stat(), held(["the stream of text"])[0]
        graph.write_bytes(other.read_bytes())
        os.utime(graph, ns=(known.st_atime_ns, known.st_mtime_ns))
        np.testing.assert_array_equal(vector(folder), vector(another))
        np.testing.assert_array_equal(held(["the stream of text"])[0], before)


def test_other_weights_outside_the_graph_are_another_model(tmp_path: Path) -> None:
    folder, another = (
        write(tmp_path / str(seed), Toy(external=True, seed=seed)) for seed in (1, 2)
    )
    graphs = [(where / "model.onnx").read_bytes() for where in (folder, another)]
    assert graphs[0] == graphs[1]
    with open_model(row(folder), runtime=ON_CPU):
        theirs = vector(another)
        shutil.copy(another / "model.onnx_data", folder / "model.onnx_data")
        np.testing.assert_array_equal(vector(folder), theirs)


def test_a_copy_of_a_model_shares_its_session_while_one_is_open(
    folder: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    with (
        open_model(row(folder), runtime=ON_CPU) as one,
        open_model(row(copy), runtime=ON_CPU) as two,
    ):
        assert sessions(one)[0] is sessions(two)[0]


def test_a_large_file_is_never_taken_for_another(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, n_bytes in (("_WHOLE_BYTES", 100), ("_END_BYTES", 10)):
        monkeypatch.setattr(f"fastembed_stream.files.identity.{name}", n_bytes)
    copy = shutil.copytree(folder, tmp_path / "copy")
    linked = tmp_path / "linked.onnx"
    linked.hardlink_to(folder / "model.onnx")
    first = open_session(folder / "model.onnx", ON_CPU)
    assert open_session(linked, ON_CPU) is first
    assert open_session(copy / "model.onnx", ON_CPU) is not first


def test_a_graph_that_is_replaced_while_it_is_read_is_read_again(
    folder: Path, another: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastembed_stream import providers, shared_sessions

    expected = vector(another)
    ordinary, n_opened = providers.new_session, 0

    def replaced(graph: Path, *arguments: Any) -> Session:
        nonlocal n_opened
        n_opened += 1
        opened = ordinary(graph, *arguments)
        if n_opened == 1:
            shutil.copy(another / "model.onnx", graph)
        return opened

    monkeypatch.setattr(shared_sessions, "new_session", replaced)
    np.testing.assert_array_equal(vector(folder), expected)
    assert n_opened == 2


def test_the_other_layout_of_a_graph_that_was_replaced_is_not_taken(
    folder: Path, another: Path
) -> None:
    session = open_session(folder / "model.onnx", Runtime(device="cpu", threads=2))
    assert session.other is not None
    shutil.copy(another / "model.onnx", folder / "model.onnx")
    with pytest.raises(ModelFilesError, match="was replaced since the model was opened"):
        session.other()


def test_weights_overwritten_in_place_harm_no_model_of_another_folder(tmp_path: Path) -> None:
    folder, copy, another = (
        write(tmp_path / str(number), Toy(external=True, seed=number == 2)) for number in range(3)
    )
    expected = vector(copy)
    with open_model(row(folder), runtime=ON_CPU):  # ONNX Runtime maps the file
        shutil.copy(another / "model.onnx_data", folder / "model.onnx_data")
        np.testing.assert_array_equal(vector(copy), expected)


# Memory


def test_a_session_ends_with_its_last_holder(folder: Path) -> None:
    one, two = (open_model(row(folder), runtime=ON_CPU) for _ in range(2))
    [session] = sessions(one)
    gone = weakref.ref(session)
    del session
    one.close()
    assert gone() is not None
    assert two(["the stream"])[0].shape == (DIM,)
    del two
    gc.collect()
    wait_until(lambda: gone() is None)


def test_a_model_that_is_dropped_without_a_word_is_gone_too(folder: Path) -> None:
    model = open_model(row(folder), runtime=Runtime(device="cpu", threads=2))
    model(["the stream"] * 50)
    gone = weakref.ref(sessions(model)[0])
    del model
    gc.collect()
    wait_until(lambda: gone() is None)


def test_a_session_that_is_going_is_never_given_to_who_opens_it_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Session] = []

    @contextmanager
    def interrupted() -> Iterator[None]:
        found.append(open_session(folder / "model.onnx", ON_CPU))  # as another thread may
        yield

    session = open_session(folder / "model.onnx", ON_CPU)
    monkeypatch.setattr("fastembed_stream.session._memory_given_back", interrupted)
    del session
    monkeypatch.undo()
    assert found[0].bound.get_inputs()


def test_threads_whose_first_calls_come_at_once_open_one_model() -> None:
    model = TextEmbedding(
        PACKAGED, specific_model_path=str(packaged_model()), lazy_load=True, threads=1
    )
    start = threading.Barrier(4)

    def opened(_: int) -> object:
        start.wait(10)
        list(model.embed("a text"))
        return model._open

    with ThreadPoolExecutor(4) as callers:
        assert len({id(each) for each in callers.map(opened, range(4))}) == 1
    assert model.counts.rows == 4


def test_a_closed_class_opens_again_at_its_next_call() -> None:
    model = TextEmbedding(PACKAGED, specific_model_path=str(packaged_model()))
    [before] = model.embed("a text")
    model.close()
    assert "not open yet" in repr(model)
    [after] = model.embed("a text")
    np.testing.assert_array_equal(before, after)


def test_eight_models_opened_and_closed_in_turn_leave_the_memory_of_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = """
        import psutil, shutil, sys
        from pathlib import Path
        from fastembed_stream import Runtime, catalog, open_model

        source, copies = map(Path, sys.argv[1:])
        texts = ["some words about this and that " * n for n in range(1, 20)]
        for number in range(8):
            folder = shutil.copytree(source, copies / str(number))
            with (folder / "model.onnx").open("ab") as graph:
                graph.write(b"\\x3a\\x00" * number)  # an empty graph, merged into what is there
            runtime = Runtime(device="cpu", threads=1 + number % 2)
            with open_model(catalog.find("PACKAGED"), folder=folder, runtime=runtime) as embed:
                embed(texts)
            del embed
            shutil.rmtree(folder)
            print(psutil.Process().memory_info().rss >> 20)
    """.replace("PACKAGED", PACKAGED)
    told = child(script, packaged_model(), tmp_path, expected=0).stdout.split()
    mib = [int(number) for number in told]
    with capsys.disabled():
        print(f"\neight models opened and closed in turn: {mib} MiB")  # noqa: T201  the figure
    assert mib[-1] <= mib[0] + 40


# The end of a program


def in_layouts(cases: Iterable[str], *on_one_lane: str) -> list[Any]:
    """Pair all cases with lanes of one thread, and some with one lane on all threads too."""
    lanes, threads = LAYOUTS
    return [
        *(pytest.param(how, lanes, id=f"{how}, two lanes") for how in cases),
        *(pytest.param(how, threads, id=f"{how}, one lane") for how in on_one_lane),
    ]


def child(
    script: str, *arguments: object, expected: int | None, timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert expected is None or run.returncode == expected, run.stderr
    return run


WORKING = """
    import os, signal, sys, threading, time
    from fastembed_stream import Runtime, TextEmbedding

    model = TextEmbedding("PACKAGED", runtime=Runtime(device="cpu", token_budget=1024, **LAYOUT))
    texts = ["word " * 100] * 1000
    vectors = model.embed(texts, batch_size=16)
    next(vectors)  # and two windows are under way
    print("under way", flush=True)
"""

ENDS: dict[str, tuple[str, int, str]] = {
    "the end of the script": ("", 0, ""),
    "an exception": ("raise ValueError('mine')", 1, "ValueError: mine"),
    "sys.exit": ("sys.exit(3)", 3, ""),
    "break": ("for vector in vectors: break\nsys.exit(4)", 4, ""),
    "a generator that is dropped": ("del vectors\nsys.exit(5)", 5, ""),
    "a daemon thread that works": (
        (
            "threading.Thread(target=lambda: list(model.embed(texts)), daemon=True).start()\n"
            "time.sleep(0.2)\nsys.exit(6)"
        ),
        6,
        "",
    ),
    "ctrl-c": (
        "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\nlist(vectors)",
        -2,
        "KeyboardInterrupt",
    ),
    "ctrl-c that is caught": (
        (
            "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
            "try: list(vectors)\nexcept KeyboardInterrupt: sys.exit(8)"
        ),
        8,
        "",
    ),
    "a model that is closed meanwhile": ("model.close()\nsys.exit(9)", 9, ""),
    "daemon threads that open models": (
        (
            "def opens():\n"
            "    while True: TextEmbedding('PACKAGED', threads=1)\n"
            "for _ in range(4): threading.Thread(target=opens, daemon=True).start()\n"
            "time.sleep(0.5)\nsys.exit(11)"
        ),
        11,
        "",
    ),
}


@pytest.mark.parametrize(("how", "layout"), in_layouts(ENDS, "sys.exit", "ctrl-c"))
def test_a_program_ends_as_it_meant_to_while_groups_run(how: str, layout: dict[str, int]) -> None:
    end, code, last = ENDS[how]
    script = (textwrap.dedent(WORKING) + end).replace("PACKAGED", PACKAGED)
    run = child(script.replace("LAYOUT", repr(layout)), expected=code)
    assert run.stdout == "under way\n"
    assert run.stderr.strip().splitlines()[-1:] == ([last] if last else [])


LATE = {
    "reads on": "list(vectors)",
    "calls anew": "list(model.embed('a text'))",
    "opens another": "open_model('PACKAGED', runtime=Runtime(device='cpu', lanes=3))(['a text'])",
}


@pytest.mark.parametrize("what", LATE)
def test_an_exit_handler_that_comes_too_late_is_told_so_and_never_waits(what: str) -> None:
    script = """
        import atexit, sys

        def late() -> None:  # registered first, so it runs last
            LATE

        atexit.register(late)
        from fastembed_stream import Runtime, TextEmbedding, open_model

        model = TextEmbedding("PACKAGED", runtime=Runtime(device="cpu", token_budget=1024))
        vectors = model.embed(["word " * 200] * 100, batch_size=16)
        next(vectors)
        sys.exit(3)
    """
    run = child(script.replace("LATE", LATE[what]).replace("PACKAGED", PACKAGED), expected=3)
    [error] = [line for line in run.stderr.splitlines() if "Error: " in line]
    assert error.startswith("RuntimeError: The program is ending, and models run no more.")


def test_an_exit_handler_that_comes_in_time_may_use_a_model() -> None:
    script = textwrap.dedent(WORKING) + (
        "import atexit\natexit.register(lambda: print(len(list(model.embed(['a', 'b'])))))\n"
    )
    script = script.replace("PACKAGED", PACKAGED).replace("LAYOUT", "{'threads': 2}")
    assert child(script, expected=0).stdout == "under way\n2\n"


def test_at_the_end_threads_that_wait_for_other_threads_are_woken_and_end() -> None:
    script = """
        import atexit, sys, threading

        def tell() -> None:  # registered first, so it runs last
            alive = [t.name for t in threading.enumerate() if t is not threading.current_thread()]
            print("alive:", *alive)

        atexit.register(tell)
        from fastembed_stream.threads import Threads

        begun = threading.Event()
        outer, inner = Threads(1, "outer", exit_wait_s=60), Threads(1, "inner", exit_wait_s=60)

        def slow(_: int) -> None:
            begun.set()
            threading.Event().wait(0.3)

        def waits(_: int) -> None:
            for future in [inner.submit(slow, number) for number in range(1000)]:
                future.result()

        outer.submit(waits, 0)
        begun.wait()
    """
    run = child(script, expected=0)
    assert (run.stdout, run.stderr) == ("alive:\n", "")


def test_a_call_that_hangs_does_not_hold_the_end_for_ever() -> None:
    script = """
        import sys, threading
        from fastembed_stream.threads import Threads

        pool = Threads(1, "hanging", exit_wait_s=0.1)
        begun = threading.Event()
        pool.submit(lambda _: (begun.set(), threading.Event().wait()), 0)
        begun.wait()
        sys.exit(3)
    """
    assert child(script, expected=3).stderr == ""


@pytest.mark.parametrize(
    "call", ["documents(texts[:1])", "count_tokens(texts)", "documents(texts)"]
)
def test_daemon_threads_that_begin_one_call_after_another_end_without_a_word(call: str) -> None:
    script = """
        import sys, threading, time
        from fastembed_stream import Runtime, open_model

        models = [open_model("PACKAGED", runtime=Runtime(device="cpu", lanes=2)) for _ in range(3)]
        texts = ["some words about this and that " * 30] * 200

        def work(embed) -> None:
            while True:
                embed.CALL

        for embed in models:
            threading.Thread(target=work, args=(embed,), daemon=True).start()
        time.sleep(0.5)
        sys.exit(5)
    """
    run = child(script.replace("PACKAGED", PACKAGED).replace("CALL", call), expected=5)
    assert run.stderr == ""


# After a fork

FORKED = """
    import multiprocessing, os, signal, sys, threading, time
    import numpy as np
    from fastembed_stream import Runtime, SparseTextEmbedding, TextEmbedding, open_model

    model = TextEmbedding("PACKAGED", runtime=Runtime(device="cpu", **LAYOUT))
    texts, many = ["a text", "and another"], ["word " * 100] * 40
    expected = list(model.embed(texts))

    def embeds_as_before() -> None:
        for theirs, ours in zip(expected, model.embed(texts), strict=True):
            np.testing.assert_array_equal(theirs, ours)

    def forked(work) -> int:
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            work()
            sys.exit(7)  # the ordinary way out, destructors and all
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""

FORKS = {
    "an idle model": "assert forked(embeds_as_before) == 7",
    "a child of a child": (
        "def both():\n"
        "    embeds_as_before()\n"
        "    assert forked(embeds_as_before) == 7\n"
        "assert forked(both) == 7"
    ),
    "one child after another": "assert [forked(embeds_as_before) for _ in range(3)] == [7] * 3",
    "a model that is never used there": "assert forked(lambda: None) == 7",
    "a call on another thread": (
        "threading.Thread(target=lambda: list(model.embed(many)), daemon=True).start()\n"
        "time.sleep(0.3)\n"
        "assert forked(embeds_as_before) == 7"
    ),
    "a calibration on another thread": (
        "fresh = open_model('PACKAGED', runtime=Runtime(device='cpu', threads=2))\n"
        "threading.Thread(target=fresh.warm_up, daemon=True).start()\n"
        "time.sleep(0.1)\n"
        "assert forked(lambda: (fresh.warm_up(), fresh(texts))) == 7"
    ),
    "vectors that are under way": (
        "vectors = model.embed(many, batch_size=8)\n"
        "next(vectors)\n"
        "def goes_on():\n"
        "    try: list(vectors)\n"
        "    except RuntimeError as error: assert 'goes on in the parent' in str(error), error\n"
        "    else: raise AssertionError('no error')\n"
        "    embeds_as_before()\n"
        "assert forked(goes_on) == 7\n"
        "assert len(list(vectors)) == 39"
    ),
    "multiprocessing": (
        "process = multiprocessing.get_context('fork').Process(target=embeds_as_before)\n"
        "process.start()\n"
        "process.join(60)\n"
        "assert process.exitcode == 0"
    ),
    "a model that is closed there": (
        "def closes():\n"
        "    embeds_as_before()\n"
        "    model.close()\n"
        "    embeds_as_before()\n"
        "assert forked(closes) == 7"
    ),
    "words that are counted": (
        "words = SparseTextEmbedding('Qdrant/bm25')\n"
        "list(words.embed(texts))\n"
        "assert forked(lambda: list(words.embed(texts))) == 7"
    ),
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize(
    ("how", "layout"),
    in_layouts(FORKS, "a child of a child", "a model that is never used there", "multiprocessing"),
)
def test_a_model_works_in_a_forked_child_and_in_its_parent(
    how: str, layout: dict[str, int]
) -> None:
    script = textwrap.dedent(FORKED) + FORKS[how] + "\nembeds_as_before()\n"
    run = child(script.replace("PACKAGED", PACKAGED).replace("LAYOUT", repr(layout)), expected=0)
    assert run.stderr == ""


def test_a_model_on_a_gpu_says_at_once_that_it_does_not_survive_a_fork(folder: Path) -> None:
    session = open_session(folder / "model.onnx", ON_CPU)
    session.device = "cuda"
    session.after_fork()
    with pytest.raises(DeviceError, match="before the process forked"):
        session.run(session.outputs, {})


# Calls that share the lanes


class Ticking(Device):
    """A session that notes what it runs, a group at a time, each when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[int] = []
        self.may_run = threading.Semaphore(0)

    @override
    def run(self, outputs: Sequence[str], feeds: Feeds) -> Outputs:
        assert self.may_run.acquire(timeout=10)
        self.ran.append(int(feeds["number"][0]))
        return super().run(outputs, feeds)


def n_waiting(squares: OnnxEmbedder[int, int]) -> int:
    return sum(map(len, squares._lanes._threads._pool._waiting.values()))


def test_calls_take_turns_whatever_they_still_have_to_do() -> None:
    device = Ticking()
    family = Squares()
    squares = embedder(family, device)
    with ThreadPoolExecutor(3) as callers:
        long = callers.submit(squares, list(range(100, 150)))
        wait_until(lambda: bool(family.groups) and n_waiting(squares) == 49)
        short = [callers.submit(squares, [number]) for number in (1, 2)]
        wait_until(lambda: n_waiting(squares) == 51)
        device.may_run.release(4)
        assert sorted(future.result(10)[0] for future in short) == [1, 4]
        assert not long.done()
        device.may_run.release(50)
        assert long.result(10) == [n * n for n in range(100, 150)]
    assert [number < 100 for number in device.ran[:4]].count(True) == 2


def test_the_windows_of_a_stream_have_one_turn_together() -> None:
    device = Ticking()
    squares = embedder(Squares(), device)
    with ThreadPoolExecutor(2) as callers:
        stream = squares.stream(range(100, 120), window=5)
        bulk = callers.submit(list, stream)
        wait_until(lambda: n_waiting(squares) == 9)
        other = callers.submit(squares, [1, 2, 3])
        wait_until(lambda: n_waiting(squares) == 12)
        device.may_run.release(7)
        assert other.result(10) == [1, 4, 9]
        device.may_run.release(50)
        assert bulk.result(10) == [n * n for n in range(100, 120)]
    mine = [place for place, number in enumerate(device.ran) if number < 100]
    assert mine[-1] <= 6


def test_groups_of_one_call_run_in_their_order() -> None:
    device = Ticking()
    device.may_run.release(30)
    embedder(Squares(), device)(list(range(30)))
    assert device.ran == sorted(device.ran) or device.ran == sorted(device.ran, reverse=True)


def test_what_waits_when_the_layout_changes_is_answered() -> None:
    device = Ticking()
    family = Squares()
    squares = embedder(family, device)
    with ThreadPoolExecutor(1) as callers:
        waiting = callers.submit(squares, list(range(9)))
        wait_until(lambda: n_waiting(squares) == 8 and bool(family.groups))
        squares._lanes.use(cast("tuple[Session, ...]", (Device(lanes=2),)))
        assert squares([5]) == [25]
        device.may_run.release(9)
        assert waiting.result(10) == [n * n for n in range(9)]


# What it says of itself, and how it travels


def test_an_open_model_says_what_it_is_and_where_it_runs(folder: Path) -> None:
    embed = open_model(row(folder), runtime=Runtime(device="cpu", threads=3, lanes=3))
    name = row(folder).name
    assert (
        repr(embed) == f"<OpenModel {name}: dense-text (DenseText), {DIM} dimensions, cpu, 3 lanes>"
    )
    assert repr(embed.documents) == "<OnnxEmbedder DenseTextFamily, cpu, 3 lanes>"
    embed.close()
    assert repr(embed).endswith(", closed>")


def test_a_class_says_what_it_is_before_and_after_it_is_open() -> None:
    lazy = TextEmbedding(
        PACKAGED, specific_model_path=str(packaged_model()), lazy_load=True, threads=1
    )
    what = f"<TextEmbedding {PACKAGED}: dense-text (DenseText), 384 dimensions, "
    assert repr(lazy) == f"{what}not open yet>"
    list(lazy.embed("a text"))
    assert repr(lazy) == f"{what}cpu, 1 lane>"
    words = SparseTextEmbedding("Qdrant/bm25")
    assert (
        repr(words)
        == "<SparseTextEmbedding Qdrant/bm25: sparse-text (Bm25), no graph, on the caller's thread>"
    )


def test_an_open_model_that_is_pickled_opens_again_where_it_lands(folder: Path) -> None:
    embed = open_model(row(folder), runtime=ON_CPU, max_tokens=5)
    sent = pickle.dumps(embed)
    [expected] = embed(["the stream of text and more"])
    embed.close()
    landed = pickle.loads(sent)  # noqa: S301  our own
    assert landed.max_tokens == 5
    np.testing.assert_array_equal(landed(["the stream of text and more"])[0], expected)


def test_an_open_class_that_is_pickled_opens_again_where_it_lands() -> None:
    script = """
        import pickle, sys
        model = pickle.loads(sys.stdin.buffer.read())
        print(repr(model))
        print(float(next(iter(model.embed("a text"))) @ next(iter(model.embed("a text")))))
    """
    model = TextEmbedding(PACKAGED, specific_model_path=str(packaged_model()), threads=1)
    list(model.embed("a text"))
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        input=pickle.dumps(model),
        capture_output=True,
        check=True,
    )
    said, length = run.stdout.decode().splitlines()
    assert "not open yet" in said
    assert float(length) == pytest.approx(1, abs=1e-5)


def test_what_cannot_travel_says_so(folder: Path) -> None:
    embed = open_model(row(folder), runtime=ON_CPU)
    with pytest.raises(TypeError, match="pickle the OpenModel that it belongs to"):
        pickle.dumps(embed.documents)
    words = open_model("Qdrant/bm25", SPARSE_TEXT)
    assert repr(words.documents) == "<PlainEmbedder Bm25Family, no graph, on the caller's thread>"
    with pytest.raises(TypeError, match="pickle the OpenModel that it belongs to"):
        pickle.dumps(words.documents)
    bare = replace(embed, reopen=None)
    with pytest.raises(TypeError, match="not made by `open_model`"):
        pickle.dumps(bare)
