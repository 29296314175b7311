"""`make plots`: the pictures of the docs, from the hotel world's simulation and from a real fleet under a limit.

Colours are Okabe and Ito's, which colour-blind readers can tell apart (jfly.uni-koeln.de/color).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from sync_pipeline.polling.allocate import Sources, allocate, intervals
from sync_pipeline_tests.prove.fleet import Fleet, own_server
from sync_pipeline_tests.simulation import optimum
from sync_pipeline_tests.simulation.figures import hotel_setting
from sync_pipeline_tests.simulation.run import Adaptive, Cycle, Planner, Setting, simulate
from sync_pipeline_tests.simulation.worlds import DAY, Floats, World, hotel

DOCS = Path(__file__).resolve().parents[2] / "docs"
DPI = 130
BLACK, GREY, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = (
    "#000000", "#9a9a9a", "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7",
)  # fmt: skip

HOTELS, WARM_DAYS, DAYS, RECALL = 200, 2.0, 1.0, 0.8
"""A fifth of hotel.md 6.3, with a fifth of its quota."""

LANES = {
    "P0": ("interactive", VERMILION),
    "P1": ("deadline", ORANGE),
    "P2": ("poll", GREEN),
    "P3": ("reconcile", SKY),
    "P4": ("backfill", "#c8c8c8"),
}
LIMIT, WINDOW_S, SECOND = 4000, 20, 300
"""What the vendor of the second picture allows: calls in any `WINDOW_S` seconds, and in any second."""
BURST_S, CRASH_S, AWAY_S, AFTER_S = (13.0, 20.0), 27.0, 2.0, 12.0
BIN_S = 0.5


@dataclass(slots=True)
class Watched:
    """A planner, and the mean time between the polls of each source from `since` on (seconds; nan: not polled)."""

    planner: Planner
    since: float
    last: Floats
    waited: Floats = field(init=False)
    polls: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.waited, self.polls = np.zeros_like(self.last), np.zeros_like(self.last)

    def next(self, now: float, calls: int) -> NDArray[np.int64]:
        return self.planner.next(now, calls)

    def saw(self, rows: NDArray[np.int64], at: Floats, found: NDArray[np.int64], hints: NDArray[np.int64]) -> None:
        if at.shape[0] and at[-1] >= self.since:
            self.waited[rows] += at - self.last[rows]
            self.polls[rows] += 1
        self.last[rows] = at
        self.planner.saw(rows, at, found, hints)

    @property
    def interval_s(self) -> Floats:
        return np.where(self.polls > 0, self.waited / np.maximum(self.polls, 1), np.nan)


def best(world: World, setting: Setting) -> tuple[float, float]:
    """(stale share, mean detection in seconds) of the best schedule at mean rates, in closed form: polls T apart miss the
    first change for T - (1 - e^-dT)/d on average."""
    interval = optimum.optimum(
        "freshness", world.rates, world.weights, setting.per_s, setting.floor_s, setting.ceiling_s
    )
    x = world.rates * interval
    stale = float(np.sum(world.weights * (1 + np.expm1(-x) / x)))
    detections = float(np.sum(world.weights * -np.expm1(-x) / interval))
    return stale / float(world.weights.sum()), stale / detections


def freshness() -> Figure:
    plain = hotel(days=WARM_DAYS + DAYS, seed=1, hotels=HOTELS)
    told = hotel(days=WARM_DAYS + DAYS, seed=1, hotels=HOTELS, recall=RECALL)
    setting = hotel_setting(HOTELS, WARM_DAYS)
    ours = Watched(Adaptive(plain, setting, known=False), WARM_DAYS * DAY, np.zeros(plain.n))
    rows: list[tuple[str, str, float, float]] = []
    planners: tuple[tuple[str, str, World, Planner], ...] = (
        ("round robin", GREY, plain, Cycle(plain.n)),
        ("cron, all sources\nin one batch", GREY, plain, Cycle(plain.n, shuffled=True)),
        ("ours", BLUE, plain, ours),
        (f"ours, webhook hints\nfor {RECALL:.0%} of changes", SKY, told, Adaptive(told, setting, known=False)),
    )
    for name, colour, world, planner in planners:
        found = simulate(world, planner, setting)
        rows.append((name, colour, found.stale_share, found.delay_mean_s))
        say(f"  {' '.join(name.split())}: {found.stale_share:.4f} stale, {found.delay_mean_s / 60:.2f} min")
    least = best(plain, setting)
    say(f"  optimum: {least[0]:.4f} stale, {least[1] / 60:.2f} min")
    rows.insert(3, ("optimum without hints,\nall rates known", "white", *least))

    figure = Figure(figsize=(11.5, 6.2), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(1, 1.25))
    names, colours = [row[0] for row in rows], [row[1] for row in rows]
    _bars(
        figure.add_subplot(grid[0, 0]), names, colours, [row[2] * 100 for row in rows],
        "Weighted staleness", "% of the value that is out of date, on average", "{:.1f} %",
    )  # fmt: skip
    _bars(
        figure.add_subplot(grid[1, 0]), names, colours, [row[3] / 60 for row in rows],
        "Mean detection", "minutes from change to poll, by value", "{:.1f} min",
    )  # fmt: skip
    _law(figure.add_subplot(grid[:, 1]), plain, setting, ours.interval_s)
    figure.suptitle(
        f"The same calls, spent better: {plain.n:,} sources of {HOTELS} hotels, {setting.per_s * 60:.0f} calls a minute",
        x=0.01, ha="left", fontsize=13, fontweight="bold",
    )  # fmt: skip
    return figure


def _bars(
    panel: Axes, names: list[str], colours: list[str], values: list[float], title: str, unit: str, label: str
) -> None:
    edges = [BLACK if colour == "white" else colour for colour in colours]
    bars = panel.barh(names, values, color=colours, edgecolor=edges, height=0.66)
    bars[colours.index("white")].set_hatch("///")
    panel.bar_label(bars, [label.format(value) for value in values], padding=4, fontsize=9)
    panel.invert_yaxis()
    panel.set_xlim(0, max(values) * 1.18)
    panel.set_title(title, loc="left", fontsize=11)
    panel.set_xlabel(unit, fontsize=9)
    panel.tick_params(axis="y", length=0, labelsize=9)
    panel.tick_params(axis="x", labelsize=8)
    panel.spines[["top", "right", "left"]].set_visible(False)


def _law(panel: Axes, world: World, setting: Setting, interval_s: Floats) -> None:
    """Measured intervals of a third of the sources with the least, the middle and the most weight, each beside the law."""
    n, ones = world.n, np.ones(world.n)
    floor, ceiling = ones * setting.floor_s, ones * setting.ceiling_s
    price = allocate(Sources(world.rates, world.weights, ones, floor, ceiling), setting.per_s, "staleness").multiplier
    a_day = world.rates * DAY
    place = np.argsort(np.argsort(world.weights)) * 3 // n
    free = np.ones(200)
    for third, (name, colour) in enumerate((("least", ORANGE), ("middle", GREEN), ("most", BLUE))):
        mine = place == third
        axis = np.geomspace(*np.quantile(world.rates[mine], (0.002, 0.998)), free.shape[0])
        weight = float(np.median(world.weights[mine]))
        panel.plot(a_day[mine], interval_s[mine] / 60, ".", ms=2.5, alpha=0.35, color=colour, rasterized=True)
        law = intervals(
            Sources(axis, free * weight, free, free * setting.floor_s, free * setting.ceiling_s), price, "staleness"
        )
        panel.plot(axis * DAY, law / 60, color="white", lw=4.5)
        panel.plot(axis * DAY, law / 60, color=colour, lw=2.2, label=f"harmonic law, third with the {name} weight")
        root = np.minimum(np.sqrt(2 * price / (weight * axis)), setting.ceiling_s)
        panel.plot(
            axis * DAY, root / 60, color=BLACK, lw=1, ls=(0, (4, 3)), label="square-root law" if third == 2 else None
        )
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlim(0.02, a_day.max() * 1.1)
    panel.set_ylim(0.5, 2600)
    panel.set_yticks([1, 5, 15, 60, 240, 1440], ["1 min", "5 min", "15 min", "1 h", "4 h", "1 day"])
    panel.minorticks_off()
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.axhline(setting.ceiling_s / 60, color=GREY, lw=0.8)
    panel.text(a_day.max(), setting.ceiling_s / 60 * 1.08, "ceiling", ha="right", fontsize=8, color="#555555")
    panel.set_title("How often each source is asked, by the rates ours has learned", loc="left", fontsize=11)
    panel.set_xlabel(
        "changes a day (true rate)\na dot is a source; a line is the law at the median weight of a third", fontsize=9
    )
    panel.set_ylabel("mean time between two polls", fontsize=9)
    panel.tick_params(labelsize=8)
    panel.grid(color="#e6e6e6", lw=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(fontsize=8, frameon=False, loc="lower left")


@dataclass(slots=True)
class Counter:
    """What the vendor had counted, every twentieth of a second (monotonic seconds, calls, refusals)."""

    fleet: Fleet
    found: list[tuple[float, int, int]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.stop.wait(0.05):
            stats = self.fleet.stats()
            self.found.append((time.monotonic(), stats["calls"], stats["breaches"]))


def quota_use() -> Figure:
    lanes = ("P4,P4,P4,P4", "P4,P4,P3:0.05,P3:0.05", "P4,P2:0.1,P2:0.1,P1:0.2")
    with (
        tempfile.TemporaryDirectory() as folder,
        own_server(Path(folder)) as server,
        Fleet(server, f"{LIMIT}/{WINDOW_S},{SECOND}/1", lanes) as fleet,
    ):
        while fleet.stats()["calls"] == 0:
            time.sleep(0.02)
        began = time.monotonic()
        counter = Counter(fleet)
        thread = threading.Thread(target=counter.run)
        thread.start()

        def wait_until(second: float) -> None:
            time.sleep(max(0.0, began + second - time.monotonic()))

        wait_until(BURST_S[0] - 1)  # a process takes a second to start
        fleet.join(",".join(["P0:0.04"] * 6))
        wait_until(BURST_S[1])
        fleet.leave()
        wait_until(CRASH_S)
        fleet.crash_database(away_s=AWAY_S)
        back = time.monotonic() - began
        end = back + AFTER_S
        wait_until(end + 1)  # the last second is told when it is over
        counter.stop.set()
        thread.join()
        reports = list(fleet.heard.reports)
    seconds, calls, refused = (np.array(column, dtype=np.float64) for column in zip(*counter.found, strict=True))
    seconds -= began
    burst_from = min(at for at, told in reports if "P0" in told) - began - 1
    say(f"  {calls[-1]:.0f} calls, {refused[-1]:.0f} refused; the database was back at {back:.1f} s")

    figure = Figure(figsize=(11.5, 6.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.1, 1))
    _lanes(above, reports, began, end)
    _windows(below, seconds, calls)
    for panel in (above, below):
        panel.axvspan(burst_from, BURST_S[1], color=VERMILION, alpha=0.08, lw=0)
        panel.axvspan(CRASH_S, back, color=BLACK, alpha=0.09, lw=0)
        panel.set_xlim(0, end)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    top = above.get_ylim()[1]
    above.text((burst_from + BURST_S[1]) / 2, top, "six workers in P0", ha="center", va="top", fontsize=9)
    above.text((CRASH_S + back) / 2, top, "database\nkilled", ha="center", va="top", fontsize=9)
    above.text(back + 0.3, 222, "workers reconnect;\nthe burst counts\nas spent", va="bottom", fontsize=9)
    refusals = "none refused" if refused[-1] == 0 else f"{refused[-1]:.0f} refused"
    figure.suptitle(
        f"One limit, shared by five lanes in four processes: {calls[-1]:,.0f} calls, {refusals}",
        x=0.01, ha="left", fontsize=13, fontweight="bold",
    )  # fmt: skip
    return figure


def _lanes(panel: Axes, reports: list[tuple[float, dict[str, int]]], began: float, end: float) -> None:
    """Calls a second. A report is about the second before it, so it is spread over that."""
    edges = np.arange(0.0, end + BIN_S, BIN_S)
    rates = {lane: np.zeros(edges.shape[0] - 1) for lane in LANES}
    for at, calls in reports:
        told = at - began
        overlap = np.clip(np.minimum(edges[1:], told) - np.maximum(edges[:-1], told - 1), 0, None)
        for lane, number in calls.items():
            rates[lane] += number * overlap / BIN_S
    base = np.zeros(edges.shape[0] - 1)
    for lane, (name, colour) in LANES.items():
        panel.stairs(base + rates[lane], edges, baseline=base, fill=True, color=colour, label=f"{lane} {name}")
        base += rates[lane]
    panel.axhline(LIMIT / WINDOW_S, color=BLACK, lw=1.2)
    panel.text(CRASH_S + 0.3, LIMIT / WINDOW_S + 4, f"{LIMIT:,} in any {WINDOW_S} s", fontsize=9)
    panel.axhline(SECOND, color=BLACK, lw=1.2, ls=":")
    panel.text(CRASH_S + 0.3, SECOND + 4, f"{SECOND} in any second", fontsize=9)
    panel.set_ylim(0, SECOND * 1.22)
    panel.set_ylabel("calls a second, by lane", fontsize=9)
    handles, labels = panel.get_legend_handles_labels()
    panel.legend(
        handles,
        labels,
        fontsize=9,
        frameon=False,
        ncols=5,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        borderaxespad=0.2,
    )


def _windows(panel: Axes, seconds: Floats, calls: Floats) -> None:
    """What the vendor's longer window holds, as the vendor counts."""
    before = np.interp(seconds - WINDOW_S, seconds, calls, left=0.0)
    panel.plot(seconds, calls - before, color=BLUE, lw=1.8)
    panel.axhline(LIMIT, color=BLACK, lw=1.2)
    panel.text(CRASH_S + 0.3, LIMIT * 1.03, f"the vendor allows {LIMIT:,}", fontsize=9)
    panel.set_ylim(0, LIMIT * 1.2)
    panel.set_ylabel(f"calls in the last {WINDOW_S} s\nby the vendor's count", fontsize=9)
    panel.set_xlabel("seconds", fontsize=9)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    pictures = {"freshness": freshness, "quota_use": quota_use}
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", choices=list(pictures), help="some of the pictures")
    parser.add_argument("--folder", type=Path, default=DOCS)
    options = parser.parse_args()
    for name, draw in pictures.items():
        if options.only is None or name in options.only:
            say(f"{name} ...")
            path = options.folder / f"{name}.png"
            draw().savefig(path, format="png", dpi=DPI)
            print(path)


if __name__ == "__main__":
    main()
