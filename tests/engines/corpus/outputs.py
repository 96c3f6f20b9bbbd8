"""What a notebook shows: results, rich reprs, displays, streams, bars and widgets."""

from __future__ import annotations

from corpus.entry import Entry

OUTPUTS = (
    Entry(
        name="results",
        text="""
# %% [markdown]
Text between the cells.
# %%
print("printed"); print("two", "words", sep="\\n", end="!")
# %%
40 + 2
# %%
_ + 1
# %%
[_, __, _3, Out[2], In[2], _ih[-2], _i, get_ipython().execution_count]
# %%

# %%
# nothing but a comment
# %% skip-execution
print("never")
# %% [raw]
raw: text
# %%
"hidden";
# %%
None
# %%
{"grüße": "naïve café", "日本": "語", "emoji": "🙂👩‍🔬", "escape": "\\x1b[31mred\\x1b[0m"}
# %%
print("日本語 🙂 ü\\ttab\\rreturn\\x08back")
print("\\ud800".encode("utf-8", "surrogatepass"))
# %%
x = 1
x
x + 1
# %%
if x:
    "no expression of the cell itself"
# %%
class Odd:
    def __repr__(self): return "one\\ntwo"
[Odd(), Odd]
""",
        shows=("printed", "42", "grüße", "🙂", "43"),
    ),
    Entry(
        name="frames",
        needs=("pandas", "jinja2"),
        text="""
# %%
import pandas as pd
import numpy as np
# %%
frame = pd.DataFrame({"a": range(3), "b": [0.5, np.nan, 2.0], "c": list("xyz")})
frame
# %%
frame.style.format(precision=1).highlight_max(subset=["a"])
# %%
print(frame)
frame.describe()
# %%
with pd.option_context("display.max_rows", 4):
    display(pd.DataFrame(np.arange(40).reshape(20, 2)), frame["c"])
# %%
frame.info()
""",
        varies=(r"T_[0-9a-f]{5}",),
        shows=("<th>a</th>", "background-color: yellow", "RangeIndex", "20 rows"),
    ),
    Entry(
        name="figures",
        needs=("matplotlib",),
        text="""
# %%
%matplotlib inline
import matplotlib.pyplot as plt
# %%
plt.plot([1, 3, 2]);
# %%
figure, axes = plt.subplots(1, 2, figsize=(4, 2))
axes[0].scatter([1, 2], [3, 4])
axes[1].set_title("two")
# %%
figure
# %%
plt.rcParams["figure.dpi"] = 50
for number in range(2):
    plt.figure(figsize=(1, 1)); plt.plot([number, 1]); plt.show(); print("after", number)
# %%
%config InlineBackend.figure_formats = ["svg"]
plt.rcParams["svg.hashsalt"] = "the same ids"
plt.bar([1, 2], [3, 4])
# %%
figure.savefig("figure.png")
plt.close("all")
import matplotlib
print(matplotlib.get_backend(), plt.get_fignums())
""",
        varies=(r"<dc:date>[^<]*</dc:date>",),
        shows=("image/png", "image/svg+xml", "<Figure size", "BarContainer", "inline []"),
    ),
    Entry(
        name="figures_without_a_magic",
        needs=("matplotlib",),
        text="""
# %%
import matplotlib.pyplot as plt
# %%
plt.figure(figsize=(1, 1))
plt.plot([1, 2])
""",
        shows=("image/png", "Line2D"),
    ),
    Entry(
        name="displays",
        text="""
# %%
from IPython.display import (
    HTML, JSON, SVG, Audio, Code, FileLink, IFrame, Image, Javascript, Latex, Markdown, Math, Pretty, ProgressBar, display,
    publish_display_data,
)
import base64
# %%
display(1, "two", [3])
display(HTML("<b>bold</b>"), Markdown("**bold**"), Latex("$x$"), Math("x^2"), metadata={"of": "all"})
HTML("<i>the result</i>")
# %%
JSON({"a": [1, {"b": None}]}, expanded=True)
# %%
SVG('<svg xmlns="http://www.w3.org/2000/svg"><circle r="1"/></svg>')
# %%
png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
Image(base64.b64decode(png), width=10)
# %%
display(Javascript("1 + 1"), IFrame("about:blank", 10, 10), Code("x = 1", language="python"), Pretty("pretty"))
print("between"); display(FileLink("beside.txt"))
# %%
%%javascript
console.log("by a magic")
# %%
%%html
<u>by a magic</u>
# %%
%%latex
$y$
# %%
%%markdown
*by a magic*
# %%
%%svg
<svg xmlns="http://www.w3.org/2000/svg"/>
# %%
Audio(data=bytes(range(64)) * 4, rate=8000)
# %%
class Bundle:
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/plain": "plain", "application/vnd.own+json": {"k": [1]}}, {"application/vnd.own+json": {"m": 1}}
class Html:
    def _repr_html_(self): return "<p>own</p>"
class Itself:
    def _ipython_display_(self): print("shows itself")
class Broken:
    def _repr_html_(self): raise ValueError("no html of this")
    def __repr__(self): return "but text"
display(Bundle(), Html(), Itself(), Broken())
Bundle()
# %%
class Plain: pass
get_ipython().display_formatter.formatters["text/html"].for_type(Plain, lambda plain: "<p>by a formatter</p>")
Plain()
# %%
publish_display_data({"text/plain": "published", "application/x-text": "as it is"}, {"about": "it"})
# %%
import sys
before, sys.displayhook = sys.displayhook, lambda value: print("hook got", value)
1 + 1
# %%
sys.displayhook = before
for _ in ProgressBar(3): pass
""",
        files={"beside.txt": "beside"},
        shows=(
            "<b>bold</b>", "**bold**", "expanded", "<circle", "image/png", "1 + 1", "audio", "vnd.own+json", "<p>own</p>",
            "no html of this", "but text", "shows itself", "by a formatter", "published", "by a magic",
        ),
    ),
    Entry(
        name="display_ids_and_clearing",
        text="""
# %%
from IPython.display import HTML, clear_output, display, update_display
# %%
display("first text", display_id="one")
handle = display(HTML("<b>old</b>"), display_id=True)
# %%
update_display("second text", display_id="one")
handle.update(HTML("<b>new</b>"))
other = display(HTML("<b>other</b>"), display_id=True)
# %%
other.display(HTML("<b>again</b>"))
# %%
update_display("for nobody", display_id="unknown")
print("before"); display(1); clear_output(); print("after it was cleared")
# %%
for number in range(5):
    clear_output(wait=True)
    print("step", number)
# %%
print("stays, for nothing follows"); clear_output(wait=True)
# %%
print("gone"); clear_output()
# %%
display("in two cells", display_id="two")
# %%
display("in two cells, changed", display_id="two")
""",
        shows=("second text", "<b>new</b>", "<b>again</b>", "after it was cleared", "step 4", "stays", "in two cells, changed"),
    ),
    Entry(
        name="standard_error_warnings_and_logging",
        text="""
# %%
import logging, sys, warnings
# %%
print("out"); print("wrong", file=sys.stderr); sys.stderr.write("no newline")
# %%
warnings.warn("of the user")
warnings.warn("old", DeprecationWarning)
def old(): warnings.warn("once for each line", FutureWarning, stacklevel=2)
for _ in range(3): old()
# %%
warnings.simplefilter("error")
try:
    warnings.warn("now raised")
except UserWarning as warning:
    print("raised", warning)
# %%
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    warnings.warn("caught")
print([str(one.message) for one in caught])
warnings.resetwarnings()
# %%
logging.warning("by the root logger")
logging.getLogger("own").info("too quiet")
# %%
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s %(levelname)s %(message)s", force=True)
logging.getLogger("own").info("loud")
try: 1 / 0
except ZeroDivisionError: logging.exception("with its traceback")
# %%
import traceback
try: {}["k"]
except KeyError: traceback.print_exc()
""",
        shows=("wrong", "of the user", "DeprecationWarning: old", "now raised", "WARNING:root:by the root logger",
               "own INFO loud", "ZeroDivisionError", "KeyError: 'k'"),
    ),
    Entry(
        name="large_and_many_outputs",
        text="""
# %%
print("x" * 2_000_000)
# %%
"y" * 2_000_000
# %%
for number in range(3000): display(number)
# %%
import sys
for number in range(3000): print(number, file=sys.stderr if number % 2 else sys.stdout)
# %%
for number in range(3000): print(number, flush=True)
""",
        shows=("2999", "characters"),
    ),
    Entry(
        name="bars",
        needs=("tqdm", "rich"),
        text="""
# %%
from tqdm import tqdm, trange
import sys
# %%
steady = {"mininterval": 0, "miniters": 1, "bar_format": "{l_bar}{bar:10}| {n_fmt}/{total_fmt}"}
for _ in tqdm(range(4), desc="bar", **steady): pass
# %%
with trange(2, file=sys.stdout, ascii=True, **steady) as bar:
    for _ in bar: tqdm.write("in between")
# %%
import rich
from rich.table import Table
table = Table(title="rich"); table.add_column("a"); table.add_row("[bold]1[/bold]")
rich.print(table, {"a": 1})
table
""",
        shows=("bar: 100%", "in between", "rich", "bold"),
    ),
    Entry(
        name="comms",
        needs=("comm",),
        text="""
# %%
from comm import create_comm
state = {"_model_name": "IntSliderModel", "_model_module": "@jupyter-widgets/controls",
         "_model_module_version": "2.0.0", "value": 1}
slider = create_comm("jupyter.widget", data={"state": state, "buffer_paths": []}, metadata={"version": "2.1.0"},
                     comm_id="5" * 32)
# %%
slider.send({"method": "update", "state": {"value": 7}, "buffer_paths": []})
slider.send({"method": "update", "state": {"image": None}, "buffer_paths": [["image"]]}, buffers=[b"bytes"])
display({"application/vnd.jupyter.widget-view+json": {"version_major": 2, "model_id": "5" * 32}}, raw=True)
# %%
other = create_comm("no-such-target", data={"a": 1}, comm_id="6" * 32)
other.close()
get_ipython().kernel.comm_manager.get_comm("5" * 32) is slider
""",
        shows=("IntSliderModel", '"value": 7', "Ynl0ZXM=", "True", "widget-view"),
    ),
    Entry(
        name="widgets",
        needs=("ipywidgets",),
        text="""
# %%
import ipywidgets as widgets
# %%
slider = widgets.IntSlider(value=3, description="of the corpus")
slider
# %%
slider.value = 7
output = widgets.Output()
display(output)
with output: print("in the widget")
# %%
widgets.interact(lambda n: print("n is", n), n=(0, 4));
""",
        varies=(r"[0-9a-f]{32}",),
        shows=("of the corpus", "IntSliderModel", "in the widget", "n is 2"),
    ),
)  # fmt: skip
