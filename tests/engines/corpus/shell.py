"""What is IPython's rather than Python's: commands of the shell, descriptors, magics, history."""

from __future__ import annotations

from corpus.entry import Entry

# What is written to a descriptor comes to the notebook by a pipe and a thread, so a cell can end before it. Waiting until
# the stream was given it makes the outputs certain.
_UNTIL_IT_ARRIVED = """
import sys, threading

def until_it_arrived(stream, last, act, *arguments):
    arrived, write = threading.Event(), stream.write
    def seen(text):
        write(text)
        if last in text: arrived.set()
    stream.write = seen
    act(*arguments)
    if not arrived.wait(30): raise TimeoutError(last)
    del stream.write
"""

SHELL = (
    Entry(
        name="commands",
        text="""
# %%
!echo one && echo two
!echo wrong >&2; false
_exit_code
# %%
name = "of Python"
lines = !printf 'a\\\\nb {name} $name'
print(lines, lines.n, type(lines).__name__)
# %%
%%bash
echo "from bash $((1 + 1))"; echo wrong >&2
cat beside.txt
# %%
%%sh
echo "from sh" "$GIVEN"
# %%
%%bash --out said --err wrong
echo said; echo wrong >&2
# %%
print(repr(said), repr(wrong))
%sx echo by sx
# %%
%%python
print("from another Python", __name__)
# %%
get_ipython().system("pwd")
get_ipython().getoutput("echo got")
# %%
!test -t 1 && echo terminal || echo no terminal
!echo $TERM $PAGER
# %% raises-exception
%%bash
echo before; exit 3
# %% raises-exception
%no_such_magic
""",
        files={"beside.txt": "the file beside\n"},
        shows=("two", "wrong", "b of Python", "from bash 2", "the file beside", "from sh by the run", "'said\\\\n'",
               "from another Python", "CalledProcessError", "no_such_magic"),
    ),
    Entry(
        name="descriptors",
        text=f"""
# %%
import ctypes, os, subprocess
# %%
{_UNTIL_IT_ARRIVED}
# %%
until_it_arrived(sys.stdout, "end", os.system, "echo by os.system; echo end")
# %%
until_it_arrived(sys.stdout, "end", os.write, 1, b"by os.write\\nend\\n")
until_it_arrived(sys.stderr, "end", os.write, 2, b"wrong by os.write\\nend\\n")
# %%
libc = ctypes.CDLL(None)
def puts():
    libc.puts(b"by C\\nend")
    libc.fflush(None)
until_it_arrived(sys.stdout, "end", puts)
# %%
until_it_arrived(sys.stdout, "end", subprocess.run, ["echo", "by a child, end"])
# %%
print(sys.stdout.fileno() > 2, sys.stderr.fileno() > 2, sys.__stdout__.fileno(), sys.__stderr__.fileno())
print(sys.stdout.encoding, sys.stdout.isatty(), os.isatty(0), sys.stdin.read())
""",
        shows=("by os.system", "by os.write", "wrong by os.write", "by C", "by a child, end", "UTF-8"),
    ),
    Entry(
        name="magics",
        text="""
# %%
%load_ext autoreload
%autoreload 2
# %%
%%time
total = sum(range(10))
total
# %%
%timeit -n 2 -r 2 sum(range(10))
%time 1 + 1
# %%
%%timeit -n 1 -r 1
pass
# %%
%env GIVEN
%env SET_BY_A_MAGIC=1
%env SET_BY_A_MAGIC
# %%
%cd folder
%pwd
# %%
%cd ..
_dh
# %%
%%capture caught
print("caught"); 1
# %%
caught.show(); print(caught.stdout.upper())
# %%
%%writefile module.py
def value(): return "first"
# %%
import module
module.value()
# %%
%%writefile module.py
def value(): return "second and longer"
# %%
module.value()
# %%
%run script.py -a 1
%run -i script.py
print(of_the_script)
# %%
%who
# %%
%whos int
# %%
%who_ls str
# %%
%config ZMQInteractiveShell.ast_node_interactivity = "all"
# %%
1
2
# %%
%config ZMQInteractiveShell.ast_node_interactivity
%precision 2
3.14159
# %%
%%file note.txt
written
# %%
%alias hello echo hello %s
# %%
hello world
# %%
len?
module.value??
%pinfo len
%pdoc len
# %%
%%prun -q
pass
# %%
%macro -q again 3
%load script.py
%pprint
%xmode Minimal
# %% raises-exception
1 / 0
# %%
%xmode Context
%reset -f
%who
""",
        files={
            "folder/inside.txt": "",
            "script.py": "import sys\nprint(__name__, __file__, sys.argv)\nof_the_script = 'global'\n",
        },
        varies=(
            r"(?<=CPU times: ).*", r"(?<=Wall time: ).*", r"(The slowest run .*\n)?\S+ \S*s ± \S+ \S*s per loop",
        ),
        shows=("CPU times", "SET_BY_A_MAGIC", "/folder", "CAUGHT", "first", "second and longer", "__main__ script.py",
               "global", "'all'", "hello world", "3.14", "division by zero"),
    ),
    Entry(
        name="the_list_of_magics",
        text="""
# %%
magics = get_ipython().magics_manager.magics
for kind in magics: print(kind, *sorted(magics[kind]))
# %%
print(type(get_ipython()).__name__, type(get_ipython().kernel).__name__, get_ipython().profile)
print(get_ipython().history_manager.hist_file, get_ipython().history_manager.enabled)
print([type(one).__name__ for one in get_ipython().configurables])
print(sorted(get_ipython().user_ns), sorted(get_ipython().user_ns_hidden))
# %%
given_by_a_startup_file, given_by_the_configuration
""",
        shows=("timeit", "subshell", "IPythonKernel", ":memory:", "(1, 2)"),
    ),
    Entry(
        name="history",
        text="""
# %%
x = 1
# %%
!true
x + 1
# %%
%history -n
# %%
%history -t 2
# %%
print(_i1, _i2, sep="|"); print(len(In), sorted(Out), _oh is Out, _ih is In)
# %%
get_ipython().run_line_magic("rerun", "1")
%recall 1
# %%
list(get_ipython().history_manager.get_range(0, 1, 4))[:2]
# %%
get_ipython().run_cell("x += 1; print('a cell in a cell', x)")
get_ipython().set_next_input("ignored"); get_ipython().execution_count
# %%
eval("x"), get_ipython().ev("x + 1"), get_ipython().ex("z = 5"), z
""",
        shows=("x + 1", "get_ipython().system", "a cell in a cell 2", "x = 1|"),
    ),
)  # fmt: skip
